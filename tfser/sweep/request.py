"""Checks a command line and makes a sweep of it: every problem is found here, before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tfser.databases import KNOWN, load
from tfser.databases.base import Database
from tfser.errors import Problems, RequestError, counted, unknown
from tfser.features.store import audio_digests
from tfser.models import COMPARISON, DEFAULT, built_in
from tfser.models import sources as sources_of
from tfser.models.sources import Source, installed, is_file
from tfser.planning import fold_checks, own_models, search_space_file
from tfser.planning import plan as planning_plan
from tfser.planning import request as planning_request
from tfser.storage.places import Place, commit_text, make_folder, remove, slug
from tfser.sweep import across, comparison, fast, hours, lstm_dropout, option_checks, remembered
from tfser.sweep.demo import DEMO_EPOCHS, demo_space, in_small, tries_out
from tfser.sweep.hours import Estimate
from tfser.sweep.live import Doing, unshown
from tfser.sweep.options import Options
from tfser.sweep.spaces import requested_spaces, settings_by_model
from tfser.text.typed import clipped
from tfser.tracking import connection
from tfser.tracking import uri as tracking_uri
from tfser.trial import PROTOCOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked request and everything that it names."""

    name: str
    options: Options
    """Command line, with the defaults that depend on it."""
    request: planning_request.Request
    plan: planning_plan.Plan
    databases: Mapping[str, Database]
    audio_digests: Mapping[str, Mapping[str, str]]
    """Database name to the content digest of each utterance."""
    digests: Mapping[str, str]
    """Database name to its digest."""
    out: Place
    storage: Place
    tracking_uri: str
    sources: tuple[Source, ...] = ()
    """Of the models that are not built in."""
    lacking: tuple[str, ...] = ()
    """What this machine lacks to train it, in words; finished trials do not need it."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Models for which the word ``comparison`` does not stand here, and why."""
    costs: Mapping[str, Estimate] = field(default_factory=dict)
    """What each model costs, roughly, where that word was typed."""
    small: str = ""
    """That the model is the demo's small one although something else was typed, in words."""


def _filled_in(options: Options) -> tuple[Options, str]:
    """Return the options with the defaults that depend on the rest of the command line, and what to say of them.

    The built-in database is for trying things out: alone and without options on what to train, it gets a narrow model
    and a small search that end in minutes, instead of the papers' 1000 epochs. The model stays as narrow where only
    --trials or --epochs are typed. A search of that model there, alone or beside a person's own, gets the same where
    nothing else says how wide and how long.
    """
    o = options
    if tries_out(o):
        return in_small(o, search_space_file.read(demo_space(), settings_by_model()))
    if o.databases == ["synthetic"] and all(value in (None, []) for value in (o.epochs, o.fixed, o.space)):
        searched = search_space_file.read(demo_space(), settings_by_model()).model
        if (o.trials or 0) > 0 and {m for m in o.model or () if not is_own(m)} == {searched}:
            return replace(o, epochs=DEMO_EPOCHS, space=[demo_space()]), ""
    return replace(o, model=list(DEFAULT) if o.model is None else o.model, trials=o.trials or 0), ""


def check(options: Options, doing: Doing = unshown) -> Sweep:
    """Check a command line, and return the sweep that it asks for.

    Args:
        options: the command line.
        doing: told what is being read.

    Raises:
        RequestError: every problem.
    """
    sweep = checked(options, doing)
    refuse_lacking(sweep)
    return sweep


def refuse_lacking(sweep: Sweep) -> None:
    """Refuse a sweep that this machine cannot train, unless nothing is left to train.

    Raises:
        RequestError: what it lacks.
    """
    if not sweep.lacking or not (left := remembered.unfinished(sweep.plan, sweep.storage, sweep.name)):
        return
    done = sweep.plan.final_trials - left
    more = f"; {left} of {sweep.plan.final_trials} final trials are still to be trained"
    still = f"{more}, the finished ones are in the tables of: tfser collect {sweep.name}" if done else ""
    raise RequestError("tfser sweep", [line + still for line in sweep.lacking])


