"""The paired test of every row against the best of its database: one line per row, where several models were run.

This module only builds values. Two models have one comparison, which the paired comparisons hold already.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

from tfser.planning.settings_in_words import labels
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import titles
from tfser.report.tables.comparison import comparable, label
from tfser.report.tables.paired import Pair, Rows
from tfser.report.tables.table import DAGGER, TRANSDUCTIVE_NOTE, Column, Row, Table, Value, points

FIGURE = "uar_mean"
"""The figure by which a row is the best, and which is compared: one of ``paired.COMPARED``."""

FEWEST = 3
"""Fewest models of such a table."""

_COLUMNS = (
    Column(key="row", title="Row"),
    Column(key=FIGURE, title="UAR (%)", numeric=True),
    Column(key="difference", title="UAR − best", numeric=True, form="points"),
    Column(key="interval", title="95 % interval"),
    Column(key="p", title="p", numeric=True, form="probability"),
    Column(key="p_holm", title="Holm", numeric=True, form="probability"),
    Column(key="folds", title="Folds", terminal=False),
)


def best_of(summaries: Sequence[Summary]) -> Summary | None:
    """Return the row with the highest UAR as mean of folds, a whole result before one that is none."""
    done = [s for s in summaries if s.figures is not None]
    able = [s for s in done if comparable(s)] or done
    return max(able, key=lambda s: s.figures.uar_mean if s.figures else 0.0, default=None)


def groups(summaries: Sequence[Summary]) -> list[list[Summary]]:
    """Return the rows that are compared with each other, of several models each, in the order of their keys."""

    def place(s: Summary) -> tuple[str, str, str]:
        return s.configuration.database, s.configuration.database_digest, s.configuration.protocol

    found = [list(members) for _, members in groupby(sorted(summaries, key=place), key=place)]
    return [members for members in found if len({s.configuration.model for s in members}) >= FEWEST]


def tables(summaries: Sequence[Summary], published: Published, rows: Rows) -> list[Table]:
    """Make one table per database, state of it and protocol."""
    made = (_table(members, published, rows) for members in groups(summaries))
    return [table for table in made if table is not None]


def _table(summaries: list[Summary], published: Published, rows: Rows) -> Table | None:
    best = best_of(summaries)
    if best is None or best.figures is None:
        return None
    c = best.configuration
    words = labels(s.configuration for s in summaries)
    pairs = rows.against(c, [s.configuration for s in summaries], FIGURE)
    ordered = sorted((s for s in summaries if s.figures is not None), key=lambda s: _order(s, best))
    shown = [_row(s, pairs.get(s.configuration.key), published, words[s.configuration.key]) for s in ordered]
    name = titles.marked(c, published)
    return Table(
        name=label("best", c.database, c.protocol, c.database_digest),
        title=f"Every row against the best on {rows.database(c)}, {c.protocol_name}: {name}",
        database=c.database,
        columns=_COLUMNS,
        rows=tuple(shown),
        notes=tuple(_notes(summaries, name, pairs.values(), comparable(best))),
    )


def _order(summary: Summary, best: Summary) -> tuple[bool, float]:
    return summary is not best, -(summary.figures.uar_mean if summary.figures else 0.0)


def _row(summary: Summary, pair: Pair | None, published: Published, words: str) -> Row:
    c = summary.configuration
    values: dict[str, Value] = {
        "row": f"{titles.marked(c, published)}, {words}",
        FIGURE: summary.figures.uar_mean if summary.figures else None,
        "folds": f"{summary.folds}{DAGGER}" if summary.incomplete else summary.folds,
    }
    if pair is not None:
        made = pair.comparison
        low, high = made.interval.low, made.interval.high
        values |= {"difference": made.difference, "p": made.p, "p_holm": pair.p_holm}
        values["interval"] = "" if low != low else f"[{points(low)}, {points(high)}]"
    return Row(ours=True, about=c.key, values=values, marked=summary.incomplete)


def _notes(summaries: Sequence[Summary], name: str, pairs: Collection[Pair], whole: bool) -> list[str]:
    said = [
        f"Best: the highest UAR as mean of folds among whole results, {name}. UAR − best: percentage points, paired on "
        "the folds, seeds and utterances that both rows have, with its 95 % interval; "
        "p: two-sided sign-flip permutation test over folds; "
        f"Holm: corrected for the {len(pairs)} comparisons of this table.",
        "The best row was found on these test utterances themselves. No p here makes up for that: it favours that row.",
    ]
    said += dict.fromkeys(pair.no_claim for pair in pairs if pair.no_claim)
    if not whole:
        said.append("No row is a whole result, so that the highest of the others stands for the best.")
    if any(s.incomplete for s in summaries):
        said.append(f"{DAGGER} Folds are missing; a comparison is over the folds that both rows have.")
    if any(s.configuration.transductive for s in summaries):
        said.append(TRANSDUCTIVE_NOTE)
    return said
