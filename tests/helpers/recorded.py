"""The recorded run of every method on EmoDB, from its CSV files, with the two rows that were run beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tests.helpers.results import spec
from tfser.evaluation.scores import scores
from tfser.execution.results import KEY_COLUMNS, Results
from tfser.planning.configuration import Configuration
from tfser.record import Record, ScoredUtterance

FOLDER = Path(__file__).parents[2] / "results" / "2026-11-26-emodb-first-2s-comparison"
REMARK = "first 2 s of each utterance only (409 are cut)"


def frames(prefix: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Its final trials and its predictions."""
    types = {"trial_id": str, "fold": str, "speaker": str}
    return tuple(pd.read_csv(FOLDER / f"{prefix}{name}.csv", dtype=types) for name in ("folds", "predictions"))


def results(*prefixes: str) -> Results:
    """The recorded results; ``prefixes`` of further files of the same folder add their rows."""
    entries = {}
    for prefix in ("", *prefixes):
        folds, predictions = frames(prefix)
        emotions = tuple(c.removeprefix("p_") for c in predictions if c.startswith("p_"))
        of_trial = dict(tuple(predictions.groupby("trial_id")))
        for key, trials in folds.groupby([*KEY_COLUMNS]):
            row = Configuration(
                **dict(zip(KEY_COLUMNS, key, strict=True)),
                emotions=emotions,
                folds=tuple(sorted(trials.fold)),
                folds_total=10,
                seeds=(0,),
                same_texts=True,
                remark=REMARK,
                transductive=prefix == "svm_speaker_",
            )
            for trial in trials.to_dict("records"):
                utterances = [
                    ScoredUtterance(id=u, speaker=s, truth=t, p=tuple(p))
                    for u, s, t, *p in of_trial[trial["trial_id"]]
                    .drop(columns=["trial_id", "predicted"])
                    .itertuples(index=False)
                ]
                epochs = 1 if pd.isna(trial["epochs"]) else int(trial["epochs"])
                entries[row, trial["fold"], 0] = Record(
                    spec=spec(row, trial["fold"], 0, json.loads(trial["hyperparameters"])),
                    scores=scores(emotions, utterances, None),
                    epochs=epochs,
                    seconds=1.0,
                    started_unix=1.7e9,
                )
    return Results(sweep="recorded", configurations=tuple(dict.fromkeys(row for row, *_ in entries)), entries=entries)
