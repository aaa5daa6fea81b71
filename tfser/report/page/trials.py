"""Every final trial of a row and how the results were made, for the page's template.

This module only builds values. What differs from run to run comes in through ``Provenance``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from tfser.errors import RequestError
from tfser.evaluation import metrics
from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.record import Entry, Record
from tfser.report import provenance
from tfser.report.page.gaps import heading
from tfser.report.page.links import Links
from tfser.report.provenance import Provenance
from tfser.report.published import Published
from tfser.report.repeat_command import repeat
from tfser.report.summary import Summary
from tfser.report.tables.table import known, percent
from tfser.storage.places import Place


def of_row(
    summary: Summary, results: Results, published: Published, links: Links, made: Provenance | None
) -> dict[str, Any]:
    """List every final trial of a row: recalls, and with a provenance its run, minutes and the command to repeat it."""
    c = summary.configuration
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
        "name": heading(summary, published),
        "id": links.anchor(c.key),
        "emotions": c.emotions,
        "unit": c.protocol,
        "rows": rows,
        "commands": commands,
        "run": results.row_runs.get(c, "") if made else "",
        "link": made.run_link(results.row_runs.get(c)) if made else "",
    }


def _repeat(entry: Entry | None, c: Configuration, command: str) -> str:
    """Return the command that repeats the trial; empty for a trial that cannot be repeated alone."""
    if entry is None or entry.spec is None:
        return ""
    try:
        return repeat(entry.spec, command=command, incomplete=not c.complete)
    except RequestError as error:
        return f"# trial {entry.trial_id}: {'; '.join(error.problems)}"


def how_made(results: Results, made: Provenance, folder: Place) -> dict[str, Any]:
    """Collect how the results were made, as far as known."""
    entries = [entry for entry in results.entries.values() if entry.started_unix]
    starts = [entry.started_unix for entry in entries]
    ends = [entry.started_unix + entry.seconds for entry in entries]
    cost = provenance.cost(results)
    versions = {name: ", ".join(values) for name, values in provenance.versions(results).items()}
    systems = sorted({entry.machine.system for entry in results.entries.values()} - {""})
    return {
        "command": results.command,
        "sweep_file": Markup.escape(results.sweep_file),  # as it is: its lines and blanks count
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
