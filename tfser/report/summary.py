"""From a sweep's records to the numbers of each row: which folds are done, and the recalls over those.

Knows nothing of published figures, files or formats.

Over seeds: a fold is done when every seed of it is. Pooled values are means over seeds of each seed's
pooled value; mean and spread over folds are those of the folds' means over seeds. Only done folds enter,
and how many they are stands beside every number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfser import metrics
from tfser.errors import TfserError
from tfser.report.result import Configuration, Results, is_done, matrix


class RecordError(TfserError):
    """A record that contradicts itself or its row, and so cannot enter a table.

    Args:
        message: which trial, what was read and what was expected.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One row's numbers."""

    configuration: Configuration
    done: tuple[str, ...]
    """The folds of which every seed is done, in the configuration's order."""
    missing: Mapping[str, str]
    """Every other fold that was asked for, to why: ``not finished``, ``failed: ...``, ``seed 2 not finished``."""
    figures: metrics.OverFolds | None
    """Over the done folds; ``None`` when there is none."""
    confusion: np.ndarray
    """Pooled over done folds and seeds: int64, shape (emotions, emotions), rows are the truth."""
    absent: Mapping[str, tuple[str, ...]]
    """Done fold to the emotions that its test speakers never show, where there are any."""

    @property
    def incomplete(self) -> bool:
        """Whether the numbers leave out folds that the protocol has."""
        return len(self.done) < self.configuration.folds_total

    @property
    def folds(self) -> str:
        """``7 of 10``."""
        return f"{len(self.done)} of {self.configuration.folds_total}"


def summarise(results: Results) -> list[Summary]:
    """One summary per configuration, sorted by key.

    Raises:
        RecordError: a record that contradicts itself, or two configurations that are the same row.
    """
    configurations = sorted(results.configurations, key=lambda c: c.key)
    for first, second in zip(configurations, configurations[1:], strict=False):
        if first.key == second.key:
            raise RecordError(f"two rows are both {' / '.join(first.key)}; a table holds each once")
    return [_summary(results, configuration) for configuration in configurations]


def _summary(results: Results, configuration: Configuration) -> Summary:
    matrices = {
        (fold, seed): _checked(configuration, record)
        for fold in configuration.folds
        for seed in configuration.seeds
        if is_done(record := results.records.get((configuration, fold, seed)))
    }
    reasons = {fold: _why_missing(results, configuration, fold) for fold in configuration.folds}
    missing = {fold: why for fold, why in reasons.items() if why}
    done = [fold for fold in configuration.folds if fold not in missing]
    runs = [[matrices[fold, seed] for fold in done] for seed in configuration.seeds]
    size = len(configuration.emotions)
    absent: dict[str, tuple[str, ...]] = {}
    for index, fold in enumerate(done):
        counts = runs[0][index].sum(axis=1)
        if (counts == 0).any():
            absent[fold] = tuple(e for e, n in zip(configuration.emotions, counts, strict=True) if n == 0)
    return Summary(
        configuration=configuration,
        done=tuple(done),
        missing=missing,
        figures=metrics.over_folds_and_seeds(runs) if done and runs else None,
        confusion=sum((m for run in runs for m in run), start=np.zeros((size, size), dtype=np.int64)),
        absent=absent,
    )


def _why_missing(results: Results, configuration: Configuration, fold: str) -> str | None:
    reasons: list[str] = []
    for seed in configuration.seeds:
        record = results.records.get((configuration, fold, seed))
        prefix = f"seed {seed} " if len(configuration.seeds) > 1 else ""
        if record is None:
            reasons.append(f"{prefix}not finished")
        elif not is_done(record):
            reasons.append(f"{prefix}failed: {record.get('reason', 'no reason recorded')}")
    return "; ".join(reasons) or None


def predicted(utterance: Mapping[str, Any]) -> int:
    """Index of the recognised emotion: the largest score, the first of equal ones."""
    return int(np.argmax(utterance["p"]))


def _checked(configuration: Configuration, record: Mapping[str, Any]) -> np.ndarray:
    """The record's confusion matrix, once it is known to agree with its own utterances and with the row's emotions."""
    trial = record.get("trial_id", "?")
    emotions = list(record["emotions"])
    if emotions != list(configuration.emotions):
        raise RecordError(f"trial {trial}: its emotions are {', '.join(emotions)}, its row's are {', '.join(configuration.emotions)}")
    index = {emotion: i for i, emotion in enumerate(emotions)}
    utterances = record["utterances"]
    unknown = sorted({u["truth"] for u in utterances} - index.keys())
    if unknown:
        raise RecordError(f"trial {trial}: its utterances have the emotions {', '.join(unknown)}; its list has {', '.join(emotions)}")
    counted = metrics.confusion([index[u["truth"]] for u in utterances], [predicted(u) for u in utterances], len(emotions))
    stored = matrix(record)
    if not np.array_equal(counted, stored):
        raise RecordError(f"trial {trial}: its confusion matrix is {stored.tolist()}, but its utterances give {counted.tolist()}")
    return counted
