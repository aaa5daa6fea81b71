"""From the command line to a checked sweep: every problem is found here, before anything starts.

Knows what can be asked for; trains nothing, and writes nothing but what a sweep's name stands for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tfser.databases import KNOWN, load
from tfser.databases.base import Database
from tfser.errors import RequestError, unknown
from tfser.execution.on_ray import open_doors
from tfser.features.store import audio_digests
from tfser.models import MODELS
from tfser.planning import plan as planning_plan
from tfser.planning import request as planning_request
from tfser.planning import search_space, search_space_file, settings
from tfser.storage import default_places, packaged_files
from tfser.storage.passwords import redacted
from tfser.storage.places import NAME, RESERVED, Place, commit_text, is_remote, make_folder, remove, slug
from tfser.sweep.options import LEAKS_PREFIX, Options
from tfser.text.typed import clipped
from tfser.tracking import connection
from tfser.tracking import uri as tracking_uri
from tfser.trial import PROTOCOLS, Hyperparameter, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked request with everything that it names."""

    name: str
    options: Options
    """The command line, filled in."""
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


class _Problems(list[str]):
    """Everything that is wrong, and how much more of it was not listed."""

    more = 0

    def take(self, error: RequestError, *, named: bool = True) -> None:
        """Add what an error says, with its source in front unless it goes without saying."""
        self.extend(f"{error.source}: {problem}" if named else problem for problem in error.problems)
        self.more += error.more


def _filled_in(arguments: Options) -> Options:
    """Return the options with the defaults that depend on the rest of the command line.

    The built-in database is there to try things on: alone and without a word on what to train, it gets a
    narrow model and a small search that end in minutes, instead of the papers' 1000 epochs.
    """
    a = arguments
    said = (a.model, a.ablation, a.epochs, a.fixed, a.space, a.trials)
    if a.databases == ["synthetic"] and all(value in (None, []) for value in said):
        return replace(
            a,
            model=["time_frequency_transformer"],
            trials=3,
            epochs=16,
            space=[packaged_files.data_folder("search_spaces") / "demo.yaml"],
            name="synthetic" if a.name is None else a.name,
        )
    models = list(MODELS) if a.model is None else a.model
    return replace(a, model=models, trials=0 if a.trials is None else a.trials)


def check(arguments: Options) -> Sweep:
    """Return the sweep that was asked for; everything that can be wrong with it is found before anything starts.

    Raises:
        RequestError: every problem.
    """
    arguments = _filled_in(arguments)
    problems = _Problems()
    request = _request(arguments, problems)
    spaces = _spaces(arguments, request, problems)
    problems.extend(planning_request.problems(request, spaces))
    problems.extend(_running_problems(arguments))
    problems.extend(_place_problems(arguments))
    problems.extend(_name_problems(arguments.name))
    databases, audio = _databases(arguments, problems)
    digests = {name: database.digest(audio[name]) for name, database in databases.items()}
    if arguments.protocol in PROTOCOLS:  # else the folds of another protocol would be named
        for database in databases.values():
            problems.extend(planning_request.fold_problems(request, database))
    plan = None
    if not problems:
        try:
            plan = planning_plan.make(request, list(databases.values()), lambda d: digests[d.name], spaces)
        except RequestError as error:
            problems.take(error, named=False)
    if problems or plan is None:
        raise RequestError("tfser sweep", problems, problems.more)
    out, storage = _places(arguments)
    uri = tracking_uri.given(arguments.tracking_uri, []) if arguments.mlflow else None
    return Sweep(
        name=_default_name(arguments, request, digests) if arguments.name is None else arguments.name,
        options=arguments,
        request=request,
        plan=plan,
        databases=databases,
        audio_digests=audio,
        digests=digests,
        out=out,
        storage=storage,
        tracking_uri=uri or connection.default_uri(Path(str(storage))),
    )


