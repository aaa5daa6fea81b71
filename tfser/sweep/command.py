"""The command ``python -m tfser.sweep``, and what every command that trains does around its run."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tfser.errors import RequestError, TfserError, counted
from tfser.models import MODELS, Network, of
from tfser.models.sources import is_file
from tfser.planning import request as planning_request
from tfser.planning.configuration import Configuration
from tfser.storage import leftovers
from tfser.storage.ledger import Ledger
from tfser.storage.sweep_lock import lease
from tfser.sweep import comparison
from tfser.sweep import hours as sweep_hours
from tfser.sweep.hours import Estimate
from tfser.sweep.options import Options, parse
from tfser.sweep.printer import Printer
from tfser.sweep.progress import duration
from tfser.sweep.request import Sweep, check, demo_space
from tfser.sweep.run import Run
from tfser.text.streams import take_any_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A checked request, of which nothing has begun."""

    kind: str
    """``Sweep`` or ``Leaks``."""
    sweep: Sweep
    lines: list[str]
    """The plan in words."""
    run: Callable[[], int]
    """Trains what is missing, writes the tables, and returns the exit code."""


def describe(sweep: Sweep) -> list[str]:
    """Return the plan in words, a line each."""
    plan = sweep.plan
    lines = []
    for database in sweep.databases.values():
        minutes = sum(sweep_hours.seconds(database, u) for u in database.utterances) / 60
        speakers, emotions = counted(len(database.speakers), "speaker"), counted(len(database.emotions), "emotion")
        text = f"{counted(len(database.utterances), 'utterance')} ({minutes:.0f} min), {speakers}, {emotions}"
        lines.append(f"{database.name}: {text}" + (f"; {database.remark}" if database.remark else ""))
    for c in plan.configurations:
        studies = [s for s in plan.studies if s.configuration == c]
        searched = sum(s.trials * len(s.folds) * s.validation_folds for s in studies)
        trained = [counted(searched, "search trial")] if searched else []
        if isinstance(of(c), Network):
            epochs = counted(studies[0].epochs, "epoch")
            trained = [f"{trained[0]} of up to {epochs}" if searched else epochs]
        text = f"{of(c).title} {c.ablation} on {c.database}, {c.protocol_name}"
        lines.append(f"{text}: {', '.join([extent(c), *trained])}")
    lines += _own_models(sweep)
    read = [(of(c).feature_set, planning_request.base_settings(c.model, sweep.request)) for c in plan.configurations]
    lines += dict.fromkeys(said for features, settings in read if (said := features.remark(settings)))
    lines += comparison.in_words(sweep.left_out)
    if sweep.costs:
        lines += _each(sweep.costs)
    lines.append(f"{plan.search_trials} search and {counted(plan.final_trials, 'final trial')} in all")
    return lines


def _each(costs: Mapping[str, Estimate]) -> list[str]:
    """Return what each model costs, in words."""
    lines = ["rough costs in time of one CPU core of this machine, if nothing is there yet:"]
    for model, cost in costs.items():
        about = "not known" if cost.hours is None else f"about {_rough(cost.hours)}"
        lines.append(f"  {MODELS[model].title} ({model}): {about} ({cost.how})")
    return lines


def _rough(hours: float) -> str:
    return duration(max(3600 * hours, 1))


def _cost(sweep: Sweep) -> list[str]:
    """Return what a plan costs, in words: of each model, where there are several, and in all."""
    if sweep.lacking:
        return ["Every trial is finished, so that nothing is trained"]
    costs = sweep.costs or sweep_hours.by_model(sweep.plan, sweep.databases)
    guessed = any(cost.guess for cost in costs.values())
    each = _each(costs) if (len(costs) > 1 or guessed) and not sweep.costs else []
    known = [cost.hours for cost in costs.values() if cost.hours is not None]
    failed = [cost.failed for cost in costs.values() if cost.failed]
    unknown = [model for model, cost in costs.items() if cost.hours is None and not cost.failed]
    said = [f"about {_rough(sum(known))} of one CPU core of this machine, if nothing is there yet"] * bool(known)
    said += [f"how long {'the rest' if known else 'it'} takes is not known, because {why}" for why in failed]
    said += [f"how long {', '.join(unknown)} takes is known only once it was fitted"] * bool(unknown)
    return [*each, "; beside that, ".join(said)]


def _own_models(sweep: Sweep) -> list[str]:
    """Say where models come from that are not built in, and what is searched where no file says it."""
    lines = []
    spaces = {study.configuration.model: study.space for study in sweep.plan.studies}
    if sweep.options.space == [demo_space()]:
        small = [space for space in spaces.values() if space is not None and not space.declared]
        lines += [f"{MODELS[s.model].title}: the small search of the built-in database: {s}" for s in small]
    for source in sweep.sources:
        if source.name in sweep.request.gone:
            why = "its file is not there" if is_file(source.typed) else "it is not installed"
            lines.append(f"{source.name} is {source.typed}, source {source.digest} ({why})")
            continue
        beside = ", ".join(path for path, _ in source.files[1:])
        package = f"{source.package.distribution} {source.package.version}" if source.package else ""
        more = f" (with {beside})" if beside else f" (of {package})" if package else ""
        lines.append(f"{source.name} is {source.typed}, source {source.digest}{more}")
        space = spaces.get(source.name)
        if space is not None and space.declared:
            lines.append(f"{source.name}: no --space file is given, so its declared ranges are searched: {space}")
    return lines


def extent(configuration: Configuration) -> str:
    """Return how many folds and seeds a row has, in words."""
    c = configuration
    folds = counted(len(c.folds), "fold") + (f" of {c.folds_total}" if len(c.folds) < c.folds_total else "")
    return f"{folds}, {counted(len(c.seeds), 'seed')}"


def start(prepare: Callable[[Printer], Start]) -> int:
    """Run a command that trains, and return its exit code.

    Args:
        prepare: checks the request.
    """
    printer = Printer()
    try:
        with printer.live:
            return _started(prepare, printer)
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


def _started(prepare: Callable[[Printer], Start], printer: Printer) -> int:
    """Check the request, say what it is, and run it unless only its plan is asked for."""
    printer.live.doing("checking the request")
    prepared = prepare(printer)
    sweep, lines = prepared.sweep, prepared.lines
    if sweep.options.plan:
        printer.live.doing("timing a step of training")
        lines += _cost(sweep)
    printer.say("\n  ".join([f"{prepared.kind} {sweep.name}", *lines]))
    if sweep.options.plan:
        return 0
    with lease(sweep.storage, sweep.name, lambda text: print(text, file=sys.stderr, flush=True)):
        return _begun(prepared, printer)


def _begun(prepared: Start, printer: Printer) -> int:
    """Tidy up after earlier starts, then run."""
    sweep = prepared.sweep
    printer.live.doing("looking up what is finished")
    try:
        with contextlib.suppress(OSError):  # it can wait; what is wrong with the storage will show soon
            for line in leftovers.clear(sweep.storage, sweep.out / sweep.name, Ledger(sweep.storage / "ledger")):
                printer.say(line)
        return prepared.run()
    except KeyboardInterrupt:
        printer.say_interrupted(sweep.name)
        return 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    take_any_text()
    options: Options = parse(argv)

    def prepare(printer: Printer) -> Start:
        sweep = check(options, printer.live.doing)
        return Start(kind="Sweep", sweep=sweep, lines=describe(sweep), run=Run(sweep, printer))

    return start(prepare)
