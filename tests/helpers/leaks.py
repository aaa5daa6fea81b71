"""Calls of ``tfser.leaks``, and every number of its files recomputed with pandas and scikit-learn."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from tests.helpers.results import markdown_cells
from tests.helpers.tiny import SET_SMALL
from tfser.evaluation import significance, uncertainty
from tfser.record import Record
from tfser.report.tables.table import percent, points

FAST = [*SET_SMALL, "learning_rate=0.03"]


def arguments(manifest, out, *more, epochs="2"):
    model = ["--model", "time_frequency_transformer", "--epochs", epochs]
    return [str(manifest), "--out", str(out), "--in-process", *model, "--name", "x", "--set", *FAST, *more]


def written(out):
    """Every file that the numbers fill, as bytes."""
    return {p.name: p.read_bytes() for p in sorted((out / "leaks-x").iterdir()) if p.name != "leaks.json"}


FIGURES = ("war_pooled", "uar_pooled", "war_mean", "uar_mean")


def best_trials(trials_csv, entries):
    """(row, fold, seed) to UAR, id and predictions of the trial that counts, chosen with pandas and scikit-learn."""
    chosen, unfinished = {}, set()
    for line in csv.DictReader(io.StringIO(trials_csv)):
        entry = entries.get(line["trial_id"])
        if not isinstance(entry, Record):
            assert (line["counts"], line["war"], line["uar"], line["epoch"]) == ("false", "", "", "")
            if entry is None or entry.status == "lost":
                unfinished.add((line["row"], line["fold"]))
            continue
        scores = pd.DataFrame([u.p for u in entry.scores.utterances], columns=entry.scores.emotions)
        frame = pd.DataFrame(map(asdict, entry.scores.utterances))[["id", "speaker", "truth"]]
        frame = frame.assign(predicted=scores.idxmax(axis=1))
        uar = balanced_accuracy_score(frame.truth, frame.predicted)
        assert float(line["uar"]) == pytest.approx(uar, abs=1e-11)
        assert float(line["war"]) == pytest.approx(accuracy_score(frame.truth, frame.predicted), abs=1e-11)
        assert int(line["epoch"]) == entry.epochs
        assert line["leaks"].split() == list(entry.spec.leaks)
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
    frames = {
        name: [(fold, seed, c[2]) for (row, fold, seed), c in chosen.items() if row == name] for name in table.index
    }
    frames = {
        n: [f for f in own if len([1 for g in own if g[0] == f[0]]) == table.loc[n].seeds] for n, own in frames.items()
    }
    printed = dict(zip(table.index, markdown_cells(markdown)[2:], strict=True))
    honest = frames["honest"]
    for name, got in table.iterrows():
        own, figures = frames[name], figures_of(frames[name])
        counted = trials[(trials["row"] == name) & trials.counts]
        done = {fold for fold, _, _ in own}
        assert sorted(counted.trial_id) == sorted(
            c[1] for (row, fold, _), c in chosen.items() if row == name and fold in done
        )
        assert (got.folds_done, got.folds_total) == (len(done), 4)
        assert got.utterances == len({(fold, i) for fold, _, frame in own for i in frame.id})
        intervals = uncertainty.intervals(row_of(own, emotions))
        both = done & {fold for fold, _, _ in honest}
        mine, theirs = ([f for f in some if f[0] in both] for some in (own, honest))
        for figure, cell in zip(FIGURES, printed[name][3:], strict=True):
            assert got[figure] == pytest.approx(figures[figure], abs=1e-11)
            numbers = [
                percent(figures[figure]) + ("†" if "†" in printed[name][1] and not figure.endswith("mean") else "")
            ]
            if figure.endswith("mean"):
                spread = figure.replace("mean", "sd")
                assert got[spread] == pytest.approx(figures[spread], abs=1e-11)
                numbers[0] += f" ± {percent(figures[spread])}" + ("†" if "†" in printed[name][1] else "")
            low, high = got[f"{figure}_low"], got[f"{figure}_high"]
            if got.paired:
                assert (low, high) == pytest.approx(
                    (intervals[figure].low, intervals[figure].high), abs=1e-11, nan_ok=True
                )
            else:
                assert np.isnan([low, high]).all()
            numbers += [f"[{percent(low)}, {percent(high)}]"] if low == low else []
            difference, low, high = (got[f"{figure}_difference{part}"] for part in ("", "_low", "_high"))
            if name == "honest":
                assert np.isnan([difference, low, high]).all()
            elif got.paired:
                assert difference == pytest.approx(figures_of(mine)[figure] - figures_of(theirs)[figure], abs=1e-11)
                around = significance.compare(row_of(mine, emotions), row_of(theirs, emotions), figure).interval
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
