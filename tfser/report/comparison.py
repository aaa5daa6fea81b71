"""The comparison table: for each database, every published row and ours, each with its protocol named.

Builds values only; ``formats`` and ``terminal`` write them.

A row of ours stands twice, pooled and as mean of folds, since the papers do not say which of the two they
print: a reader can then compare like with like whichever it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from tfser.report import notes
from tfser.report.published import Published, PublishedRow
from tfser.report.summary import Summary
from tfser.report.table import DAGGER, OTHER_PROTOCOL, Column, Row, Table, Value, with_best

CSV_COLUMNS = (
    "database",
    "method",
    "source",
    "protocol",
    "model",
    "ablation",
    "selection",
    "averaging",
    "folds_done",
    "folds_total",
    "seeds",
    "war",
    "war_sd",
    "uar",
    "uar_sd",
)
"""Of comparison.csv; ``source`` is a paper's key or ``ours``."""

NOT_STATED = "not stated"

_COLUMNS = (
    Column(key="printed_method", title="Method", terminal=False),
    Column(key="terminal_method", title="Method", paper=False, width=26),
    Column(key="reference", title="Source", terminal=False),
    Column(key="printed_protocol", title="Protocol", width=12),
    Column(key="selection", title="Selection", terminal=False),
    Column(key="averaging", title="Averaging", terminal=False),
    Column(key="folds", title="Folds"),
    Column(key="war", title="WAR (%)", numeric=True, spread="war_sd"),
    Column(key="uar", title="UAR (%)", numeric=True, spread="uar_sd"),
)


def label(*parts: str) -> str:
    """A word for a LaTeX label: letters, digits and ``-`` only."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def tables(summaries: Sequence[Summary], published: Published) -> list[Table]:
    """One table per database, in the order of the summaries (which are sorted)."""
    by_database = groupby(summaries, key=lambda s: s.configuration.database)
    return [_table(database, list(group), published) for database, group in by_database]


def _table(database: str, summaries: list[Summary], published: Published) -> Table:
    theirs = [row for row in published.comparison if row.database == database]
    protocols = {s.configuration.protocol_name for s in summaries}
    rows = [_published_row(row, protocols, published) for row in theirs]
    for summary in summaries:
        rows += _our_rows(summary, published)
    return Table(
        name=label("comparison", database),
        title=f"WAR and UAR on {database}, in percent",
        columns=_COLUMNS,
        rows=with_best(rows, _COLUMNS, "printed_method"),
        notes=tuple(_notes(database, summaries, theirs, protocols, published)),
        best_note=notes.BEST,
    )


def _numbers(published: Published) -> dict[str, str]:
    return {paper: f"[{number}]" for number, paper in enumerate(published.papers, start=1)}


def _published_row(row: PublishedRow, protocols: set[str], published: Published) -> Row:
    protocol = row.protocol or NOT_STATED
    other = row.protocol is not None and row.protocol not in protocols
    reference = _numbers(published)[row.paper]
    return Row(
        ours=False,
        nothing="N/A",
        values={
            "database": row.database,
            "method": row.method,
            "printed_method": row.method,
            "terminal_method": f"{row.method} {reference}",
            "source": row.paper,
            "reference": reference,
            "protocol": protocol,
            "printed_protocol": f"{protocol}{OTHER_PROTOCOL}" if other else protocol,
            "averaging": NOT_STATED,
            "war": row.war,
            "uar": row.uar,
        },
    )


def _our_rows(summary: Summary, published: Published) -> list[Row]:
    configuration, figures = summary.configuration, summary.figures
    method = notes.configuration_name(summary, published)
    shared: dict[str, Value] = {
        "database": configuration.database,
        "method": method,
        "printed_method": f"{method} (ours)",
        "source": "ours",
        "reference": "ours",
        "protocol": configuration.protocol_name,
        "printed_protocol": configuration.protocol_name,
        "model": configuration.model,
        "ablation": configuration.ablation,
        "selection": configuration.selection,
        "folds_done": len(summary.done),
        "folds_total": configuration.folds_total,
        "folds": f"{summary.folds}{DAGGER}" if summary.incomplete else summary.folds,
        "seeds": len(configuration.seeds),
    }
    short = f"{method}\n(ours, {configuration.selection}"  # a terminal has no room for columns that say so
    pooled: dict[str, Value] = {"averaging": "pooled", "terminal_method": f"{short}, pooled)"}
    mean: dict[str, Value] = {"averaging": "mean of folds", "terminal_method": f"{short}, mean)"}
    if figures is not None:
        pooled |= {"war": figures.war_pooled, "uar": figures.uar_pooled}
        mean |= {"war": figures.war_mean, "war_sd": figures.war_sd, "uar": figures.uar_mean, "uar_sd": figures.uar_sd}
    able = comparable(summary)
    return [Row(ours=True, values=shared | own, marked=summary.incomplete, comparable=able) for own in (pooled, mean)]


def comparable(summary: Summary) -> bool:
    """Whether the row is a whole result: every fold, a whole database, nothing chosen on the test speakers."""
    return not summary.incomplete and summary.configuration.complete and summary.configuration.selection != "oracle"


def _notes(database: str, summaries: list[Summary], theirs: list[PublishedRow], protocols: set[str], published: Published) -> list[str]:
    said = notes.of_database(summaries, published)
    if not theirs:
        said.append(f"Neither paper gives a figure for {database}: the rows are ours only.")
    said += notes.of_measurement(summaries, published)
    if theirs:
        said.append(
            "Published figures are as printed. How they average over folds and how their settings were chosen is not stated; "
            "a protocol is given where the paper names it."
        )
        if any(row.protocol and row.protocol not in protocols for row in theirs):
            said.append(f"{OTHER_PROTOCOL} Another protocol than ours here ({', '.join(sorted(protocols))}).")
    papers = [paper for paper in published.papers if any(row.paper == paper for row in theirs)]
    said += [f"{_numbers(published)[paper]} {paper}: {published.papers[paper]}" for paper in papers]
    return said
