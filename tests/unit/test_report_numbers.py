"""Every printed number against pandas and scikit-learn, on chosen results and on 200 random ones with gaps."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from tests.helpers.printed import PLACES, printed_figures
from tests.helpers.results import (
    ATFNN,
    TFT,
    Tables,
    cell_numbers,
    configuration,
    details,
    is_number,
    markdown_cells,
    papers_sweep,
    printed,
    random_results,
    read,
    record,
    rescored,
    sweep,
)
from tfser.evaluation import uncertainty
from tfser.execution.results import KEY_COLUMNS, Results
from tfser.planning.configuration import Configuration
from tfser.record import Record
from tfser.report import published, write

pytestmark = pytest.mark.usefixtures("few_draws", "blank_figures")

# --- the independent path --------------------------------------------------------------------------------------------


def utterances_of(results: Results) -> pd.DataFrame:
    """One line per test utterance of every finished final trial, straight from the records."""
    lines = []
    for (c, fold, seed), entry in results.entries.items():
        if isinstance(entry, Record):
            scores = pd.DataFrame([u.p for u in entry.scores.utterances], columns=list(c.emotions))
            for utterance, guess in zip(entry.scores.utterances, scores.idxmax(axis=1), strict=True):
                codes = (c.emotions.index(utterance.truth), c.emotions.index(guess))
                lines.append((c.key, fold, seed, utterance.id, utterance.speaker, *codes))
    return pd.DataFrame(lines, columns=["key", "fold", "seed", "id", "speaker", "truth_code", "guess_code"])


@dataclass
class Scored:
    """Some test utterances under scikit-learn; fractions."""

    war: float
    uar: float
    zeros: float
    """UAR where an emotion that does not occur counts as a recall of 0."""
    recalls: list[float]
    """NaN for an emotion that does not occur."""
    utterances: int


def scored(part: pd.DataFrame, emotions: tuple[str, ...]) -> Scored:
    truth, guess = part.truth_code.to_numpy(), part.guess_code.to_numpy()
    with config_context(assume_finite=True, skip_parameter_validation=True):  # the checks take most of the time
        recalls, war = (
            recall_score(truth, guess, labels=range(len(emotions)), average=None, zero_division=0),
            accuracy_score(truth, guess),
        )
    there = np.isin(range(len(emotions)), truth)
    return Scored(war, recalls[there].mean(), recalls.mean(), list(np.where(there, recalls, np.nan)), len(part))


@dataclass
class Expected:
    """What a row has to show; fractions."""

    done: list[str]
    numbers: dict[str, float]
    by_fold: pd.DataFrame
    """WAR and UAR by fold, means over the seeds."""


class Reference:
    """Everything that files are checked against."""

    def __init__(self, results: Results) -> None:
        self.everything = utterances_of(results)
        self.emotions = {c.key: c.emotions for c in results.configurations}
        self.trials = {
            place: scored(part, self.emotions[place[0]])
            for place, part in self.everything.groupby(["key", "fold", "seed"])
        }
        self.rows = {c.key: self.expected(c) for c in results.configurations}

    def expected(self, c: Configuration) -> Expected:
        there = {(fold, seed) for key, fold, seed in self.trials if key == c.key}
        done = [fold for fold in c.folds if {(fold, seed) for seed in c.seeds} <= there]
        numbers: dict[str, float] = {}
        if not done:
            return Expected(done, numbers, pd.DataFrame())
        mine = self.everything[(self.everything.key == c.key) & self.everything.fold.isin(done)]
        pooled = pd.DataFrame([scored(part, c.emotions) for _, part in mine.groupby("seed")])
        each = pd.DataFrame([{"fold": f, "seed": s, **vars(self.trials[c.key, f, s])} for f in done for s in c.seeds])
        folds = each.groupby("fold")[["war", "uar", "zeros"]].mean()
        of_seeds = each.groupby("seed")[["war", "uar"]].mean()
        for name in ("war", "uar"):
            numbers |= {f"{name}_pooled": pooled[name].mean(), f"{name}_pooled_seed_sd": pooled[name].std(ddof=1)}
            numbers |= {f"{name}_mean": folds[name].mean(), f"{name}_sd": folds[name].std(ddof=1)}
            numbers[f"{name}_mean_seed_sd"] = of_seeds[name].std(ddof=1)
        numbers |= {"zeros": folds.zeros.mean(), "zeros_sd": folds.zeros.std(ddof=1)}
        for figure, interval in uncertainty.intervals(rows_of(c, mine)).items():
            numbers |= {f"{figure}_low": interval.low, f"{figure}_high": interval.high}
        return Expected(done, numbers, folds)


def rows_of(c: Configuration, mine: pd.DataFrame) -> uncertainty.Row:
    trials = [
        uncertainty.FoldScores(
            fold=fold,
            seed=seed,
            utterances=list(part.id),
            speakers=list(part.speaker),
            truth=list(part.truth_code),
            predicted=list(part.guess_code),
        )
        for (fold, seed), part in mine.groupby(["fold", "seed"])
    ]
    return uncertainty.row(trials, len(c.emotions))


def same(shown: float | str, wanted: float, *, digits: float = 1e-9) -> bool:
    """Whether a shown number, or an empty cell, is the wanted one."""
    if shown == "" or pd.isna(shown):
        return bool(pd.isna(wanted))
    return abs(float(shown) - wanted) <= digits


# --- checks of whole files --------------------------------------------------------------------------------------------


def check_summary(folder: Path, reference: Reference) -> None:
    summary = read(folder, "summary.csv")
    assert len(summary) == len(reference.rows)
    for line in summary.itertuples():
        row = reference.rows[tuple(getattr(line, name) for name in KEY_COLUMNS)]
        assert line.folds_done == len(row.done)
        for name in ("war_pooled", "uar_pooled", "war_mean", "war_sd", "uar_mean", "uar_sd"):
            assert same(getattr(line, name), row.numbers.get(name, np.nan)), (line, name)


def check_folds(folder: Path, reference: Reference) -> None:
    folds = read(folder, "folds.csv")
    assert len(folds) == len(reference.trials)
    for line in folds.to_dict("records"):
        key = tuple(line[name] for name in KEY_COLUMNS)
        trial = reference.trials[key, line["fold"], line["seed"]]
        assert same(line["war"], trial.war)
        assert same(line["uar"], trial.uar)
        assert line["utterances"] == trial.utterances
        recalls = dict(zip(reference.emotions[key], trial.recalls, strict=True))
        for name in (column for column in folds if column.startswith("recall_")):
            assert same(line[name], recalls.get(name.removeprefix("recall_"), np.nan))


def check_comparison(folder: Path, results: Results, wanted: dict[tuple, Expected]) -> None:
    """Typed values in CSV, the same in Markdown, and nothing missing but what does not exist."""
    written = read(folder, "comparison.csv")
    names = {c.key: c for c in results.configurations}
    ours = written[written.source == "ours"]
    databases = set(ours.database)
    protocol = {c.protocol_name: c.protocol for c in results.configurations}
    cells = [line for line in markdown_cells(details(folder)) if "(ours)" in line[0]]
    assert len(cells) == len(ours)
    seen = set()
    for line, cell in zip(ours.to_dict("records"), cells, strict=True):
        key = tuple(protocol[line[name]] if name == "protocol" else line[name] for name in KEY_COLUMNS)
        row, c = wanted[key], names[key]
        seen.add((key, line["averaging"]))
        assert (line["database_state"] == "complete") == c.complete
        assert (line["folds_done"], line["folds_total"], line["seeds"]) == (len(row.done), c.folds_total, len(c.seeds))
        for measure, printed_cell in (("war", cell[-2]), ("uar", cell[-1])):
            figure = {"pooled": f"{measure}_pooled", "mean of folds": f"{measure}_mean"}.get(line["averaging"])
            if figure is None:
                assert line["absent_emotions"] == "zero"
                values = [row.numbers["zeros"], row.numbers["zeros_sd"]] if measure == "uar" else []
                assert measure == "war" or same(line["uar"], row.numbers["zeros"])
            else:
                assert line["absent_emotions"] == "left out"
                spread = row.numbers.get(f"{measure}_sd", np.nan) if figure.endswith("mean") else np.nan
                assert same(line[measure], row.numbers.get(figure, np.nan))
                assert same(line[f"{measure}_sd"], spread)
                values = [row.numbers.get(figure, np.nan), spread]
                for end in ("low", "high", "seed_sd"):
                    value = row.numbers.get(f"{figure}_{end}", np.nan)
                    assert same(line[f"{measure}_{end}"], value), (key, figure, end)
                    values.append(value)
            shown = cell_numbers(printed_cell)
            there = [100 * value for value in values if not pd.isna(value)]
            assert len(shown) == len(there), (key, printed_cell)
            assert np.allclose(shown, there, atol=0.005 + 1e-9, rtol=0), (key, printed_cell, there)
            incomplete = len(row.done) < c.folds_total
            assert ("†" in printed_cell) == (incomplete and bool(there))
    for key, row in wanted.items():
        if key[0] in databases:
            averagings = {"pooled", "mean of folds"}
            if row.done and abs(row.numbers["zeros"] - row.numbers["uar_mean"]) > 1e-12:
                averagings.add("mean of folds, absent as 0")
            assert averagings <= {averaging for other, averaging in seen if other == key}


def check_ablation(folder: Path, results: Results, wanted: dict[tuple, Expected]) -> None:
    written = read(folder, "ablation.csv")
    protocol = {c.protocol_name: c.protocol for c in results.configurations}
    known = {(a.model, a.ablation): a for a in published.load().ablations}
    for line in written.to_dict("records"):
        key = tuple(protocol[line[name]] if name == "protocol" else line[name] for name in KEY_COLUMNS)
        ours, theirs = wanted.get(key), known.get((line["model"], line["ablation"]))
        war, uar = theirs.figures.get(line["database"], (None, None)) if theirs else (None, None)
        assert same(line["war_published"], np.nan if war is None else war)
        assert same(line["uar_published"], np.nan if uar is None else uar)
        if theirs:
            assert all(bool(line[part]) == there for part, there in theirs.parts.items())
        numbers = ours.numbers if ours else {}
        for figure in uncertainty.FIGURES:
            for end in ("", "_low", "_high", "_seed_sd"):
                assert same(line[f"{figure}{end}"], numbers.get(f"{figure}{end}", np.nan)), (key, figure, end)
        assert same(line["uar_mean_zeros"], numbers.get("zeros", np.nan))
        assert same(line["uar_sd"], numbers.get("uar_sd", np.nan))
    rows = {
        tuple(protocol[line[n]] if n == "protocol" else line[n] for n in KEY_COLUMNS)
        for line in written.to_dict("records")
    }
    assert {c.key for c in results.configurations} <= rows


def check_printed(folder: Path, wanted: dict[tuple, Expected], averaging: str = "pooled", ending: str = "") -> None:
    """Every figure of ours in the printed tables is that of a row of its database, and no row is missing."""
    seen = set()
    for place, war, uar, interval in printed_figures(folder, ending):
        found = []
        for key, row in wanted.items():
            numbers = [row.numbers.get(f"{m}_{averaging}", np.nan) for m in ("war", "uar")]
            if PLACES.get(key[0], key[0]) == place and _shows(war, numbers[0]) and _shows(uar, numbers[1]):
                found.append(key)
                ends = [100 * row.numbers[f"uar_{averaging}_{end}"] for end in ("low", "high")]
                if interval == "–":
                    assert all(pd.isna(end) for end in ends)
                elif interval:
                    shown = [float(text) for text in re.findall(r"\d+\.\d", interval)]
                    assert np.allclose(shown, ends, atol=0.05 + 1e-9, rtol=0), (key, interval, ends)
        assert found, (place, war, uar)
        seen |= set(found)
    assert seen == {key for key, row in wanted.items() if row.done}


def check_pairs(folder: Path, results: Results, reference: Reference) -> int:
    """Check differences with pandas, p with SciPy's permutation test, Holm with its definition; return how many."""
    pairs, trials, wanted = read(folder, "paired.csv"), reference.trials, reference.rows
    whole = {TFT: "T+F+TF", ATFNN: "ATFNN"}
    families: dict[tuple, list[tuple[float, float]]] = {}
    seeds_of = {c.key: set(c.seeds) for c in results.configurations}
    for line in pairs.to_dict("records"):
        one = tuple(line[name] for name in KEY_COLUMNS)
        other = tuple(line[f"other_{name}" if f"other_{name}" in line else name] for name in KEY_COLUMNS)
        folds = sorted(set(wanted[one].done) & set(wanted[other].done))
        seeds = seeds_of[one] & seeds_of[other]
        score = attrgetter(line["figure"].removesuffix("_mean"))
        differences = np.array(
            [np.mean([score(trials[one, f, s]) - score(trials[other, f, s]) for s in seeds]) for f in folds]
        )
        assert (line["folds"], line["seeds"]) == (len(folds), len(seeds))
        assert same(line["difference"], differences.mean())
        flips = np.array(list(itertools.product((-1, 1), repeat=len(folds)))) @ differences
        p = np.mean(np.abs(flips) >= abs(differences.sum()) - 1e-12)
        assert same(line["p"], p)
        assert line["p"] >= line["p_smallest"] - 1e-12 == 2 / 2 ** len(folds) - 1e-12
        in_table = (one[3], *one[5:]) == (other[3], *other[5:]) and whole.get(one[3]) == other[4]
        assert in_table == (not pd.isna(line["p_holm"]))
        if in_table:
            families.setdefault((other, line["figure"]), []).append((line["p"], line["p_holm"]))
            assert line["comparisons"] >= 1
    for members in families.values():
        ps = sorted(members)
        bound = 0.0
        for rank, (p, corrected) in enumerate(ps):
            bound = min(1.0, max(bound, p * (len(ps) - rank)))
            assert corrected == pytest.approx(bound, abs=1e-9)
    there = Counter(
        frozenset(
            {
                tuple(line[f"{side}{name}" if f"{side}{name}" in line else name] for name in KEY_COLUMNS)
                for side in ("", "other_")
            }
        )
        for line in pairs.to_dict("records")
    )
    comparable = [
        frozenset({one.key, other.key})
        for one, other in itertools.combinations(results.configurations, 2)
        if one.key[:3] == other.key[:3]
        and set(wanted[one.key].done) & set(wanted[other.key].done)
        and set(one.seeds) & set(other.seeds)
    ]
    assert there == dict.fromkeys(comparable, 2)
    return len(pairs)


