"""Every number of the table of leaks, recomputed from made-up scores with pandas and scikit-learn; ``test_leaks`` has trained ones."""

import csv
import functools
import io
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from tests.unit.test_report import markdown_cells
from tfser import metrics, plan, uncertainty
from tfser.leak_plan import ROWS, make
from tfser.report import formats, leaks
from tfser.report.table import percent, points

FIGURES = ("war_pooled", "uar_pooled", "war_mean", "uar_mean")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """What a bootstrap draws is tested where it is made; here the table has to show what it gives."""
    monkeypatch.setattr(uncertainty, "intervals", functools.partial(uncertainty.intervals, draws=200))
    monkeypatch.setattr(uncertainty, "compare", functools.partial(uncertainty.compare, draws=200))


def files_of(asked, records):
    """What the command writes: leaks.csv, leaks.md, leaks.tex and leaks_trials.csv."""
    measured = leaks.measure(asked, records)
    table = leaks.table(asked, measured)
    csv_text = formats.to_csv(leaks.CSV_COLUMNS, [table])
    return csv_text, formats.to_markdown("Leaks", [table]), formats.to_latex([table]), leaks.trials_csv(asked, measured, records)


@pytest.fixture(scope="module")
def asked(tiny):
    """A plan of every row with two seeds."""
    request = plan.Request(models=("time_frequency_transformer",), seeds=2, epochs=3)
    return make(plan.make(request, [tiny], lambda d: "digest", {}), ROWS)


@pytest.fixture
def invented(asked, tiny):
    """A record with random scores for every trial of that plan."""
    records = {}
    for study in asked.plan.studies:
        for (fold, seed), spec in study.final_specs(study.base, study.epochs).items():
            dice = random.Random(spec.trial_id)
            number = 1 + study.folds.index(fold)
            mine = [u for i, u in enumerate(tiny.utterances) if (i % 4 + 1 == number if fold.startswith("part") else u.speaker == fold)]
            scores = [[dice.random() for _ in tiny.emotions] for _ in mine]
            counts = metrics.confusion(
                [tiny.emotions.index(u.emotion) for u in mine], [s.index(max(s)) for s in scores], len(tiny.emotions)
            )
            records[study.configuration, fold, seed] = {
                "trial_id": spec.trial_id,
                "spec": spec.to_dict(),
                "status": "done",
                "emotions": list(tiny.emotions),
                "utterances": [{"id": u.id, "speaker": u.speaker, "truth": u.emotion, "p": p} for u, p in zip(mine, scores, strict=True)],
                "confusion": counts.tolist(),
                "war": metrics.war(counts),
                "uar": metrics.uar(counts),
                "epochs": 3,
                "seconds": 1.0,
            }
    return records


def best_trials(trials_csv, entries):
    """(row, fold, seed) to the UAR, id and predictions of the trial that counts: chosen with pandas and scikit-learn alone."""
    chosen, unfinished = {}, set()
    for line in csv.DictReader(io.StringIO(trials_csv)):
        entry = entries.get(line["trial_id"])
        if entry is None or entry["status"] != "done":
            assert (line["counts"], line["war"], line["uar"], line["epoch"]) == ("false", "", "", "")
            if entry is None or entry["status"] == "lost":
                unfinished.add((line["row"], line["fold"]))
            continue
        scores = pd.DataFrame([u["p"] for u in entry["utterances"]], columns=entry["emotions"])
        frame = pd.DataFrame(entry["utterances"])[["id", "speaker", "truth"]].assign(predicted=scores.idxmax(axis=1))
        uar = balanced_accuracy_score(frame.truth, frame.predicted)
        assert float(line["uar"]) == pytest.approx(uar, abs=1e-11)
        assert float(line["war"]) == pytest.approx(accuracy_score(frame.truth, frame.predicted), abs=1e-11)
        assert int(line["epoch"]) == entry["epochs"]
        assert line["leaks"].split() == entry["spec"].get("leaks", [])
        key = (line["row"], line["fold"], int(line["seed"]))
        if key not in chosen or uar > chosen[key][0]:
            chosen[key] = (uar, line["trial_id"], frame)
    return {key: value for key, value in chosen.items() if key[:2] not in unfinished}


