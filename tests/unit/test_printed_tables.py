"""The tables that go into a paper: their width on the page, their form, and what they say of what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score

from tests.helpers import recorded
from tests.helpers.printed import latex_rows, markdown_rows
from tests.helpers.results import (
    ABLATIONS,
    ATFNN,
    TFT,
    configuration,
    markdown_cells,
    paper_rows,
    random_results,
    spec,
    sweep,
    with_runs,
)
from tests.helpers.tex_widths import tabular_widths
from tests.helpers.tiny import SET_SMALL
from tfser import collect
from tfser.evaluation.scores import scores
from tfser.execution.results import Results
from tfser.models import MODELS
from tfser.planning import settings as planning_settings
from tfser.planning.configuration import Configuration, OwnModel
from tfser.report import published, write
from tfser.sweep import command as sweep_command
from tfser.sweep.options import parse
from tfser.sweep.request import check

pytestmark = pytest.mark.usefixtures("few_draws")

POINTS = 72.27 / 25.4
PAGE, COLUMN = 122 * POINTS, 88 * POINTS
FOLDS = tuple("abcdefgh")


def papers() -> list[Configuration]:
    """Both papers' models with every ablation on their three databases."""
    return [
        configuration(
            database=d, emotions=tuple(sorted(published.load().emotions[d])), model=m, ablation=a, folds=FOLDS
        )
        for d in ("iemocap", "abc", "casia")
        for m in (TFT, ATFNN)
        for a in ABLATIONS[m]
    ]


def long_names() -> list[Configuration]:
    """Names that nobody would print, each kind of them, on more databases than stand side by side."""
    own = OwnModel(
        title="A method with a title of very many words that goes on and on_without_an_end-and-then-some-more",
        typed="mine.py:Mine",
        kind="network",
        parts=tuple(
            (name, (("attention_over_time_and_frequency", True), ("x", name == "whole"), ("a_third_part", name != "c")))
            for name in ("whole", "without-the-second-part", "c")
        ),
        defaults="{}",
    )
    return [
        configuration(database=d, model="mine", own=own, source="0", ablation=a, settings=f'{{"epochs": {e}}}')
        for d in ("a corpus of a very long name_and_of_no_break", "two", "iemocap", "abc", "five", "emodb")
        for a in ("whole", "without-the-second-part", "c")
        for e in (5, 8)
    ]