def check_page(folder: Path, reference: Reference) -> None:
    """Check that the page's tables are those of Markdown, cell by cell, and its folds those of the records."""
    of_file = {("comparison", "best"): ("comparison-", "best-"), ("ablation",): ("ablation-",)}
    page = (folder / "report.html").read_text(encoding="utf-8")
    parser = Tables()
    parser.feed(page)
    for kinds, tables in of_file.items():
        of_kind = [line for name, rows in parser.tables.items() if name.startswith(tables) for line in rows]
        in_page = [line for line in of_kind if any(is_number(c) for c in line)]
        in_markdown = [
            [cell.replace("\\", "").replace("**", "") for cell in line]
            for line in markdown_cells(details(folder, *kinds))
            if any(is_number(cell.replace("**", "")) for cell in line)
        ]
        assert in_page == in_markdown
    numbers = {tuple(line) for name, rows in parser.tables.items() if name.startswith("trials") for line in rows}
    for (key, fold, seed), trial in reference.trials.items():
        width = len(reference.emotions[key])
        shown = {line[2 : 4 + width] for line in numbers if line[:2] == (fold, str(seed)) and len(line) > 4 + width}
        wanted = [trial.war, trial.uar, *trial.recalls]
        assert any(all(_shows(text, value) for text, value in zip(line, wanted, strict=True)) for line in shown), (
            key,
            fold,
            seed,
        )


