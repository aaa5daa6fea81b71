"""The printed ablations, as table 5 of the first paper and table III of the second: all databases side by side.

A table per model with more than one ablation. The printed figures stand below ours. This module only builds values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from tfser.report.published import Published, PublishedAblation
from tfser.report.summary import Summary
from tfser.report.tables import printed_notes
from tfser.report.tables.ablation import part_title
from tfser.report.tables.comparison import comparable, label
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed_notes import NOTHING, UPPER_BOUND, Key, place
from tfser.report.tables.table import TRANSDUCTIVE, Column, Row, Table, Value, with_best

SIGNIFICANT = "*"
"""Mark of a UAR that differs from the whole model's."""

LEVEL = 0.05

AS_PRINTED = "as printed"


def groups(summaries: Sequence[Summary]) -> list[list[Summary]]:
    """Return the rows of each table: those of one protocol, model and selection, with more than one ablation.

    Rows that differ in settings share a table where they are about different databases; else each setting has its own.
    """

    def alike(s: Summary) -> tuple[str, ...]:
        return s.configuration.protocol, s.configuration.model, s.configuration.selection

    def settings(s: Summary) -> str:
        return s.configuration.settings

    made: list[list[Summary]] = []
    for _, members in groupby(sorted(summaries, key=alike), key=alike):
        together = list(members)
        cells = Counter(
            (s.configuration.database, s.configuration.database_digest, s.configuration.ablation) for s in together
        )
        if max(cells.values()) > 1:
            made += [list(part) for _, part in groupby(sorted(together, key=settings), key=settings)]
        else:
            made.append(together)
    return [group for group in made if len({s.configuration.ablation for s in group}) > 1]


def elsewhere(summaries: Sequence[Summary], published: Published) -> frozenset[Key]:
    """Return the keys of the rows that only an ablation table holds: those beside whose whole model they stand."""
    found = set()
    for group in groups(summaries):
        whole = {
            (s.configuration.database, s.configuration.database_digest)
            for s in group
            if published.is_full(s.configuration.model, s.configuration.ablation)
        }
        found |= {
            s.configuration.key
            for s in group
            if not published.is_full(s.configuration.model, s.configuration.ablation)
            and (s.configuration.database, s.configuration.database_digest) in whole
        }
    return frozenset(found)


def tables(summaries: Sequence[Summary], published: Published, rows: Rows, averaging: str = "pooled") -> list[Table]:
    """Make the tables, those of the papers' models first.

    Args:
        summaries: every row.
        published: the printed figures, the parts and their order.
        rows: the comparisons of each ablation with its whole model.
        averaging: a key of ``printed_notes.AVERAGINGS``.
    """
    papers = list(published.papers)

    def position(group: list[Summary]) -> tuple[int, str]:
        model = group[0].configuration.model
        of = [papers.index(a.paper) for a in published.ablations_of(model) if a.paper]
        return min(of, default=len(papers)), model

    made = sorted(groups(summaries), key=position)
    times = Counter((g[0].configuration.protocol, g[0].configuration.model) for g in made)
    return [
        _table(
            group,
            published,
            rows,
            averaging,
            named=times[group[0].configuration.protocol, group[0].configuration.model] > 1,
        )
        for group in made
    ]


