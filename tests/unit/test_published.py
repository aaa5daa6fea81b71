"""Published figures: the file that comes with tfser, files of a person's own, and which figures can be shares of n."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import permutation_test

from tests.helpers.estimators import SVM, known
from tests.helpers.results import cell_numbers, configuration, details, markdown_cells, paper_rows, printed, sweep
from tests.helpers.sweeps import arguments
from tests.helpers.tiny import write_tiny
from tfser import collect
from tfser.errors import RequestError
from tfser.evaluation import metrics, possible_shares
from tfser.models import MODELS, PROPOSED, Estimator, built_in
from tfser.planning.configuration import Configuration, OwnModel, from_dict, to_dict
from tfser.report import published, trace, write
from tfser.report.tables.table import percent, points, probability
from tfser.storage import packaged_files
from tfser.sweep import command

TWO_NAMES = {
    "GA-BEL": "LLD+DR",
    "ELM-DNN": "DNN+ELM",
    "LoHu": "HuWSF",
    "DCNN-DTPM": "DTPM",
    "MSA-AL": "Model-3_Fusion",
    "CNN-LSTM": "CNN+LSTM Model",
    "GRU-CNN-SeqCap": "CNN_GRU-SeqCap",
    "DNN-SAli": "DNN-HMM_SGMM-Ali.",
}

MINE = """
papers:
  smith2030: {title: "A Third Paper"}
databases:
  tiny: {utterances: 40, emotions: {angry: 10, calm: 10, glad: 10, tense: 10}}
comparison:
  - {paper: smith2030, database: tiny, method: Oracle of Delphi, war: 61.3, uar: 61.3, protocol: random split}
  - {paper: smith2030, database: tiny, method: Coin, war: 62.5, uar: null}
  - {paper: smith2030, database: casia, method: LLD+DR, war: 39.51, uar: 39.50, protocol: leave-one-speaker-out}
  - {paper: smith2030, database: emodb, method: Pythia, war: 76.4, uar: 74.40}
ablations:
  - {paper: smith2030, model: mine, ablation: whole, parts: {gate: true}, tiny: {war: 50.00, uar: 50.01}}
