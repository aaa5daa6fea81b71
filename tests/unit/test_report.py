"""What the report's files say about a sweep: the right numbers, every gap named, and the same bytes each time."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from tests.helpers.results import (
    HOSTILE,
    TFT,
    configuration,
    details,
    failure,
    markdown_cells,
    paper_rows,
    printed,
    record,
    rescored,
    sweep,
)
from tfser.evaluation import uncertainty
from tfser.evaluation.scores import scores
from tfser.execution.results import Results
from tfser.models import MODELS
from tfser.planning.configuration import Configuration, from_dict, to_dict
from tfser.report import published
from tfser.report import write as report_write
from tfser.report.summary import RecordError, summarise
from tfser.report.tables import formats, notes, table

CONTRACT = {
    "summary.csv": "database database_digest protocol model ablation selection settings folds_done folds_total seeds "
    "war_pooled uar_pooled war_mean war_sd uar_mean uar_sd",
    "folds.csv": "database database_digest protocol model ablation selection settings fold seed war uar "
    "recall_glad recall_mad recall_sad utterances epochs hyperparameters trial_id",
    "predictions.csv": "trial_id utterance speaker truth predicted p_glad p_mad p_sad",
}


def write(results: Results, folder: Path, *, pictures: bool = False) -> list[Path]:
    """Without the pictures unless they are what is tested: they take most of the time."""
    return report_write.write(results, folder, pictures=pictures)


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, dtype={"fold": str, "speaker": str}, keep_default_na=True)


# --- the numbers -----------------------------------------------------------------------------------------------


def test_predictions_hold_every_digit_of_every_score_of_every_finished_trial(tmp_path):
    rows = [
        configuration(),
        configuration(ablation="T+F"),
        configuration(database="casia", folds=("a", "bb", "ccc", "dddd")),
    ]
    results = sweep(*rows)
    write(results, tmp_path)
    written = pd.read_csv(tmp_path / "predictions.csv", dtype={"trial_id": str, "utterance": str}).set_index(
        ["trial_id", "utterance"]
    )
    assert len(written) == sum(len(entry.scores.utterances) for entry in results.entries.values())
    for (row, _, _), entry in results.entries.items():
        for utterance in entry.scores.utterances:
            line = written.loc[(entry.trial_id, utterance.id)]
            assert line[[f"p_{emotion}" for emotion in row.emotions]].tolist() == list(utterance.p)
            assert (line.truth, line.predicted) == (utterance.truth, row.emotions[int(np.argmax(utterance.p))])


def test_percent_rounds_the_value_and_not_its_binary_neighbour():
    assert [table.percent(x) for x in (0, 1, 0.28855, 0.1 + 0.2, 1 / 3, 0.00015)] == [
        "0.00",
        "100.00",
        "28.86",
        "30.00",
        "33.33",
        "0.02",
    ]
    assert table.exact(-0.0) == 0.0
    assert str(table.exact(-0.0)) == "0.0"


# --- bytes ------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_equal_results_in_another_order_and_under_another_name_give_equal_bytes(tmp_path):
    rows = [configuration(), configuration(ablation="T+F", seeds=(0, 1)), *paper_rows("casia")]
    results = sweep(*rows)
    shuffled = list(results.entries.items())
    random.Random(3).shuffle(shuffled)
    turned = {k: replace(rescored(v, utterances=v.scores.utterances[::-1]), seconds=99.0) for k, v in shuffled}
    other = Results(sweep="other", configurations=tuple(reversed(rows)), entries=turned)
    first, second = write(results, tmp_path / "a", pictures=True), write(other, tmp_path / "b", pictures=True)
    assert [p.name for p in first] == [p.name for p in second] == sorted(p.name for p in (tmp_path / "a").iterdir())
    for one, two in zip(first, second, strict=True):
        # The page alone names the sweep, in its title.
        assert one.read_bytes() == two.read_bytes().replace(b"Sweep other", b"Sweep test"), one.name
        if one.suffix not in (".png", ".pdf"):
            content = one.read_bytes()
            assert b"\r" not in content
            assert content.endswith(b"\n")
            content.decode("utf-8")
        else:
            assert not any(word in one.read_bytes() for word in (b"tEXt", b"tIME", b"Software", b"matplotlib", b"Date"))


def test_the_columns_are_those_that_other_tools_read_and_pandas_gives_them_their_types(tmp_path):
    write(sweep(configuration(), configuration(ablation="T+F"), without=(("08", 0),)), tmp_path)
    for name, columns in CONTRACT.items():
        assert (tmp_path / name).read_text(encoding="utf-8").splitlines()[0].split(",") == columns.split()
    summary, folds = read(tmp_path, "summary.csv"), read(tmp_path, "folds.csv")
    assert [str(summary[c].dtype) for c in ("folds_done", "folds_total", "seeds", "war_pooled")] == ["int64"] * 3 + [
        "float64"
    ]
    assert [str(folds[c].dtype) for c in ("seed", "utterances", "epochs", "war")] == ["int64"] * 3 + ["float64"]
    assert summary[["war_pooled", "uar_mean"]].max().max() <= 1
    chosen = [json.loads(text) for text in folds.hyperparameters]
    assert {(values["channels"], values["learning_rate"]) for values in chosen} == {(16, 0.0005)}
    keys = list(zip(folds.database, folds.protocol, folds.model, folds.ablation, folds.fold, strict=True))
    assert keys == sorted(keys)
    comparison, ablation = read(tmp_path, "comparison.csv"), read(tmp_path, "ablation.csv")
    assert str(comparison.war.dtype) == str(ablation.war_pooled.dtype) == "float64"
    assert ablation.t_trans.tolist() == [True, True]
    assert ablation.tf_trans.tolist() == [False, True]


# --- what is missing ----------------------------------------------------------------------------------------------


def test_a_missing_fold_is_marked_counted_and_named_everywhere(tmp_path):
    whole, gap = configuration(), configuration(ablation="T+F")
    results = sweep(whole)
    results.entries.update(sweep(gap, without=(("08", 0),)).entries)
    results = Results(sweep="test", configurations=(whole, gap), entries=results.entries)
    write(results, tmp_path)
    summary = read(tmp_path, "summary.csv").set_index("ablation")
    assert summary.loc["T+F", ["folds_done", "folds_total"]].tolist() == [2, 3]
    assert summary.loc["T+F+TF", ["folds_done", "folds_total"]].tolist() == [3, 3]
    full = (tmp_path / "details.md").read_text(encoding="utf-8")
    lines = [line for line in full.splitlines() if "2 of 3†" in line]
    assert len(lines) == 3  # both averagings, and the ablation
    assert all(line.count("†") >= 3 for line in lines)  # the count and both numbers
    assert not any("**" in line for line in lines)  # cannot be the best
    assert "missing 08 (not finished)" in full
    text = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("| T+F ")]
    assert line.count("†") == 2
    assert "**" not in line
    latex = (tmp_path / "ablation.tex").read_text(encoding="utf-8")
    (line,) = [line for line in latex.splitlines() if line.startswith("T+F ")]
    assert line.count(r"$^{\dagger}$") == 2
    for said in (full, text, latex, " ".join(printed(results).split())):
        assert "2 of 3 folds" in said
        assert "missing 08 (not finished)" in said


def test_a_fold_with_one_of_two_seeds_is_not_done():
    row = configuration(seeds=(0, 1))
    (summary,) = summarise(sweep(row, without=(("09", 1),)))
    assert summary.done == ("03", "08")
    assert summary.missing == {"09": "seed 1 not finished"}


def test_a_failed_trial_is_a_missing_fold_with_its_reason():
    row = configuration()
    results = sweep(row)
    results.entries[row, "08", 0] = failure(row, "08", 0, "the loss is nan in epoch 3")
    (summary,) = summarise(results)
    assert summary.missing == {"08": "failed: the loss is nan in epoch 3"}
    assert "the loss is nan in epoch 3" in " ".join(printed(results).split())


def test_folds_that_were_not_asked_for_are_marked_too(tmp_path):
    write(sweep(configuration(folds_total=10)), tmp_path)
    assert "3 of 10†" in details(tmp_path)
    assert "7 not asked for" in details(tmp_path)
    assert "3 of 10 folds; 7 not asked for." in (tmp_path / "comparison.md").read_text(encoding="utf-8")


def test_a_row_without_any_finished_fold_has_empty_cells(tmp_path):
    row = configuration()
    results = sweep(row, configuration(model="mine"))
    for fold in row.folds:
        del results.entries[row, fold, 0]
    write(results, tmp_path)
    ours = [cells for cells in markdown_cells(details(tmp_path)) if cells[0] == "Time-Frequency Transformer (ours)"]
    assert [cells[-3:] for cells in ours] == [["0 of 3†", "", ""]] * 2
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    (line,) = [cells for cells in markdown_cells(text) if cells[1].startswith("Time-Frequency Transformer")]
    assert line[2:] == ["–", "–", ""]
    assert "0 of 3 folds; missing 03 (not finished), 08 (not finished), 09 (not finished)." in text
    assert not list(tmp_path.glob(f"confusion_*{TFT}*"))


def test_a_sweep_without_rows_still_writes_every_file(tmp_path):
    written = write(Results(sweep="none", configurations=(), entries={}), tmp_path)
    assert len(written) == 22
    assert "No rows." in (tmp_path / "ablation.md").read_text(encoding="utf-8")
    assert "No rows." in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert read(tmp_path, "summary.csv").empty


def test_an_emotion_that_a_speaker_never_shows_is_empty_and_named(tmp_path):
    row = configuration()
    results = sweep(row)
    results.entries[row, "08", 0] = record(row, "08", 0, lacks=("sad",))
    write(results, tmp_path)
    folds = read(tmp_path, "folds.csv").set_index("fold")
    assert pd.isna(folds.loc["08", "recall_sad"])
    assert "08 (sad)" in (tmp_path / "details.md").read_text(encoding="utf-8")
    results = sweep(row, lacks=("sad",))  # nobody shows it
    write(results, tmp_path)
    cells = read(tmp_path, f"confusion_emodb_speaker_{TFT}_t+f+tf_nested.csv")
    assert cells[cells.truth == "sad"]["share"].isna().all()


def test_several_seeds_are_said_to_be_a_mean(tmp_path):
    results = sweep(configuration(seeds=(0, 1, 2)))
    write(results, tmp_path)
    assert "3 seeds: means over the seeds" in (tmp_path / "details.md").read_text(encoding="utf-8")
    assert "Pooled over folds, 3 seeds" in " ".join(printed(results).split())
    mixed = sweep(configuration(seeds=(0, 1, 2)), configuration(model="mine"))
    said = "Means over seeds: Time-Frequency Transformer (ours) on EmoDB 3; all others have one seed."
    assert said in " ".join(printed(mixed).split())


def test_a_record_that_contradicts_itself_enters_no_table(tmp_path):
    row = configuration()
    results = sweep(row)
    whole = results.entries[row, "08", 0]
    results.entries[row, "08", 0] = rescored(whole, confusion=((9, 0, 0), (0, 9, 0), (0, 0, 9)))
    with pytest.raises(RecordError, match="its confusion matrix is .* but its utterances give"):
        write(results, tmp_path / "a")
    results.entries[row, "08", 0] = rescored(whole, emotions=("glad", "mad", "sad"))
    with pytest.raises(RecordError, match="its emotions are glad, mad, sad, its row's are mad, glad, sad"):
        write(results, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(RecordError, match="two rows are both emodb / speaker"):
        summarise(sweep(row, configuration(seeds=(5,))))


# --- published figures ---------------------------------------------------------------------------------------------


def test_every_published_row_stands_in_the_comparison_with_its_figures_and_protocol(tmp_path):
    write(sweep(*paper_rows("iemocap", "abc", "casia")), tmp_path)
    written = read(tmp_path, "comparison.csv")
    full = markdown_cells(details(tmp_path))
    cells = markdown_cells((tmp_path / "comparison.md").read_text(encoding="utf-8"))
    latex = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    rows = published.load().comparison
    assert len(rows) == 30
    for row in rows:
        mine = written[
            (written.database == row.database) & (written.method == row.method) & (written.source == row.paper)
        ]
        assert len(mine) == 1, row
        assert mine.iloc[0].protocol == (row.protocol or "not stated")
        assert (row.war is None and pd.isna(mine.iloc[0].war)) or mine.iloc[0].war == row.war
        war = "N/A" if row.war is None else f"{100 * row.war:.2f}"
        assert [
            c
            for c in full
            if c[0].replace("\\", "") == row.method
            and [cell.rstrip("¶") for cell in c[-2:]] == [war, f"{100 * row.uar:.2f}"]
        ], row
        # In print a method has one name, and what is not given is a dash.
        name = published.load().names_of(row.method)[0]
        shown = ["–" if row.war is None else war, f"{100 * row.uar:.2f}"]
        assert [c for c in cells if c[1].replace("\\", "").rstrip("*") == name and c[2:4] == shown], row
        assert formats.escape_latex(name) in latex
    names = {(row.database, published.load().names_of(row.method)[0]) for row in rows}
    assert len([c for c in cells[2:] if "(ours)" not in c[1]]) == len(names) == 21
    assert (written.source == "ours").sum() == 12
    other = [c for c in full if c[2].endswith("‡")]
    assert {c[2] for c in other} == {"leave-one-session-out‡", "4 training and 2 test speakers‡"}
    assert len(other) == 5
    for key, title in published.load().papers.items():
        assert f"{key}: {title}" in details(tmp_path)


def test_a_session_sweep_is_the_one_that_the_speaker_rows_differ_from(tmp_path):
    (row, _) = paper_rows("iemocap")
    write(
        sweep(configuration(database="iemocap", emotions=row.emotions, protocol="session", folds=("Ses01", "Ses02"))),
        tmp_path,
    )
    full = markdown_cells(details(tmp_path))
    assert {c[2] for c in full if c[2].endswith("‡")} == {"leave-one-speaker-out‡"}
    assert {c[2] for c in full if "(ours)" in c[0]} == {"leave-one-session-out"}
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert re.findall(r"\| (\S[^|]*\\\*) +\|", text) == [r"Time-Frequency Transformer\*", r"ATFNN\*"]
    assert r"- \* leave-one-speaker-out." in text
    assert "under leave-one-session-out" in text


def test_cited_rows_of_another_protocol_have_an_asterisk_for_each_kind_with_one_footnote(tmp_path):
    write(sweep(*paper_rows("iemocap", "abc", "casia")), tmp_path)
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    marked = [name.replace("\\", "") for name in re.findall(r"\| (\S[^|]*\\\*) +\|", text)]
    assert marked == ["MSA-AL*", "CNN-LSTM*", "GRU-CNN-SeqCap*", "FCN+Attention Model*", "RGSR-LPDA**"]
    assert text.replace("\\", "").count("* leave-one-session-out; ** 4 training and 2 test speakers.") == 1
    latex = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    assert "GRU-CNN-SeqCap$^{*}$ & 72.73 & 59.71" in latex
    assert r"$^{*}$ leave-one-session-out; $^{**}$ 4 training and 2 test speakers.\par" in latex


def test_the_ablation_table_has_the_papers_check_marks_and_figures(tmp_path):
    write(sweep(*paper_rows("casia"), configuration(database="casia", ablation="T+F")), tmp_path)
    cells = markdown_cells(details(tmp_path, "ablation"))
    assert cells[0][:4] == ["Architecture", "Attention", "F-Encoder", "T-Encoder"]
    assert [c[1:6] for c in cells if c[0] == "AFNN"] == [["✓", "✓", "✗", "32.50", "32.50"]]
    assert [c[1:6] for c in cells if c[0] == "T+TF"] == [["✓", "✗", "✓", "48.91", "48.91"]]
    assert [c[-1] for c in cells if c[0] in ("T+TF", "T+F+TF")] == ["not run", "3 of 3"]
    ordered = [c[0] for c in cells if c[0] in ("T+F", "T+TF", "F+TF", "T+F+TF")]
    assert ordered == ["T+F", "T+TF", "F+TF", "T+F+TF"]
    text = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    rows = markdown_cells(text)
    assert rows[0] == ["Architecture", "T-Trans", "F-Trans", "TF-Trans", "CASIA: WAR", "CASIA: UAR"]
    assert [row[0] for row in rows[2:]] == ["T+F", "as printed", "T+F+TF", "as printed"]  # what was run, and no more
    assert [row[1:4] for row in rows[2::2]] == [["✓", "✓", "✗"], ["✓", "✓", "✓"]]
    assert [row[4:] for row in rows[3::2]] == [["40.32", "40.32"], ["53.17", "53.17"]]
    assert "ATFNN" not in text  # a table of one row would repeat the comparison
    latex = (tmp_path / "ablation.tex").read_text(encoding="utf-8")
    assert r"T+F & $\checkmark$ & $\checkmark$ & $\times$ & " in latex
    assert r"{\scriptsize \textcolor{gray}{40.32}} & {\scriptsize \textcolor{gray}{40.32}} \\" in latex
    written = read(tmp_path, "ablation.csv").set_index("ablation")
    assert written.loc["TFNN", ["war_published", "uar_published"]].tolist() == [0.4667, 0.4667]
    assert pd.isna(written.loc["TFNN", "t_trans"])


def test_the_ablation_table_has_the_title_and_check_marks_that_a_model_without_a_paper_declares(tmp_path, monkeypatch):
    own = replace(
        MODELS["atfnn"],
        name="mine",
        title="My Net",
        paper=None,
        ablations=("full", "bare"),
        parts={"full": {"gate": True, "memory": True}, "bare": {"gate": False, "memory": True}},
    )
    monkeypatch.setitem(MODELS, "mine", own)
    write(sweep(*(configuration(database="casia", model="mine", ablation=a) for a in ("bare", "full"))), tmp_path)
    text = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    cells = markdown_cells(text)
    assert cells[0][:3] == ["Architecture", "Gate", "Memory"]
    assert [c[:3] for c in cells if c[0] in ("full", "bare")] == [["full", "✓", "✓"], ["bare", "✗", "✓"]]
    assert "Ablations of My Net" in text
    written = read(tmp_path, "ablation.csv").set_index("ablation")
    assert written.loc["bare", ["gate", "memory"]].tolist() == [False, True]
    assert "My Net (ours)" in (tmp_path / "comparison.md").read_text(encoding="utf-8")


def test_of_ablations_without_parts_the_first_is_the_whole_model(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", replace(MODELS["atfnn"], name="mine", ablations=("b", "a"), parts={}))
    figures = published.load().beside(["mine", "atfnn", "of a colleague"])
    assert [figures.row_title("mine", a) for a in ("b", "a")] == ["ATFNN", "ATFNN, a"]
    assert figures.row_title("of a colleague", "x") == "of a colleague, x"
    assert published.load().beside(["atfnn"]) is published.load()


def test_every_published_ablation_figure_appears(tmp_path):
    write(sweep(*paper_rows("iemocap", "abc", "casia")), tmp_path)
    written = read(tmp_path, "ablation.csv").set_index(["database", "model", "ablation"])
    for ablation in published.load().ablations:
        for database, (war, uar) in ablation.figures.items():
            got = written.loc[(database, ablation.model, ablation.ablation), ["war_published", "uar_published"]]
            assert got.tolist() == [war, uar]
    assert sum(len(a.figures) for a in published.load().ablations) == written.war_published.notna().sum() == 20


@pytest.mark.parametrize(("database", "heading"), [("emodb", "# Comparison"), ("casia", None)])
def test_a_heading_speaks_of_published_figures_only_where_some_are_cited(tmp_path, database, heading):
    emotions = ("angry", "happy") if database == "casia" else configuration().emotions
    write(sweep(configuration(database=database, emotions=emotions)), tmp_path)
    first = (tmp_path / "comparison.md").read_text(encoding="utf-8").splitlines()[0]
    assert first == (heading or "# Comparison with the published figures")


def test_what_has_to_be_said_of_a_database_is_said_in_every_format(tmp_path):
    row = configuration(remark="first 2 s of each utterance", complete=False, same_texts=True)
    results = sweep(row)
    write(results, tmp_path)
    for kind in ("comparison", "ablation"):
        text = details(tmp_path, kind)
        assert "first 2 s of each utterance" in text
        assert "speaker-independent, not text-independent" in text
        assert "incomplete; this copy does not have the published counts" in text
    assert "No figure for emodb is cited" in details(tmp_path)
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("comparison.md", "comparison.tex")]
    for text in [*texts, printed(results)]:
        text = " ".join(text.split())
        assert "EmoDB: first 2 s of each utterance." in text
        assert "EmoDB: an incomplete copy, without the published counts." in text
    other = configuration(database="casia", emotions=("angry", "happy"))
    assert "another task than the published one" in " ".join(printed(sweep(other)).split())


def test_the_best_is_bold_but_never_an_incomplete_or_oracle_row(tmp_path):
    rows = [
        configuration(ablation="T+TF", folds_total=4),
        configuration(ablation="F+TF", complete=False),
        configuration(ablation="T+F", selection="oracle"),
    ]
    write(sweep(*rows, configuration()), tmp_path)
    shown = [(tmp_path / name).read_text(encoding="utf-8") for name in ("comparison.md", "ablation.md")]
    for text in [details(tmp_path), *shown]:
        assert "**" not in text  # one comparable method is no comparison
        assert "Bold" not in text
    assert "upper bound, not a result" in details(tmp_path)
    assert "upper bound, not a result" in shown[0]
    assert "Time-Frequency Transformer, T+F (ours)‡" in shown[0]
    write(sweep(*rows, configuration(), configuration(ablation="T+F")), tmp_path)
    (bold,) = [part for part in (tmp_path / "ablation.md").read_text(encoding="utf-8").split("\n\n") if "**" in part]
    assert [line.split()[1] for line in bold.splitlines() if "**" in line][0] in ("T+F", "T+F+TF")
    assert not any(line.startswith(("| T+TF", "| F+TF")) and "**" in line for line in bold.splitlines())
    bold = [line for line in details(tmp_path).splitlines() if "**" in line]
    assert bold
    assert not any("T+TF" in line or "F+TF (ours" in line or "oracle" in line for line in bold)
    figures = read(tmp_path, "comparison.csv")
    able = figures[(figures.selection == "nested") & ~figures.ablation.isin(["T+TF", "F+TF"])]
    assert any(f"**{table.percent(able.war.max())}" in line for line in bold)


# --- formats ---------------------------------------------------------------------------------------------------------


def test_hostile_names_survive_in_every_format(tmp_path):
    results = sweep(HOSTILE)
    entry = results.entries[HOSTILE, "[2]", 0]
    first, *rest = entry.scores.utterances
    hostile = replace(first, id='an "id", with\nall')
    results.entries[HOSTILE, "[2]", 0] = rescored(entry, utterances=(hostile, *rest))
    write(results, tmp_path, pictures=True)
    for name in ("details.md", "comparison.md"):
        assert r"n\|e\*t, \<b\>\\x{y} (ours)" in (tmp_path / name).read_text(encoding="utf-8")
    markdown = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert r"n\|e\*t, \<b\>\\x{y} (ours)" in markdown
    assert r"and \&amp; \`code\` \[link\](x)" in markdown
    assert "my_data" in markdown
    latex = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    assert r"n$|$e{*}t, $<$b$>$\textbackslash{}x\{y\} (ours)" in latex
    assert r"my\_data: 50 \% of ''A\&B'' and \&amp; `code` {[}link{]}(x)" in latex
    folds, predictions = read(tmp_path, "folds.csv"), read(tmp_path, "predictions.csv")
    assert "recall_a&b_%" in folds.columns
    assert set(predictions.truth) == set(HOSTILE.emotions)
    assert 'an "id", with\nall' in set(predictions.utterance)
    names = {p.name for p in tmp_path.glob("confusion_*")}
    assert names == {f"confusion_my_data_speaker_n-e-t_-b-x-y-_nested.{end}" for end in ("csv", "pdf", "png")}


def test_names_that_clean_to_one_file_name_keep_a_file_each(tmp_path):
    write(sweep(configuration(database="my data"), configuration(database="My-Data")), tmp_path, pictures=True)
    assert len(list(tmp_path.glob("confusion_my-data_*.csv"))) == 2
    for ending in ("png", "pdf"):
        assert len(list(tmp_path.glob(f"confusion_my-data_*.{ending}"))) == 2


def test_markdown_columns_stand_below_each_other_in_the_source(tmp_path):
    write(sweep(HOSTILE, *paper_rows("abc", "casia"), configuration(database="abc", ablation="T+F")), tmp_path)
    for name, least in (("comparison.md", 1), ("ablation.md", 1), ("details.md", 6)):
        blocks = (tmp_path / name).read_text(encoding="utf-8").split("\n\n")
        grids = [block.splitlines() for block in blocks if block.startswith("|")]
        assert len(grids) >= least
        for lines in grids:
            assert len({cell_len(line) for line in lines}) == 1
            assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
            assert set(lines[1]) <= set("|-: ")


def test_a_latex_environment_is_closed_and_every_row_has_every_cell(tmp_path):
    write(sweep(*paper_rows("iemocap", "casia"), configuration(), configuration(ablation="T+F")), tmp_path)
    tables = {f"comparison{d}{c}.tex" for d in ("", "_iemocap", "_casia", "_emodb") for c in ("", "-column")}
    tables |= {f"ablation{d}{c}.tex" for d in ("", "_emodb") for c in ("", "-column")}
    tables |= {f"{stem}{c}.tex" for stem in ("databases", "settings") for c in ("", "-column")}
    tables -= {"comparison_emodb.tex", "comparison_emodb-column.tex"}  # one row, which a sentence tells
    assert tables <= {path.name for path in tmp_path.glob("*.tex")}
    for path in tmp_path.glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        for environment in ("table", "tabular", "minipage"):
            assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}")
        assert (r"\begin{tabular}" in text) == (path.name in tables)
        assert "%" not in re.sub(r"(?m)^%.*", "", text.replace(r"\%", ""))
        for part in text.split(r"\midrule")[1:]:
            rows = [line for line in part.split(r"\bottomrule")[0].splitlines() if line.endswith(r"\\")]
            whole = [line for line in rows if not line.startswith(r"\multicolumn")]
            assert len({line.replace(r"\&", "").count("&") for line in whole}) == 1


@pytest.mark.latex
def test_latex_compiles(tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no pdflatex or tectonic on this machine")
    latin = Configuration(
        **{f: getattr(HOSTILE, f) for f in HOSTILE.__dataclass_fields__} | {"emotions": ("a&b_%", "$x^2$ #~", "ä")}
    )
    papers = paper_rows("iemocap", "abc", "casia")
    parts = [replace(row, ablation="T+F") for row in papers if row.model == TFT]
    results = sweep(latin, *papers, *parts, lacks=("a&b_%",), without=(("[2]", 0),))
    write(results, tmp_path)
    assert r"x\{y\}" in (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    flags = ["-interaction=nonstopmode", "-halt-on-error"] if engine.endswith("pdflatex") else []

    def compile_(name: str) -> None:
        done = subprocess.run(
            [engine, *flags, name], cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert "LaTeX Error" not in done.stdout
        assert "Overfull" not in done.stdout
        assert (tmp_path / name).with_suffix(".pdf").stat().st_size > 10_000

    for packages in ("booktabs", "booktabs,amssymb,xcolor"):  # as part of a paper
        (tmp_path / "paper.tex").write_text(
            rf"\documentclass{{article}}\usepackage{{{packages}}}\begin{{document}}\input{{comparison}}\input{{ablation}}\end{{document}}",
            encoding="utf-8",
        )
        compile_("paper.tex")
    for path in sorted(tmp_path.glob("*.tex")):  # as it is
        compile_(path.name)
    compiled = {path.stem for path in tmp_path.glob("*.tex")}
    assert {"paper", "comparison", "comparison-column", "ablation", "ablation-column"} < compiled
    assert compiled <= {path.stem for path in tmp_path.glob("*.pdf")}


# --- terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_terminal_shows_whole_numbers_within_80_columns(is_terminal):
    results = sweep(*paper_rows("iemocap", "casia"), without=(("08", 0),))
    rows = [row for row in results.configurations if row.model == TFT]
    results.entries.update(sweep(*(parts := [replace(row, ablation="T+F") for row in rows])).entries)
    results = replace(results, configurations=(*results.configurations, *parts))
    text = printed(results, is_terminal=is_terminal)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    grids = [re.split(r"\n(?:\*|†|[A-Z]+: )", part)[0] for part in re.split(r"WAR and UAR|Ablations of", plain)[1:]]
    assert len(grids) == 2
    assert max(cell_len(line) for grid in grids for line in grid.splitlines()) <= 80
    for summary in summarise(results):
        grid = grids[0] if summary.configuration.ablation != "T+F" else grids[1]
        mark = "" if summary.configuration.ablation == "T+F" else "†"
        for figure in (summary.figures.war_pooled, summary.figures.uar_pooled):
            assert f"{table.percent(figure)}{mark}" in grid
    assert "72.34" in grids[0]
    assert re.search(r"Time-Frequency Transformer \(ours\) on IEMOCAP:\s+2\s+of 3\s+folds", " ".join(plain.split()))
    assert ("\x1b" in text) == is_terminal


def test_a_terminal_without_unicode_gets_ascii():
    printed(sweep(HOSTILE), encoding="ascii").encode("ascii")
    gap = printed(sweep(*paper_rows("casia"), without=(("08", 0),)), encoding="ascii")
    assert "+ Time-Frequency Transformer (ours) on CASIA: 2 of 3 folds" in " ".join(gap.split())


def test_no_rows_is_said():
    assert "No rows" in printed(Results(sweep="none", configurations=(), entries={}))


def test_one_sentence_tells_what_the_intervals_of_a_table_cover_and_one_why_there_is_none():
    """Two rows over the same number of folds once had a sentence each, where one had only some intervals."""

    def interval(folds=3, shares=None, reason=""):
        low = math.nan if reason else 0.5
        return uncertainty.Interval(
            low=low, high=low, method="speakers", folds=folds, actual_coverage=shares, reason=reason
        )

    rows = [configuration(), configuration(ablation="T+F")]
    summaries = summarise(Results(sweep="x", configurations=tuple(rows), entries={}))
    few = np.zeros(10)
    same = uncertainty.interval(0.5, few, "speakers", 3, "war_mean").reason
    alone = uncertainty.interval(0.5, few, "speakers", 2, "war_mean").reason
    made = {
        rows[0].key: {"war_mean": interval(shares=(0.90, 0.95)), "uar_mean": interval(shares=(0.93, 0.97))},
        rows[1].key: {
            "war_mean": interval(shares=(0.93, 0.96)),
            "uar_mean": interval(reason=same),
            "x": interval(reason=alone),
        },
    }
    said = notes.of_measurement(summaries, published.load(), SimpleNamespace(intervals=made))
    assert [note for note in said if "held the truth" in note] == [
        "With 3 held-out speakers such an interval held the truth in 90.0 to 97.0 % of simulations."
    ]
    assert [note for note in said if note.startswith("No interval")] == [
        "No interval is given where every bootstrap replicate is the same, which says nothing about others.",
        "No interval is given for fewer than 3 held-out speakers or sessions.",
    ]


# --- what is transductive ---------------------------------------------------------------------------------------


def test_a_transductive_row_is_marked_in_every_table_explained_and_never_bold(tmp_path):
    """Its model is not known here, and nothing but the row itself tells."""
    honest = configuration(database="emodb", model="theirs", ablation="full", settings='{"epochs": 5}')
    marked = configuration(
        database="emodb", model="mine", ablation="full", transductive=True, settings='{"epochs": 6}', selection="fixed"
    )
    elsewhere = replace(marked, database="casia")
    results = sweep(honest, marked, elsewhere)
    better = {}
    for key, entry in results.entries.items():
        row = key[0]
        right = [
            replace(u, p=tuple(float(emotion == u.truth) for emotion in row.emotions)) for u in entry.scores.utterances
        ]
        perfect = scores(row.emotions, right, np.eye(len(row.emotions), dtype=np.int64))
        better[key] = replace(entry, scores=perfect) if row.transductive else entry
    write(replace(results, entries=better), tmp_path)
    cells = markdown_cells(details(tmp_path, about="emodb"))
    mine, theirs = ([line for line in cells if line[0].startswith(name)] for name in ("mine", "theirs"))
    assert {line[0] for line in mine} == {"mine, full§ (ours)"}
    assert {line[0] for line in theirs} == {"theirs, full (ours)"}
    for text in (details(tmp_path), (tmp_path / "comparison.md").read_text(encoding="utf-8")):
        assert "| mine, full§ (ours)" in text
        assert all("**" not in line for line in text.splitlines() if "mine, full" in line)
        assert "§ Transductive: the scores of an utterance may depend on the unlabelled utterances" in text
    assert "fixed, transductive" not in text  # one mark is enough
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "mine, full§ on emodb" in page
    (paired,) = (part for part in page.split("<table")[1:] if "mine, full§, fixed" in part)
    assert "§ Transductive: the scores" in paired
    ablations = details(tmp_path, "ablation")
    assert "| full§ " in ablations
    assert "ours§, pooled" in ablations
    assert r"mine, full§ (ours)" in (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    assert "full§" in printed(replace(results, entries=better))
    summary = read(tmp_path, "summary.csv")
    assert list(zip(summary.database, summary.model, summary.transductive, strict=True)) == [
        ("casia", "mine", True),
        ("emodb", "mine", True),
        ("emodb", "theirs", False),
    ]


@pytest.mark.parametrize(("settings", "said"), [('{"epochs": 5}', True), ('{"standardisation": "none"}', False)])
def test_only_rows_that_are_standardised_over_the_training_are_said_to_be(tmp_path, settings, said):
    write(sweep(configuration(settings=settings)), tmp_path)
    text = details(tmp_path)
    assert ("features are standardised per mel band with the statistics of the training speakers" in text) is said


def test_a_row_that_is_not_transductive_is_written_as_before(tmp_path):
    values = to_dict(configuration())
    assert not {"transductive", "source"} & values.keys()
    assert from_dict(values) == configuration()
    marked = configuration(transductive=True)
    assert to_dict(marked)["transductive"] is True
    assert from_dict(to_dict(marked)) == marked
    write(sweep(configuration()), tmp_path)
    assert "§" not in (tmp_path / "comparison.md").read_text(encoding="utf-8") + details(tmp_path)
    assert "transductive" not in read(tmp_path, "summary.csv")


def test_a_table_of_several_seeds_is_not_replaced_by_one_of_fewer_with_as_many_folds(tmp_path):
    of_three = sweep(row := configuration(seeds=(0, 1, 2)))
    write(of_three, tmp_path)
    before = (tmp_path / "summary.csv").read_bytes()
    with pytest.raises(report_write.LessError, match="3 folds of 3 seeds there, 3 of 1 seed here"):
        write(sweep(replace(row, seeds=(0,))), tmp_path)
    assert (tmp_path / "summary.csv").read_bytes() == before
    write(sweep(replace(row, folds=(*row.folds, "10"), folds_total=4, seeds=(0,))), tmp_path)