def _request(arguments: Options, problems: list[str]) -> planning_request.Request:
    """What is to be trained, as far as it can be said without files."""
    legal = partial(_legal, problems)
    return planning_request.Request(
        models=tuple(dict.fromkeys(arguments.model or ())),
        ablations=tuple(dict.fromkeys(arguments.ablation)),
        protocol=legal("--protocol", arguments.protocol, PROTOCOLS),
        folds=tuple(dict.fromkeys(arguments.fold)),
        seeds=arguments.seeds,
        trials=arguments.trials or 0,
        epochs=arguments.epochs,
        selection=legal("--selection", arguments.selection, planning_request.SELECTIONS),
        validation_folds=arguments.validation_folds,
        prune=arguments.prune,
        sampler=legal("--sampler", arguments.sampler, planning_request.SAMPLERS),
        search_seed=arguments.search_seed,
        fixed=tuple(sorted(_fixed(arguments.fixed, problems).items())),
    )


Word = TypeVar("Word", bound=str)


def _legal(problems: list[str], option: str, typed: str, known: Sequence[Word]) -> Word:
    """The legal word that was typed; where it is none, that is noted, and checking goes on with the first."""
    for word in known:
        if word == typed:
            return word
    problems.append(unknown(option, typed, known))
    return known[0]


