"""The sentences that the page opens with: which method is ahead, by how much, and whether the speakers can show it.

A figure is the one that the printed table has. Two rows are compared as everywhere else: in the means of folds, with
the paired test of ``tfser.report.tables.paired``. This module only builds values; it knows neither HTML nor links.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from tfser.errors import counted
from tfser.evaluation import significance
from tfser.planning.configuration import Configuration
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import best, printed_notes, titles
from tfser.report.tables.paired import Pair, Rows
from tfser.report.tables.table import known, percent, points, probability

LEVEL = 0.05
"""p below which the speakers show a difference."""

_AVERAGED = {"pooled": "pooled over all test utterances", "mean": "as mean of folds"}

_SIMPLE = "fitted once, not a network"


@dataclass(frozen=True, slots=True)
class Part:
    """Some words of a sentence."""

    text: str
    about: tuple[str, ...] = ()
    """Key of the configuration whose number it is; empty for words."""


Sentence = tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is to be said of the rows of one database and protocol."""

    heading: str
    first: Summary | None
    """The row that is ahead; ``None`` without a done fold."""
    lead: tuple[Sentence, ...]
    """Which method, by how much, and whether the speakers can show it."""
    rest: tuple[Sentence, ...]
    """What guessing and the best simple method reach, what parts contribute, and what has to be said with it."""


def answers(summaries: Sequence[Summary], published: Published, rows: Rows, averaging: str) -> list[Answer]:
    """Write the answers, one per database, state of it and protocol.

    Args:
        summaries: every row.
        published: the titles of methods, and which ablation is the whole model.
        rows: intervals and comparisons.
        averaging: that of the printed tables, ``pooled`` or ``mean``.
    """

    def place(s: Summary) -> tuple[str, str, str]:
        return s.configuration.database, s.configuration.database_digest, s.configuration.protocol

    speakers_first = sorted(summaries, key=lambda s: s.configuration.protocol != "speaker")
    groups = groupby(printed_notes.in_order(speakers_first, published), place)
    return [_Group(list(members), published, rows, averaging).answer() for _, members in groups]


def listed(names: Sequence[str]) -> str:
    """Write names as a list in words, each once.

    >>> listed(["a", "b", "a", "c"])
    'a, b and c'
    """
    once = list(dict.fromkeys(names))
    return once[0] if len(once) == 1 else f"{', '.join(once[:-1])} and {once[-1]}"


def kind(c: Configuration) -> Literal["network", "estimator", ""]:
    """Return how a row's model learns; empty for a model that is not known here."""
    if c.own is not None:
        return c.own.kind
    from tfser.models import MODELS, Estimator  # here, because it imports torch

    declared = MODELS.get(c.model)
    return "" if declared is None else "estimator" if isinstance(declared, Estimator) else "network"


def caveats(summary: Summary) -> list[str]:
    """Say why a row is no whole result, in words; empty for one that is. What its database lacks is not its own."""
    c = summary.configuration
    said = [f"{summary.folds} folds"] if summary.incomplete else []
    if c.selection == "oracle":
        said.append("chosen on the test speakers themselves: an upper bound")
    if c.transductive:
        said.append("its scores may depend on what is scored beside an utterance")
    return said


def verdict(pair: Pair | None) -> str:
    """Say whether the folds of a paired comparison can show a difference, with its interval and p."""
    if pair is None:
        return "The two were not measured on the same utterances, so that they have no paired difference."
    made, unit = pair.comparison, pair.first.unit
    low, high = made.interval.low, made.interval.high
    around = f" (95 % interval {points(low)} to {points(high)})" if known(low) else ""
    said = f"The paired difference of their means of folds is {_points(made.difference)}{around}. "
    people = counted(made.folds, unit)
    smallest, several = significance.smallest_p(made.folds), pair.comparisons > 1
    family = f"after Holm's correction for {pair.comparisons} comparisons"
    if pair.no_claim:
        corrected = min(1.0, smallest * pair.comparisons)
        more = f", {corrected:.3g} {family}" if several and corrected > smallest else ""
        return f"{said}{people} cannot show it: the smallest possible p is {smallest:.3g}{more}."
    adjusted = made.p if pair.p_holm is None else pair.p_holm
    shows = "show it" if adjusted < LEVEL else "do not show it"
    beside = f" ({_p(adjusted, '')} {family})" if several else ""
    return f"{said}{people} {shows}: p {_p(made.p)}{beside}."


def _p(p: float, equals: str = "= ") -> str:
    text = probability(p)
    return text if text.startswith("<") else f"{equals}{text}"


def _points(difference: float) -> str:
    """Write a difference with its sign and unit."""
    return f"{points(difference)} points"


def _distance(fraction: float) -> str:
    """Write a distance without sign."""
    return _points(abs(fraction)).lstrip("+")


def _words(text: str) -> Sentence:
    return (Part(text),)


