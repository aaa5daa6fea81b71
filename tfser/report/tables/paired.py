"""Rows for ``tfser.evaluation.uncertainty``, and every paired comparison of two rows.

No random number is drawn here. Two rows are compared if they were measured on the same test utterances: within one
database and protocol, on the folds and seeds that both have.

An ablation is compared with the whole model of its own table, and those comparisons are one family for Holm's
correction. So are those of every row with the best one, where there are several models. Other pairs are written
uncorrected, because a reader may look at any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby

from tfser.evaluation import significance, uncertainty
from tfser.execution.results import KEY_COLUMNS
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import labels
from tfser.record import ScoredUtterance
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import titles
from tfser.report.tables.formats import csv_text
from tfser.report.tables.table import TRANSDUCTIVE_NOTE, Beneath, Column, Row, Table, Value, exact, known

COLUMNS = (
    *KEY_COLUMNS,
    "other_model",
    "other_ablation",
    "other_selection",
    "other_settings",
    "figure",
    "folds",
    "seeds",
    "difference",
    "low",
    "high",
    "p",
    "p_smallest",
    "comparisons",
    "p_holm",
)
"""Columns of paired.csv.

``difference`` is the first row's figure minus the other's; ``p_smallest`` is the smallest p that so many folds can
give; ``p_holm`` is the p corrected for the ``comparisons`` of one ablation table, empty for a pair in none.
"""


SPEAKERS_OF_CORPUS = (
    "Under leave-one-corpus-out a row is one test corpus, and what is drawn and swapped (a fold, in these words) is "
    "one of its speakers: intervals and p are about other speakers of that corpus, after training on these corpora; "
    "about other corpora no significance is claimable, because they are too few."
)

COMPARED = ("uar_mean", "war_mean")
"""Figures that are compared: pairing is over held-out folds, which pooled figures would weigh by their utterances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The comparison of one figure between two rows, on what both have."""

    first: Configuration
    second: Configuration
    figure: str
    """One of ``COMPARED``."""
    comparison: significance.Comparison
    folds: tuple[str, ...]
    """The folds that both have."""
    seeds: tuple[int, ...]
    """The seeds that both have."""
    comparisons: int = 1
    """Number of comparisons in its ablation table; 1 outside such a table."""
    p_holm: float | None = None
    """The p corrected for those; ``None`` outside an ablation table."""

    @property
    def no_claim(self) -> str:
        """Why no significance is claimable whatever the scores; empty if one is."""
        return significance.no_claim(self.comparison.folds, self.comparisons)


def scores(summary: Summary) -> uncertainty.Row | None:
    """Return the row's test predictions over its done folds; ``None`` if there are none.

    Where corpora are held out, a row has one fold. The groups that are drawn are then the speakers of its test corpus:
    an interval is about other speakers of that corpus, and no number of corpora here could tell about others.
    """
    index = {emotion: i for i, emotion in enumerate(summary.configuration.emotions)}
    by_speaker = summary.configuration.protocol == "corpus"
    trials = []
    for fold, seed in summary.matrices:
        groups: dict[str, list[ScoredUtterance]] = {}
        for u in summary.records[fold, seed].scores.utterances:
            groups.setdefault(u.speaker if by_speaker else fold, []).append(u)
        trials += [
            uncertainty.FoldScores(
                fold=name,
                seed=seed,
                utterances=[u.id for u in utterances],
                speakers=[u.speaker for u in utterances],
                truth=[index[u.truth] for u in utterances],
                predicted=[u.predicted for u in utterances],
            )
            for name, utterances in groups.items()
        ]
    return uncertainty.row(trials, len(index)) if trials else None


class Rows:
    """The summaries' rows with their intervals and comparisons, each made when first needed.

    Args:
        summaries: sorted by key.
        published: tells which ablation is the whole model.
    """

    def __init__(self, summaries: Sequence[Summary], published: Published) -> None:
        self._configurations = [s.configuration for s in summaries]
        self._published = published
        self._scores = {s.configuration.key: scores(s) for s in summaries}
        self._compared: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Pair, ...]] = {}
        self._tables: dict[tuple[tuple[str, ...], str], dict[tuple[str, ...], Pair]] = {}
        self.intervals: Mapping[tuple[str, ...], Mapping[str, uncertainty.Interval]] = {
            key: uncertainty.intervals(row) if row else {} for key, row in self._scores.items()
        }
        """Key of a configuration to the interval of each figure; empty if no fold is done."""

    def database(self, configuration: Configuration) -> str:
        """Return the name of a row's database, with its digest if other rows have another state of it."""
        c = configuration
        states = {other.database_digest for other in self._configurations if other.database == c.database}
        return f"{c.database} ({c.database_digest or 'digest not recorded'})" if len(states) > 1 else c.database

    def against_whole(self, configuration: Configuration, figure: str) -> Pair | None:
        """Return the comparison of an ablation with the whole model of its table, if there is one."""
        whole = next((c for c in self._configurations if self._is_whole_of(c, configuration)), None)
        if whole is None:
            return None
        if (whole.key, figure) not in self._tables:
            others = [c for c in self._configurations if self._is_whole_of(whole, c)]
            pairs = [pair for c in others for pair in self._compare(c, whole) if pair.figure == figure]
            adjusted = significance.holm([pair.comparison.p for pair in pairs])
            self._tables[whole.key, figure] = {
                pair.first.key: replace(pair, comparisons=len(pairs), p_holm=float(p))
                for pair, p in zip(pairs, adjusted, strict=True)
            }
        return self._tables[whole.key, figure].get(configuration.key)

    def against(self, best: Configuration, others: Sequence[Configuration], figure: str) -> dict[tuple[str, ...], Pair]:
        """Compare rows with one of them, as one family for Holm's correction; by the key of the other row.

        Args:
            best: the row that is subtracted.
            others: rows; it may be among them.
            figure: one of ``COMPARED``.
        """
        found = [p for c in others if c.key != best.key for p in self._compare(c, best) if p.figure == figure]
        adjusted = significance.holm([pair.comparison.p for pair in found])
        return {
            pair.first.key: replace(pair, comparisons=len(found), p_holm=float(p))
            for pair, p in zip(found, adjusted, strict=True)
        }

    def pairs(self) -> list[Pair]:
        """Compare every two rows of one state of a database and one protocol, sorted, ablations before whole models."""
        made: list[Pair] = []
        for one, other in combinations(self._configurations, 2):
            if (one.database, one.database_digest, one.protocol) != (
                other.database,
                other.database_digest,
                other.protocol,
            ):
                continue
            turned = self._is_whole_of(one, other) or (self._whole(one) and not self._whole(other))
            first, second = (other, one) if turned else (one, other)
            for pair in self._compare(first, second):
                made.append(
                    (self.against_whole(first, pair.figure) if self._is_whole_of(second, first) else None) or pair
                )
        return sorted(made, key=lambda p: (p.first.key, p.second.key, p.figure))

    def _whole(self, c: Configuration) -> bool:
        return self._published.is_full(c.model, c.ablation)

    def _is_whole_of(self, whole: Configuration, c: Configuration) -> bool:
        """Tell whether ``whole`` is the whole model of the ablation table of ``c``."""
        same = replace(c, ablation=whole.ablation).key == whole.key
        return same and self._whole(whole) and c.key != whole.key

    def _compare(self, first: Configuration, second: Configuration) -> tuple[Pair, ...]:
        key = (first.key, second.key)
        if key not in self._compared:
            self._compared[key] = self._made(first, second)
        return self._compared[key]

    def _made(self, first: Configuration, second: Configuration) -> tuple[Pair, ...]:
        one, other = self._scores[first.key], self._scores[second.key]
        if one is None or other is None or first.emotions != second.emotions:
            return ()
        if not set(one.folds) & set(other.folds) or not set(one.seeds) & set(other.seeds):
            return ()
        one, other = significance.shared(one, other)
        if one.keys != other.keys:  # two states of a database with one name
            return ()
        return tuple(
            Pair(
                first=first,
                second=second,
                figure=figure,
                comparison=significance.compare(one, other, figure),
                folds=one.folds,
                seeds=one.seeds,
            )
            for figure in COMPARED
        )


