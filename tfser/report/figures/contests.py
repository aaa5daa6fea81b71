"""Every two rows of one database and protocol against each other, speaker by speaker, as values and as CSV.

A contest is over the held-out folds that both rows have. Its test is that of ``tfser.evaluation.significance``: an
exact sign-flip test over folds, corrected by Holm's method for all contests of its database and protocol. Nothing is
drawn here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from tfser.evaluation import metrics, significance
from tfser.execution.results import KEY_COLUMNS
from tfser.planning.settings_in_words import labels
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import titles
from tfser.report.tables.comparison import comparable
from tfser.report.tables.formats import csv_text
from tfser.report.tables.paired import Pair, Rows
from tfser.report.tables.table import Value, exact

FIGURE = "uar_mean"
"""The compared figure: pairing is over held-out folds, which a pooled one would weigh by their utterances."""

CSV_COLUMNS = (
    *KEY_COLUMNS,
    "other_model",
    "other_ablation",
    "other_selection",
    "other_settings",
    "folds",
    "wins",
    "losses",
    "ties",
    "difference",
    "p",
    "comparisons",
    "p_holm",
)
"""Columns of pairwise.csv.

``wins`` counts the folds with a higher UAR of the first row; ``difference`` is the mean over folds of the first row's
UAR minus the other's; ``p_holm`` is the p corrected for all ``comparisons`` of the database and protocol.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Two rows on the folds that both have."""

    differences: Mapping[str, float]
    """Fold to the UAR of the first row minus that of the second, means over seeds, in [-1, 1]."""
    p: float
    """Two-sided p of the sign-flip test; not corrected."""
    p_holm: float
    """The same, corrected for every contest of the field."""
    low: float
    """Lower end of the 95 % interval of the mean difference; NaN where it cannot be had."""
    high: float

    @property
    def difference(self) -> float:
        """Mean over the folds."""
        return float(np.mean(list(self.differences.values())))

    @property
    def score(self) -> tuple[int, int, int]:
        """Number of folds that the first row wins, loses, and ties."""
        values = np.array(list(self.differences.values()))
        tied = np.abs(values) < 1e-12  # rounding
        return int(((values > 0) & ~tied).sum()), int(((values < 0) & ~tied).sum()), int(tied.sum())

    def turned(self) -> Contest:
        """Return the same with the rows swapped."""
        flipped = {fold: -value + 0.0 for fold, value in self.differences.items()}
        return Contest(differences=flipped, p=self.p, p_holm=self.p_holm, low=-self.high, high=-self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The rows of one database and protocol that have a contest, and all their contests."""

    members: tuple[Summary, ...]
    """Whole results before others, and among those the highest UAR (mean of folds) first."""
    names: tuple[str, ...]
    """Each member's name, with its selection where two are called the same."""
    brief: tuple[str, ...]
    """The same for a figure: ablations alone if all are of one model, else without what stands in brackets."""
    contests: Mapping[tuple[int, int], Contest]
    """Places of two members, the first below the second, to their contest; without those that share no fold."""

    def between(self, first: int, second: int) -> Contest | None:
        """Return the contest of two members in that order, if they have one."""
        if first < second:
            return self.contests.get((first, second))
        found = self.contests.get((second, first))
        return found.turned() if found else None


def fields(summaries: Sequence[Summary], published: Published, rows: Rows) -> list[Field]:
    """Make the field of each database, state of it and protocol with a contest, in the order of the rows."""
    every: dict[tuple[tuple[str, ...], tuple[str, ...]], Pair] = {
        (pair.first.key, pair.second.key): pair for pair in rows.pairs() if pair.figure == FIGURE
    }

    def place(s: Summary) -> tuple[str, str, str]:
        return s.configuration.database, s.configuration.database_digest, s.configuration.protocol

    members = (list(found) for _, found in groupby(sorted(summaries, key=place), key=place))
    made = (_field(found, published, every) for found in members)
    return [field for field in made if field.contests]


def _field(
    summaries: Sequence[Summary], published: Published, every: Mapping[tuple[tuple[str, ...], tuple[str, ...]], Pair]
) -> Field:
    done = [s for s in summaries if s.figures is not None]
    members = sorted(done, key=lambda s: (not comparable(s), -(s.figures.uar_mean if s.figures else 0.0)))
    found: dict[tuple[int, int], tuple[Pair, int]] = {}
    for i, first in enumerate(members):
        for j, second in enumerate(members[i + 1 :], start=i + 1):
            one, other = first.configuration.key, second.configuration.key
            pair, sign = every.get((one, other)), 1
            if pair is None:
                pair, sign = every.get((other, one)), -1
            if pair is not None:
                found[i, j] = pair, sign
    adjusted = significance.holm([pair.comparison.p for pair, _ in found.values()])
    contests = {
        (i, j): _contest(members[i], members[j], pair, sign, float(p))
        for ((i, j), (pair, sign)), p in zip(found.items(), adjusted, strict=True)
    }
    names = _names(members, published)
    return Field(members=tuple(members), names=names, brief=_brief(members, names), contests=contests)


def _contest(first: Summary, second: Summary, pair: Pair, sign: int, p_holm: float) -> Contest:
    def uar(summary: Summary, fold: str) -> float:
        return float(np.mean([metrics.uar(summary.units[fold, seed]) for seed in pair.seeds]))

    made, around = pair.comparison, pair.comparison.interval
    return Contest(
        differences={fold: uar(first, fold) - uar(second, fold) for fold in pair.folds},
        p=made.p,
        p_holm=p_holm,
        low=around.low if sign > 0 else -around.high,
        high=around.high if sign > 0 else -around.low,
    )


def _names(members: Sequence[Summary], published: Published) -> tuple[str, ...]:
    names = [titles.marked(s.configuration, published) for s in members]
    words = labels(s.configuration for s in members)
    return tuple(
        name if names.count(name) == 1 else f"{name}, {words[s.configuration.key]}"
        for name, s in zip(names, members, strict=True)
    )


def _brief(members: Sequence[Summary], names: tuple[str, ...]) -> tuple[str, ...]:
    ablations = [s.configuration.ablation for s in members]
    if len({s.configuration.model for s in members}) == 1 and len(set(ablations)) == len(ablations):
        return tuple(ablations)
    brief = tuple(re.sub(r" \([^()]*\)", "", name) for name in names)
    return brief if len(set(brief)) == len(brief) else names


def to_csv(found: Sequence[Field]) -> str:
    """Write pairwise.csv: a row per contest."""
    rows: list[list[Value]] = []
    for field in found:
        for (i, j), contest in field.contests.items():
            one, other = field.members[i].configuration, field.members[j].configuration
            rows.append(
                [
                    *one.key,
                    *(other.model, other.ablation, other.selection, other.settings),
                    len(contest.differences),
                    *contest.score,
                    exact(contest.difference),
                    exact(contest.p),
                    len(field.contests),
                    exact(contest.p_holm),
                ]
            )
    return csv_text(CSV_COLUMNS, rows)