def _alone(summary: Summary) -> list[str]:
    """Say why the only row is no whole result, in sentences."""
    c, said = summary.configuration, []
    if summary.incomplete:
        is_in = "is in" if len(summary.done) == 1 else "are in"
        said.append(f"Only {summary.folds} folds {is_in}: this is not the whole result.")
    if c.selection == "oracle":
        said.append("It was chosen on the test speakers themselves: an upper bound, not a result.")
    if c.transductive:
        said.append("Its scores may depend on what is scored beside an utterance.")
    return said


class _Group:
    """The rows of one database and protocol, and what is said of them.

    Args:
        summaries: its rows, at least one.
        published: the titles of methods.
        rows: intervals and comparisons.
        averaging: ``pooled`` or ``mean``.
    """

    def __init__(self, summaries: list[Summary], published: Published, rows: Rows, averaging: str) -> None:
        whole = [s for s in summaries if published.is_full(s.configuration.model, s.configuration.ablation)]
        self._all, self._named = summaries, whole or summaries
        self._published, self._rows, self._averaging = published, rows, averaging
        done = sorted(
            (s for s in self._named if s.figures is not None), key=lambda s: (-self._uar(s), s.configuration.key)
        )
        self._ranked = [s for s in done if not caveats(s)] or done
        self._unranked = [s for s in done if s not in self._ranked]
        self._waiting = [s for s in self._named if s.figures is None]
        self._c = summaries[0].configuration
        self._place = printed_notes.place(self._c, rows)
        self._names = self._titles()
        self._pairs: Mapping[tuple[str, ...], Pair] = {}
        if self._ranked:
            tabled = len({s.configuration.model for s in summaries}) >= best.FEWEST  # then a table has that family too
            others = [s.configuration for s in (summaries if tabled else self._named)]
            self._pairs = rows.against(self._ranked[0].configuration, others, best.FIGURE)

    def answer(self) -> Answer:
        """Return everything that is said."""
        heading = f"{self._place}, {self._c.protocol_name}"
        parts = self._ablations()
        if not self._ranked:
            return Answer(heading=heading, first=None, lead=(_words("No fold is done yet."),), rest=())
        lead = [self._ahead(), *self._against_next()]
        rest = [self._guess(), *self._simple(), *parts, *self._not_whole()]
        if len(self._ranked) > 1:
            rest.append(_words("The first was found on these test utterances themselves, which favours it."))
        return Answer(heading=heading, first=self._ranked[0], lead=tuple(lead), rest=tuple(rest))

    def _titles(self) -> dict[tuple[str, ...], str]:
        """Name each row; its selection is added where another has the same name."""
        shown = {s.configuration.key: titles.marked(s.configuration, self._published) for s in self._all}
        times = Counter(shown.values())
        return {
            s.configuration.key: f"{name}, {s.selection}" if times[name] > 1 else name
            for s in self._all
            for name in [shown[s.configuration.key]]
        }

    def _uar(self, summary: Summary) -> float:
        return float(getattr(summary.figures, f"uar_{self._averaging}"))

    def _name(self, summary: Summary) -> str:
        return self._names[summary.configuration.key]

    def _number(self, summary: Summary) -> Part:
        return Part(f"{percent(self._uar(summary))} %", summary.configuration.key)

    def _ahead(self) -> Sentence:
        """Say which row is ahead, what it reaches, and by how much over the next."""
        first, among = self._ranked[0], len(self._ranked)
        c = first.configuration
        where = f"on {self._place}, {c.protocol_name}"
        how = _AVERAGED[self._averaging]
        if len(c.seeds) > 1:
            how += f", mean over {len(c.seeds)} seeds"
        interval = self._rows.intervals[c.key][f"uar_{self._averaging}"]
        if known(interval.low):
            how += f" (95 % interval {percent(interval.low)} to {percent(interval.high)} %)"
        if among == 1:
            return Part(f"{self._name(first)} reaches a UAR of "), self._number(first), Part(f" {where}, {how}.")
        things = "methods" if len({s.configuration.model for s in self._ranked}) == among else "rows"
        following = self._ranked[1]
        gap = self._uar(first) - self._uar(following)
        even = percent(self._uar(first)) == percent(self._uar(following))
        above = "as high as" if even else f"{_distance(gap)} above"
        return (
            Part(f"Of {among} {things} {where}, {self._name(first)} reaches the highest UAR: "),
            self._number(first),
            Part(f" {how}, {above} the next, {self._name(following)} ("),
            self._number(following),
            Part(")."),
        )

    def _paired(self, other: Summary) -> str:
        """Say whether the folds show that the first differs from another row, the first minus the other."""
        pair = self._pairs.get(other.configuration.key)
        return verdict(None if pair is None else turned(pair))

    def _against_next(self) -> list[Sentence]:
        if len(self._ranked) < 2:
            return []
        following = self._ranked[1]
        pair = self._pairs.get(following.configuration.key)
        said = [_words(self._paired(following))]
        if pair is not None and pair.comparison.difference > 0:
            said.append(_words(f"As mean of folds, {self._name(following)} is ahead."))
        return said

    def _guess(self) -> Sentence:
        there = int((self._ranked[0].confusion.sum(axis=1) > 0).sum())
        return _words(f"Guessing among {counted(there, 'emotion')} reaches {percent(1 / there)} %.")

    def _simple(self) -> list[Sentence]:
        """Say what the best simple method reaches; where that is ahead, what the best network reaches."""
        first, kinds = self._ranked[0], {s.configuration.key: kind(s.configuration) for s in self._ranked}

        def of(wanted: str) -> Summary | None:
            return next((s for s in self._ranked if kinds[s.configuration.key] == wanted), None)

        simple, network = of("estimator"), of("network")
        if simple is None:
            left = [s for s in self._unranked if kind(s.configuration) == "estimator"]
            if left:
                return []  # said among the rows that are not ranked
            more = "; --model comparison runs those that are built in"
            return [_words(f"No simple method ({_SIMPLE}) was run beside it{more}.")]
        if simple is first:
            itself = f"{self._name(first)} is itself a simple method ({_SIMPLE})"
            if network is None:
                return [_words(f"{itself}.")]
            return [self._less(f"{itself}; the best network, {self._name(network)}, reaches ", network)]
        if simple is self._ranked[1]:
            return [_words(f"{self._name(simple)} is the best simple method ({_SIMPLE}).")]
        less = self._less(f"The best simple method ({_SIMPLE}), {self._name(simple)}, reaches ", simple)
        return [(*less, Part(f" {self._paired(simple)}"))]

    def _less(self, words: str, other: Summary) -> Sentence:
        gap = self._uar(self._ranked[0]) - self._uar(other)
        end = " as well." if percent(gap) == "0.00" else f", {_distance(gap)} less."
        return Part(words), self._number(other), Part(end)

    def _not_whole(self) -> list[Sentence]:
        """Say which rows are no whole results, and why."""
        said: list[Sentence] = []
        if not caveats(self._ranked[0]):
            if self._unranked:
                each = "it is no whole result" if len(self._unranked) == 1 else "they are no whole results"
                said.append(self._with_caveats(f"Not ranked, because {each}: ", self._unranked))
        elif len(self._ranked) == 1:
            said += [_words(text) for text in _alone(self._ranked[0])]
        else:
            said.append(self._with_caveats("No row is a whole result: ", self._ranked))
        if self._waiting:
            names = listed([self._name(s) for s in self._waiting])
            said.append(_words(f"No fold is done yet of {names}."))
        if not self._c.complete:
            said.append(_words(f"This copy of {self._place} is incomplete: it does not have the published counts."))
        if self._c.remark:
            said.append(_words(f"{self._place}: {self._c.remark.rstrip('.')}."))
        return said

    def _with_caveats(self, words: str, summaries: Sequence[Summary]) -> Sentence:
        parts = [Part(words)]
        for number, summary in enumerate(summaries):
            parts += [Part(f"{'; ' if number else ''}{self._name(summary)}, "), self._number(summary)]
            parts.append(Part(f" ({'; '.join(caveats(summary))})"))
        return (*parts, Part("."))

    def _ablations(self) -> list[Sentence]:
        """Say for each whole model what its ablations differ from it by, and whether the folds show that."""
        said: list[Sentence] = []
        by_whole: dict[tuple[str, ...], list[tuple[Summary, Pair]]] = {}
        for summary in self._all:
            pair = self._rows.against_whole(summary.configuration, best.FIGURE)
            if pair is not None:
                by_whole.setdefault(pair.second.key, []).append((summary, pair))
        for key, members in by_whole.items():
            c = members[0][1].second
            each = [f"{s.configuration.ablation} {_points(pair.comparison.difference)}" for s, pair in members]
            text = f"Ablations of {self._names[key]}, each minus the whole model as mean of folds: {listed(each)}."
            said.append(_words(f"{text} {_of_family(members, c)}"))
        return said