def figures_of(frames):
    """Each figure of a row, from (fold, seed, predictions)."""
    every = pd.concat([frame.assign(fold=fold, seed=seed) for fold, seed, frame in frames])
    out = {}
    for name, score in {"war": accuracy_score, "uar": balanced_accuracy_score}.items():
        out[f"{name}_pooled"] = np.mean([score(part.truth, part.predicted) for _, part in every.groupby("seed")])
        each = pd.Series({key: score(part.truth, part.predicted) for key, part in every.groupby(["fold", "seed"])})
        over_folds = each.groupby(level=0).mean()
        out |= {f"{name}_mean": over_folds.mean(), f"{name}_sd": over_folds.std(ddof=1)}
    return out


def row_of(frames, emotions):
    """The same in the form that intervals are made from."""
    trials = [
        uncertainty.FoldScores(
            fold=fold,
            seed=seed,
            utterances=list(frame.id),
            speakers=list(frame.speaker),
            truth=[emotions.index(e) for e in frame.truth],
            predicted=[emotions.index(e) for e in frame.predicted],
        )
        for fold, seed, frame in frames
    ]
    return uncertainty.row(trials, len(emotions))


def check(csv_text, markdown, latex, trials_csv, entries, emotions):
    """Every number of the four files; returns the table."""
    table = pd.read_csv(io.StringIO(csv_text)).set_index("row")
    chosen = best_trials(trials_csv, entries)
    trials = pd.read_csv(io.StringIO(trials_csv), dtype={"trial_id": str})
    frames = {name: [(fold, seed, c[2]) for (row, fold, seed), c in chosen.items() if row == name] for name in table.index}
    frames = {n: [f for f in own if len([1 for g in own if g[0] == f[0]]) == table.loc[n].seeds] for n, own in frames.items()}
    printed = dict(zip(table.index, markdown_cells(markdown)[2:], strict=True))
    honest = frames["honest"]
    for name, got in table.iterrows():
        own, figures = frames[name], figures_of(frames[name])
        counted = trials[(trials["row"] == name) & trials.counts]
        done = {fold for fold, _, _ in own}
        assert sorted(counted.trial_id) == sorted(c[1] for (row, fold, _), c in chosen.items() if row == name and fold in done)
        assert (got.folds_done, got.folds_total) == (len(done), 4)
        assert got.utterances == len({(fold, i) for fold, _, frame in own for i in frame.id})
        intervals = uncertainty.intervals(row_of(own, emotions))
        both = done & {fold for fold, _, _ in honest}
        mine, theirs = ([f for f in some if f[0] in both] for some in (own, honest))
        for figure, cell in zip(FIGURES, printed[name][3:], strict=True):
            assert got[figure] == pytest.approx(figures[figure], abs=1e-11)
            numbers = [percent(figures[figure]) + ("†" if "†" in printed[name][1] and not figure.endswith("mean") else "")]
            if figure.endswith("mean"):
                spread = figure.replace("mean", "sd")
                assert got[spread] == pytest.approx(figures[spread], abs=1e-11)
                numbers[0] += f" ± {percent(figures[spread])}" + ("†" if "†" in printed[name][1] else "")
            low, high = got[f"{figure}_low"], got[f"{figure}_high"]
            if got.paired:
                assert (low, high) == pytest.approx((intervals[figure].low, intervals[figure].high), abs=1e-11, nan_ok=True)
            else:
                assert np.isnan([low, high]).all()
            numbers += [f"[{percent(low)}, {percent(high)}]"] if low == low else []
            difference, low, high = (got[f"{figure}_difference{part}"] for part in ("", "_low", "_high"))
            if name == "honest":
                assert np.isnan([difference, low, high]).all()
            elif got.paired:
                assert difference == pytest.approx(figures_of(mine)[figure] - figures_of(theirs)[figure], abs=1e-11)
                around = uncertainty.compare(row_of(mine, emotions), row_of(theirs, emotions), figure).interval
                assert (low, high) == pytest.approx((around.low, around.high), abs=1e-11, nan_ok=True)
            elif got.folds_done == table.loc["honest"].folds_done == 4:
                assert difference == pytest.approx(figures[figure] - figures_of(honest)[figure], abs=1e-11)
            else:
                assert np.isnan(difference)
            numbers += [f"{points(difference)} to honest"] if difference == difference else []
            numbers += [f"[{points(low)}, {points(high)}]"] if low == low else []
            assert cell == " ".join(numbers)
            assert percent(figures[figure]) in latex
    return table


