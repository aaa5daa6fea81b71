"""The printed comparison, as table 4 of the first paper and table II of the second: a row per method, by database.

Cited rows stand as printed, then ours, in one averaging. This module only builds values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from tfser.evaluation.uncertainty import Interval
from tfser.planning.configuration import Configuration
from tfser.report.published import Published, PublishedRow
from tfser.report.summary import Summary
from tfser.report.tables import printed_ablation, printed_notes, titles
from tfser.report.tables.comparison import EITHER, RERUN, comparable, label
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed_notes import NOTHING, UPPER_BOUND, Key, place
from tfser.report.tables.table import DAGGER, Column, Row, Table, Value, known, percent, tenths, with_best

COLUMNS = (
    Column(key="place", title="Database", width=12),
    Column(key="method", title="Method", width=34),
    Column(key="war", title="WAR", numeric=True),
    Column(key="uar", title="UAR", numeric=True),
    Column(key="interval", title="95 % interval", small=True),
)


def tables(summaries: Sequence[Summary], published: Published, rows: Rows, averaging: str = "pooled") -> list[Table]:
    """Make a table per protocol, with every row that no ablation table holds.

    Args:
        summaries: every row.
        published: the cited rows and the titles of ours.
        rows: their intervals.
        averaging: a key of ``printed_notes.AVERAGINGS``.
    """
    shown = [s for s in summaries if s.configuration.key not in printed_ablation.elsewhere(summaries, published)]
    protocols = sorted({s.configuration.protocol for s in shown}, reverse=True)  # speaker before session
    return [
        _table([s for s in shown if s.configuration.protocol == protocol], published, rows, averaging)
        for protocol in protocols
    ]


def _table(summaries: list[Summary], published: Published, rows: Rows, averaging: str) -> Table:
    first = summaries[0].configuration
    names = _names(summaries, published)
    made: list[Row] = []
    kinds: dict[str, str] = {}
    ordered = printed_notes.in_order(summaries, published)
    for (database, _), members in groupby(
        ordered, key=lambda s: (s.configuration.database, s.configuration.database_digest)
    ):
        ours = sorted(members, key=lambda s: _position(s.configuration, published))
        name = place(ours[0].configuration, rows)
        block = [
            *_cited(database, first.protocol_name, published, kinds),
            *(_ours(s, names[s.configuration.key], rows, averaging) for s in ours),
        ]
        best = with_best(block, COLUMNS, "method")
        made += [
            replace(row, block=name, values={**row.values, "place": name if i == 0 else ""})
            for i, row in enumerate(best)
        ]
    cited = any(not row.ours for row in made)
    averaged = printed_notes.averaged(summaries, averaging)
    said = f"{averaged}, with the 95 % interval of the UAR over {first.unit}s."
    if not any(known(row.values.get("uar_low")) for row in made):
        said = f"{averaged}."
    said = f"Published rows as printed; ours: {said}" if cited else said[:1].upper() + said[1:]
    marks = [f"{mark} {text}" for text, mark in kinds.items()]
    return Table(
        name="comparison" if first.protocol == "speaker" else label("comparison", first.protocol),
        title=f"WAR and UAR, {first.protocol_name}",
        caption=f"WAR and UAR (%) under {first.protocol_name}. {said}",
        database="",
        columns=COLUMNS,
        rows=tuple(made),
        notes=(
            *([f"{'; '.join(marks)}."] if marks else []),
            *printed_notes.of_rows(ordered, names, published, rows),
            *printed_notes.of_intervals(_intervals(ordered, rows, averaging)),
        ),
        stub="place",
    )


def _intervals(summaries: Iterable[Summary], rows: Rows, averaging: str) -> list[Interval]:
    made = (rows.intervals[s.configuration.key].get(f"uar_{averaging}") for s in summaries)
    return [interval for interval in made if interval is not None]


def _position(c: Configuration, published: Published) -> tuple[int, int, str, Key]:
    """Order our rows as the papers do: methods that are run again, then the papers' own, then a person's own."""
    papers = list(published.papers)
    own = {a.paper for a in published.ablations_of(c.model) if a.paper}
    title = published.model_title(c.model)
    number = min((papers.index(paper) for paper in own), default=0)
    return (1 if own else 0 if RERUN in title else 2), number, title.casefold(), c.key


def _names(summaries: Sequence[Summary], published: Published) -> dict[Key, str]:
    """Name each row; its selection is added where another row of its database has the same name."""

    def name(s: Summary, words: str = "") -> str:
        title = titles.marked(s.configuration, published)
        if RERUN in title:
            return f"{title}, {words}" if words else title
        return f"{title} (ours, {words})" if words else f"{title} (ours)"

    def where(s: Summary) -> tuple[str, str, str]:
        return s.configuration.database, s.configuration.database_digest, name(s)

    alike: dict[tuple[str, str, str], list[Summary]] = {}
    for s in summaries:
        alike.setdefault(where(s), []).append(s)
    return {s.configuration.key: name(s, _apart(s, alike[where(s)])) for s in summaries}


def _apart(summary: Summary, alike: Sequence[Summary]) -> str:
    """Say what tells a row from those of the same name: its selection, its settings, or both."""
    if len(alike) == 1:
        return ""
    selections = {s.configuration.selection for s in alike}
    words = summary.selection
    return words if len(selections) > 1 else words.removeprefix(f"{summary.configuration.selection}, ")


def _ours(summary: Summary, name: str, rows: Rows, averaging: str) -> Row:
    c, figures = summary.configuration, summary.figures
    values: dict[str, Value] = {"method": name, "model": c.model, "ablation": c.ablation}
    if figures is not None:
        interval = rows.intervals[c.key][f"uar_{averaging}"]
        values |= {m: getattr(figures, f"{m}_{averaging}") for m in ("war", "uar")}
        values |= {"uar_low": interval.low, "uar_high": interval.high}
        there = known(interval.low)
        values["interval"] = f"[{tenths(interval.low)}, {tenths(interval.high)}]" if there else NOTHING
    return Row(
        ours=True,
        about=c.key,
        values=values,
        nothing=NOTHING,
        marked=summary.incomplete,
        marks={"method": UPPER_BOUND} if c.selection == "oracle" else {},
        comparable=comparable(summary),
    )


def _cited(database: str, protocol: str, published: Published, kinds: dict[str, str]) -> list[Row]:
    """Make the cited rows of a database, each method with the same figures once, under its first name.

    Args:
        database: its name.
        protocol: ours, in words.
        published: every cited row.
        kinds: protocol in words to its mark; those that are new are added.
    """
    methods: dict[tuple[object, ...], list[PublishedRow]] = {}
    for row in published.comparison:
        if row.database == database:
            methods.setdefault((published.names_of(row.method), row.war, row.uar), []).append(row)
    made = []
    for alike in methods.values():
        first, other = alike[0], _other(alike, protocol)
        if other:
            kinds.setdefault(other, "*" * (len(kinds) + 1))
        values: Mapping[str, Value] = {"method": first.method, "war": first.war, "uar": first.uar}
        marks = {"method": kinds[other]} if other else {}
        made.append(Row(ours=False, values=values, nothing=NOTHING, marks=marks))
    return made


def _other(alike: Sequence[PublishedRow], protocol: str) -> str:
    """Return the protocol of a cited row, in words, if it is known to be another than ours; else nothing."""
    stated = [row.protocol for row in alike if row.protocol]
    exact = [words for words in stated if not EITHER.fullmatch(words)]
    if exact:
        return "" if protocol in exact else exact[0]
    either = [f"leave-one-{unit}-out" for words in stated if (m := EITHER.fullmatch(words)) for unit in m.groups()]
    return stated[0] if either and protocol not in either else ""


def sentence(table: Table) -> str:
    """Say in words what a table with a single row would show."""
    (row,) = table.rows
    values, dagger = row.values, DAGGER if row.marked else ""
    figures = {m: _figure(values.get(m), dagger) for m in ("war", "uar")}
    interval = f" {values['interval']}" if known(values.get("uar_low")) else ""
    marks = row.marks.get("method", "")
    head, _, rest = table.caption.partition(". ")
    under = head.removeprefix("WAR and UAR (%) ")
    name = f"{values['method']}{marks} on {values['place']}"
    said = f"{name}: WAR {figures['war']}, UAR {figures['uar']}{interval}, {under}."
    return " ".join([said, rest, *table.notes])


def _figure(value: Value, mark: str) -> str:
    return f"{percent(float(value))} %{mark}" if known(value) and value is not None else NOTHING
