"""The page without a browser: it loads nothing, escapes everything, links every number and is the same every time."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.helpers.results import (
    COMMAND,
    HOSTILE,
    MADE,
    Tables,
    configuration,
    example,
    failure,
    is_number,
    paper_rows,
    searched,
    sweep,
    with_runs,
)
from tfser.execution.results import Results
from tfser.record import Machine
from tfser.report import write as report_write
from tfser.report.provenance import Provenance


class Page(HTMLParser):
    """What a browser would load or link, every id, and the text."""

    VOID = frozenset(("meta", "br", "img", "link", "input", "hr"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.styles: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes.append((tag, given))
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in given.items():
            if name in (
                "src",
                "srcset",
                "data",
                "poster",
                "action",
                "formaction",
                "background",
                "cite",
                "manifest",
                "ping",
            ):
                self.loads.append(value)
            elif name in ("href", "xlink:href"):
                (self.links if tag == "a" else self.loads).append(value)
            elif name == "style":
                self.styles.append(value)
            elif name == "id":
                self.ids.append(value)
            assert not name.startswith("on"), name
        if tag == "meta":
            assert given.get("http-equiv") is None

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open and self.open[-1] == "style" else self.text).append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def write(results: Results, folder: Path, made: Provenance | None = None, *, pictures: bool = False) -> str:
    report_write.write(results, folder, pictures=pictures, made=made)
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A page with everything: figures, a search, gaps, provenance."""
    folder = tmp_path_factory.mktemp("page")
    return write(searched(example()), folder, MADE, pictures=True), folder


def test_nothing_is_loaded_from_anywhere(drawn):
    page = Page(drawn[0])
    assert [place for place in page.loads if not place.startswith(("#", "data:"))] == []
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "img"} & set(page.tags)
    for style in page.styles:
        assert "@import" not in style
        assert all(place.startswith("#") for place in re.findall(r"url\(\s*['\"]?([^)]*)", style))
    for tag, given in page.attributes:
        for value in given.values():
            for place in re.findall(r"url\(\s*['\"]?([^)]*)", value or ""):
                assert place.startswith("#"), (tag, place)
    elsewhere = {urlsplit(link)[:2] for link in page.links if not link.startswith("#")}
    assert elsewhere == {("", ""), ("http", "mlflow.example:5000")}  # files beside the page, and the server
    without = re.sub(r"http://mlflow\.example:5000", "", drawn[0])
    assert "http" not in without.replace("https://json", "")


def test_every_link_within_the_page_leads_somewhere_and_every_id_is_there_once(drawn):
    page = Page(drawn[0])
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    used = {place.split("#", 1)[1] for place in page.loads if place.startswith("#")}
    used |= {p for _, given in page.attributes for v in given.values() for p in re.findall(r"url\(#([^)]*)\)", v or "")}
    assert used <= set(page.ids)


def test_every_number_of_ours_leads_to_its_mlflow_run(tmp_path):
    results = example()
    local = Provenance(tracking_uri="sqlite:////x/mlflow.db")
    for made, base in ((MADE, "http://mlflow.example:5000/#/runs/"), (local, "#trials-"), (None, "#trials-")):
        page = write(results, tmp_path, made)
        cells = re.findall(r'<tr class="ours">(.*?)</tr>', page, flags=re.DOTALL)
        linked = 0
        for cell in [cell for row in cells for cell in re.findall(r'<td class="n">(.*?)</td>', row, flags=re.DOTALL)]:
            text = re.sub(r'<span class="beneath">.*?</span>|<[^>]*>', "", cell).strip()
            if is_number(text):
                found = re.search(r'<a href="([^"]*)">', cell)
                assert found, cell
                assert found[1].startswith(base), cell
                linked += 1
        assert linked >= 20
        for (c, fold, seed), run in results.runs.items():
            if made is MADE:
                assert f'href="http://mlflow.example:5000/#/runs/{run.replace(" ", "%20")}"' in page, (
                    c.ablation,
                    fold,
                    seed,
                )
            elif made:
                assert f"<code>{run}</code>" in page
            else:
                assert run not in page


def test_a_local_database_is_opened_by_a_command_that_holds_no_path_of_this_machine(tmp_path):
    folder = tmp_path / "results" / "sweep"
    made = Provenance(tracking_uri=f"sqlite:///{tmp_path}/results/.tfser/mlflow.db")
    page = write(example(), folder, made)
    assert "mlflow server --workers 1 --backend-store-uri sqlite:///../.tfser/mlflow.db" in page
    assert str(tmp_path) not in page
    assert "secret-host" not in page


def test_passwords_and_user_names_are_in_no_link():
    made = Provenance(tracking_uri="https://anna:secret@host:8443/mlflow/")
    assert made.run_link("a/b c") == "https://host:8443/mlflow/#/runs/a%2Fb%20c"
    assert made.run_link(None) == made.run_link("") == ""
    assert Provenance(tracking_uri="databricks").run_link("x") == ""
    assert Provenance(tracking_uri="postgresql://db/x").server_command(Path()) == (
        "mlflow server --workers 1 --backend-store-uri postgresql://db/x"
    )


def test_without_a_provenance_equal_results_give_equal_bytes_whatever_their_runs_took(tmp_path):
    results = example()
    one = write(results, tmp_path / "a")
    slower = {
        key: replace(entry, seconds=999.0, started_unix=1.6e9, machine=Machine())
        for key, entry in results.entries.items()
    }
    again = Results(
        sweep=results.sweep, configurations=results.configurations[::-1], entries=slower, runs={}, row_runs={}
    )
    assert write(again, tmp_path / "b") == one


