"""The comparison table: for each database, every published row and ours, each with its protocol.

This module only builds values; ``formats`` and ``terminal`` write them. Where a row of ours runs a published method
again, it stands below the rows of that method.

Each of our rows stands twice, pooled and as mean of folds, because the papers do not say which of the two they print.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from tfser.evaluation.uncertainty import Interval
from tfser.report.published import Published, PublishedRow
from tfser.report.summary import Summary
from tfser.report.tables import notes, printed_figures, titles
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed_figures import Printed
from tfser.report.tables.table import DAGGER, OTHER_PROTOCOL, Beneath, Column, Row, Table, Value, with_best

CSV_COLUMNS = (
    "database",
    "database_digest",
    "database_state",
    "method",
    "source",
    "protocol",
    "model",
    "ablation",
    "selection",
    "settings",
    "averaging",
    "absent_emotions",
    "folds_done",
    "folds_total",
    "seeds",
    "utterances",
    "speakers",
    "war",
    "war_sd",
    "war_seed_sd",
    "war_low",
    "war_high",
    "uar",
    "uar_sd",
    "uar_seed_sd",
    "uar_low",
    "uar_high",
)
"""Columns of comparison.csv.

``source`` is a paper's key or ``ours``; ``_sd`` is over folds, ``_seed_sd`` over seeds; ``_low`` and ``_high`` bound
the 95 % interval.
"""

NOT_STATED = "not stated"

RERUN = "(re-run"
"""What the title of a model holds that runs a cited method again; such a row needs no word to be ours."""

POOLED, MEAN, MEAN_ZEROS = "pooled", "mean of folds", "mean of folds, absent as 0"
"""How our rows average over folds; the last counts an emotion that a fold never shows as a recall of 0."""


def beneath(name: str) -> tuple[Beneath, ...]:
    """Return the lines below a figure of ours: its interval, and its spread over seeds.

    Args:
        name: ``war``, or the key of another figure.
    """
    return (
        Beneath(text="[{}, {}]", keys=(f"{name}_low", f"{name}_high")),
        Beneath(text="seeds ± {}", keys=(f"{name}_seed_sd",)),
    )


_COLUMNS = (
    Column(key="printed_method", title="Method", terminal=False, width=28),
    Column(key="terminal_method", title="Method", paper=False, width=26),
    Column(key="reference", title="Source", terminal=False),
    Column(key="printed_protocol", title="Protocol", width=12),
    Column(key="printed_selection", title="Selection", terminal=False, width=24),
    Column(key="averaging", title="Averaging", terminal=False, width=14),
    Column(key="printed_seeds", title="Seeds", terminal=False),
    Column(key="folds", title="Folds"),
    Column(key="war", title="WAR (%)", numeric=True, spread="war_sd", beneath=beneath("war")),
    Column(key="uar", title="UAR (%)", numeric=True, spread="uar_sd", beneath=beneath("uar")),
)


def label(*parts: str) -> str:
    """Make a word for a LaTeX label: letters, digits and ``-`` only."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def tables(summaries: Sequence[Summary], published: Published, rows: Rows) -> list[Table]:
    """Make one table per database and state of it, in the order of the sorted summaries."""
    by_database = groupby(summaries, key=lambda s: (s.configuration.database, s.configuration.database_digest))
    return [_table(database, list(group), published, rows) for (database, _), group in by_database]


def _table(database: str, summaries: list[Summary], published: Published, uncertain: Rows) -> Table:
    theirs = [row for row in published.comparison if row.database == database]
    protocols = {s.configuration.protocol_name for s in summaries}
    rows: list[Row] = []
    for block in _blocks(theirs, summaries, published):
        made = [_published_row(row, protocols, published) for row in block.theirs]
        for summary in block.ours:
            made += _our_rows(summary, published, uncertain.intervals[summary.configuration.key])
        rows += [replace(row, block=block.name) for row in made]
    return Table(
        name=label("comparison", database),
        database=database,
        title=f"WAR and UAR on {uncertain.database(summaries[0].configuration)}, in percent",
        columns=_COLUMNS,
        rows=with_best(rows, _COLUMNS, "printed_method"),
        notes=tuple(_notes(database, summaries, theirs, protocols, published, uncertain)),
        best_note=notes.BEST,
    )


