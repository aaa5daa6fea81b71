"""report.html: one page to read, send and print, made from the same values as the tables.

It needs nothing outside itself (no script, no font, no picture); only its links lead away. What differs from run to run
(run ids, dates, durations, commands) comes in through ``Provenance`` alone. It is shown in the section "How it was
made", in the lists of trials and behind links. Without a ``Provenance``, equal results give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from tfser.errors import RequestError
from tfser.evaluation import metrics
from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.record import Entry, Record
from tfser.report import provenance, trace
from tfser.report.figures.drawing import Picture
from tfser.report.provenance import Provenance
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import titles
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed import Printed
from tfser.report.tables.table import Column, Row, Table, beneath, known, percent, shown
from tfser.storage.places import Place
from tfser.text.streams import one_line

_META = frozenset(
    {
        "reference",
        "printed_protocol",
        "printed_selection",
        "averaging",
        "printed_seeds",
        "seeds",
        "folds",
        "whose",
        "second",
    }
)
"""Columns that a narrow page shows below the row's name; check marks are shown there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything that the page shows."""

    results: Results
    summaries: Sequence[Summary]
    published: Published
    rows: Rows
    printed: Printed
    """What goes into a paper; the tables below are its details."""
    compared: Sequence[Table]
    ablated: Sequence[Table]
    paired: Sequence[Table]
    pictures: Mapping[tuple[str, ...], Sequence[Picture]] = field(default_factory=dict)
    """Key of a configuration to its figures."""
    figures: Sequence[Picture] = ()
    """Figures over several configurations."""