def tables(pairs: Sequence[Pair], published: Published) -> list[Table]:
    """Make every paired comparison, one table per database and protocol."""
    selections = labels(c for pair in pairs for c in (pair.first, pair.second))

    def place(pair: Pair) -> tuple[str, str, str]:
        return pair.first.database, pair.first.database_digest, pair.first.protocol

    def name(c: Configuration) -> str:
        return f"{titles.marked(c, published)}, {selections[c.key]}"

    made: list[Table] = []
    for (database, *_), members in groupby(sorted(pairs, key=place), key=place):
        rows: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Value]] = {}
        together = list(members)
        for pair in together:
            values = rows.setdefault(
                (pair.first.key, pair.second.key), {"first": name(pair.first), "second": name(pair.second)}
            )
            values |= {"folds": str(len(pair.folds)), "seeds": str(len(pair.seeds))}
            measure, numbers = pair.figure.partition("_")[0], pair.comparison
            values |= {
                f"{measure}_difference": numbers.difference,
                f"{measure}_p": numbers.p,
                f"{measure}_p_holm": pair.p_holm,
            }
            values |= {f"{measure}_low": numbers.interval.low, f"{measure}_high": numbers.interval.high}
        said = [
            "Difference of the means of folds in percentage points, the first row minus the second, "
            "paired on the same folds, seeds and utterances, with its 95 % interval; "
            "p: two-sided sign-flip permutation test over folds, uncorrected; "
            "Holm: corrected for the comparisons of the ablation table that it stands in."
        ]
        said += dict.fromkeys(pair.no_claim for pair in together if pair.no_claim)
        if together[0].first.protocol == "corpus":
            said.append(SPEAKERS_OF_CORPUS)
        if any(c.transductive for pair in together for c in (pair.first, pair.second)):
            said.append(TRANSDUCTIVE_NOTE)
        protocol_name = together[0].first.protocol_name
        made.append(
            Table(
                name=f"paired-{len(made) + 1}",
                title=f"Paired comparisons on {database}, {protocol_name}, in percentage points",
                database=database,
                columns=_TABLE_COLUMNS,
                rows=tuple(Row(ours=True, about=first, values=values) for (first, _), values in rows.items()),
                notes=tuple(said),
            )
        )
    return made