def own_sources(options: Options) -> tuple[list[Source], dict[str, str], list[RequestError]]:
    """Return the sources of the models that are not built in, those whose file is gone, and why others cannot be.

    A model whose file or package is gone is known by what the storage remembers of it; the second value holds, by its
    name, the sentence that says so.
    """
    typed = [word for word in dict.fromkeys(options.model or ()) if word not in (COMPARISON, *built_in())]
    _, storage = option_checks.places(options)
    lost = remembered.recalled(storage, typed)
    sources, refused = own_models.named([word for word in typed if word in lost or is_own(word)], lost)
    gone = {source.name: f"{word}: {sources_of.gone(word)}" for word, (source, _) in lost.items()}
    return sources, gone, refused


def checked(options: Options, doing: Doing = unshown) -> Sweep:
    """Return the sweep that a command line asks for, whether or not this machine can train it.

    Raises:
        RequestError: every other problem.
    """
    file = options.file
    options, small = _filled_in(options)
    problems = Problems(() if file is None else file.problems)
    sources, gone, refused = own_sources(options)
    for error in refused:
        problems.take(error)
    asked = replace(_request(options, sources, problems), gone=gone)
    request, left_out = comparison.expanded(asked)
    problems.extend(fast.problems(options, request))
    if options.fast and not problems:
        asked, request = (fast.applied(options, each, request) for each in (asked, request))
        options = fast.expanded(options)
    if not request.models and left_out:
        problems.append(f"--model {COMPARISON}: it stands for no model here: {comparison.reasons(left_out)}")
    spaces = {} if refused else requested_spaces(options, request, problems, asked.models)
    wrong = planning_request.problems(request, spaces, models_known=not refused)
    elsewhere = options.address is not None and not options.in_process
    lacking = fast.lacking(options)
    lacking += [] if problems or wrong else planning_plan.lacking(request, spaces, elsewhere=elsewhere)
    problems.extend(wrong)
    problems.extend(option_checks.problems(options))
    if options.together > 1 and not wrong and not refused:
        problems.extend(planning_request.never_together(request))
    databases, audio = _databases(options, problems, doing)
    try:
        databases, audio = across.one_of_several(options, databases, audio)
    except RequestError as error:
        databases, audio = ({}, {}) if options.protocol == "corpus" else (databases, audio)
        problems.take(error, named=error.source != across.SOURCE)
    digests = {name: database.digest(audio[name]) for name, database in databases.items()}
    if options.protocol in PROTOCOLS:  # else the folds of another protocol would be named
        for database in databases.values():
            problems.extend(fold_checks.problems(request, database, spaces))
    doing("planning")
    plan = None
    if not problems:
        try:
            plan = planning_plan.make(request, list(databases.values()), lambda d: digests[d.name], spaces)
        except RequestError as error:
            problems.take(error, named=False)
    if plan is not None:
        problems.extend(lstm_dropout.problems(options, plan.studies))
    if problems or plan is None:
        every = [*problems, *lacking]
        raise RequestError("tfser sweep", every if file is None else [*map(file.located, every)], problems.more)
    costs: dict[str, Estimate] = {}
    if COMPARISON in asked.models:
        doing("timing each model")
        costs = hours.by_model(plan, databases)
        left_out |= (days := comparison.too_long(costs, asked.models, options))
        request = replace(request, models=tuple(model for model in request.models if model not in days))
        if not request.models:
            why = f"--model {COMPARISON}: it stands for no model here: {comparison.reasons(left_out)}"
            raise RequestError("tfser sweep", [why])
        plan = planning_plan.make(request, list(databases.values()), lambda d: digests[d.name], spaces)
    out, storage = option_checks.places(options)
    uri = tracking_uri.given(options.tracking_uri, []) if options.mlflow else None
    return Sweep(
        name=_default_name(options, asked, digests) if options.name is None else options.name,
        options=options,
        request=request,
        plan=plan,
        databases=databases,
        audio_digests=audio,
        digests=digests,
        out=out,
        storage=storage,
        tracking_uri=uri or connection.default_uri(Path(str(storage))),
        sources=tuple(sources),
        lacking=tuple(lacking),
        left_out=left_out,
        costs=costs,
        small=small,
    )


def is_own(typed: str) -> bool:
    """Return whether a word of --model names a model that is not built in."""
    return is_file(typed) or (typed not in (COMPARISON, *built_in()) and typed in installed())


