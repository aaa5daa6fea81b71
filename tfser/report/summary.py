"""From a sweep's records to the numbers of each row: which folds are done, and the recalls over those.

This module knows nothing of published figures, files or formats.

Over seeds: a fold is done when all its seeds are. Pooled values are means over seeds of each seed's pooled value. Mean
and spread over folds are those of each fold's mean over seeds. The spread over seeds is that of each seed's own value.
Only done folds enter, and their number stands beside every figure.

Where corpora are held out, a row is one test corpus, thus one fold. Its mean and spread are then over the speakers of
that corpus, as they are in a row whose folds are speakers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfser.errors import TfserError
from tfser.evaluation import metrics
from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import labels
from tfser.record import Record


class RecordError(TfserError):
    """A record that contradicts itself or its row, and so cannot enter a table.

    Args:
        message: the trial, what was read and what was expected.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One row's numbers."""

    configuration: Configuration
    selection: str
    """The configuration's selection, with the settings that tell the row from otherwise equal ones."""
    done: tuple[str, ...]
    """The folds with every seed done, in the configuration's order."""
    missing: Mapping[str, str]
    """Every other requested fold and its reason: ``not finished``, ``failed: ...``, ``seed 2 not finished``."""
    figures: metrics.OverFolds | None
    """Recalls over the done folds; ``None`` if there are none."""
    by_seed: tuple[metrics.OverFolds, ...]
    """The same for each seed alone, in the configuration's order; empty if no fold is done."""
    uar_mean_zeros: float
    """Mean of the folds' UAR if an absent emotion counts as a recall of 0; NaN without a done fold.

    Ours leaves such an emotion out (``figures.uar_mean``); some of the literature counts it as 0.
    """
    uar_sd_zeros: float
    """Its sample standard deviation over the folds; NaN for a single fold."""
    confusion: np.ndarray
    """Pooled over done folds and seeds: int64, shape (emotions, emotions), rows are the truth."""
    matrices: Mapping[tuple[str, int], np.ndarray]
    """(done fold, seed) to its confusion matrix."""
    units: Mapping[tuple[str, int], np.ndarray]
    """The same for what the row's means are over: the done folds or, where corpora are held out, the test speakers."""
    records: Mapping[tuple[str, int], Record]
    """(fold, seed) to the record of every done final trial, even if its fold lacks another seed."""
    absent: Mapping[str, tuple[str, ...]]
    """Done fold to the emotions that its test speakers never show, if there are any."""

    @property
    def incomplete(self) -> bool:
        """Whether the protocol has folds that the numbers leave out."""
        return len(self.done) < self.configuration.folds_total

    @property
    def folds(self) -> str:
        """Done and all folds in words: ``7 of 10``."""
        return f"{len(self.done)} of {self.configuration.folds_total}"

    @property
    def zeros_differ(self) -> bool:
        """Whether counting absent emotions as 0 changes the mean of folds, so that both are shown."""
        return bool(self.absent)

    @property
    def utterances(self) -> int:
        """Number of test utterances of the done folds, each counted once."""
        return sum(len(self.records[fold, self.configuration.seeds[0]].scores.utterances) for fold in self.done)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The test speakers of the done folds, sorted."""
        first = self.configuration.seeds[0] if self.done else 0
        return tuple(sorted({u.speaker for fold in self.done for u in self.records[fold, first].scores.utterances}))

    def seed_sd(self, name: str) -> float:
        """Return one figure's sample standard deviation over the seeds; NaN for a single seed.

        Args:
            name: ``war_pooled``, ``uar_pooled``, ``war_mean`` or ``uar_mean``.
        """
        return sample_sd([getattr(figures, name) for figures in self.by_seed])

    def recalls(self, fold: str) -> np.ndarray:
        """Return the fold's recall of each emotion, a mean over its seeds: float, shape (emotions,); NaN if absent."""
        each = [metrics.recalls(self.matrices[fold, seed]) for seed in self.configuration.seeds]
        mean: np.ndarray = np.mean(each, axis=0)
        return mean