def _table(group: list[Summary], published: Published, rows: Rows, averaging: str, *, named: bool) -> Table:
    """Make one table; ``named`` says that it needs its selection to be told from others."""
    ordered = printed_notes.in_order(group, published)
    first = ordered[0].configuration
    places = list(dict.fromkeys(place(s.configuration, rows) for s in ordered))
    known = {a.ablation: a for a in published.ablations_of(first.model)}
    run = {s.configuration.ablation for s in group}
    names = [*(name for name in known if name in run), *sorted(run - known.keys())]
    parts = dict.fromkeys(part for name in names if name in known for part in known[name].parts)
    columns = (
        Column(key="ablation", title="Architecture"),
        *(Column(key=part, title=part_title(part), width=7) for part in parts),
        *(Column(key=f"{m}@{p}", title=m.upper(), group=p, numeric=True) for p in places for m in ("war", "uar")),
    )
    made: list[Row] = []
    for name in names:
        mine = {place(s.configuration, rows): s for s in ordered if s.configuration.ablation == name}
        made.append(_ours(name, mine, known.get(name), rows, averaging))
        made += _printed(name, ordered, known.get(name), rows)
    marked = with_best(made, columns, "ablation")
    title, model = published.model_title(first.model), label("ablation", first.model)
    apart = f", {ordered[0].selection}" if named else ""
    caption = (
        f"Ablations of {title}{apart} (%), {first.protocol_name}, {printed_notes.averaged(ordered, averaging)}. "
        + ("Grey: as printed." if any(row.grey for row in marked) else "Bold: the highest of its column.")
    )
    if not any(row.grey or row.best for row in marked):
        caption = caption.rpartition(". ")[0] + "."
    spoken: dict[Key, str] = {s.configuration.key: s.configuration.ablation for s in ordered}
    return Table(
        name=model if first.protocol == "speaker" else f"{model}-{first.protocol}",
        title=f"Ablations of {title}{apart}, {first.protocol_name}",
        caption=caption,
        database="",
        columns=columns,
        rows=marked,
        notes=(*_significance(ordered, rows, published), *printed_notes.of_rows(ordered, spoken, published, rows)),
        ruled=False,
    )


def _ours(name: str, mine: dict[str, Summary], known: PublishedAblation | None, rows: Rows, averaging: str) -> Row:
    """Make the row of one ablation, over every database that it was run on."""
    some = next(iter(mine.values())).configuration
    values: dict[str, Value] = {"ablation": name, **(known.parts if known else {})}
    about: dict[str, Key] = {}
    marks = {
        "ablation": (TRANSDUCTIVE if some.transductive else "") + (UPPER_BOUND if some.selection == "oracle" else "")
    }
    missing, never = set(), set()
    for where, summary in mine.items():
        c, figures = summary.configuration, summary.figures
        keys = {m: f"{m}@{where}" for m in ("war", "uar")}
        about |= dict.fromkeys(keys.values(), c.key)
        if figures is None:
            continue
        values |= {keys[m]: getattr(figures, f"{m}_{averaging}") for m in keys}
        missing |= set(keys.values()) if summary.incomplete else set()
        never |= set() if comparable(summary) else set(keys.values())
        pair = rows.against_whole(c, "uar_mean")
        if pair is not None and pair.p_holm is not None and pair.p_holm < LEVEL:
            marks[keys["uar"]] = SIGNIFICANT
    return Row(
        ours=True,
        about_keys=about,
        values=values,
        nothing=NOTHING,
        marks=marks,
        marked_keys=frozenset(missing),
        never_best=frozenset(never),
    )


def _printed(name: str, ordered: Sequence[Summary], known: PublishedAblation | None, rows: Rows) -> list[Row]:
    """Make the row of the printed figures of one ablation, where there are any."""
    values: dict[str, Value] = {}
    for c in (s.configuration for s in ordered):
        war, uar = known.figures.get(c.database, (None, None)) if known else (None, None)
        values |= {f"war@{place(c, rows)}": war, f"uar@{place(c, rows)}": uar}
    if all(value is None for value in values.values()):
        return []
    return [
        Row(
            ours=False,
            grey=True,
            values={**values, "ablation": AS_PRINTED},
            nothing=NOTHING,
            comparable=False,
        )
    ]


def _significance(ordered: Sequence[Summary], rows: Rows, published: Published) -> list[str]:
    """Say what the marks of significance mean, and where no significance can be claimed at all."""
    pairs = [(s, pair) for s in ordered if (pair := rows.against_whole(s.configuration, "uar_mean")) is not None]
    notes = []
    if any(pair.p_holm is not None and pair.p_holm < LEVEL for _, pair in pairs):
        c = pairs[0][1].second
        notes.append(
            f"{SIGNIFICANT} Its UAR differs from that of {c.ablation} (p < {LEVEL}: paired sign-flip test of the means "
            f"of folds over {c.unit}s, corrected after Holm)."
        )
    several = len({place(s.configuration, rows) for s in ordered}) > 1
    said: dict[str, tuple[int, str]] = {}  # of a database's pairs, the one with the most folds
    for s, pair in pairs:
        where = place(s.configuration, rows)
        said[where] = max(said.get(where, (0, "")), (pair.comparison.folds, pair.no_claim))
    return notes + [
        f"{where}: {text[:1].lower()}{text[1:]}" if several else text for where, (_, text) in said.items() if text
    ]