def _shows(text: str, value: float) -> bool:
    return (
        pd.isna(value)
        if text == "absent"
        else not pd.isna(value) and is_number(text) and abs(float(text) - 100 * value) <= 0.005 + 1e-9
    )


def check_gaps(folder: Path, results: Results, wanted: dict[tuple, Expected]) -> None:
    """Every fold that is not in a number is named with its reason wherever the number stands."""
    comparison = details(folder).replace("\\", "")
    page = (folder / "report.html").read_text(encoding="utf-8")
    for c in results.configurations:
        for fold in set(c.folds) - set(wanted[c.key].done):
            for seed in c.seeds:
                entry = results.entries.get((c, fold, seed))
                why = "not finished" if entry is None else getattr(entry, "reason", None)
                if why:
                    assert re.search(rf"missing [^\n]*{fold} \([^)]*{why}", comparison), (c.key, fold, why)
                    assert why in page
        if c.folds_total > len(c.folds):
            assert f"{c.folds_total - len(c.folds)} not asked for" in comparison
    for path in folder.iterdir():
        if path.suffix in (".md", ".csv", ".tex", ".html"):
            assert not re.search(r"\b(nan|None|inf)\b", path.read_text(encoding="utf-8")), path.name


def check_confusions(folder: Path, results: Results, reference: Reference) -> None:
    found = sorted(p.name for p in folder.glob("confusion_*.csv"))
    assert len(found) == sum(bool(row.done) for row in reference.rows.values())
    totals = []
    for c in results.configurations:
        mine = reference.everything[
            (reference.everything.key == c.key) & reference.everything.fold.isin(reference.rows[c.key].done)
        ]
        if len(mine):
            totals.append(
                confusion_matrix(mine.truth_code, mine.guess_code, labels=range(len(c.emotions))).ravel().tolist()
            )
    written = [read(folder, name) for name in found]
    assert sorted(frame["count"].tolist() for frame in written) == sorted(totals)
    for frame in written:
        assert all(same(share, 1.0) for share in frame.groupby("truth")["share"].sum(min_count=1).dropna())


