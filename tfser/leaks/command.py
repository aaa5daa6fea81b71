"""The command ``python -m tfser.leaks``: measures what leaks are worth, so that published numbers can be placed.

It trains one setting under the honest protocol and under wrong ones that are common in print: utterances split at
random, epoch or hyperparameters chosen on the test fold, standardisation over all speakers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from tfser.errors import RequestError, counted, unknown
from tfser.leaks import table as report
from tfser.leaks.plan import LEARNING_RATES, ROWS, Leaks, left_out, make
from tfser.leaks.run import run
from tfser.models import BUILT_IN, COMPARISON, DEFAULT, MODELS, Network, of
from tfser.sweep import narrow_precision
from tfser.sweep.command import Start, extent, start
from tfser.sweep.demo import tries_out
from tfser.sweep.live import Doing, unshown
from tfser.sweep.options import (
    DATABASE_HELP,
    EXIT_CODES,
    LEAKS_PREFIX,
    Options,
    add_places,
    add_space,
    add_training,
    read,
)
from tfser.sweep.printer import Printer
from tfser.sweep.request import Sweep, own_sources, refuse_lacking
from tfser.sweep.request import checked as checked_sweep
from tfser.text.parser import Parser
from tfser.text.row_names import with_ablation
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_whole

MOST_DRAWN = 1000
"""Most settings that --trials may draw, because all are drawn before anything starts."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser leaks",
        description="Train one setting under the honest protocol and under wrong ones: what is each leak worth?",
        epilog=EXIT_CODES,
    )
    p.add_argument("databases", nargs=1, metavar="DATABASE", help=DATABASE_HELP)
    add_training(p, models=DEFAULT[:1])
    factors = " and ".join(f"{factor:g}" for factor in LEARNING_RATES)
    add = p.add_argument_group("what leaks").add_argument
    add("--leak", nargs="+", action="extend", metavar="L", help=f"{', '.join(ROWS[1:])} or all (default: all)")
    trials = f"settings drawn at random from the space (default: learning rates x {factors})"
    add("--trials", type=typed_whole, default=0, metavar="N", help=trials)
    add_space(add)
    add("--search-seed", type=typed_whole, default=0, metavar="N", help="seed of the draw (default: 0)")
    add_places(p, mlflow=False)
    p.set_defaults(
        purpose="final",
        selection="nested",
        validation_folds=1,
        sampler="random",
        prune=False,
        optuna_storage=None,
        deterministic=False,
        tracking_uri=None,
        log_models=False,
        published=[],
        averaging="pooled",
    )
    return p


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaksOptions(Options):
    """A parsed command line of ``leaks``: a sweep's without its search, and what leaks."""

    module: ClassVar[str] = "tfser.leaks"
    leak: list[str] | None


def parse(argv: Sequence[str] | None = None) -> LeaksOptions:
    """Return the options of a command line; if argparse refuses it, end the process with exit code 2.

    Args:
        argv: its words; by default those of the process.
    """
    return read(LeaksOptions, parser(), argv)


def checked(options: LeaksOptions, doing: Doing = unshown) -> tuple[Sweep, Leaks]:
    """Check a command line; return its request, whose name gets ``LEAKS_PREFIX``, and the rows of the table.

    Args:
        options: the command line.
        doing: told what is being read.

    Raises:
        RequestError: every problem.
    """
    problems, more = [], 0
    if options.model is None and not tries_out(options):
        options = replace(options, model=list(DEFAULT[:1]))
    models = list(dict.fromkeys(DEFAULT[:1] if options.model is None else options.model))
    if len(models) != 1 or COMPARISON in models:
        problems.append(f"--model: name one of {', '.join(model.name for model in BUILT_IN)}; the table is about one")
    if len(set(options.ablation)) > 1 or "all" in options.ablation:
        problems.append("--ablation: name one, or none for the full model; the table is about one")
    asked = ["all"] if options.leak is None else options.leak
    legal = [*ROWS[1:], "all"]
    problems += [unknown("--leak", name, legal) for name in dict.fromkeys(asked) if name not in legal]
    names_of = [*(m for m in models if m in MODELS), *(own.name for own in own_sources(options)[0])]
    if (options.trials or 0) > MOST_DRAWN:
        problems.append(
            f"--trials: {options.trials} is above {MOST_DRAWN}; each setting drawn is trained on every fold"
        )
    if options.protocol == "corpus" or options.emotions is not None:
        option = "--protocol corpus" if options.protocol == "corpus" else "--emotions"
        problems.append(
            f"{option}: the table is about one database, whose leaks are among its speakers; several are tested on "
            "each other by: tfser sweep --protocol corpus"
        )
        options = replace(options, protocol="speaker", emotions=None)
    if not 0 <= options.search_seed < 2**32:
        problems.append(f"--search-seed: {options.search_seed} is not within 0 to {2**32 - 1}")
    sweep = None
    try:
        sweep = checked_sweep(options, doing) if COMPARISON not in models else None
    except RequestError as error:
        problems += error.problems
        more = error.more
    base = sweep.plan.studies[0].given if sweep is not None else None
    left = left_out(names_of[0], bool(options.trials), base) if len(names_of) == len(models) == 1 else {}
    names = [name for name in (ROWS[1:] if "all" in asked else asked) if name not in left]
    problems += [f"--leak {name}: {left[name]}" for name in asked if name in left]
    if problems or sweep is None:
        raise RequestError("tfser leaks", problems, more)
    sweep, leaks = replace(sweep, name=LEAKS_PREFIX + sweep.name), make(sweep.plan, names)
    refuse_lacking(replace(sweep, plan=leaks.plan))
    return sweep, leaks


def describe(sweep: Sweep, leaks: Leaks) -> list[str]:
    """Return the plan in words, a line each."""
    c = leaks.configuration
    database = sweep.databases[c.database]
    speakers, emotions = counted(len(database.speakers), "speaker"), counted(len(c.emotions), "emotion")
    settings = f"{counted(len(leaks.settings), 'setting')} ({leaks.origin})"
    trials = counted(leaks.plan.final_trials, "trial")
    trained = [counted(leaks.epochs, "epoch")] if isinstance(of(c), Network) else []
    return [
        f"{c.database}: {counted(len(database.utterances), 'utterance')}, {speakers}, {emotions}",
        f"{with_ablation(of(c).title, c.ablation)}, {c.protocol_name}: {', '.join([extent(c), *trained, settings])}",
        *[sweep.small] * bool(sweep.small),
        *(f"leaks {report.titles(leaks)[row.name]}" for row in leaks.rows),
        *(f"without the row {name}: {why}" for name, why in leaks.left_out.items()),
        *narrow_precision.warnings(sweep.options, leaks.plan.studies),
        f"{trials} in all, of which honest ones are shared with every sweep in this storage",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    take_any_text()
    options = parse(argv)

    def prepare(printer: Printer) -> Start:
        sweep, leaks = checked(options, printer.live.doing)
        whole = replace(sweep, plan=leaks.plan)
        return Start(kind="Leaks", sweep=whole, lines=describe(sweep, leaks), run=partial(run, sweep, leaks, printer))

    return start(prepare)
