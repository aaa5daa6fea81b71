"""From the command line to a checked sweep: every problem is found here, before anything starts.

Knows what can be asked for; trains nothing, and writes nothing but what a sweep's name stands for.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tfser.databases import KNOWN, load
from tfser.databases.base import Database
from tfser.errors import RequestError
from tfser.execution.on_ray import open_doors
from tfser.features.store import audio_digests
from tfser.models import MODELS
from tfser.planning import plan as planning_plan
from tfser.planning import request as planning_request
from tfser.planning import search_space, search_space_file, settings
from tfser.storage import default_places, packaged_files
from tfser.storage.passwords import redacted
from tfser.storage.places import NAME, RESERVED, Place, commit_text, is_remote, make_folder, remove, slug
from tfser.sweep.options import LEAKS_PREFIX
from tfser.text.typed import clipped
from tfser.tracking import connection
from tfser.tracking import uri as tracking_uri
from tfser.trial import Hyperparameter, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked request with everything that it names."""

    name: str
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


def fill_in(arguments: argparse.Namespace) -> None:
    """Defaults that depend on the rest of the command line.

    The built-in database is there to try things on: alone and without a word on what to train, it gets a
    narrow model and a small search that end in minutes, instead of the papers' 1000 epochs.
    """
    said = any(
        getattr(arguments, name) not in (None, [])
        for name in ("model", "ablation", "epochs", "fixed", "space", "trials")
    )
    if arguments.databases == ["synthetic"] and not said:
        arguments.model, arguments.trials, arguments.epochs = ["time_frequency_transformer"], 3, 16
        arguments.space = [packaged_files.data_folder("search_spaces") / "demo.yaml"]
        arguments.name = "synthetic" if arguments.name is None else arguments.name
    arguments.model = list(MODELS) if arguments.model is None else arguments.model
    arguments.trials = 0 if arguments.trials is None else arguments.trials


def check(arguments: argparse.Namespace) -> Sweep:
    """Everything that can be wrong with a request, found before anything starts.

    Raises:
        RequestError: every problem.
    """
    fill_in(arguments)
    problems: list[str] = []
    more = 0
    fixed: dict[str, str] = {}
    for text in arguments.fixed:
        key, separator, value = text.partition("=")
        if not (separator and key and value):
            problems.append(f"--set: {clipped(text)} is not KEY=VALUE")
            continue
        if fixed.get(key, value) != value:
            problems.append(
                f"--set: {key} is given twice, as {clipped(fixed[key])} and as {clipped(value)}; leave one of the two out"
            )
        fixed[key] = value
    request = planning_request.Request(
        models=tuple(dict.fromkeys(arguments.model)),
        ablations=tuple(dict.fromkeys(arguments.ablation)),
        protocol=arguments.protocol,
        folds=tuple(dict.fromkeys(arguments.fold)),
        seeds=arguments.seeds,
        trials=arguments.trials,
        epochs=arguments.epochs,
        selection=arguments.selection,
        validation_folds=arguments.validation_folds,
        prune=arguments.prune,
        sampler=arguments.sampler,
        search_seed=arguments.search_seed,
        fixed=tuple(sorted(fixed.items())),
    )
    found = _spaces(arguments, request, problems)
    problems.extend(planning_request.problems(request, found))
    if arguments.trial_cpus is not None and not 0 < arguments.trial_cpus < 1e6:
        problems.append(f"--trial-cpus: {arguments.trial_cpus} is not above 0")
    if arguments.together < 1:
        problems.append(f"--together: {arguments.together} is below 1 (1 trains each trial alone)")
    if arguments.together > 1 and arguments.captured:
        problems.append("--captured: it is for trials that are trained alone; leave out --together, or --captured")
    if not arguments.checkpoint > 0:
        problems.append(f"--checkpoint: {arguments.checkpoint} is not above 0")
    if arguments.trial_gpus is not None and not 0 <= arguments.trial_gpus < 1e6:
        problems.append(f"--trial-gpus: {arguments.trial_gpus} is below 0 (0 trains on CPUs)")
    problems.extend(_place_problems(arguments))
    if arguments.name is not None and not NAME.fullmatch(arguments.name):
        name = arguments.name
        problems.append(
            f"--name: {name!r} becomes a folder; use a-z, 0-9, '.', '_', '+' and '-', beginning with a letter or digit"
        )
    elif arguments.name is not None and RESERVED.fullmatch(arguments.name):
        problems.append(
            f"--name: {arguments.name!r} becomes a folder, and Windows has none of that name; choose another"
        )
    elif arguments.name is not None and arguments.name.startswith(LEAKS_PREFIX):
        problems.append(
            f"--name: names that begin with {LEAKS_PREFIX} are those of tfser leaks, which puts that before what it is given"
        )
    databases: dict[str, Database] = {}
    audio: dict[str, Mapping[str, str]] = {}
    digests: dict[str, str] = {}
    for requested in dict.fromkeys(arguments.databases):
        try:
            database = load(requested, arguments.data, allow_incomplete=arguments.allow_incomplete, decode=True)
            if database.name in databases:
                problems.append(
                    f"{requested}: a database called {database.name} is already asked for; name it otherwise: NAME={requested}"
                )
            databases[database.name] = database
            audio[database.name] = audio_digests(database)
            if copies := len(audio[database.name]) - len(set(audio[database.name].values())):
                said = f"{copies} recordings are there twice, with the same labels"
                databases[database.name] = replace(
                    database, remark="; ".join([database.remark] * bool(database.remark) + [said])
                )
            digests[database.name] = database.digest(audio[database.name])
            problems.extend(planning_request.fold_problems(request, database))
        except RequestError as error:
            problems.extend(f"{error.source}: {problem}" for problem in error.problems)
            more += error.more
    plan = None
    if not problems:
        try:
            plan = planning_plan.make(
                request, list(databases.values()), lambda d: digests[d.name], found if request.trials else {}
            )
        except RequestError as error:
            problems.extend(error.problems)
            more += error.more
    if problems or plan is None:
        raise RequestError("tfser sweep", problems, more)
    out = default_places.default_out() if arguments.out is None else arguments.out
    storage = out / ".tfser" if arguments.storage is None else arguments.storage
    uri = tracking_uri.given(arguments.tracking_uri, []) if arguments.mlflow else None
    return Sweep(
        name=_default_name(arguments, request, digests) if arguments.name is None else arguments.name,
        request=request,
        plan=plan,
        databases=databases,
        audio_digests=audio,
        digests=digests,
        out=out,
        storage=storage,
        tracking_uri=uri or connection.default_uri(Path(str(storage))),
    )


def _spaces(
    arguments: argparse.Namespace, request: planning_request.Request, problems: list[str]
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


def _place_problems(arguments: argparse.Namespace) -> list[str]:
    """What is wrong with the places that were named."""
    found: list[str] = []
    uri = tracking_uri.given(arguments.tracking_uri, found) if arguments.mlflow else None
    if arguments.address and not arguments.in_process and (wrong := open_doors.no_driver_at(arguments.address)):
        found.append(wrong)
    if arguments.optuna_storage and (wrong := tracking_uri.no_database(arguments.optuna_storage)):
        found.append(redacted(f"--optuna-storage: {wrong}"))
    out = default_places.default_out() if arguments.out is None else arguments.out
    storage = out / ".tfser" if arguments.storage is None else arguments.storage
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


def _default_name(arguments: argparse.Namespace, request: planning_request.Request, digests: Mapping[str, str]) -> str:
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