class _Block(NamedTuple):
    """Rows that stand together, published ones first."""

    name: str
    theirs: list[PublishedRow]
    ours: list[Summary]


def _blocks(theirs: list[PublishedRow], summaries: list[Summary], published: Published) -> list[_Block]:
    """Put every row of ours that runs a cited method again below the rows of that method, under all of its names.

    Where none does, all published rows come before all of ours.
    """
    again = {names: _again(names, summaries, published) for names in _methods(theirs, published)}
    if not any(published.reruns.get(s.configuration.model) for rows in again.values() for s in rows):
        return [_Block("", theirs, []), _Block("", [], summaries)]
    blocks: list[_Block] = []
    placed: set[tuple[str, ...]] = set()
    for names, ours in again.items():
        left = [s for s in ours if s.configuration.key not in placed]
        placed |= {s.configuration.key for s in left}
        blocks.append(_Block(names[0] if left else "cited", [row for row in theirs if row.method in names], left))
    # Ours of methods that no paper cites here come first: below a cited row they would seem to be of that method.
    return [_Block("ours", [], [s for s in summaries if s.configuration.key not in placed]), *blocks]


def _methods(theirs: list[PublishedRow], published: Published) -> list[tuple[str, ...]]:
    """Return the cited methods of a database, each as all of its names."""
    return list(dict.fromkeys(published.names_of(row.method) for row in theirs))


def _again(names: tuple[str, ...], summaries: list[Summary], published: Published) -> list[Summary]:
    """Return our rows of the models that run a cited method again."""
    models = published.run_again_by(names[0])
    return [s for s in summaries if s.configuration.model in models]


def _numbers(published: Published) -> dict[str, str]:
    return {paper: f"[{number}]" for number, paper in enumerate(published.papers, start=1)}


def _published_row(row: PublishedRow, protocols: set[str], published: Published) -> Row:
    protocol = row.protocol or NOT_STATED
    other = _other_protocol(row, protocols)
    reference = _numbers(published)[row.paper]
    return Row(
        ours=False,
        nothing="N/A",
        marks=printed_figures.marks(row.shares),
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
            "absent_emotions": NOT_STATED,
            "database_state": NOT_STATED,
            "war": row.war,
            "uar": row.uar,
        },
    )


EITHER = re.compile(r"leave-one-(\w+)-or-(\w+)-out")
"""How a protocol is written where a paper names two, and not which of them a row used."""


def _other_protocol(row: PublishedRow, protocols: set[str]) -> bool:
    """Tell whether a published row is known to be under another protocol than ours."""
    if row.protocol is None:
        return False
    either = EITHER.fullmatch(row.protocol)
    return not ({f"leave-one-{unit}-out" for unit in either.groups()} if either else {row.protocol}) & protocols


def _our_rows(summary: Summary, published: Published, intervals: Mapping[str, Interval]) -> list[Row]:
    configuration, figures = summary.configuration, summary.figures
    method = titles.marked(configuration, published)
    shared: dict[str, Value] = {
        "database": configuration.database,
        "database_digest": configuration.database_digest,
        "database_state": "complete" if configuration.complete else "incomplete",
        "method": method,
        "printed_method": method if RERUN in method else f"{method} (ours)",
        "source": "ours",
        "reference": "ours",
        "protocol": configuration.protocol_name,
        "printed_protocol": configuration.protocol_name,
        "model": configuration.model,
        "ablation": configuration.ablation,
        "selection": configuration.selection,
        "printed_selection": summary.selection,
        "settings": configuration.settings,
        "absent_emotions": "left out",
        "folds_done": len(summary.done),
        "folds_total": configuration.folds_total,
        "folds": f"{summary.folds}{DAGGER}" if summary.incomplete else summary.folds,
        "seeds": len(configuration.seeds),
        "printed_seeds": str(len(configuration.seeds)),
        "utterances": summary.utterances,
        "speakers": len(summary.speakers),
    }
    short = f"{method}\n(ours, {summary.selection}"  # a terminal has no room for columns with this
    pooled: dict[str, Value] = {"averaging": POOLED, "terminal_method": f"{short}, pooled)"}
    mean: dict[str, Value] = {"averaging": MEAN, "terminal_method": f"{short}, mean)"}
    made = [pooled, mean]
    if figures is not None:
        pooled |= {"war": figures.war_pooled, "uar": figures.uar_pooled}
        mean |= {"war": figures.war_mean, "war_sd": figures.war_sd, "uar": figures.uar_mean, "uar_sd": figures.uar_sd}
        for values, kind in ((pooled, "pooled"), (mean, "mean")):
            for name in ("war", "uar"):
                figure = f"{name}_{kind}"
                values |= {f"{name}_low": intervals[figure].low, f"{name}_high": intervals[figure].high}
                values[f"{name}_seed_sd"] = summary.seed_sd(figure)
        if summary.zeros_differ:
            zeros: dict[str, Value] = {"averaging": MEAN_ZEROS, "terminal_method": f"{short}, mean, absent as 0)"}
            made.append(
                zeros | {"absent_emotions": "zero", "uar": summary.uar_mean_zeros, "uar_sd": summary.uar_sd_zeros}
            )
    able = comparable(summary)
    return [
        Row(
            ours=True,
            about=configuration.key,
            values=shared | own,
            marked=summary.incomplete,
            comparable=able and own["averaging"] != MEAN_ZEROS,
        )
        for own in made
    ]