def turned(pair: Pair) -> Pair:
    """Return the comparison with its rows exchanged: the second minus the first."""
    made = pair.comparison
    around = replace(made.interval, low=-made.interval.high, high=-made.interval.low)
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        comparison=replace(made, difference=-made.difference, interval=around),
    )


def _of_family(members: Sequence[tuple[Summary, Pair]], c: Configuration) -> str:
    """Say which ablations of one model differ from it, corrected after Holm."""
    pairs = [pair for _, pair in members]
    if all(pair.no_claim for pair in pairs):
        most = max(pairs, key=lambda pair: pair.comparison.folds)
        smallest = min(1.0, significance.smallest_p(most.comparison.folds) * most.comparisons)
        corrected = f" after Holm's correction for {most.comparisons} comparisons" if most.comparisons > 1 else ""
        people = counted(most.comparison.folds, c.unit)
        return f"{people} cannot show such differences: the smallest possible p is {smallest:.3g}{corrected}."
    shown = [s.configuration.ablation for s, pair in members if pair.p_holm is not None and pair.p_holm < LEVEL]
    if not shown:
        smallest = min(pair.p_holm if pair.p_holm is not None else 1.0 for pair in pairs)
        return f"None differs significantly (smallest Holm p {_p(smallest)})."
    do = "differs" if len(shown) == 1 else "differ"
    return f"{listed(shown)} {do} significantly (Holm p < {LEVEL})."
