"""How a start ends: what it says of its trials, and the facts of this start as JSON values."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence, Sized
from dataclasses import fields
from typing import Any

from tfser.errors import counted
from tfser.execution.schedule import Schedule
from tfser.execution.this_machine import versions
from tfser.execution.worker_usage import Usage
from tfser.search.history import History
from tfser.storage.passwords import redacted
from tfser.storage.places import Place, commit_text
from tfser.sweep.options import Options
from tfser.sweep.printer import Printer
from tfser.sweep.progress import duration
from tfser.sweep.request import Sweep
from tfser.text.row_names import with_ablation
from tfser.text.streams import one_line
from tfser.trial import NUMERICS_VERSION


def is_whole(schedule: Schedule) -> bool:
    """Return whether everything that was asked for is there."""
    return schedule.finished and not schedule.failures and not schedule.undecided


MOST_CHOSEN = 4
"""Most studies whose choice is printed; the report has those of all."""

MOST_PROBLEMS = 3
"""Most lines about trials that are missing, so that with all others at most ten follow the name of the report."""


def say_chosen(printer: Printer, histories: Sequence[History]) -> None:
    """Print the setting that each of the first studies chose."""
    decided = [history for history in histories if history.chosen is not None]
    several = len({history.configuration.model for history in histories}) > 1
    for history in decided[:MOST_CHOSEN]:
        best, c = history.tried[history.chosen or 0], history.configuration
        values = best.hyperparameters.items()
        settings = ", ".join(f"{name} {f'{v:.3g}' if isinstance(v, float) else v}" for name, v in values)
        folds = history.label
        epoch = "" if best.epochs is None else f" at epoch {best.epochs}"
        score = f"validation UAR {100 * (best.validation_uar or 0):.2f} %{epoch}"
        row = with_ablation(c.model, c.ablation) if several else c.ablation
        printer.say(f"chosen for {c.database} {folds} {row}: {settings} ({score})")
    if (left := len(decided) - MOST_CHOSEN) > 0:
        searches = counted(left, "more search", "more searches")
        printer.say(f"and {searches}: report.html has a table of what each chose")


def say_damaged(printer: Printer, schedule: Schedule) -> None:
    """Print which ledger entries were set aside."""
    for path in tuple(schedule.ledger.damaged):
        there = schedule.ledger.get(path.stem) is not None
        again = "was trained again" if there else "is trained again by the next start that needs it"
        printer.warn(f"A damaged ledger entry was set aside as {path}; its trial {again}")


def say_trials(printer: Printer, schedule: Schedule, usage: Usage, seconds: float) -> None:
    """Print what became of the trials, in at most six lines.

    Args:
        printer: prints it.
        schedule: the schedule at its end.
        usage: what the workers' time went into.
        seconds: how long this start took.
    """
    problems = _problems(schedule)
    shown = problems if len(problems) <= MOST_PROBLEMS else problems[: MOST_PROBLEMS - 1]
    for text in shown:
        printer.say(one_line(text), "red")
    if left := len(problems) - len(shown):
        printer.say(f"and {left} more; the JSON file beside the tables has every failed trial with its reason", "red")
    if schedule.failures:
        which = "failed final trials" if schedule.studies else "failed trials"
        printer.say(f"--retry-failed trains {which} again; lost ones are tried again by the same command.")
    printer.say(tally(schedule, seconds))
    spent = [str(usage)] if usage.share is not None else []
    if schedule.epochs_saved:
        spared = counted(schedule.epochs_saved, "epoch")
        spent.append(f"Pruning ended search trials that fell behind and spared {spared}.")
    if spent:
        printer.say(" ".join(spent))


def _problems(schedule: Schedule) -> list[str]:
    """Return what is missing and why, a line each."""
    found = []
    if not schedule.finished:
        left = f"The tables lack {counted(schedule.waiting, 'trial')}, because the ledger lost it again"
        found.append(f"{left}; the same command trains what is missing")
    for ended in schedule.failures:
        s, failure = ended.spec, ended.outcome
        which = f"{s.purpose}, {ended.configuration.label}, trial {s.trial_id}"
        log = f"; log: {failure.log}" if failure.log else ""
        what = f"{s.database} {s.held_out} {with_ablation(s.model, s.ablation)} seed {s.seed} ({which})"
        found.append(f"{failure.status}: {what}: {failure.reason}{log}")
    for study in schedule.undecided:
        left = "there is no model for use" if study.deploy else "its folds have no final trial"
        found.append(f"no setting of {study.name} could be trained, so {left}")
    return found


def tally(schedule: Schedule, seconds: float) -> str:
    """Return how many trials this start trained, how many failed, and how many were there when it began."""
    failed, earlier = ({e.spec.trial_id for e in schedule.failures if e.trained is now} for now in (True, False))
    lost = {e.spec.trial_id for e in schedule.failures if e.outcome.status == "lost"}
    said = [f"Trained {counted(schedule.trained, 'trial')} in {duration(seconds)}"]
    said += [f"{len(failed - lost)} failed"] if failed - lost else []
    said += [f"{len(lost)} {_was(lost)} lost"] if lost else []
    said += [f"{len(earlier)} had failed before"] if earlier else []
    said += [f"{len(schedule.there)} {_was(schedule.there)} there already"] if schedule.there else []
    return "; ".join(said) + "."


def _was(trials: Sized) -> str:
    return "was" if len(trials) == 1 else "were"


def facts(sweep: Sweep, schedule: Schedule, seconds: float) -> dict[str, Any]:
    """Return what differs from start to start; the tables hold only what the numbers fill.

    Args:
        sweep: the sweep.
        schedule: the schedule at its end.
        seconds: how long this start took.
    """
    each = ((ended.spec.trial_id, ended.outcome) for ended in schedule.failures)
    return {
        "command": sweep.options.command,
        "request": request(sweep.options),
        "versions": versions(),
        "numerics": NUMERICS_VERSION,
        "platform": platform.platform(),
        "database_digests": dict(sweep.digests),
        **(
            {"sources": {s.name: {"model": s.typed, "digest": s.digest} for s in sweep.sources}}
            if sweep.sources
            else {}
        ),
        "seconds": seconds,
        "trained": schedule.trained,
        "failed": [{"trial_id": trial_id, "reason": f.reason, "log": f.log or None} for trial_id, f in each],
    }


def write_json(path: Place, values: dict[str, Any]) -> None:
    """Write JSON values, sorted by name."""
    commit_text(path, json.dumps(values, indent=1, sort_keys=True, default=str) + "\n")


_APART = ("typed", "mlflow", "json", "save", "file")
"""Fields of the options that are no part of the request."""


def request(options: Options) -> dict[str, Any]:
    """Return the options as JSON values."""
    names = [field.name for field in fields(options) if field.name not in _APART]
    return {name: shown(getattr(options, name)) for name in names}


def shown(value: Any) -> Any:
    """Return an option's value as a JSON value: places as text, and no password in a URI."""
    if isinstance(value, list):
        return [shown(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else redacted(str(value))
