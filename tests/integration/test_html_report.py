"""The report's page in a real browser: what is rendered on a desktop, on a phone, in the dark and on paper."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.results import MADE, Tables, configuration, paper_rows, record, searched, sweep, trained, with_runs
from tfser.execution.results import Results
from tfser.report import write

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]

LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"

PROBE = """<!DOCTYPE html><meta charset="utf-8"><body>
<iframe id="phone" style="width:390px;height:800px;border:0" src="report.html"></iframe>
<iframe id="desktop" style="width:1200px;height:900px;border:0" src="report.html"></iframe>
<pre id="out"></pre>
<script>
function measure(name) {
  const page = document.getElementById(name).contentDocument, view = page.defaultView;
  const seen = e => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0;
  page.querySelectorAll("details").forEach(e => { e.open = true; });
  const rows = page.querySelectorAll("#comparison-emodb tbody tr");
  const cells = [...rows].at(-1).children;
  const region = page.querySelector("#comparison-emodb").closest(".scroll");
  const printed = page.querySelector("#printed-comparison").closest(".scroll");
  const small = [...page.querySelectorAll("svg text")].filter(seen).map(e => e.getBoundingClientRect().height);
  const colour = e => { const s = view.getComputedStyle(e); return [s.color, s.backgroundColor]; };
  return {
    width: page.documentElement.clientWidth,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    hidden_columns: [...cells].filter(e => !seen(e)).length,
    narrow_words: seen(page.querySelector("#comparison-emodb tbody .narrow")),
    table_overflow: region.scrollWidth - region.clientWidth,
    printed_overflow: printed.scrollWidth - printed.clientWidth,
    clipped: [...page.querySelectorAll("table")].filter(e => {
      const box = e.closest(".scroll").getBoundingClientRect();
      return box.right > page.documentElement.clientWidth || !["auto", "scroll"].includes(
        view.getComputedStyle(e.closest(".scroll")).overflowX);
    }).length,
    sticky: [...page.querySelectorAll("tbody th")].every(e => view.getComputedStyle(e).position === "sticky"),
    font: parseFloat(view.getComputedStyle(page.querySelector("p")).fontSize),
    smallest_label: Math.min(...small), labels: small.length,
    plots: [...page.querySelectorAll("svg")].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height]),
    body: colour(page.body), link: colour(page.querySelector("nav a")),
    label: view.getComputedStyle(page.querySelector("svg text")).fill,
    text: page.body.innerText,
  };
}
window.addEventListener("load", () => {
  document.getElementById("out").textContent = JSON.stringify({phone: measure("phone"), desktop: measure("desktop")});
});
</script>"""


def browse(folder: Path, name: str, *flags: str) -> str:
    """Open a file of the folder in a fresh browser without a network, and return what it printed."""
    profile = folder / "profile"
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *(
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--allow-file-access-from-files",
            f"--user-data-dir={profile}",
            *flags,
        ),
        (folder / name).as_uri(),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DBUS")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, errors="replace")
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of two corpora with figures, a search, gaps and links to a server."""
    whole, part = configuration(seeds=(0, 1)), configuration(ablation="T+F", seeds=(0, 1))
    rows = (whole, part, *paper_rows("casia"))
    results = sweep(*rows, without=(("09", 1),))
    for row in (whole, part):
        for seed in (0, 1):
            results.entries[row, "08", seed] = record(row, "08", seed, lacks=("sad",))
    results = with_runs(trained(Results(sweep="browser", configurations=rows, entries=results.entries)))
    place = tmp_path_factory.mktemp("browser")
    write.write(searched(results), place, made=MADE)
    (place / "probe.html").write_text(PROBE, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def measured(folder):
    """What the browser says of the page on a phone and on a desktop, in light and in dark."""

    def of(scheme: str) -> dict:
        dom = browse(folder, "probe.html", scheme, "--virtual-time-budget=10000", "--dump-dom")
        return json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', dom, flags=re.DOTALL)[1]))

    return {"light": of(LIGHT), "dark": of(DARK)}


def colour(text: str) -> np.ndarray:
    return np.array([float(part) for part in re.findall(r"[\d.]+", text)[:3]])


def luminance(rgb: np.ndarray) -> float:
    scaled = rgb / 255
    return float(
        np.where(scaled <= 0.03928, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    )


def test_what_is_rendered_are_the_numbers_of_the_files(folder):
    """The browser's own tree, not our text: a cell that it drops or moves would show here."""
    dom = browse(folder, "report.html", "--dump-dom")
    rendered, written = Tables(), Tables()
    rendered.feed(dom)
    written.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert rendered.tables == written.tables
    assert len(rendered.tables) >= 8
    assert sum(len(rows) for rows in rendered.tables.values()) > 40


@pytest.mark.parametrize("device", ["phone", "desktop"])
def test_the_page_fits_and_can_be_read(measured, device):
    page = measured["light"][device]
    assert page["width"] == {"phone": 390, "desktop": 1200}[device]
    assert page["overflow"] <= 0
    assert page["clipped"] == 0  # a table that is wider scrolls in a box of its own
    assert page["sticky"]
    assert page["printed_overflow"] <= 0
    assert page["font"] >= 16
    assert page["labels"] > 100
    assert page["smallest_label"] >= 9  # pixels, of the labels within figures
    assert all(width > 150 and height > 100 for width, height in page["plots"])
    assert len(page["plots"]) >= 4 * 3 + 1
    for text in ("What is missing", "seed 1 not finished", "How it was made", "Recalls per held-out speaker", "guess"):
        assert text.lower() in page["text"].lower()


def test_a_phone_shows_every_figure_of_the_comparison_without_scrolling(measured):
    phone, desktop = measured["light"]["phone"], measured["light"]["desktop"]
    assert phone["table_overflow"] <= 0
    assert phone["hidden_columns"] == 6
    assert phone["narrow_words"]
    assert desktop["hidden_columns"] == 0
    assert not desktop["narrow_words"]


@pytest.mark.parametrize("device", ["phone", "desktop"])
def test_light_and_dark_follow_the_reader_with_enough_contrast(measured, device):
    grounds = []
    for scheme in ("light", "dark"):
        page = measured[scheme][device]
        ground = colour(page["body"][1])
        grounds.append(luminance(ground))
        for text in (page["body"][0], page["link"][0], page["label"]):
            bright, dim = sorted((luminance(colour(text)), luminance(ground)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (scheme, text)
    assert grounds[0] > 0.9
    assert grounds[1] < 0.1


def test_screenshots_show_a_page_in_the_readers_colours(folder, tmp_path):
    levels = {}
    for name, width, scheme in (("phone", 390, LIGHT), ("dark", 390, DARK), ("desktop", 1200, LIGHT)):
        shot = tmp_path / f"{name}.png"
        browse(folder, "report.html", scheme, f"--window-size={width},2400", f"--screenshot={shot}")
        with Image.open(shot) as image:
            assert image.size == (width, 2400)
            grey = np.asarray(image.convert("L"), dtype=float)
        levels[name] = float(np.median(grey))
        inked = np.abs(grey - levels[name]) > 60
        assert 0.01 < inked.mean() < 0.5  # neither blank nor a block
        assert inked[-400:].any()  # down to the end of the window
    assert levels["dark"] < 60 < 200 < levels["phone"]
    assert levels["desktop"] > 200


def test_it_prints_with_every_fold_on_paper_and_without_its_screen_parts(folder, tmp_path):
    paper = tmp_path / "report.pdf"
    browse(folder, "report.html", DARK, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip(
            "no pdftotext on this machine to read the printed page with (Debian: apt-get install poppler-utils)"
        )
    text = subprocess.run([reader, "-layout", paper, "-"], capture_output=True, text=True, check=True).stdout
    assert "What is missing" in text
    assert "Every fold" in text
    assert "Commands that repeat" not in text
    for row in ("T+F on emodb", "ATFNN on casia"):
        assert row in text
    trials = re.findall(r"\be5[0-9a-f]{14}\b", text)
    page = (folder / "report.html").read_text(encoding="utf-8")
    listed = re.findall(r"<code>(e5[0-9a-f]{14})</code>", page)
    assert set(trials) == set(listed)  # the folded lists are unfolded on paper