def comparable(summary: Summary) -> bool:
    """Tell whether the row is a whole result: every fold, a complete database, and nothing from the test speakers.

    Neither may they have chosen anything, nor may an utterance's scores depend on what is scored beside it.
    """
    c = summary.configuration
    return not summary.incomplete and c.complete and c.selection != "oracle" and not c.transductive


def _notes(
    database: str,
    summaries: list[Summary],
    theirs: list[PublishedRow],
    protocols: set[str],
    published: Published,
    uncertain: Rows,
) -> list[str]:
    said = notes.of_database(summaries, published)
    if not theirs:
        said.append(f"No figure for {database} is cited: the rows are ours only.")
    said += notes.of_measurement(summaries, published, uncertain)
    if theirs:
        said.append(
            "Published figures are as printed. "
            "How they average over folds and how their settings were chosen is not stated; "
            "a protocol is given where the paper names it."
        )
        either = dict.fromkeys(row.protocol for row in theirs if row.protocol and EITHER.fullmatch(row.protocol))
        said += [f"{protocol}: the paper names both, and not which of them the row used." for protocol in either]
        if any(_other_protocol(row, protocols) for row in theirs):
            said.append(f"{OTHER_PROTOCOL} Another protocol than ours here ({', '.join(sorted(protocols))}).")
    numbers = _numbers(published)
    said += printed_figures.notes(Printed(f"{row.method} {numbers[row.paper]}", row.shares) for row in theirs)
    said += _of_methods(theirs, summaries, published)
    papers = [paper for paper in published.papers if any(row.paper == paper for row in theirs)]
    said += [f"{numbers[paper]} {paper}: {published.papers[paper]}" for paper in papers]
    return said


def _of_methods(theirs: list[PublishedRow], summaries: list[Summary], published: Published) -> list[str]:
    """Say which published rows are one method, and why some have no row of ours beside them."""
    methods = {names: " = ".join(_cited(names, theirs, published)) for names in _methods(theirs, published)}
    alike = [text for text in methods.values() if " = " in text]
    said = [f"One method under two names, with the same figures: {'; '.join(alike)}."] if alike else []
    for names, text in methods.items():
        if why := published.why_only_cited(names[0]):
            said.append(f"Cited only: {text}: {why}.")
    if not any(published.reruns.get(s.configuration.model) for s in summaries):
        return said
    left = {
        text: sorted(published.run_again_by(names[0]))
        for names, text in methods.items()
        if not _again(names, summaries, published) and not published.why_only_cited(names[0])
    }
    there = [f"{text} (--model {' or '.join(models)})" for text, models in left.items() if models]
    nobody = [text for text, models in left.items() if not models]
    said += [f"Not run again in this sweep: {'; '.join(there)}."] if there else []
    said += [f"Not run again, because no model here is built after them: {'; '.join(nobody)}."] if nobody else []
    return said


def _cited(names: tuple[str, ...], theirs: list[PublishedRow], published: Published) -> list[str]:
    """Return a method's names, each with the papers that print it so."""
    numbers, papers = _numbers(published), dict[str, list[str]]()
    for row in theirs:
        if row.method in names:
            papers.setdefault(row.method, []).append(numbers[row.paper])
    return [f"{name} {', '.join(keys)}" for name, keys in papers.items()]