def page(content: Content, made: Provenance | None, folder: Place) -> str:
    """Write the page.

    Args:
        content: what the page shows.
        made: what differs from run to run; ``None`` leaves it out.
        folder: the folder of the page, in which its commands are to be typed.
    """
    links = _Links(content, made)
    return _template().render(
        title=f"Sweep {content.results.sweep}",
        question=_question(content),
        answers=[_answer(summary, content, links) for summary in _whole(content)],
        missing=_missing(content),
        compared=[_table(table, links) for table in content.compared],
        ablated=[_table(table, links) for table in content.ablated],
        paired=[_table(table, links) for table in content.paired],
        figures=[figures for summary in content.summaries if (figures := _figures(summary, content))["pictures"]],
        trials=[_trials(summary, content, links, made) for summary in content.summaries],
        made=_made(content, made, folder) if made else None,
        digests=provenance.digests(content.results),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfser.report.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.jinja")


class _Links:
    """Targets of the numbers' links: the MLflow run if a server shows it, else the trials in the page."""

    def __init__(self, content: Content, made: Provenance | None) -> None:
        self._results, self._made = content.results, made
        self._numbers: dict[tuple[str, ...], tuple[int, Configuration]] = {
            s.configuration.key: (i, s.configuration) for i, s in enumerate(content.summaries, start=1)
        }

    def anchor(self, key: tuple[str, ...]) -> str:
        return f"trials-{self._numbers[key][0]}"

    def of_row(self, key: tuple[str, ...]) -> str:
        run = self._results.row_runs.get(self._numbers[key][1])
        return (self._made.run_link(run) if self._made else "") or f"#{self.anchor(key)}"

    def of_trial(self, configuration: Configuration, fold: str, seed: int) -> str:
        return self._made.run_link(self._results.runs.get((configuration, fold, seed))) if self._made else ""


def _heading(summary: Summary, published: Published) -> str:
    c = summary.configuration
    return f"{titles.marked(c, published)} on {c.database}, {c.protocol_name}, selection {summary.selection}"


def _listed(names: Sequence[str]) -> str:
    once = list(dict.fromkeys(names))
    return once[0] if len(once) == 1 else f"{', '.join(once[:-1])} and {once[-1]}"


def _question(content: Content) -> str:
    """Write the sweep's question in a sentence."""
    configurations = [s.configuration for s in content.summaries]
    if not configurations:
        return "Nothing was asked: this sweep has no rows."
    models = _listed([content.published.model_title(c.model) for c in configurations])
    units = _listed([f"a {c.unit}" for c in configurations]).replace(" and ", " or ")
    do = "does" if len({c.model for c in configurations}) == 1 else "do"
    databases = _listed([c.database for c in configurations])
    text = f"How well {do} {models} recognise emotion on {databases} from {units} never heard in training"
    if len({(c.model, c.ablation) for c in configurations}) > len({c.model for c in configurations}):
        text += ", and what does each part of the model contribute"
    return f"{text}?"


def _whole(content: Content) -> list[Summary]:
    """Return the rows that the answer names: the whole models if there are any, else every row."""
    whole = [s for s in content.summaries if content.published.is_full(s.configuration.model, s.configuration.ablation)]
    return whole or list(content.summaries)


def _answer(summary: Summary, content: Content, links: _Links) -> dict[str, str]:
    """Write one row in a sentence: its UAR, its uncertainty, and what guessing would give."""
    c, figures = summary.configuration, summary.figures
    said = {
        "name": _heading(summary, content.published),
        "link": links.of_row(c.key),
        "pooled": "",
        "about": "",
        "mean": "",
    }
    if figures is None:
        return said | {"rest": "No fold is done yet."}
    interval = content.rows.intervals[c.key]["uar_pooled"]
    guess = percent(1 / int((summary.confusion.sum(axis=1) > 0).sum()))
    rest = f"Guessing reaches {guess} %."
    if summary.incomplete:
        rest += f" Only {summary.folds} folds are in: this is not the whole result."
    if not c.complete:
        rest += " The database is incomplete."
    if c.transductive:
        rest += " Its scores may depend on what is scored beside an utterance."
    if c.selection == "oracle":
        rest += " The epoch was chosen on the test speakers: an upper bound, not a result."
    return said | {
        "pooled": f"{percent(figures.uar_pooled)} %",
        "about": f"95 % interval {percent(interval.low)} to {percent(interval.high)} %" if known(interval.low) else "",
        "mean": f"{percent(figures.uar_mean)}{f' ± {percent(figures.uar_sd)}' if known(figures.uar_sd) else ''} %",
        "rest": rest,
    }


def _missing(content: Content) -> list[dict[str, Any]]:
    """List what a reader might overlook: missing folds with their reasons, and incomplete databases."""
    found: list[dict[str, Any]] = []
    for summary in content.summaries:
        c = summary.configuration
        reasons = [f"{c.unit} {fold}: {why}" for fold, why in summary.missing.items()]
        unasked = c.folds_total - len(c.folds)
        if unasked > 0:
            reasons.append(f"{unasked} of {c.folds_total} folds were not asked for")
        if reasons:
            found.append({"name": f"{_heading(summary, content.published)}: {summary.folds} folds", "reasons": reasons})
    for database in dict.fromkeys(s.configuration.database for s in content.summaries):
        members = [s.configuration for s in content.summaries if s.configuration.database == database]
        reasons = (
            [] if all(c.complete for c in members) else ["this copy of the database does not have the published counts"]
        )
        reasons += dict.fromkeys(c.remark for c in members if c.remark)
        if reasons:
            found.append({"name": f"Database {database}", "reasons": reasons})
    return found


def _table(table: Table, links: _Links) -> dict[str, Any]:
    """Prepare a table for the template."""
    head, *rest = [c for c in table.columns if c.paper]
    meta = {c.key: c.key in _META or any(isinstance(row.values.get(c.key), bool) for row in table.rows) for c in rest}
    groups: list[dict[str, Any]] = []
    for column in rest:
        if groups and (groups[-1]["name"], groups[-1]["meta"]) == (column.group, meta[column.key]):
            groups[-1]["span"] += 1
        else:
            groups.append({"name": column.group, "meta": meta[column.key], "span": 1})
    rows = []
    for row in table.rows:
        about = {c.key: row.about_keys.get(c.key, row.about) for c in rest}
        rows.append(
            {
                "ours": row.ours,
                "name": shown(head, row),
                "meta": " · ".join(said for c in rest if meta[c.key] and (said := _said(c, row))),
                "cells": [_cell(c, row, links.of_row(about[c.key]) if about[c.key] else "", meta[c.key]) for c in rest],
            }
        )
    return {
        "id": table.name,
        "title": table.title,
        "groups": groups if any(group["name"] for group in groups) else [],
        "head": head.title,
        "columns": [{"title": c.title, "kind": _kind(c, meta[c.key])} for c in rest],
        "rows": rows,
        "notes": table.paper_notes,
    }


def _kind(column: Column, meta: bool, mark: bool = False) -> str:
    """Return the names of the cell's classes."""
    return " ".join(name for name, is_so in (("n", column.numeric), ("meta", meta), ("mark", mark)) if is_so)


def _cell(column: Column, row: Row, link: str, meta: bool) -> dict[str, Any]:
    value = row.values.get(column.key)
    return {
        "text": shown(column, row),
        "beneath": beneath(column, row),
        "best": column.key in row.best,
        "link": link if column.numeric and not column.published and known(value) else "",
        "kind": _kind(column, meta, isinstance(value, bool)),
        "mark": {True: "with", False: "without"}[value] if isinstance(value, bool) else "",
    }


def _said(column: Column, row: Row) -> str:
    """Write a cell in words that need no column title; empty for an empty one."""
    text, value = shown(column, row), row.values.get(column.key)
    if isinstance(value, bool):
        return f"{column.title} {text}"
    if column.key in ("printed_seeds", "seeds") and text:
        return f"{text} seed" if text == "1" else f"{text} seeds"
    if column.key == "folds" and text[:1].isdigit():
        return f"{text} folds"
    if column.key == "second":
        return f"minus {text}"
    return f"{column.title.lower()} not stated" if text == "not stated" else text


def _figures(summary: Summary, content: Content) -> dict[str, Any]:
    pictures = content.pictures.get(summary.configuration.key, ())
    return {
        "name": _heading(summary, content.published),
        # Drawn here, with every name escaped by matplotlib.
        "pictures": [
            {"kind": p.kind, "description": p.description, "svg": Markup(p.svg), "file": f"{p.name}.png"}
            for p in pictures
        ],
    }


def _trials(summary: Summary, content: Content, links: _Links, made: Provenance | None) -> dict[str, Any]:
    """List every final trial of a row: recalls, and with a provenance its run, minutes and the command to repeat it."""
    c, results = summary.configuration, content.results
    rows, commands = [], []
    for fold in c.folds:
        for seed in c.seeds:
            entry = results.entries.get((c, fold, seed))
            nothing = dict.fromkeys(("war", "uar", "utterances", "epochs", "reason", "minutes", "run", "trial"), "")
            row: dict[str, Any] = {
                **nothing,
                "fold": fold,
                "seed": seed,
                "link": links.of_trial(c, fold, seed),
                "recalls": [],
            }
            row["trial"] = entry.trial_id if entry else ""
            if isinstance(entry, Record):
                counts = entry.scores.matrix
                recalls = [percent(float(r)) if known(float(r)) else "absent" for r in metrics.recalls(counts)]
                row |= {"war": percent(metrics.war(counts)), "uar": percent(metrics.uar(counts)), "recalls": recalls}
                row |= {"utterances": len(entry.scores.utterances), "epochs": "–" if entry.fitted else entry.epochs}
            else:
                row["reason"] = "not finished" if entry is None else f"failed: {entry.reason}"
            if made:
                row["run"] = results.runs.get((c, fold, seed), "")
                row["minutes"] = f"{entry.seconds / 60:.1f}" if entry and entry.seconds else ""
                command = _repeat(entry, c, results.command)
                commands += [command] if command else []
            rows.append(row)
    return {
        "name": _heading(summary, content.published),
        "id": links.anchor(c.key),
        "emotions": c.emotions,
        "unit": c.unit,
        "rows": rows,
        "commands": commands,
        "run": results.row_runs.get(c, "") if made else "",
    }


def _repeat(entry: Entry | None, c: Configuration, command: str) -> str:
    """Return the command that repeats the trial; empty for a trial that cannot be repeated alone."""
    if entry is None or entry.spec is None:
        return ""
    try:
        return trace.repeat(entry.spec, command=command, incomplete=not c.complete)
    except RequestError as error:
        return f"# trial {entry.trial_id}: {'; '.join(error.problems)}"


def _made(content: Content, made: Provenance, folder: Place) -> dict[str, Any]:
    """Collect how the results were made, as far as known."""
    results = content.results
    entries = [entry for entry in results.entries.values() if entry.started_unix]
    starts = [entry.started_unix for entry in entries]
    ends = [entry.started_unix + entry.seconds for entry in entries]
    cost = provenance.cost(results)
    versions = {name: ", ".join(values) for name, values in provenance.versions(results).items()}
    systems = sorted({entry.machine.system for entry in results.entries.values()} - {""})
    return {
        "command": results.command,
        "server": made.server_command(folder),
        "ui": made.ui,
        "tracking_uri": made.tracking_uri if made.ui else "",
        "first": _day(min(starts)) if starts else "",
        "last": _day(max(ends)) if ends else "",
        "versions": {**versions, **made.versions},
        "systems": systems,
        "costs": [{"device": d, "trials": cost.trials[d], "hours": f"{cost.hours[d]:.2f}"} for d in sorted(cost.hours)],
        "hours": f"{sum(cost.hours.values()):.2f}",
        "unrecorded": cost.unrecorded,
    }


def _day(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