def sample_sd(values: list[float]) -> float:
    """Return the sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def summarise(results: Results) -> list[Summary]:
    """Return one summary per configuration, sorted by key.

    Raises:
        RecordError: a record contradicts itself, or two configurations are the same row.
    """
    configurations = sorted(results.configurations, key=lambda c: c.key)
    for first, second in zip(configurations, configurations[1:], strict=False):
        if first.key == second.key:
            settings = first.settings or "settings not recorded"
            raise RecordError(f"two rows are both {' / '.join(first.words)}, {settings}; a table holds each once")
    selections = labels(configurations)
    return [_summary(results, configuration, selections[configuration.key]) for configuration in configurations]


def _summary(results: Results, configuration: Configuration, selection: str) -> Summary:
    records = {
        (fold, seed): record
        for fold in configuration.folds
        for seed in configuration.seeds
        if isinstance(record := results.entries.get((configuration, fold, seed)), Record)
    }
    checked = {key: _checked(configuration, record) for key, record in records.items()}
    reasons = {fold: _why_missing(results, configuration, fold) for fold in configuration.folds}
    missing = {fold: why for fold, why in reasons.items() if why}
    done = [fold for fold in configuration.folds if fold not in missing] if configuration.seeds else []
    matrices = {(fold, seed): checked[fold, seed] for fold in done for seed in configuration.seeds}
    _same_truth(configuration, done, records)
    units = _by_speaker(configuration, done, records) if configuration.protocol == "corpus" else matrices
    names = sorted({name for name, _ in units}) if configuration.protocol == "corpus" else done
    runs = [[units[name, seed] for name in names] for seed in configuration.seeds]
    size = len(configuration.emotions)
    absent: dict[str, tuple[str, ...]] = {}
    for fold in done:
        counts = matrices[fold, configuration.seeds[0]].sum(axis=1)
        if (counts == 0).any():
            absent[fold] = tuple(e for e, n in zip(configuration.emotions, counts, strict=True) if n == 0)
    zeros = [
        float(np.mean([np.nan_to_num(metrics.recalls(m)).mean() for m in of_fold]))
        for of_fold in zip(*runs, strict=True)
    ]
    return Summary(
        configuration=configuration,
        selection=selection,
        done=tuple(done),
        missing=missing,
        figures=metrics.over_folds_and_seeds(runs) if done else None,
        by_seed=tuple(metrics.over_folds(run) for run in runs) if done else (),
        uar_mean_zeros=float(np.mean(zeros)) if zeros else float("nan"),
        uar_sd_zeros=sample_sd(zeros),
        confusion=sum(matrices.values(), start=np.zeros((size, size), dtype=np.int64)),
        matrices=matrices,
        units=units,
        records=records,
        absent=absent,
    )


def _by_speaker(
    configuration: Configuration, done: list[str], records: Mapping[tuple[str, int], Record]
) -> dict[tuple[str, int], np.ndarray]:
    """Return the confusion matrix of each (test speaker, seed)."""
    index = {emotion: i for i, emotion in enumerate(configuration.emotions)}
    found: dict[tuple[str, int], np.ndarray] = {}
    for fold in done:
        for seed in configuration.seeds:
            for u in records[fold, seed].scores.utterances:
                matrix = found.setdefault((u.speaker, seed), np.zeros((len(index), len(index)), dtype=np.int64))
                matrix[index[u.truth], u.predicted] += 1
    return found


def _why_missing(results: Results, configuration: Configuration, fold: str) -> str | None:
    reasons: list[str] = []
    for seed in configuration.seeds:
        entry = results.entries.get((configuration, fold, seed))
        prefix = f"seed {seed} " if len(configuration.seeds) > 1 else ""
        if entry is None:
            reasons.append(f"{prefix}not finished")
        elif not isinstance(entry, Record):
            reasons.append(f"{prefix}failed: {entry.reason}")
    return "; ".join(reasons) or None


def _checked(configuration: Configuration, record: Record) -> np.ndarray:
    """Return the record's confusion matrix after comparing it with its own utterances and the row's emotions."""
    trial, emotions, utterances = record.trial_id, record.scores.emotions, record.scores.utterances
    digest = record.spec.database_digest
    if configuration.database_digest and digest != configuration.database_digest:
        raise RecordError(
            f"trial {trial}: its database's digest is {digest}, its row's is {configuration.database_digest}"
        )
    if emotions != configuration.emotions:
        raise RecordError(
            f"trial {trial}: its emotions are {', '.join(emotions)}, its row's are {', '.join(configuration.emotions)}"
        )
    index = {emotion: i for i, emotion in enumerate(emotions)}
    unknown = sorted({u.truth for u in utterances} - index.keys())
    if unknown:
        raise RecordError(
            f"trial {trial}: its utterances have the emotions {', '.join(unknown)}; its list has {', '.join(emotions)}"
        )
    scores = np.array([u.p for u in utterances], dtype=np.float64).reshape(len(utterances), len(emotions))
    counted = metrics.confusion([index[u.truth] for u in utterances], scores.argmax(axis=1), len(emotions))
    stored = record.scores.matrix
    if not np.array_equal(counted, stored):
        raise RecordError(
            f"trial {trial}: its confusion matrix is {stored.tolist()}, but its utterances give {counted.tolist()}"
        )
    return counted


def _same_truth(configuration: Configuration, done: list[str], records: Mapping[tuple[str, int], Record]) -> None:
    """Check that every seed of a fold scores the same utterances with the same emotions, as a mean over seeds needs."""
    for fold in done:
        first, *others = configuration.seeds
        wanted = _truth(records[fold, first])
        for seed in others:
            if _truth(records[fold, seed]) != wanted:
                trials = f"{records[fold, first].trial_id} and {records[fold, seed].trial_id}"
                raise RecordError(
                    f"fold {fold}: seeds {first} and {seed} (trials {trials}) score other utterances or emotions"
                )


def _truth(record: Record) -> dict[str, str]:
    return {u.id: u.truth for u in record.scores.utterances}