CASES: Mapping[str, object] = {
    "papers": lambda: sweep(*papers()),
    "gaps": lambda: sweep(*papers(), without=(("b", 0),)),
    "recorded": lambda: recorded.results("svm_egemaps_", "svm_speaker_"),
    "long names": lambda: sweep(*long_names()),
    "random": lambda: random_results(7),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for name, results in CASES.items():
        made[name] = tmp_path_factory.mktemp("printed")
        write.write(results(), made[name], pictures=False)
    return made


# --- the width on the page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_table_fits_a_page_of_lncs_and_a_column_of_ieee_by_the_metrics_of_its_font(folders, case):
    """LNCS sets footnotesize in 9 pt and IEEE in 8 pt."""
    count = 0
    for path in folders[case].glob("*.tex"):
        narrow = path.stem.endswith("-column")
        for width in tabular_widths(path.read_text(encoding="utf-8"), 8.0 if narrow else 9.0):
            assert width <= (COLUMN if narrow else PAGE), (path.name, width)
            count += 1
    assert count > 3


@pytest.mark.parametrize("case", CASES)
def test_no_table_is_scaled_or_let_run_over_its_margin_or_set_below_footnotesize(folders, case):
    for path in folders[case].glob("*.tex"):
        _, _, text = path.read_text(encoding="utf-8").partition(r"\begin{document}")
        assert not re.search(r"\\(makebox|resizebox|scalebox|adjustbox|tiny|small|fontsize)(?![a-z])", text)
        tables = re.findall(r"\\begin\{table\}\n(.*)\n", text)
        assert all(re.fullmatch(r"\\centering\\footnotesize\\setlength\{\\tabcolsep\}\{[234]pt\}", t) for t in tables)


MEASURE = r"""\documentclass[10pt]{article}\usepackage{booktabs}\textwidth=%smm%s
\newsavebox\measured\let\oldtabular\tabular\let\oldend\endtabular
\renewenvironment{tabular}[1]{\setbox\measured\hbox\bgroup\oldtabular{#1}}%%
{\oldend\egroup\typeout{WIDTH \the\wd\measured}\usebox\measured}
\begin{document}\input{%s}\end{document}
"""


@pytest.mark.latex
@pytest.mark.parametrize("case", CASES)
def test_every_table_compiles_and_fits_as_latex_measures_it(folders, case, tmp_path):
    """With nothing but booktabs: check marks and grey need no package of their own."""
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no pdflatex on this machine")
    count = 0
    for path in folders[case].glob("*.tex"):
        narrow = path.stem.endswith("-column")
        shutil.copy(path, tmp_path / path.name)
        page = (88, "", path.stem) if narrow else (122, r"\let\footnotesize\small", path.stem)
        (tmp_path / "m.tex").write_text(MEASURE % page, encoding="utf-8")
        call = [engine, "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "m.tex"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        for width in re.findall(r"WIDTH ([\d.]+)pt", done.stdout):
            assert float(width) <= (COLUMN if narrow else PAGE), (path.name, width)
            count += 1
    assert count > 3


@pytest.mark.full
def test_a_table_longer_than_a_page_goes_on_in_a_second_float(tmp_path):
    rows = [
        configuration(database=d, model=f"m{n:02d}", ablation="full", folds=("a", "b", "c"))
        for d in ("one", "two")
        for n in range(40)
    ]
    write.write(sweep(*rows, size=6), tmp_path, pictures=False)
    text = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    first, second = text.split(r"\begin{table}")[1:]
    assert [len(latex_rows(part)) for part in (first, second)] == [40, 40]
    assert r"\label{tab:comparison}" in first
    assert r"\label{tab:comparison-2}" in second
    assert "continued" not in first
    assert "under leave-one-speaker-out, continued. " in second
    assert len(markdown_rows((tmp_path / "comparison.md").read_text(encoding="utf-8"))) == 2 + 80


# --- the figures -----------------------------------------------------------------------------------------------------


def test_the_recorded_run_prints_what_scikit_learn_makes_of_its_predictions(folders):
    """From the recorded CSV files, without the product: accuracy, and the mean recall of the emotions that occur."""
    wanted = []
    for prefix in ("", "svm_egemaps_", "svm_speaker_"):
        folds, predictions = recorded.frames(prefix)
        whole = predictions.merge(folds[["trial_id", "model"]], on="trial_id")
        for model, part in whole.groupby("model"):
            uar = recall_score(part.truth, part.predicted, average="macro")
            wanted.append((model, f"{100 * accuracy_score(part.truth, part.predicted):.2f}", f"{100 * uar:.2f}"))
    rows = markdown_rows((folders["recorded"] / "comparison.md").read_text(encoding="utf-8"))[2:]
    assert sorted((war, uar) for _, war, uar in wanted) == sorted((row[2], row[3]) for row in rows)
    assert len(rows) == 19
    titles = {model: MODELS[model].title for model, *_ in wanted if model not in (TFT, ATFNN)}
    for model, war, uar in wanted:
        name = {TFT: "Time-Frequency Transformer (ours)", ATFNN: "ATFNN (ours)"}.get(model) or titles[model]
        assert [row for row in rows if row[1].replace("§", "").startswith(name) and row[2:4] == [war, uar]], model
    assert all(re.fullmatch(r"\[\d+\.\d, \d+\.\d\]", row[4]) for row in rows)
    assert [row[1] for row in rows[-2:]] == ["Time-Frequency Transformer (ours)", "ATFNN (ours)"]
    # The row that is standardised per speaker is higher, and never bold.
    text = (folders["recorded"] / "comparison.md").read_text(encoding="utf-8")
    assert re.findall(r"\*\*(\d+\.\d\d)\*\*", text) == ["78.13", "76.29"]
    assert max(float(row[3]) for row in rows) == 81.04
    assert f"EmoDB: {recorded.REMARK}." in text.replace("\\", "")


def perfect(results: Results, row: Configuration) -> None:
    for fold in row.folds:
        entry = results.entries[row, fold, 0]
        right = [replace(u, p=tuple(float(e == u.truth) for e in row.emotions)) for u in entry.scores.utterances]
        results.entries[row, fold, 0] = replace(entry, scores=scores(row.emotions, right, None))


def test_a_uar_that_differs_from_the_whole_models_has_a_small_mark_that_a_note_explains(tmp_path):
    whole, part, same = (configuration(folds=FOLDS, ablation=a) for a in ("T+F+TF", "T+F", "T+TF"))
    results = sweep(whole, part, same)
    perfect(results, whole)
    perfect(results, same)
    write.write(results, tmp_path, pictures=False)
    text = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    cells = {row[0]: row[4:] for row in markdown_rows(text)}
    assert re.fullmatch(r"\d+\.\d\d", cells["T+F"][0])
    assert re.fullmatch(r"\d+\.\d\d\*", cells["T+F"][1])
    assert cells["T+TF"] == cells["T+F+TF"] == ["100.00", "100.00"]
    assert "- \\* Its UAR differs from that of T+F+TF (p \\< 0.05: paired sign-flip test" in text
    assert "100.00**" in text
    latex = (tmp_path / "ablation.tex").read_text(encoding="utf-8")
    assert re.search(r"T\+F & .* & \d+\.\d\d & \d+\.\d\d\$\^\{\*\}\$ \\\\", latex)
    assert r"$^{*}$ Its UAR differs" in latex


def test_an_interval_that_cannot_be_had_is_a_dash_with_its_reason_and_never_nan(tmp_path):
    two, many = configuration(folds=("a", "b")), configuration(model="mine", ablation="full", folds=FOLDS)
    same = configuration(model="other", ablation="full", folds=FOLDS)
    results = sweep(two, many, same)
    perfect(results, same)
    write.write(results, tmp_path, pictures=False)
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    cells = {row[1]: row[4] for row in markdown_rows(text)}
    assert cells["Time-Frequency Transformer (ours)"] == cells["other, full (ours)"] == "–"
    assert cells["mine, full (ours)"].startswith("[")
    assert "No interval (–) is given for fewer than 3 held-out speakers or sessions." in text
    assert "No interval (–) is given where every bootstrap replicate is the same" in text
    for path in tmp_path.glob("*.*"):
        if path.suffix in (".md", ".tex", ".csv"):
            assert not re.search(r"(?i)\b(nan|none)\b", path.read_text(encoding="utf-8").replace('"none"', "")), path


# --- the form --------------------------------------------------------------------------------------------------------


def test_the_comparison_has_the_order_the_names_and_the_bold_figures_of_the_papers(folders):
    text = (folders["papers"] / "comparison.md").read_text(encoding="utf-8")
    rows = markdown_rows(text)
    assert [row[0] for row in rows[2:] if row[0]] == ["IEMOCAP", "ABC", "CASIA"]
    iemocap = [row[1] for row in rows[2:14]]
    assert iemocap == [
        "MSA-AL*", "CNN-LSTM*", "STC-Attention", "DNN-SAli", "GRU-CNN-SeqCap*", "DNN-BN", "Time-Frequency Transformer",
        "FCN+Attention Model*", "ADARL", "ATFNN", "Time-Frequency Transformer (ours)", "ATFNN (ours)",
    ]  # fmt: skip
    assert re.findall(r"\*\*(\d+\.\d\d)\*\*", text) == ["74.43", "65.86", "68.84", "57.57", "53.17", "53.17"]
    assert sum("(ours)" in row[1] for row in rows) == 6  # a row per method; the ablations have tables of their own
    caption = text.split("\n\n")[1]
    assert len(re.findall(r"[.](?: |$)", caption)) == 2
    assert "pooled over folds, with the 95 % interval of the UAR over speakers" in caption


def test_the_ablations_stand_over_all_databases_with_the_printed_figures_below_and_the_full_model_last(folders):
    text = (folders["papers"] / "ablation.md").read_text(encoding="utf-8")
    captions = [part for part in text.split("\n\n") if part.startswith("Ablations of")]
    assert [caption.split(" (")[0] for caption in captions] == [
        "Ablations of Time-Frequency Transformer",
        "Ablations of ATFNN",
    ]
    assert all(len(re.findall(r"[.](?: |$)", caption)) == 2 for caption in captions)
    first, second = (part for part in text.split("\n\n") if part.startswith("|"))
    rows = markdown_rows(first)
    assert rows[0][4:] == [f"{d}: {m}" for d in ("IEMOCAP", "ABC", "CASIA") for m in ("WAR", "UAR")]
    assert [row[0] for row in rows[2:]] == [n for a in ("T+F", "T+TF", "F+TF", "T+F+TF") for n in (a, "as printed")]
    assert rows[3][4:] == ["70.12", "58.77", "–", "–", "40.32", "40.32"]
    assert [row[0] for row in markdown_rows(second)[2::2]] == ["AFNN", "ATNN", "TFNN", "ATFNN"]
    # Databases that have no room beside each other stand below each other, each with its own parts.
    column = (folders["papers"] / "ablation-column.tex").read_text(encoding="utf-8")
    assert column.count(r"\begin{tabular}") > column.count(r"\begin{table}") == 2


@pytest.mark.parametrize("case", CASES)
def test_no_printed_table_has_one_row(folders, case):
    for path in folders[case].glob("*.md"):
        if path.name != "details.md":
            blocks = path.read_text(encoding="utf-8").split("\n\n")
            assert all(len(block.splitlines()) > 3 for block in blocks if block.startswith("|")), path.name


def test_rows_of_one_model_that_differ_in_selection_or_settings_say_so(tmp_path):
    rows = [
        configuration(settings='{"epochs": 5}'),
        configuration(settings='{"epochs": 8}'),
        configuration(selection="fixed"),
        configuration(model=ATFNN, ablation="ATFNN"),
    ]
    write.write(sweep(*rows), tmp_path, pictures=False)
    names = [row[1] for row in markdown_cells((tmp_path / "comparison.md").read_text(encoding="utf-8"))[2:]]
    assert names == [
        "Time-Frequency Transformer (ours, fixed)",
        "Time-Frequency Transformer (ours, nested, epochs 5)",
        "Time-Frequency Transformer (ours, nested, epochs 8)",
        "ATFNN (ours)",
    ]


@pytest.mark.full
def test_equal_results_give_equal_printed_tables_whatever_their_order(tmp_path):
    rows = papers()
    results = with_runs(sweep(*rows))
    turned = Results(sweep="x", configurations=tuple(rows[::-1]), entries=dict(reversed(results.entries.items())))
    for name, value in (("a", results), ("b", turned)):
        write.write(value, tmp_path / name, pictures=False)
    for path in (tmp_path / "a").iterdir():
        if path.name != "report.html":
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


# --- databases, layers and settings ----------------------------------------------------------------------------------


def published_settings(results: Results) -> Results:
    entries = {
        (c, fold, seed): replace(entry, spec=spec(c, fold, seed, planning_settings.published_settings(c.model)))
        for (c, fold, seed), entry in results.entries.items()
    }
    return replace(results, entries=entries)


def test_the_tables_of_layers_are_tables_2_and_3_of_the_first_paper(tmp_path):
    write.write(published_settings(sweep(*paper_rows("casia"))), tmp_path, pictures=False)
    text = (tmp_path / "settings.md").read_text(encoding="utf-8")
    convolutions, encoders, settings, *_ = (part for part in text.split("\n\n") if part.startswith("|"))
    assert [row[1:] for row in markdown_rows(convolutions)[2:]] == [
        ["64", "(5, 1)", "(2, 1)", "(2, 0)"],
        ["64", "(1, 5)", "(1, 2)", "(0, 2)"],
        ["64", "(5, 5)", "(2, 2)", "(2, 2)"],
    ]
    assert markdown_rows(encoders)[2:] == [
        ["Time Transformer", "20", "512", "2"],
        ["Frequency Transformer", "20", "512", "2"],
        ["Time Frequency Transformer", "20", "1024", "4"],
    ]
    values = {row[0]: row[1:] for row in markdown_rows(settings)}
    assert values["batch_size"] == ["64", "64"]
    assert values["epochs"] == ["20", "1000"]
    assert text.startswith("# Layers and settings\n")


def test_a_model_without_layers_of_a_paper_has_a_table_of_settings_alone(tmp_path):
    write.write(published_settings(sweep(configuration(model="svm", ablation="full"))), tmp_path, pictures=False)
    text = (tmp_path / "settings.md").read_text(encoding="utf-8")
    assert text.startswith("# Settings\n")
    assert text.count("| Setting ") == 1


def test_settings_that_were_chosen_for_each_fold_stand_with_all_their_values(tmp_path):
    row = configuration(folds=FOLDS)
    results = published_settings(sweep(row))
    for number, fold in enumerate(FOLDS):
        settings = {**planning_settings.published_settings(TFT), "channels": (8, 16)[number % 2]}
        settings["learning_rate"] = 0.001 * (number + 1)
        results.entries[row, fold, 0] = replace(results.entries[row, fold, 0], spec=spec(row, fold, 0, settings))
    write.write(results, tmp_path, pictures=False)
    text = (tmp_path / "settings.md").read_text(encoding="utf-8")
    values = {row[0]: row[1] for row in markdown_rows(text)}
    assert values["channels"] == values["Time Encoder"] == "8, 16"
    assert values["learning_rate"] == "0.001 to 0.008"
    assert "Several values were chosen for each fold" in text


def test_the_table_of_databases_counts_what_was_scored(tmp_path):
    results = sweep(*paper_rows("casia", "iemocap"))
    write.write(results, tmp_path, pictures=False)
    rows = markdown_rows((tmp_path / "databases.md").read_text(encoding="utf-8"))[2:]
    assert [(row[0], row[1], row[3], row[5]) for row in rows] == [
        ("IEMOCAP", "English", "3", "16000"),
        ("CASIA", "Mandarin", "3", "16000"),
    ]
    for row, database in zip(rows, ("iemocap", "casia"), strict=True):
        scored = [
            u.truth
            for (c, *_), entry in results.entries.items()
            if (c.database, c.model) == (database, TFT)
            for u in entry.scores.utterances
        ]
        emotions, counts = np.unique(scored, return_counts=True)
        assert row[2] == ", ".join(f"{e} ({n})" for e, n in zip(emotions, counts, strict=True))
        assert row[4] == str(len(scored))
    write.write(sweep(configuration(), without=(("08", 0),)), tmp_path / "one", pictures=False)
    text = (tmp_path / "one" / "databases.md").read_text(encoding="utf-8")
    assert re.search(r"EmoDB \(German\): \d+ utterances of 2 speakers were scored†, 16000 Hz; mad \(\d+\)", text)
    assert "† Of the folds that are done." in text


# --- the option ------------------------------------------------------------------------------------------------------


def test_the_averaging_is_one_of_tables_and_changes_neither_a_trial_nor_the_name_of_a_sweep(tiny_manifest, capsys):
    call = [str(tiny_manifest), "--model", TFT, "--set", *SET_SMALL, "--epochs", "1"]
    pooled, mean = (check(parse([*call, "--averaging", word])) for word in ("pooled", "mean"))
    assert pooled.plan == mean.plan == check(parse(call)).plan
    assert pooled.name == mean.name
    assert pooled.request == mean.request
    for command in (sweep_command.main, collect.main):
        words = [*call, "--averaging", "median"] if command is sweep_command.main else ["--averaging", "median"]
        assert command(words) == 2
        assert "--averaging: no 'median'; there are mean, pooled" in capsys.readouterr().err