def _fixed(texts: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Setting to value of --set, as typed."""
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


def _running_problems(arguments: Options) -> list[str]:
    """What is wrong with how trials are to run."""
    cpus, gpus = arguments.trial_cpus, arguments.trial_gpus
    wrong = {
        f"--trial-cpus: {cpus} is not above 0": cpus is not None and not 0 < cpus < 1e6,
        f"--together: {arguments.together} is below 1 (1 trains each trial alone)": arguments.together < 1,
        "--captured: it is for trials that are trained alone; leave out --together, or --captured": (
            arguments.together > 1 and arguments.captured
        ),
        f"--checkpoint: {arguments.checkpoint} is not above 0": not arguments.checkpoint > 0,
        f"--trial-gpus: {gpus} is below 0 (0 trains on CPUs)": gpus is not None and not 0 <= gpus < 1e6,
    }
    return [problem for problem, holds in wrong.items() if holds]


def _name_problems(name: str | None) -> list[str]:
    """What is wrong with the name of the sweep, which becomes a folder."""
    if name is None:
        return []
    if not NAME.fullmatch(name):
        legal = "use a-z, 0-9, '.', '_', '+' and '-', beginning with a letter or digit"
        return [f"--name: {name!r} becomes a folder; {legal}"]
    if RESERVED.fullmatch(name):
        return [f"--name: {name!r} becomes a folder, and Windows has none of that name; choose another"]
    if name.startswith(LEAKS_PREFIX):
        theirs = "those of tfser leaks, which puts that before what it is given"
        return [f"--name: names that begin with {LEAKS_PREFIX} are {theirs}"]
    return []


def _databases(arguments: Options, problems: _Problems) -> tuple[dict[str, Database], dict[str, Mapping[str, str]]]:
    """The databases by name, and by name the content digest of each of their utterances."""
    databases: dict[str, Database] = {}
    audio: dict[str, Mapping[str, str]] = {}
    for requested in dict.fromkeys(arguments.databases):
        try:
            database = load(requested, arguments.data, allow_incomplete=arguments.allow_incomplete, decode=True)
            name = database.name
            if name in databases:
                there = f"a database called {name} is already asked for"
                problems.append(f"{requested}: {there}; name it otherwise: NAME={requested}")
            audio[name] = audio_digests(database)
            if copies := len(audio[name]) - len(set(audio[name].values())):
                said = f"{copies} recordings are there twice, with the same labels"
                database = replace(database, remark="; ".join([database.remark] * bool(database.remark) + [said]))
            databases[name] = database
        except RequestError as error:
            problems.take(error)
    return databases, audio


def _spaces(
    arguments: Options, request: planning_request.Request, problems: list[str]
) -> dict[str, search_space.Space]:
    """Model to its search space, with what --set fixes taken out of it."""
    if not request.trials:
        if arguments.space:
            problems.append("--space: without --trials nothing is drawn from it; add --trials N")
        return {}
    models = [m for m in request.models if m in MODELS]
    known = {model: settings.hyperparameters(model) for model in MODELS}
    found: dict[str, search_space.Space] = {}
    for path in arguments.space or [packaged_files.data_folder("search_spaces") / f"{model}.yaml" for model in models]:
        try:
            read = search_space_file.read(path, known)
        except RequestError as error:
            problems.extend(f"{error.source}: {problem}" for problem in error.problems)
            continue
        if read.model not in models:
            problems.append(f"{path}: it searches {read.model}, which is not among --model {' '.join(models)}")
        elif read.model in found:
            problems.append(f"{path}: {found[read.model].source} already searches {read.model}")
        else:
            found[read.model] = read.without(_typed(request, known[read.model]))
    for model in models:
        if model not in found and not problems:
            problems.append(f"--space: no file searches {model}; add one, or name the models with --model")
    return found


def _places(arguments: Options) -> tuple[Place, Place]:
    """Where the tables go, and where everything else is kept."""
    out = default_places.default_out() if arguments.out is None else arguments.out
    return out, out / ".tfser" if arguments.storage is None else arguments.storage


def _place_problems(arguments: Options) -> list[str]:
    """What is wrong with the places that were named."""
    found: list[str] = []
    uri = tracking_uri.given(arguments.tracking_uri, found) if arguments.mlflow else None
    if arguments.address and not arguments.in_process and (wrong := open_doors.no_driver_at(arguments.address)):
        found.append(wrong)
    if arguments.optuna_storage and (wrong := tracking_uri.no_database(arguments.optuna_storage)):
        found.append(redacted(f"--optuna-storage: {wrong}"))
    _, storage = _places(arguments)
    if arguments.mlflow and not uri and is_remote(storage):
        found.append(
            f"--tracking-uri: an SQLite database cannot lie in {storage}; name an MLflow server, or sqlite:////a/local/file.db"
        )
    return found


def _typed(request: planning_request.Request, known: Mapping[str, Hyperparameter]) -> dict[str, Value]:
    """What --set fixes of a model, without the values that are refused elsewhere."""
    values: dict[str, Value] = {}
    for name, text in request.fixed:
        if name in known:
            with contextlib.suppress(ValueError):
                values[name] = known[name].parse(text)
    return values


def _default_name(arguments: Options, request: planning_request.Request, digests: Mapping[str, str]) -> str:
    """Readable, and another one for every difference in what is asked for.

    A manifest's name says little about what it holds, so its content is part of it.
    """
    names = "-".join(slug(name) for name in digests)[:60] or "sweep"
    own = [digests[name] for name in digests if name not in KNOWN]
    spaces_differ = arguments.space if request.trials else []
    if request == planning_request.Request() and not spaces_differ and not own:
        return names
    text = json.dumps([repr(request), [str(p) for p in spaces_differ], own])
    words = [] if request.models == tuple(MODELS) else [slug(m) for m in request.models]
    words.append(f"{request.trials}trials" if request.trials else f"{request.epochs}epochs" if request.epochs else "")
    return "-".join(w for w in (names, *words, hashlib.sha256(text.encode()).hexdigest()[:6]) if w)[:100]


def memory_place(sweep: Sweep) -> Place:
    """Where it is kept what the sweep's name stands for."""
    return sweep.storage / "sweeps" / f"{sweep.name}.json"


def probe_out(sweep: Sweep) -> None:
    """Make the folder of the tables, before anything is trained.

    Raises:
        RequestError: it cannot be written.
    """
    folder = sweep.out / sweep.name
    try:
        make_folder(folder)
        commit_text(folder / ".probe", "")
        remove(folder / ".probe")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RequestError(f"--out {sweep.out}", [f"{error.strerror or error}{where}; name another folder"]) from None
