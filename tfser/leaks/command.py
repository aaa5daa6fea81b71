"""``python -m tfser.leaks DATABASE --model M``: what leaks are worth, so that published numbers can be placed.

Trains one setting under the honest protocol and under the wrong ones that are common in print (a random split over
utterances, epoch or hyperparameters chosen on the test fold, standardisation over all speakers), and writes them side by side.

Everything but the last step is a sweep's: the same ledger, runners and resumption, so that honest trials are shared with sweeps. MLflow
is left out on purpose: tables are collected from there, and a trial that saw its test utterances can then get into none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from tfser.errors import RequestError, counted, unknown
from tfser.execution.run_trial import versions
from tfser.execution.schedule import Key, Schedule
from tfser.leaks import table as report
from tfser.leaks.plan import LEARNING_RATES, ROWS, Leaks, make
from tfser.models import MODELS
from tfser.record import Entry
from tfser.report.tables import formats, terminal
from tfser.storage import passwords
from tfser.storage.places import absolute, commit_text, typed_place
from tfser.sweep.command import start
from tfser.sweep.identity import recall
from tfser.sweep.options import DATABASE_HELP, LEAKS_PREFIX, Options, add_places, add_training
from tfser.sweep.progress import View
from tfser.sweep.request import Sweep, check, probe_out
from tfser.sweep.run import Run, failures, tally
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_whole
from tfser.trial import NUMERICS_VERSION

MOST_DRAWN = 1000
"""Settings that --trials may draw: all are drawn before anything starts."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="tfser leaks",
        description="The same setting under the wrong protocols that are common in print, beside the honest one: what each leak is worth.",
        epilog="Exit codes: 0 all done, 1 some trials failed, 2 the request is wrong and nothing was started, 130 interrupted.",
    )
    p.add_argument("databases", nargs=1, metavar="DATABASE", help=DATABASE_HELP)
    add_training(p)
    factors = " and ".join(f"{factor:g}" for factor in LEARNING_RATES)
    leak = p.add_argument_group("what leaks")
    leak.add_argument(
        "--leak",
        nargs="+",
        action="extend",
        default=None,
        metavar="L",
        help=f"{', '.join(ROWS[1:])} or all (default: all)",
    )
    leak.add_argument(
        "--trials",
        type=typed_whole,
        default=0,
        metavar="N",
        help=f"settings drawn at random from the space (default: learning rates x {factors})",
    )
    leak.add_argument(
        "--space",
        type=typed_place,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="default: search_spaces/<model>.yaml",
    )
    leak.add_argument(
        "--search-seed", type=typed_whole, default=0, metavar="N", help="another one draws other settings (default: 0)"
    )
    add_places(p, mlflow=False)
    p.set_defaults(
        selection="nested",
        validation_folds=1,
        sampler="random",
        prune=False,
        optuna_storage=None,
        deterministic=False,
        tracking_uri=None,
    )
    return p


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaksOptions(Options):
    """A command line of ``leaks`` that was read: a sweep's without its search, and what leaks."""

    leak: list[str] | None


def parse(argv: Sequence[str] | None = None) -> LeaksOptions:
    """Return the options of a command line; what argparse refuses ends the process with exit code 2.

    Args:
        argv: its words; ``None`` for those of the process.
    """
    words = sys.argv[1:] if argv is None else argv
    return LeaksOptions(**vars(parser().parse_args(words)), typed=tuple(words))


def checked(arguments: LeaksOptions) -> tuple[Sweep, Leaks]:
    """The request, whose name begins with ``LEAKS_PREFIX``, and everything that it needs.

    Raises:
        RequestError: every problem.
    """
    problems, more = [], 0
    models = list(dict.fromkeys([] if arguments.model is None else arguments.model))
    if len(models) != 1:
        problems.append(f"--model: name one of {', '.join(MODELS)}; the table is about one")
    if len(set(arguments.ablation)) > 1 or "all" in arguments.ablation:
        problems.append("--ablation: name one, or none for the full model; the table is about one")
    asked = ["all"] if arguments.leak is None else arguments.leak
    problems += [
        unknown("--leak", name, [*ROWS[1:], "all"]) for name in dict.fromkeys(asked) if name not in (*ROWS[1:], "all")
    ]
    names = ROWS[1:] if "all" in asked else asked
    if (arguments.trials or 0) > MOST_DRAWN:
        problems.append(
            f"--trials: {arguments.trials} is above {MOST_DRAWN}; each setting drawn is trained on every fold"
        )
    if not 0 <= arguments.search_seed < 2**32:
        problems.append(f"--search-seed: {arguments.search_seed} is not within 0 to {2**32 - 1}")
    sweep = None
    try:
        sweep = check(arguments)
    except RequestError as error:
        problems += error.problems
        more = error.more
    if problems or sweep is None:
        raise RequestError("tfser leaks", problems, more)
    return replace(sweep, name=LEAKS_PREFIX + sweep.name), make(sweep.plan, names)