def test_every_number_of_two_seeds_follows_from_the_scores(asked, invented, tiny):
    texts = files_of(asked, invented)
    table = check(*texts, {r["trial_id"]: r for r in invented.values()}, list(tiny.emotions))
    assert list(table.settings_tried) == [1, 1, 3, 1, 1, 3]
    assert list(table.paired) == [True] * 4 + [False] * 2
    assert "2 seeds: means over the seeds; a choice on the test fold is made for each seed by itself." in texts[1]


def test_no_number_is_wrong_or_silently_missing_where_trials_are(asked, invented, tiny):
    """Every kind of gap: a fold without its trial, a failed setting beside others, a fold all of whose settings failed, a lost trial."""
    of = {row.name: row for row in asked.rows}

    def fail(name, setting, fold, seed, status="failed"):
        key = (of[name].studies[setting].configuration, fold, seed)
        invented[key] = {"trial_id": invented[key]["trial_id"], "status": status, "reason": "the loss was nan"}

    del invented[of["epoch"].studies[0].configuration, "anna", 1]
    fail("hyperparameters", 1, "bert", 0)
    for setting in range(3):
        fail("together", setting, "part02", 0)
    fail("together", 2, "part03", 1, "lost")
    fail("random_split", 0, "part04", 1)
    texts = files_of(asked, invented)
    table = check(*texts, {r["trial_id"]: r for r in invented.values()}, list(tiny.emotions))
    assert table.folds_done.to_dict() == dict(zip(ROWS, (4, 3, 4, 4, 3, 2), strict=True))
    assert "epoch chosen on the test fold: 3 of 4 folds, not the whole; missing anna (seed 1 not finished (1 of 1))." in texts[1]
    assert "hyperparameters chosen on the test fold: 1 trainings failed, and another setting was chosen there." in texts[1]
    assert "part02 (seed 0 failed: the loss was nan); part03 (seed 1 not finished (1 of 3))" in texts[1]


def test_a_row_of_which_nothing_is_done_stands_there_without_numbers(asked, invented):
    left = {key: r for key, r in invented.items() if key[0].selection != "standardisation"}
    csv_text, markdown, *_ = files_of(asked, left)
    row = pd.read_csv(io.StringIO(csv_text)).set_index("row").loc["standardisation"]
    assert row.folds_done == 0
    assert row[[f"{figure}{part}" for figure in FIGURES for part in ("", "_difference")]].isna().all()
    assert "standardisation over all speakers: 0 of 4 folds" in markdown


def test_equal_settings_are_told_apart_by_nothing_and_the_first_counts(asked, invented):
    of = {row.name: row for row in asked.rows}
    for setting in (1, 2):
        for fold in asked.configuration.folds:
            first = invented[of["honest"].studies[0].configuration, fold, 0]
            key = (of["hyperparameters"].studies[setting].configuration, fold, 0)
            invented[key] = {**first, "trial_id": invented[key]["trial_id"]}
    trials = pd.read_csv(io.StringIO(files_of(asked, invented)[3]), dtype={"trial_id": str})
    mine = trials[(trials["row"] == "hyperparameters") & (trials.seed == 0)]
    assert list(mine.counts) == [True] * 4 + [False] * 8


def test_an_incomplete_database_and_recurring_texts_are_said(asked, invented):
    configuration = replace(asked.configuration, complete=False, same_texts=True, remark="first 2 s only")
    markdown = files_of(replace(asked, configuration=configuration), invented)[1]
    for words in ("tiny: first 2 s only", "tiny: incomplete", "not text-independent"):
        assert words in markdown