def test_with_a_provenance_only_the_marked_places_differ(tmp_path):
    """Links, the list of trials and "How it was made": nothing else knows of runs."""

    def rest(page: str) -> str:
        page = page[: page.index('<section aria-labelledby="trials">')]
        return re.sub(r'href="[^"]*"', "", page)

    results = example()
    assert rest(write(results, tmp_path / "a", MADE)) == rest(write(results, tmp_path / "b"))


def test_hostile_names_are_text(tmp_path):
    row = configuration(
        database="<script>alert(1)</script>",
        model='"><img src=x onerror=alert(1)>',
        ablation="<b>&amp;{{ 7*7 }}",
        emotions=("<i>a</i>", "b&c", "d\x00\x07e"),
        folds=("' onmouseover='x", "</table>", "z\n\u2028y"),
        remark="</style></title><h1>x",
    )
    results = sweep(row, HOSTILE, without=(("</table>", 0),), name="</title><script>x</script>")
    results.entries[row, "</table>", 0] = failure(row, "</table>", 0, "<script>bad</script>\n{{x}}")
    page = write(with_runs(results), tmp_path, MADE, pictures=True)
    parsed = Page(page)
    assert not {"script", "img", "i", "b"} & set(parsed.tags)
    assert parsed.tags.count("h1") == 1
    assert "<script>alert(1)</script>" in parsed.words
    assert "{{ 7*7 }}" in parsed.words
    assert "{{x}}" in parsed.words
    assert '"><img src=x onerror=alert(1)>' in parsed.words
    assert "d e" in parsed.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u2028]", page)


def test_what_is_missing_is_said_first_and_with_its_reason(drawn):
    page = Page(drawn[0])
    gaps = page.words[page.words.index("What is missing ") :]
    gaps = gaps[gaps.index(" Time-Frequency") :].partition(" Comparison ")[0]
    assert "speaker 03: seed 0 failed: the loss was not finite in epoch 3" in gaps
    assert "speaker 09: seed 1 not finished" in gaps
    assert "1 of 4 folds was not asked for" in gaps
    assert "T+F on emodb, leave-one-speaker-out, selection nested: 1 of 4 folds" in gaps


def test_a_whole_sweep_says_that_nothing_is_missing(tmp_path):
    page = write(sweep(configuration()), tmp_path)
    assert "Nothing is missing: every fold and seed of every row is done." in page


def test_how_it_was_made_is_all_there(drawn):
    page = Page(drawn[0])
    made = page.words[page.words.rindex("How it was made") :]
    for text in (
        COMMAND,
        "0a1b2c3d",
        "torch 2.11.0",
        "ray 2.60.0",
        "2023-11-14 22:13 UTC to 2023-11-14 22:14 UTC",
        "6 trials on search trials",
        "Linux-6",
        "3 search trials whose duration was not kept",
    ):
        assert text in made, text
    finished = sum(entry.status == "done" for entry in example().entries.values())
    assert f"{(finished * 90 + 3 * 90) / 3600:.2f} hours of training in all" in made
    commands = [text for text in re.findall(r"<pre>(.*?)</pre>", drawn[0])]
    assert len(commands) == len(example().entries) == finished + 1, "a failed trial can be repeated too"
    assert all(command.startswith("python -m tfser.sweep emodb --data corpora --fold ") for command in commands)


def test_headings_captions_and_figures_can_be_read_without_seeing(drawn):
    page, folder = drawn
    parsed = Page(page)
    levels = [int(tag[1]) for tag in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert parsed.tags.count("table") == parsed.tags.count("caption")
    headers = [given for tag, given in parsed.attributes if tag == "th"]
    assert headers
    assert all("scope" in given for given in headers)
    plots = [given for _, given in parsed.attributes if given.get("class") == "plot"]
    assert len(plots) == parsed.tags.count("svg") == parsed.tags.count("figure") >= 7
    assert all(given["role"] == "img" and len(given["aria-label"]) > 40 for given in plots)
    named = [re.findall(r"<code>([^<]*)</code>", text) for text in re.findall(r"Files?: (.*?)</figcaption>", page)]
    assert len(named) == len(plots)
    for names in named:
        (image,) = [name for name in names if name.endswith(".png")]
        assert (folder / image).read_bytes().startswith(b"\x89PNG")
    assert ("html", {"lang": "en"}) in parsed.attributes


def test_scrolling_regions_can_be_reached_by_keyboard_and_have_a_name(drawn):
    regions = [given for _, given in Page(drawn[0]).attributes if given.get("class") == "scroll"]
    assert regions
    assert all(given["tabindex"] == "0" and given["role"] == "region" and given["aria-label"] for given in regions)


def test_colours_have_the_contrast_that_reading_needs_in_light_and_dark(tmp_path):
    page = write(sweep(configuration()), tmp_path)
    themes = re.findall(r":root \{([^}]*)\}", page)
    assert len(themes) == 3  # light, dark, paper

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for text in ("text", "faint", "link"):
            for ground in ("ground", "panel", "ours"):
                light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, theme)


def test_a_page_of_many_corpora_holds_every_table_once(tmp_path):
    page = write(sweep(*paper_rows("iemocap", "abc", "casia")), tmp_path)
    parser = Tables()
    parser.feed(page)
    assert {"comparison-iemocap", "comparison-abc", "comparison-casia"} <= parser.tables.keys()
    assert sum(name.startswith("ablation-overview") for name in parser.tables) == 2
    assert page.count("<h4>WAR and UAR on ") == 3
    assert "printed-comparison" in parser.tables


def test_an_empty_sweep_has_a_page(tmp_path):
    page = Page(write(Results(sweep="none", configurations=(), entries={}), tmp_path, MADE))
    assert "Nothing was asked" in page.words
    assert "No rows." in page.words