"""


# --- which figures can be shares -------------------------------------------------------------------------------------


def by_hand(text: str, n: int) -> set[str]:
    """How a count of n can be printed so, by printing every count."""
    figure = Decimal(text)
    digits = len(text.partition(".")[2])
    found = set()
    for kept in range(digits + 1):
        if figure != figure.quantize(Decimal(1).scaleb(-kept)):
            continue
        for k in range(n + 1):
            exact = Decimal(100 * k) / Decimal(n) if n else Decimal(0)
            for how in (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_DOWN):
                if exact.quantize(Decimal(1).scaleb(-kept), rounding=how) == figure:
                    word = "truncated" if how == ROUND_DOWN else "rounded"
                    found.add(word if kept == digits else "padded")
    return found


def test_what_a_figure_can_be_of_n_is_what_printing_every_count_gives():
    dice = random.Random(4)
    said = []
    for _ in range(400):
        n, digits = dice.choice([7, 40, 43, 96, 430]), dice.choice([0, 1, 2, 2, 2])
        text = f"{dice.uniform(0, 100):.{digits}f}"
        if dice.random() < 0.5:  # near a share, so that every case occurs
            k = dice.randint(0, n)
            way = dice.choice([ROUND_DOWN, ROUND_HALF_UP])
            text = str((Decimal(100 * k) / n).quantize(Decimal(1).scaleb(-digits), rounding=way))
        if dice.random() < 0.3:
            text = f"{text}0" if "." in text else f"{text}.0"
        share, ways = possible_shares.of(text, n), by_hand(text, n)
        wanted = next((way for way in ("rounded", "truncated", "padded") if way in ways), "none")
        assert share.how == wanted, (text, n, ways)
        if share.how == "none":
            assert abs(Fraction(text) - Fraction(100 * share.k, n)) == min(
                abs(Fraction(text) - Fraction(100 * k, n)) for k in range(n + 1)
            )
        said.append(share.how)
    assert {*said} == {"rounded", "truncated", "padded", "none"}


def test_a_mean_of_class_recalls_is_a_share_of_the_steps_whatever_the_classes_sizes():
    for classes in ((2, 3), (4, 4, 4), (1, 2, 5)):
        steps = possible_shares.steps_of_mean_recall(classes)
        means = {
            sum(Fraction(k, n) for k, n in zip(ks, classes, strict=True)) / len(classes)
            for ks in product(*(range(n + 1) for n in classes))
        }
        assert all((mean * steps).denominator == 1 for mean in means)
        assert len(set(classes)) > 1 or steps == sum(classes)


def hows(database: str, model: str, measure: str = "war") -> dict[str, tuple[str, int]]:
    return {
        a.ablation: (share.how, share.k)
        for a in published.load().ablations_of(model)
        if (share := a.shares.get(database, {}).get(measure))
    }


def test_of_the_papers_ablations_the_shares_of_the_databases_utterances_are_told_from_the_others():
    tft = hows("casia", "time_frequency_transformer")
    assert tft == {
        "T+F": ("none", 484),
        "T+TF": ("truncated", 587),
        "F+TF": ("none", 591),
        "T+F+TF": ("rounded", 638),
    }
    assert hows("casia", "time_frequency_transformer", "uar") == tft, "classes of one size: the UAR is a share too"
    abc = hows("abc", "atfnn")
    assert abc == {
        "AFNN": ("rounded", 250), "ATNN": ("rounded", 284), "TFNN": ("rounded", 289), "ATFNN": ("rounded", 296),
    }  # fmt: skip
    assert {how for how, _ in hows("abc", "atfnn", "uar").values()} == {"rounded"}, "unequal classes leave it open"
    iemocap = hows("iemocap", "atfnn")
    assert [iemocap[name][0] for name in ("AFNN", "ATNN", "TFNN", "ATFNN")] == ["none", "none", "none", "truncated"]


def test_the_tables_mark_figures_that_are_no_share_and_give_the_arithmetic(tmp_path):
    write.write(sweep(*paper_rows("casia", "abc")), tmp_path, pictures=False)
    text = details(tmp_path, "ablation", about=" on casia")
    cells = {c[0]: c[4:6] for c in markdown_cells(text) if c[0] in ("T+F", "T+TF", "F+TF", "T+F+TF")}
    assert cells == {
        "T+F": ["40.32¶", "40.32¶"], "T+TF": ["48.91", "48.91"],
        "F+TF": ["49.26¶", "49.26¶"], "T+F+TF": ["53.17", "53.17"],
    }  # fmt: skip
    assert "T+F, WAR and UAR 40.32 (484/1200 = 40.3333 %); F+TF, WAR and UAR 49.26 (591/1200 = 49.2500 %)" in text
    assert "only if cut off, not rounded: T+TF, WAR and UAR 48.91 (587/1200 = 48.9167 %)" in text
    assert "Each WAR in print is a share of 430 utterances (250, 284, 289, 296)" in details(
        tmp_path, "ablation", about=" on abc"
    )
    compared = details(tmp_path, about="abc")
    cells = {c[0]: c[-2] for c in markdown_cells(compared)}
    assert (cells["GerDA"], cells["LLDs+SVM"], cells["LLDs+HMM/GMM"]) == ("61.50¶", "61.40", "57.70")
    assert r"GerDA \[2\], WAR 61.50 (264/430 = 61.3953 %)" in compared
    assert (
        r"only if the last 0 was added to a figure of fewer digits: LLDs+HMM/GMM \[2\], WAR 57.70 (248/430" in compared
    )
    assert "40.32¶" in (tmp_path / "report.html").read_text()
    for name in ("comparison.md", "comparison.tex"):
        assert "¶" not in (tmp_path / name).read_text(), "in print they stand as they are printed"


# --- the file that comes with tfser -----------------------------------------------------------------------------------


def test_every_row_has_the_protocol_that_is_printed_and_eight_methods_stand_under_two_names():
    plain = yaml.safe_load(packaged_files.published().read_text("utf-8"))
    assert all(row.get("protocol") for row in plain["comparison"])
    assert {row["method"]: row["same_as"] for row in plain["comparison"] if "same_as" in row} == TWO_NAMES
    figures = {(r["database"], r["method"]): (r["war"], r["uar"]) for r in plain["comparison"]}
    for (database, method), pair in figures.items():
        if method in TWO_NAMES:
            assert figures[database, TWO_NAMES[method]] == pair
    assert all([*paper] == ["title"] for paper in plain["papers"].values()), "no path of a text that is not here"
    assert {frozenset(names) for names in published.load().only_cited()} == {
        frozenset({"MSA-AL", "Model-3_Fusion"}),
        frozenset({"DNN-SAli", "DNN-HMM_SGMM-Ali."}),
        frozenset({"DNN-BN"}),
        frozenset({"ADARL"}),
    }


def test_a_protocol_that_names_two_is_not_marked_as_another_than_either(tmp_path):
    (row, _) = paper_rows("iemocap")
    both = "leave-one-session-or-speaker-out"
    for protocol, others in (("speaker", {"leave-one-session-out‡"}), ("session", {"leave-one-speaker-out‡"})):
        mine = configuration(database="iemocap", emotions=row.emotions, protocol=protocol)
        write.write(sweep(mine), tmp_path / protocol, pictures=False)
        text = details(tmp_path / protocol)
        printed_protocols = {c[2] for c in markdown_cells(text)}
        assert both in printed_protocols
        assert {p for p in printed_protocols if "‡" in p} == others
        assert "not stated" not in printed_protocols
        assert f"{both}: the paper names both" in text


# --- a file of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def test_figures_of_ones_own_stand_behind_the_papers_with_their_paper_and_their_marks(mine, tmp_path):
    ours = [*paper_rows("casia"), configuration(), configuration(database="tiny", emotions=("angry", "calm"))]
    write.write(sweep(*ours), tmp_path / "t", pictures=False, more=[mine])
    casia = details(tmp_path / "t", about="casia")
    rows = [c for c in markdown_cells(casia) if c[0] == "LLD+DR"]
    assert [c[1:3] + c[-2:] for c in rows] == [
        [r"\[2\]", "leave-one-speaker-out", "39.50", "39.50"],
        [r"\[3\]", "leave-one-speaker-out", "39.51¶", "39.50"],
    ]
    assert r"\[3\] smith2030: A Third Paper" in casia
    assert r"LLD+DR \[3\], WAR 39.51 (474/1200 = 39.5000 %)" in casia
    tiny = details(tmp_path / "t", about="tiny")
    delphi, coin = ([c for c in markdown_cells(tiny) if c[0] == name][0] for name in ("Oracle of Delphi", "Coin"))
    assert delphi[2:3] + delphi[-2:] == ["random split‡", "61.30¶", "61.30¶"]
    assert coin[2:3] + coin[-2:] == ["not stated", "62.50", "N/A"]
    assert "(25/40 = 62.5000 %)" in tiny
    cells = [c for c in markdown_cells((tmp_path / "t" / "comparison.md").read_text())]
    assert [c[2:4] for c in cells if c[1] in ("LLD+DR", "Coin")] == [["39.51", "39.50"], ["62.50", "–"]]
    assert (tmp_path / "t" / "comparison.md").read_text().count("random split") == 1
    assert "Pythia" in details(tmp_path / "t", about="emodb"), (
        "counts of a corpus that tfser knows need not be in the file"
    )
    before = write.write(sweep(*ours), tmp_path / "without", pictures=False)
    assert "smith2030" not in "".join(path.read_text() for path in before)


@pytest.mark.full
def test_sweep_and_collect_take_the_file(mine, tmp_path, capsys, few_draws):
    manifest = write_tiny(tmp_path / "tiny")
    out = tmp_path / "out"
    assert command.main(arguments(manifest, out, "--name", "s", "--published", str(mine), "--fold", "anna")) == 0
    assert "Oracle of Delphi*" in capsys.readouterr().out
    assert "Oracle of Delphi" in (out / "s" / "comparison.md").read_text()
    assert collect.main(["s", "--out", str(out)]) == 0
    assert "Oracle of Delphi" not in (out / "s" / "comparison.md").read_text()
    assert collect.main(["s", "--out", str(out), "--published", str(mine)]) == 0
    assert "Oracle of Delphi" in (out / "s" / "comparison.md").read_text()
    assert "Oracle of Delphi" in (out / "s" / "report.html").read_text()


WRONG = """
papers:
  smith2030: {title: "A Third Paper", text: papers/x.md}
  lu2022atfnn: {title: "Another"}