def describe(sweep: Sweep, leaks: Leaks) -> list[str]:
    """The plan in words, a line each."""
    c = leaks.configuration
    database = sweep.databases[c.database]
    lines = [
        f"{c.database}: {len(database.utterances)} utterances, {len(database.speakers)} speakers, {len(c.emotions)} emotions"
    ]
    folds = f"{len(c.folds)} folds" + (f" of {c.folds_total}" if len(c.folds) < c.folds_total else "")
    settings = f"{len(leaks.settings)} settings ({leaks.origin})"
    lines.append(
        f"{MODELS[c.model].title} {c.ablation}, {c.protocol_name}: {folds}, {counted(len(c.seeds), 'seed')}, "
        f"{counted(leaks.epochs, 'epoch')}, {settings}"
    )
    lines += [f"leaks {report.titles(c)[row.name]}" for row in leaks.rows]
    lines.append(
        f"{leaks.plan.final_trials} trials in all, of which honest ones are shared with every sweep in this storage"
    )
    return lines


class LeaksRun(Run):
    """One start."""

    def __init__(self, sweep: Sweep, leaks: Leaks, console: Console) -> None:
        super().__init__(replace(sweep, plan=leaks.plan), console)
        self._requested, self.leaks = sweep, leaks

    @property
    def _command(self) -> str:
        return passwords.redacted("python -m tfser.leaks " + shlex.join(self.arguments.typed))

    def _run(self) -> int:
        probe_out(self.sweep)
        memory = recall(self._requested)
        view = View(self.sweep.plan, self.console)
        schedule = Schedule(
            self.sweep.plan, self.ledger, None, watch=view.ended, retry_failed=self.arguments.retry_failed
        )
        view.schedule = schedule
        entries, _ = self._entries(schedule, view, memory, None)
        whole = self._whole(schedule)
        self._write(schedule, entries)
        return 0 if whole else 1

    def _write(self, schedule: Schedule, entries: Mapping[Key, Entry]) -> None:
        measured = report.measure(self.leaks, entries)
        table = report.table(self.leaks, measured)
        made = {
            "leaks.csv": formats.to_csv(report.CSV_COLUMNS, [table]),
            "leaks.md": formats.to_markdown("What leaks are worth", [table]),
            "leaks.tex": formats.to_latex([table]),
            "leaks_trials.csv": report.trials_csv(self.leaks, measured, entries),
            "leaks.json": json.dumps(self._of_this_run(schedule), indent=1, sort_keys=True, default=str) + "\n",
        }
        folder = self.sweep.out / self.sweep.name
        for name, text in made.items():
            commit_text(folder / name, text)
        self.console.print()
        terminal.show_tables([table], self.console)
        for ended in schedule.failures:
            spec = ended.spec
            what = f"{spec.fold} seed {spec.seed} ({ended.configuration.label}, trial {spec.trial_id})"
            self._say_failure(ended, what)
        if schedule.failures:
            self._say("--retry-failed trains failed trials again; lost ones are tried again by the same command.")
        self._say(tally(schedule, time.time() - self._started))
        self._say(f"Table: {absolute(folder)}")
        self._say(f"Ledger, features: {absolute(self.sweep.storage)}")

    def _of_this_run(self, schedule: Schedule) -> dict[str, object]:
        """What differs from run to run; the other files hold only what the numbers fill."""
        return {
            "name": self.sweep.name,
            "command": self._command,
            "request": self.arguments.shown(),
            "versions": versions(),
            "numerics": NUMERICS_VERSION,
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "database_digests": dict(self.sweep.digests),
            "seconds": time.time() - self._started,
            "trained": schedule.trained,
            "training_seconds": sum(end.seconds for end in schedule.ends.values()),
            "failed": failures(schedule),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    take_any_text()
    arguments = parse(argv)

    def prepare(console: Console) -> tuple[str, Run, list[str]]:
        sweep, leaks = checked(arguments)
        return "Leaks", LeaksRun(sweep, leaks, console), describe(sweep, leaks)

    return start(arguments, prepare)