def check(results: Results, folder: Path) -> int:
    """Check every file that is written with pandas and scikit-learn; return the number of pairs."""
    write.write(results, folder, pictures=False)
    reference = Reference(results)
    check_summary(folder, reference)
    check_folds(folder, reference)
    check_confusions(folder, results, reference)
    check_page(folder, reference)
    check_gaps(folder, results, reference.rows)
    check_comparison(folder, results, reference.rows)
    check_ablation(folder, results, reference.rows)
    check_printed(folder, reference.rows)
    return check_pairs(folder, results, reference)


# --- tests ------------------------------------------------------------------------------------------------------------


def test_every_number_of_two_corpora_with_all_ablations_is_that_of_pandas_and_scikit_learn(tmp_path):
    assert check(papers_sweep(), tmp_path) == 2 * 2 * 28


@pytest.mark.parametrize("averaging", ["pooled", "mean"])
def test_the_terminal_prints_the_figures_of_the_files_in_one_averaging(tmp_path, averaging):
    results = papers_sweep()
    write.write(results, tmp_path, pictures=False)
    text, other = printed(results, averaging=averaging), "mean" if averaging == "pooled" else "pooled"
    values, others = (
        {f"{100 * v:.2f}" for m in ("war", "uar") for v in read(tmp_path, "ablation.csv")[f"{m}_{a}"].dropna()}
        for a in (averaging, other)
    )
    assert len(values) > 20
    assert all(value in text for value in values)
    assert len([value for value in others - values if value in text]) < 3  # by chance alone
    assert ("pooled over folds" in " ".join(text.split())) == (averaging == "pooled")