databases:
  tiny: {utterances: 41, emotions: {angry: 10, calm: 30}}
  casia: {emotions: {angry: 100}}
compared: []
comparison:
  - {paper: smith2031, database: tiny, method: A, war: 61.3}
  - {paper: smith2030, database: tinny, method: B, war: 161.3}
  - {paper: smith2030, database: tiny, method: C}
  - {paper: smith2030, database: tiny, method: 7, war: "61.30", methodname: D}
  - Just words
ablations:
  - {paper: smith2030, model: mine, ablation: whole, parts: {gate: 1}, tiny: 50.0, wax: {war: 1}}
"""


def test_everything_that_is_wrong_with_a_file_is_said_at_once_with_its_line(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    with pytest.raises(RequestError) as error:
        published.load(path)
    assert str(path) in str(error.value)
    said = error.value.problems
    for line, text in (
        (3, "papers.smith2030.text: key: no 'text'; there are title"),
        (4, "papers.lu2022atfnn: it is the key of 'Speech Emotion"),
        (6, "databases.tiny.utterances: 41, but its emotions have 40 in all"),
        (7, "databases.casia: it is described already (angry 200"),
        (8, "compared: key: no 'compared'; there are"),
        (10, "comparison.entry 1.paper: paper: no 'smith2031'"),
        (11, "comparison.entry 2.database: database: no 'tinny'"),
        (11, "comparison.entry 2.war: '161.3' is not a percentage as printed"),
        (12, "comparison.entry 3: it has neither war nor uar"),
        (13, "comparison.entry 4.method: 7 is no text"),
        (13, "comparison.entry 4.war: '61.30' is not a percentage"),
        (13, "comparison.entry 4.methodname: key: no 'methodname'"),
        (14, "comparison.entry 5: it has to be a mapping, not 'Just words'"),
        (16, "ablations.entry 1.parts.gate: 1 is neither true nor false"),
        (16, "ablations.entry 1.tiny: it has to be a mapping"),
        (16, "ablations.entry 1.wax: key: no 'wax'"),
    ):
        assert [p for p in said if p.startswith(f"line {line}: {text}")], (line, text, said)
    assert len(said) == 16, said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has to be a mapping"),
        ("- a", "it has to be a mapping"),
        ("papers: !!python/object/apply:os.system ['true']", "Python objects are not made"),
        ("papers: [", "line 2: while parsing"),
        (MINE + "\npapers: {}", "it stands twice"),
        (MINE.replace("method: Coin", "method: Oracle of Delphi"), "smith2030, tiny, Oracle of Delphi already"),
        (MINE.replace("uar: null}", "uar: null, same_as: Oracle of Delphi}"), "has other figures, 61.3 and 61.3"),
        (MINE.replace("uar: null}", "uar: null, same_as: Delphi}"), "no 'Delphi'; there are Oracle of Delphi"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_as_it_is_meant_is_refused_in_words(tmp_path, text, why):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=why.replace("[", r"\[")):
        published.load(path)


def test_a_file_of_fractions_is_refused_since_figures_are_percent(tmp_path):
    path = tmp_path / "mine.yaml"
    fractions = re.sub(r"(war|uar): (\d\d)\.", r"\1: 0.\2", MINE)
    path.write_text(fractions)
    with pytest.raises(RequestError) as error:
        published.load(path)
    (problem,) = error.value.problems
    assert problem.startswith(
        "line 7: comparison.entry 1.war: 0.613, and no figure of the file is above 1; write percent"
    )
    path.write_text(fractions.replace("uar: 0.5001", "uar: 50.01"))
    assert published.load(path)
    path.write_text(fractions[: fractions.index("comparison:")] + fractions[fractions.index("ablations:") :])
    with pytest.raises(RequestError, match=r"ablations\.entry 1\.tiny\.war: 0\.5000, and no figure"):
        published.load(path)


def test_a_database_that_is_wrong_is_answered_with_each_legal_name_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE.replace("database: casia", "database: casio"))
    with pytest.raises(RequestError) as error:
        published.load(path)
    names = str(error.value).partition("there are ")[2].partition(" (did you")[0].split(", ")
    assert "casia" in names
    assert len(names) == len(set(names))


def test_a_wrong_file_is_refused_before_a_sweep_or_a_collection_starts(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    manifest = write_tiny(tmp_path / "tiny")
    missing = tmp_path / "none.yaml"
    call = arguments(manifest, tmp_path / "out", "--published", str(path), str(missing), "--protocol", "speakers")
    assert command.main(call) == 2
    error = capsys.readouterr().err
    assert f"published figures {path}: line 3: papers.smith2030.text" in error
    assert f"published figures {missing}: no such file" in error
    assert "--protocol: no 'speakers'" in error
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / ".tfser" / "rows").mkdir(parents=True)
    assert collect.main(["--out", str(tmp_path / "out"), "--published", str(path)]) == 2
    assert "line 3: papers.smith2030.text" in capsys.readouterr().err


# --- rows that run a cited method again -------------------------------------------------------------------------------


def rerun(name: str, title: str, *methods: str) -> Estimator:
    return replace(SVM, name=name, title=title, reruns=methods)


DNN_LIKE = rerun("again_a", "DNN+ELM (re-run)", "DNN+ELM")
LDA_LIKE = rerun("again_b", "LLD+DR (re-run)", "LLD+DR")
BEL_LIKE = rerun("again_c", "GA-BEL (re-run, in spirit)", "GA-BEL")
NOT_RUN = rerun("again_d", "HuWSF (re-run)", "HuWSF")
LSTM_LIKE = rerun("again_e", "CNN-LSTM (re-run)", "CNN-LSTM")


PAPERS = [*PROPOSED.values()]


def methods_in(folder: Path, database: str) -> list[str]:
    """The first column of the comparison table, without the second line of ours."""
    text = details(folder, about=database)
    cells = [c[0].replace("\\", "") for c in markdown_cells(text)][2:]
    return [name for before, name in zip([None, *cells], cells, strict=False) if name != before]


def rows_of(database: str, *models: Estimator) -> list[Configuration]:
    emotions = tuple(sorted(published.load().emotions[database]))
    return [configuration(database=database, emotions=emotions, model=m.name, ablation="full") for m in models]


@pytest.mark.parametrize("row", published.load().comparison, ids=lambda row: f"{row.database}-{row.method}")
def test_every_cited_method_has_a_built_in_model_that_runs_it_again_or_a_reason_why_none_does(row):
    models = published.load().beside(built_in()).run_again_by(row.method)
    assert bool(models) != bool(published.load().why_only_cited(row.method))
    titles = {MODELS[name].title for name in models - {*PROPOSED}}
    assert all("(re-run" in title for title in titles), titles


def test_a_rerun_row_stands_below_the_rows_that_cite_its_method_under_either_name(tmp_path):
    again = (DNN_LIKE, LDA_LIKE, BEL_LIKE, LSTM_LIKE)
    with known(*again, NOT_RUN, beside=PAPERS):
        results = sweep(*paper_rows("casia"), *rows_of("casia", *again))
        write.write(results, tmp_path, pictures=False)
        shown = printed(results)
    assert methods_in(tmp_path, "casia") == [
        "CNN-LSTM (re-run)",
        "GA-BEL", "LLD+DR", "LLD+DR (re-run)", "GA-BEL (re-run, in spirit)",
        "ELM-DNN", "DNN+ELM", "DNN+ELM (re-run)",
        "LoHu", "HuWSF",
        "DCNN-DTPM", "DTPM",
        "ATFNN", "ATFNN (ours)",
        "Time-Frequency Transformer", "Time-Frequency Transformer (ours)",
    ]  # fmt: skip
    text = details(tmp_path)
    assert r"One method under two names, with the same figures: GA-BEL \[1\] = LLD+DR \[2\];" in text
    assert r"Not run again in this sweep: LoHu \[1\] = HuWSF \[2\] (--model again_d)." in text
    assert r"because no model here is built after them: DCNN-DTPM \[1\] = DTPM \[2\]." in text
    cells = markdown_cells((tmp_path / "comparison.md").read_text())[2:]
    names = [
        "GA-BEL", "ELM-DNN", "LoHu", "DCNN-DTPM", "ATFNN", "Time-Frequency Transformer",
        "CNN-LSTM (re-run)", "DNN+ELM (re-run)", "GA-BEL (re-run, in spirit)", "LLD+DR (re-run)",
        "Time-Frequency Transformer (ours)", "ATFNN (ours)",
    ]  # fmt: skip
    assert [c[1] for c in cells] == names  # cited once each, then run again, then the papers' own
    assert shown.index("LoHu") < shown.index("LLD+DR (re-run)") < shown.index("ATFNN (ours)")


def test_without_a_rerun_the_published_rows_come_first_as_before(tmp_path):
    write.write(sweep(*paper_rows("casia")), tmp_path, pictures=False)
    assert methods_in(tmp_path, "casia")[-2:] == ["ATFNN (ours)", "Time-Frequency Transformer (ours)"]
    assert "Not run again" not in details(tmp_path)


def test_the_methods_that_are_only_cited_stand_under_the_table_with_the_reason(tmp_path):
    write.write(sweep(*paper_rows("iemocap", "casia")), tmp_path, pictures=False)
    text = details(tmp_path, about="iemocap")
    for names in (r"MSA-AL \[1\] = Model-3_Fusion \[2\]", r"DNN-BN \[1\]", r"ADARL \[2\]"):
        assert f"Cited only: {names}: " in text
    assert text.count("Cited only: ") == 4
    assert "Cited only" not in details(tmp_path, about="casia")


def test_a_row_keeps_what_a_model_of_ones_own_says_that_it_runs_again():
    told = OwnModel(title="T", typed="t.py:T", kind="estimator", parts=(), defaults="{}", reruns=("LLD+DR",))
    row = configuration(model="t", own=told, source="0")
    assert from_dict(json.loads(json.dumps(to_dict(row)))) == row
    assert "reruns" not in to_dict(replace(row, own=replace(told, reruns=())))["own"]
    assert "t" in published.load().of_rows([row]).run_again_by("GA-BEL")


# --- every row against the best ---------------------------------------------------------------------------------------


def test_every_row_is_tested_against_the_best_in_one_line_with_interval_and_correction(tmp_path, few_draws):
    again = tuple(rerun(f"again_{n}", f"Method {n} (re-run)", "LLD+DR") for n in range(12))
    folds = ("a", "b", "c", "d", "e", "f")
    with known(*again, beside=PAPERS):
        rows = [
            configuration(database="casia", model=m.name, ablation="full", folds=folds, selection="fixed")
            for m in again
        ]
        short = configuration(database="casia", model="atfnn", ablation="ATFNN", folds=folds, folds_total=9)
        results = sweep(*rows, short)
        write.write(results, tmp_path, pictures=False)
        traced = trace.trace(results, ["difference", "again_3"])
    table = details(tmp_path, "best", about="Every row against the best on casia")
    cells = markdown_cells(table)[2:]
    assert len(cells) == 13
    uar = {
        c.model: np.mean([metrics.uar(results.entries[c, fold, 0].scores.matrix) for fold in folds])
        for c in results.configurations
    }
    best = max((m.name for m in again), key=uar.__getitem__)
    assert cells[0][0].startswith(f"Method {best.rpartition('_')[2]} (re-run)")
    shares = {
        m.name: [
            metrics.uar(results.entries[row, fold, 0].scores.matrix)
            - metrics.uar(results.entries[rows[int(best.rpartition("_")[2])], fold, 0].scores.matrix)
            for fold in folds
        ]
        for m, row in zip((*again, MODELS["atfnn"]), (*rows, short), strict=True)
    }
    ps = {}
    for name, each in shares.items():
        if name != best:
            test = permutation_test((each,), np.mean, permutation_type="samples", n_resamples=np.inf)
            ps[name] = test.pvalue
    holm, worst = {}, 0.0
    for rank, name in enumerate(sorted(ps, key=ps.__getitem__)):
        worst = max(worst, min(1.0, ps[name] * (len(ps) - rank)))
        holm[name] = worst
    titles = {"atfnn": "ATFNN", **{m.name: m.title for m in again}}
    for name in ps:
        (line,) = [c for c in cells if c[0].startswith(f"{titles[name]},")]
        mark = "†" if name == "atfnn" else ""
        assert line[1:3] == [f"{percent(uar[name])}{mark}", f"{points(np.mean(shares[name]))}{mark}"]
        assert line[4:6] == [f"{probability(ps[name])}{mark}", f"{probability(holm[name])}{mark}"]
        low, high = cell_numbers(line[3])
        assert low < 100 * np.mean(shares[name]) < high
    assert "corrected for the 12 comparisons" in table
    assert "found on these test utterances themselves" in table
    assert {t.where for t in traced} >= {"against the best", "paired and ablation"} if best != "again_3" else True
    assert "Every row against the best on casia" in (tmp_path / "report.html").read_text()


def test_two_models_need_no_table_of_the_best(tmp_path):
    write.write(sweep(*paper_rows("casia")), tmp_path, pictures=False)
    assert "against the best" not in (tmp_path / "details.md").read_text()
