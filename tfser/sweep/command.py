"""The command ``python -m tfser.sweep``, and what every command that trains does around its run."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfser.databases.combined import Combined
from tfser.databases.emotion_map import USUAL
from tfser.errors import RequestError, TfserError, counted
from tfser.models import MODELS, Network, of
from tfser.models.sources import is_file
from tfser.planning import request as planning_request
from tfser.planning.configuration import Configuration
from tfser.storage import leftovers
from tfser.storage.ledger import Ledger
from tfser.storage.sweep_lock import lease
from tfser.sweep import comparison, fast, narrow_precision, planned, saved, wide_together
from tfser.sweep import hours as sweep_hours
from tfser.sweep.demo import demo_space
from tfser.sweep.options import Options, parse
from tfser.sweep.printer import Printer
from tfser.sweep.progress import duration
from tfser.sweep.request import Sweep, check, checked, refuse_lacking
from tfser.sweep.run import Run
from tfser.text.row_names import with_ablation
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
    plan, file = sweep.plan, sweep.options.file
    lines = [] if file is None else [f"asked for in {file.path}", *file.replaced]
    for database in sweep.databases.values():
        minutes = sum(sweep_hours.seconds(database, u) for u in database.utterances) / 60
        length = f"{minutes:.0f} min" if minutes < 60 else duration(60 * minutes)
        speakers, emotions = counted(len(database.speakers), "speaker"), counted(len(database.emotions), "emotion")
        text = f"{counted(len(database.utterances), 'utterance')} ({length}), {speakers}, {emotions}"
        lines.append(f"{database.name}: {text}" + (f"; {database.remark}" if database.remark else ""))
        if isinstance(database, Combined):
            lines += _corpora(database, sweep.options.emotions is None)
    for c in plan.configurations:
        studies = [s for s in plan.studies if s.configuration == c]
        searched = sum(s.trials * len(s.searched_folds) * s.validation_folds for s in studies)
        trained = [counted(searched, "search trial")] if searched else []
        if isinstance(of(c), Network):
            epochs = counted(studies[0].epochs, "epoch")
            trained = [f"{trained[0]} of up to {epochs}" if searched else epochs]
        text = f"{with_ablation(of(c).title, c.ablation)} on {c.database}, {c.protocol_name}"
        much = f"one model for use, trained on every {c.protocol}, seed 0" if studies[0].deploy else extent(c)
        lines.append(f"{text}: {', '.join([much, *trained])}")
    lines += [sweep.small] * bool(sweep.small)
    lines += _own_models(sweep)
    read = [(of(c).feature_set, planning_request.base_settings(c.model, sweep.request)) for c in plan.configurations]
    lines += dict.fromkeys(said for features, settings in read if (said := features.remark(settings)))
    lines += comparison.in_words(sweep.left_out)
    lines += fast.in_words(sweep.options, sweep.request)
    lines += narrow_precision.warnings(sweep.options, plan.studies)
    lines += wide_together.warnings(sweep.options, plan.studies)
    if sweep.costs:
        lines += planned.each_cost(sweep.costs, "if nothing is there yet")
    kind = ("model for use", "models for use") if sweep.request.purpose == "deploy" else ("final trial",)
    lines.append(f"{plan.search_trials} search and {counted(plan.final_trials, *kind)} in all")
    return lines


def _corpora(database: Combined, usual: bool) -> list[str]:
    """Say what a database made of several holds of each, and which label stands for which emotion.

    Args:
        database: it.
        usual: whether no file maps the labels.
    """
    lines = [] if not usual else [f"without --emotions FILE the common emotions are {', '.join(USUAL)}"]
    for corpus in database.corpora:
        own = [u for u in database.utterances if u.corpus == corpus]
        part = database.parts[corpus]
        text = f"{counted(len(own), 'utterance')}, {counted(len({u.speaker for u in own}), 'speaker')}"
        text += f", language: {part.info.language}"
        lines.append(f"  {corpus}: {text}" + (f"; {part.remark}" if part.remark else ""))
    return [*lines, *(f"  {said}" for said in database.mapped())]


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
        return _plan(prepared, printer)
    printer.say("\n  ".join([f"{prepared.kind} {sweep.name}", *lines]))
    with lease(sweep.storage, sweep.name, lambda text: print(text, file=sys.stderr, flush=True)):
        return _begun(prepared, printer)


def _plan(prepared: Start, printer: Printer) -> int:
    """Say what is planned and what is left of it, and return the exit code.

    Raises:
        RequestError: this machine lacks something for what is left; the plan was printed.
    """
    printer.live.doing("looking up what is left, and timing a step of training")
    with contextlib.redirect_stdout(sys.stderr):  # a person's model may print where its steps are timed
        made = planned.plan(prepared.sweep)
    if prepared.sweep.options.json:
        print(json.dumps(planned.to_json(made, prepared.kind), indent=1, ensure_ascii=False))
    else:
        head = f"{prepared.kind} {prepared.sweep.name}"
        printer.say("\n  ".join([head, *prepared.lines, *planned.in_words(made)]))
    refuse_lacking(prepared.sweep)
    return 0


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

    def prepare(printer: Printer) -> Start:
        options: Options = parse(argv)
        doing = printer.live.doing
        with contextlib.redirect_stdout(sys.stderr):  # a person's model may print where it is tried
            sweep = checked(options, doing) if options.plan else check(options, doing)
        if said := saved.write(options):
            print(said, file=sys.stderr, flush=True)
        return Start(kind="Sweep", sweep=sweep, lines=describe(sweep), run=Run(sweep, printer))

    return start(prepare)