@pytest.mark.parametrize("averaging", ["pooled", "mean"])
def test_the_printed_tables_have_the_averaging_that_was_asked_for_and_no_other_file_changes(tmp_path, averaging):
    results = papers_sweep()
    write.write(results, tmp_path, pictures=False, averaging=averaging)
    check_printed(tmp_path, Reference(results).rows, averaging)
    write.write(results, tmp_path / "default", pictures=False)
    changed = {
        path.name
        for path in tmp_path.iterdir()
        if path.is_file() and path.read_bytes() != (tmp_path / "default" / path.name).read_bytes()
    }
    page = {"report.html"}  # it shows the printed table
    assert all(name.startswith(("comparison", "ablation")) and not name.endswith(".csv") for name in changed - page)
    assert bool(changed - page) == (averaging == "mean")


def test_three_ways_to_average_are_named_and_differ_as_they_should(tmp_path):
    """The case of the notes: pooled, a fold mean with absent emotions as zero, and a fold mean over those present."""
    row = configuration(folds=("03", "08", "09", "10"))
    results = sweep(row)
    results.entries[row, "08", 0] = record(row, "08", 0, lacks=("sad",))
    write.write(results, tmp_path, pictures=False)
    uar = read(tmp_path, "comparison.csv").set_index("averaging").uar
    assert list(uar.index) == ["pooled", "mean of folds", "mean of folds, absent as 0"]
    assert uar["mean of folds, absent as 0"] < uar["mean of folds"]
    # One of three emotions is absent in one of four folds.
    lost = Reference(results).trials[row.key, "08", 0].uar * (1 - 2 / 3) / 4
    assert uar["mean of folds"] - uar["mean of folds, absent as 0"] == pytest.approx(lost, abs=1e-9)
    for name in ("details.md", "report.html"):
        assert "some of the literature counts so" in " ".join((tmp_path / name).read_text(encoding="utf-8").split())