def _request(options: Options, sources: Sequence[Source], problems: list[str]) -> planning_request.Request:
    """Return what is to be trained, as far as it is known without the files of databases and search spaces.

    Args:
        options: the command line.
        sources: of the models that are not built in.
        problems: what is wrong is added.
    """
    legal = partial(_legal, problems)
    own = {source.typed for source in sources}
    known = [typed for typed in dict.fromkeys(options.model or ()) if not (typed in own or is_own(typed))]
    return planning_request.Request(
        models=(*known, *(source.name for source in sources)),
        sources={source.name: source.digest for source in sources},
        ablations=tuple(dict.fromkeys(options.ablation)),
        protocol=legal("--protocol", options.protocol, PROTOCOLS),
        folds=tuple(dict.fromkeys(options.fold)),
        purpose=legal("--purpose", options.purpose, planning_request.ASKED_PURPOSES),
        seeds=options.seeds,
        trials=options.trials or 0,
        epochs=options.epochs,
        selection=legal("--selection", options.selection, planning_request.SELECTIONS),
        validation_folds=options.validation_folds,
        prune=options.prune,
        sampler=legal("--sampler", options.sampler, planning_request.SAMPLERS),
        search_seed=options.search_seed,
        fixed=tuple(sorted(_fixed(options.fixed, problems).items())),
    )


Word = TypeVar("Word", bound=str)


def _legal(problems: list[str], option: str, typed: str, known: Sequence[Word]) -> Word:
    """Return the word that was typed; if it is not legal, note that and return the first, so that checking goes on."""
    for word in known:
        if word == typed:
            return word
    problems.append(unknown(option, typed, known))
    return known[0]


def _fixed(texts: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Return the settings of --set by name, as typed."""
    fixed: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not (separator and key and value):
            problems.append(f"--set: {clipped(text)} is not KEY=VALUE")
            continue
        if fixed.get(key, value) != value:
            both = f"as {clipped(fixed[key])} and as {clipped(value)}"
            problems.append(f"--set: {key} is given twice, {both}; leave one of the two out")
        fixed[key] = value
    return fixed


def _databases(
    options: Options, problems: Problems, doing: Doing
) -> tuple[dict[str, Database], dict[str, Mapping[str, str]]]:
    """Return the databases by name, and the content digests of their utterances by the same name."""
    databases: dict[str, Database] = {}
    audio: dict[str, Mapping[str, str]] = {}
    for requested in dict.fromkeys(options.databases):
        try:
            doing(f"reading {requested}")
            database = load(requested, options.data, allow_incomplete=options.allow_incomplete, decode=True)
            name = database.name
            if name in databases:
                there = f"a database called {name} is already asked for"
                problems.append(f"{requested}: {there}; name it otherwise: NAME={requested}")
            doing(f"hashing the audio of {name}")
            audio[name] = audio_digests(database)
            if copies := len(audio[name]) - len(set(audio[name].values())):
                said = f"{counted(copies, 'recording is', 'recordings are')} there twice, with the same labels"
                database = replace(database, remark="; ".join([database.remark] * bool(database.remark) + [said]))
            databases[name] = database
        except RequestError as error:
            problems.take(error)
    return databases, audio


def _default_name(options: Options, request: planning_request.Request, digests: Mapping[str, str]) -> str:
    """Return a readable name that differs for every difference in what is asked for.

    A manifest's name says little about its content, so the content counts too.
    """
    names = "-".join(slug(name) for name in digests)[:60] or "sweep"
    own = [digests[name] for name in digests if name not in KNOWN]
    demo = demo_space()  # by its name alone, as it lies elsewhere in every installation
    spaces_differ = [demo.name if p == demo else str(p) for p in options.space] if request.trials else []
    if request == planning_request.Request() and not spaces_differ and not own:
        return names
    text = json.dumps([repr(request), spaces_differ, own])
    words = [] if request.models == DEFAULT else [slug(m) for m in request.models]
    words.append(f"{request.trials}trials" if request.trials else f"{request.epochs}epochs" if request.epochs else "")
    return "-".join(w for w in (names, *words, hashlib.sha256(text.encode()).hexdigest()[:6]) if w)[:100]


def memory_place(sweep: Sweep) -> Place:
    """Return the file that says what the sweep's name stands for."""
    return sweep.storage / "sweeps" / f"{sweep.name}.json"


def probe_out(sweep: Sweep) -> None:
    """Make the folder of the tables, before anything is trained.

    Raises:
        RequestError: nothing can be written there.
    """
    folder = sweep.out / sweep.name
    try:
        make_folder(folder)
        commit_text(folder / ".probe", "")
        remove(folder / ".probe")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RequestError(f"--out {sweep.out}", [f"{error.strerror or error}{where}; name another folder"]) from None
