"""What the trials of ``tfser.leaks`` measured: the entries of each row reduced to its numbers.

Knows no table and no sentence; ``tfser.leaks.table`` puts the numbers into one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tfser.evaluation import metrics, uncertainty
from tfser.evaluation.uncertainty import Interval
from tfser.leaks.plan import LeakRow, Leaks
from tfser.planning.configuration import Configuration
from tfser.record import Entry, Failure, Record

Entries = Mapping[tuple[Configuration, str, int], Entry]
"""(row, fold, seed) to the entry of its trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One row's numbers."""

    row: LeakRow
    counted: Mapping[tuple[str, int], Record]
    """(done fold, seed) to the record that counts."""
    missing: Mapping[str, str]
    """Every other fold that was asked for, to the reason why it is missing."""
    failed: int
    """Failed trials of done folds; another setting was chosen there."""
    scores: uncertainty.Row | None
    """Scores over the done folds; ``None`` where there is none."""
    figures: metrics.OverFolds | None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Figure to its interval over held-out speakers; empty where speakers are not held out."""

    @property
    def done(self) -> tuple[str, ...]:
        """Folds with every seed done."""
        return tuple(dict.fromkeys(fold for fold, _ in self.counted))


def measure(leaks: Leaks, entries: Entries) -> list[Measured]:
    """Return every row's numbers, the honest row first."""
    return [_measured(row, leaks.configuration, entries) for row in leaks.rows]


def _measured(row: LeakRow, c: Configuration, entries: Entries) -> Measured:
    counted: dict[tuple[str, int], Record] = {}
    missing: dict[str, str] = {}
    failed = 0
    for fold in row.folds:
        of_fold, reasons, not_chosen = {}, [], 0
        for seed in c.seeds:
            ended = [entries.get((study.configuration, fold, seed)) for study in row.studies]
            done = [entry for entry in ended if isinstance(entry, Record)]
            open_ = sum(entry is None or entry.status == "lost" for entry in ended)
            if open_ or not done:
                reasons.append(
                    f"seed {seed} "
                    + (f"not finished ({open_} of {len(ended)})" if open_ else f"failed: {_reason(ended)}")
                )
                continue
            # max takes the first on ties.
            of_fold[fold, seed] = max(done, key=lambda record: metrics.uar(confusion(record, c)))
            not_chosen += len(ended) - len(done)
        if reasons:
            missing[fold] = "; ".join(reasons)
        else:
            counted |= of_fold
            failed += not_chosen
    if not counted:
        return Measured(row=row, counted=counted, missing=missing, failed=failed, scores=None, figures=None)
    done_folds = list(dict.fromkeys(fold for fold, _ in counted))
    scores = uncertainty.row(
        [_fold_scores(fold, seed, record) for (fold, seed), record in counted.items()], len(c.emotions)
    )
    return Measured(
        row=row,
        counted=counted,
        missing=missing,
        failed=failed,
        scores=scores,
        figures=metrics.over_folds_and_seeds(
            [[confusion(counted[fold, seed], c) for fold in done_folds] for seed in c.seeds]
        ),
        intervals=uncertainty.intervals(scores) if row.paired else {},
    )


def _reason(ended: list[Entry | None]) -> str:
    return next(entry.reason for entry in ended if isinstance(entry, Failure))


def confusion(record: Record, c: Configuration) -> np.ndarray:
    """Count the record's utterances by true and recognised emotion."""
    index = {emotion: i for i, emotion in enumerate(c.emotions)}
    truth = [index[u.truth] for u in record.scores.utterances]
    return metrics.confusion(truth, [u.predicted for u in record.scores.utterances], len(index))


def _fold_scores(fold: str, seed: int, record: Record) -> uncertainty.FoldScores:
    utterances = record.scores.utterances
    return uncertainty.FoldScores(
        fold=fold,
        seed=seed,
        utterances=[u.id for u in utterances],
        speakers=[u.speaker for u in utterances],
        truth=[record.scores.emotions.index(u.truth) for u in utterances],
        predicted=[u.predicted for u in utterances],
    )