def test_with_few_speakers_the_table_says_that_nothing_can_be_claimed(tmp_path):
    for folds, claimable in ((("a", "b", "c", "d"), False), (tuple("abcdefgh"), True)):
        rows = [configuration(folds=folds), configuration(folds=folds, ablation="T+F")]
        write.write(sweep(*rows), tmp_path, pictures=False)
        for name in ("details.md", "ablation.md", "ablation.tex", "report.html"):
            text = " ".join((tmp_path / name).read_text(encoding="utf-8").split())
            assert ("No significance over 4 folds is claimable at 0.05: the smallest two-sided p is 0.125" in text) == (
                not claimable
            )
        (line,) = [line for line in markdown_cells(details(tmp_path, "ablation")) if line[0] == "T+F"]
        assert any(re.search(r" p (0\.\d{3}|1\.000|< 0\.001)$", cell) for cell in line)
        assert "*" not in "".join(line).replace("**", "")  # bold, and no star


def test_rows_of_other_utterances_are_not_paired(tmp_path):
    one, other = configuration(), configuration(ablation="T+F")
    results = sweep(one, other)
    for fold in other.folds:
        entry = results.entries[other, fold, 0]
        released = tuple(replace(u, id=f"second release/{u.id}") for u in entry.scores.utterances)
        results.entries[other, fold, 0] = rescored(entry, utterances=released)
    write.write(results, tmp_path, pictures=False)
    assert read(tmp_path, "paired.csv").empty
    assert read(tmp_path, "ablation.csv").uar_difference.isna().all()


def test_files_of_each_database_hold_its_rows_and_the_ones_over_all_hold_every_one(tmp_path):
    results = papers_sweep()
    write.write(results, tmp_path, pictures=False)
    reference = Reference(results)
    for database in ("casia", "emodb"):
        own = {key: row for key, row in reference.rows.items() if key[0] == database}
        check_printed(tmp_path, own, ending=f"_{database}")
        other = {"casia": "EmoDB", "emodb": "CASIA"}[database]
        for kind in ("comparison", "ablation"):
            for end in (".md", ".tex", "-column.tex"):
                assert other not in (tmp_path / f"{kind}_{database}{end}").read_text(encoding="utf-8")
    over_all = details(tmp_path, "ablation")
    assert "## Ablations of ATFNN, leave-one-speaker-out, selection nested, in percent" in over_all
    cells = markdown_cells(over_all)
    head = next(line for line in cells if "casia: WAR" in line)
    assert head[4:] == ["Figures", "casia: WAR", "casia: UAR", "emodb: WAR", "emodb: UAR"]
    (line,) = [line for line in cells if line[0] == "AFNN" and line[4:5] == ["ours, pooled"]]
    written = read(tmp_path, "ablation.csv").set_index(["database", "ablation"])
    shown = [float(cell.rstrip("†")) for cell in line[5:]]
    exact = [100 * written.loc[(d, "AFNN"), f"{m}_pooled"] for d in ("casia", "emodb") for m in ("war", "uar")]
    assert np.allclose(shown, exact, atol=0.005 + 1e-9, rtol=0)