def _difference(measure: str) -> Column:
    return Column(
        key=f"{measure}_difference",
        title=measure.upper(),
        numeric=True,
        form="points",
        beneath=(
            Beneath(text="[{}, {}]", keys=(f"{measure}_low", f"{measure}_high"), form="points"),
            Beneath(text="p {}", keys=(f"{measure}_p",), form="probability"),
            Beneath(text="Holm {}", keys=(f"{measure}_p_holm",), form="probability"),
        ),
    )


_TABLE_COLUMNS = (
    Column(key="first", title="Row"),
    Column(key="second", title="Minus"),
    Column(key="seeds", title="Seeds"),
    Column(key="folds", title="Folds"),
    _difference("uar"),
    _difference("war"),
)


def to_csv(pairs: Sequence[Pair]) -> str:
    """Write paired.csv."""
    rows: list[list[Value]] = []
    for pair in pairs:
        other, made = pair.second, pair.comparison
        numbers = [made.difference, made.interval.low, made.interval.high, made.p, significance.smallest_p(made.folds)]
        in_table = [pair.comparisons, exact(pair.p_holm)] if pair.p_holm is not None else [None, None]
        others = (other.model, other.ablation, other.selection, other.settings, pair.figure)
        rows.append(
            [
                *pair.first.key,
                *others,
                made.folds,
                made.seeds,
                *(exact(n) if known(n) else None for n in numbers),
                *in_table,
            ]
        )
    return csv_text(COLUMNS, rows)
