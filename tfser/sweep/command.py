"""The command ``python -m tfser.sweep``, and what every command that trains does around its run."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from tfser.errors import RequestError, TfserError, counted
from tfser.models import MODELS
from tfser.storage.sweep_lock import lease
from tfser.sweep import hours as sweep_hours
from tfser.sweep.options import Options, parse
from tfser.sweep.progress import duration
from tfser.sweep.request import Sweep, check
from tfser.sweep.run import Run
from tfser.text.streams import take_any_text


def describe(sweep: Sweep) -> list[str]:
    """The plan in words, a line each."""
    plan = sweep.plan
    lines = []
    for database in sweep.databases.values():
        minutes = sum(sweep_hours.seconds(database, u) for u in database.utterances) / 60
        text = f"{counted(len(database.utterances), 'utterance')} ({minutes:.0f} min), {counted(len(database.speakers), 'speaker')}"
        text += f", {counted(len(database.emotions), 'emotion')}"
        lines.append(f"{database.name}: {text}" + (f"; {database.remark}" if database.remark else ""))
    for c in plan.configurations:
        studies = [s for s in plan.studies if s.configuration == c]
        searched = sum(s.trials * len(s.folds) * s.validation_folds for s in studies)
        epochs = counted(studies[0].epochs, "epoch")
        folds = counted(len(c.folds), "fold") + (f" of {c.folds_total}" if len(c.folds) < c.folds_total else "")
        text = f"{MODELS[c.model].title} {c.ablation} on {c.database}, {c.protocol_name}: {folds}, {counted(len(c.seeds), 'seed')}"
        lines.append(text + (f", {counted(searched, 'search trial')} of up to {epochs}" if searched else f", {epochs}"))
    lines.append(f"{plan.search_trials} search and {plan.final_trials} final trials in all")
    return lines


def start(arguments: Options, prepare: Callable[[Console], tuple[str, Run, list[str]]]) -> int:
    """From a parsed command line to its exit code: what every command that trains does around its run.

    Args:
        arguments: the command line.
        prepare: checks the request; gives what kind of thing it is, its run, and the plan in words. Nothing has begun by then.
    """
    console = Console()
    try:
        kind, run, lines = prepare(console)
        sweep = run.sweep
        if arguments.plan:
            hours = sweep_hours.core_hours(sweep.plan, sweep.databases)
            lines.append(f"about {duration(3600 * hours)} of one CPU core of this machine, if nothing is there yet")
        console.print("\n  ".join([f"{kind} {sweep.name}", *lines]), soft_wrap=True, markup=False, highlight=False)
        if arguments.plan:
            return 0
        with lease(sweep.storage, sweep.name, lambda text: print(text, file=sys.stderr, flush=True)):
            return run()
    except KeyboardInterrupt:
        print("Interrupted before anything was trained.", file=sys.stderr)
        return 130
    except TfserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except OSError as error:
        advice = "Free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend what it names"
        print(f"{error}\nWhat was trained is kept. {advice}, and type the same command again.", file=sys.stderr)
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    take_any_text()
    arguments = parse(argv)

    def prepare(console: Console) -> tuple[str, Run, list[str]]:
        sweep = check(arguments)
        return "Sweep", Run(sweep, console), describe(sweep)

    return start(arguments, prepare)
