"""MLflow's own page in a real browser: the link that a sweep prints, its list, its charts of folds and its Compare."""

import contextlib
import io
import re
import shlex

import pytest

from tests.helpers import browser
from tests.helpers.mlflow_server import Server
from tests.helpers.sweeps import arguments, read, runs_of
from tfser.sweep import command as sweep_command

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        browser.BROWSER is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
    ),
]

BEGINNINGS = {"T+F+TF": "TFT T+F+TF fixed", "T+F": "TFT T+F fixed"}
"""Ablation to what its run's name begins with."""


BARS = """(() => {
    const words = [...document.querySelectorAll("*")].filter(e => !e.children.length);
    const title = words.find(e => e.textContent === "%s");
    // MLflow draws a chart once it is in sight.
    (title || words.find(e => e.textContent.trim() === "test/uar by fold")).scrollIntoView();
    let card = title;
    while (card && !card.querySelector(".bars")) card = card.parentElement;
    return card && [...card.querySelectorAll(".bars text")].map(e => e.textContent);
})()"""
"""The numbers at the bars of the chart with that title."""


@pytest.fixture(scope="module")
def swept(tiny_manifest, tmp_path_factory):
    """Two ablations with two seeds on the small database: the folder, and the link that the sweep printed."""
    out, said = tmp_path_factory.mktemp("swept"), io.StringIO()
    with contextlib.redirect_stdout(said):
        call = arguments(tiny_manifest, out, "--name", "s", "--seeds", "2", "--ablation", *BEGINNINGS, epochs="8")
        assert sweep_command.main(call) == 0
    (command,) = re.findall(r"Compare runs: (mlflow server .+)", said.getvalue())
    (link,) = re.findall(r"http://127\.0\.0\.1:5000/\S+", said.getvalue())
    server = Server(tmp_path_factory.mktemp("server"), shlex.split(command)[-1])
    try:
        server.start()
        yield out, link.replace("http://127.0.0.1:5000", server.uri)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def page(swept):
    with browser.opened(1400, 1000) as page:
        yield page


@pytest.fixture
def uars(swept):
    """(ablation, fold) to the mean UAR over seeds, from the sweep's own table."""
    return read(swept[0] / "s", "folds.csv").groupby(["ablation", "fold"]).uar.mean().to_dict()


def test_the_printed_link_opens_the_configurations_among_the_runs_for_model_training(swept, page):
    page.go(swept[1])
    text = page.until_it_says("2 matching runs", *BEGINNINGS.values())
    assert "/runs?workflowType=machine_learning" in page.value("location.href")
    assert "Model registry" in text, "not the menu for model training"
    assert "Traces" in text
    assert "anna" not in text, "folds stand among the configurations"


def test_the_beginnings_of_names_that_the_list_has_room_for_differ(swept, page):
    page.go(swept[1])
    page.until_it_says("2 matching runs", *BEGINNINGS.values())
    names = page.value(
        "[...document.querySelectorAll('.ag-row a')].filter(e => e.innerText.startsWith('TFT'))"
        ".map(e => [e.innerText, e.clientWidth / Math.max(e.scrollWidth, 1)])"
    )
    shown = {name[: int(len(name) * share) - 1] for name, share in names}
    assert len(shown) == 2, names


def test_the_chart_view_has_a_chart_for_each_fold_with_a_bar_for_each_configuration(swept, page, uars):
    page.go(f"{swept[1]}&compareRunsMode=CHART")
    page.until_it_says("2 matching runs", "test/uar_pooled")
    for fold in ("anna", "bert", "carl", "dora"):
        title = f"test/uar by fold/{fold}"
        found = BARS % title
        page.until(f"({found} || []).length === 2")
        wanted = sorted(f"{uars[ablation, fold]:.2f}" for ablation in BEGINNINGS)
        assert sorted(page.value(found)) == wanted, title


def test_compare_shows_folds_and_emotions_of_two_configurations_side_by_side(swept, page, uars):
    page.go(swept[1])
    page.until_it_says("2 matching runs")
    page.until("document.querySelectorAll('.ag-row input[aria-label*=\"row selection\"]').length === 2")
    page.value("document.querySelectorAll('.ag-row input[aria-label*=\"row selection\"]').forEach(e => e.click())")
    page.click("[data-testid=runs-compare-button]")
    text = page.until_it_says("Comparing 2 Runs from 1 Experiment", "test/uar by fold/dora", "test/recall/calm")
    assert "Show diff only" in text
    configurations = {
        run.data.tags["tfser.ablation"]: run.data.metrics
        for run in runs_of(swept[0])[1]
        if run.data.tags["tfser.kind"] == "configuration"
    }
    for name in configurations["T+F"]:
        assert name in text, name
    for fold in ("anna", "bert", "carl", "dora"):
        for ablation in BEGINNINGS:
            value = configurations[ablation][f"test/uar by fold/{fold}"]
            assert value == pytest.approx(uars[ablation, fold])
            assert f"{round(value, 3):g}" in text