def test_one_database_has_one_copy_of_every_table_and_one_row_is_told_in_a_sentence(tmp_path):
    row = configuration()
    write.write(sweep(row), tmp_path, pictures=False)
    assert not list(tmp_path.glob("*_emodb.*"))
    reference = Reference(sweep(row))
    check_printed(tmp_path, reference.rows)
    for name in ("comparison.md", "ablation.md", "comparison.tex", "ablation.tex"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "|" not in text
        assert r"\begin{tabular}" not in text
    write.write(sweep(row, configuration(ablation="T+F")), tmp_path / "two", pictures=False)
    assert "|" not in (tmp_path / "two" / "comparison.md").read_text(encoding="utf-8")
    assert "| T+F " in (tmp_path / "two" / "ablation.md").read_text(encoding="utf-8")


def test_the_details_hold_every_cell_and_every_note_as_values_too(tmp_path):
    write.write(papers_sweep(), tmp_path, pictures=False)
    written = pd.read_csv(tmp_path / "details.csv", keep_default_na=False)
    text = (tmp_path / "details.md").read_text(encoding="utf-8").replace("\\", "").replace("**", "")
    assert all(note in text for note in written[written.key == "note"].text)
    assert text.count("\n- ") == len(written[written.key == "note"])
    cells = [cell for line in markdown_cells(text) if not set(line[0]) <= {"-"} for cell in line]
    shown = sum(len(re.findall(r"(?<![\d.])\d+\.\d\d(?!\d)", cell)) for cell in cells if is_number(cell))
    numbers = written[written.value.str.fullmatch(r"-?\d\.\d+(e-\d+)?") & (written.key != "interval")]
    assert len(numbers) >= shown > 500
    plain = written[written.key.isin(("war", "uar", "uar_pooled", "war_mean")) & (written.value != "")]
    assert all(line.text.startswith(f"{100 * float(line.value) + 1e-9:.2f}"[:4]) for line in plain.itertuples())


def test_columns_have_types_and_no_stray_text(tmp_path):
    write.write(papers_sweep(), tmp_path, pictures=False)
    numeric = {
        "comparison.csv": ["folds_done", "folds_total", "seeds", "utterances", "speakers"]
        + [f"{m}{s}" for m in ("war", "uar") for s in ("", "_sd", "_seed_sd", "_low", "_high")],
        "paired.csv": ["folds", "seeds", "difference", "low", "high", "p", "p_smallest", "comparisons", "p_holm"],
        "ablation.csv": [f"{f}{s}" for f in uncertainty.FIGURES for s in ("", "_seed_sd", "_low", "_high")]
        + ["uar_mean_zeros", "folds_done", "uar_difference", "uar_p", "uar_p_holm", "war_p_holm", "folds_compared"],
    }
    for name, columns in numeric.items():
        frame = read(tmp_path, name)
        assert {str(frame[column].dtype) for column in columns} <= {"int64", "float64"}, frame[columns].dtypes
        for column in set(frame) - set(columns):
            if str(frame[column].dtype) not in ("int64", "float64", "bool"):
                kinds = {type(value) for value in frame[column].dropna()}
                assert len(kinds) <= 1, (name, column, kinds)
    parts = pd.read_csv(tmp_path / "ablation.csv", dtype={"t_trans": "boolean", "attention": "boolean"})
    assert parts.t_trans.notna().sum() == parts.attention.notna().sum() == 8


# --- 200 random ledgers -----------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize(
    "start", [pytest.param(start, marks=pytest.mark.full if start else []) for start in range(0, 200, 10)]
)
def test_random_ledgers_give_tables_without_a_wrong_or_silently_missing_number(start, tmp_path):
    kinds = set()
    for number in range(start, start + 10):
        results = random_results(number)
        check(results, tmp_path / str(number))
        kinds |= {entry.status for entry in results.entries.values()}
    assert kinds == {"done", "failed"}


@pytest.mark.full
def test_the_random_ledgers_hold_every_kind_of_gap():
    everything = [random_results(number) for number in range(200)]
    rows = [c for results in everything for c in results.configurations]
    assert {len({c.database for c in results.configurations}) for results in everything} >= {1, 3}
    assert {len(c.seeds) for c in rows} == {1, 2, 3}
    assert {c.protocol for c in rows} == {"speaker", "session"}
    assert any(len(c.folds) < c.folds_total for c in rows)
    assert any(not c.complete for c in rows)
    assert any(c.selection == "oracle" for c in rows)
    missing = [
        c for results in everything for c in results.configurations if not any(key[0] == c for key in results.entries)
    ]
    assert missing
