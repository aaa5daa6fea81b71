"""From the command line to a checked sweep: every problem is found here, before anything starts.

Knows what can be asked for; trains nothing, and writes nothing but what a sweep's name stands for.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfser import collect, resources, tracking, tracking_uri
from tfser import plan as planning
from tfser import space as spaces
from tfser.databases import KNOWN, load
from tfser.databases.base import Database
from tfser.errors import RequestError
from tfser.features import audio_digests
from tfser.files import NAME, RESERVED, Place, commit_text, is_remote, make_folder, read_text, remove, slug, typed_place
from tfser.folds import PROTOCOLS
from tfser.mirror import redacted
from tfser.models import MODELS
from tfser.runners import safety
from tfser.trial import Hyperparameter, Value
from tfser.typed import clipped, number, typed_number, typed_whole, typed_words
from tfser.typed import option as as_option

LEAKS_PREFIX = "leaks-"
"""Before the name of what ``tfser.leaks`` makes, which shares folders with sweeps."""


DATABASE_HELP = "a known name, the path of a manifest CSV, or audformat:PATH; NAME= in front of it gives it another name"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="tfser sweep",
        description="Leave-one-out trials of every (database, fold, model, ablation): trains what is missing, then writes the tables.",
        epilog="Exit codes: 0 all done, 1 some trials failed, 2 the request is wrong and nothing was started, 130 interrupted.",
    )
    p.add_argument("databases", nargs="+", metavar="DATABASE", help=DATABASE_HELP)
    add_training(p)
    _add_search(p)
    add_places(p)
    return p


def add_training(p: argparse.ArgumentParser) -> None:
    """The options that say what is trained."""
    what = p.add_argument_group("what to train")
    data = os.environ.get("TFSER_DATA") or None
    what.add_argument("--data", type=typed_place, default=data, help="folder or URI that holds the corpora (default: TFSER_DATA)")
    what.add_argument("--allow-incomplete", action="store_true", help="go on with a database that is not as published; tables say so")
    what.add_argument("--model", nargs="+", action="extend", default=None, metavar="M", help=f"default: {' '.join(MODELS)}")
    what.add_argument("--ablation", nargs="+", action="extend", default=[], metavar="A", help="default: the full model; or all")
    what.add_argument("--protocol", default="speaker", metavar="P", help=f"{' or '.join(PROTOCOLS)} (default: speaker)")
    what.add_argument("--fold", nargs="+", action="extend", default=[], metavar="F", help="default: all")
    what.add_argument("--seeds", type=typed_whole, default=1, metavar="N", help="final trials per fold, seeds 0 to N-1 (default: 1)")
    most = "default: as published; with a search, the most that are tried"
    what.add_argument("--epochs", type=typed_whole, default=None, metavar="N", help=most)
    fixes = "fixes a hyperparameter; it is not searched"
    what.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="fixed", help=fixes)


def _add_search(p: argparse.ArgumentParser) -> None:
    search = p.add_argument_group("search")
    search.add_argument(
        "--trials", type=typed_whole, default=None, metavar="N", help="Optuna trials per fold (default: 0, the published setting)"
    )
    search.add_argument(
        "--space", type=typed_place, nargs="+", action="extend", default=[], metavar="FILE", help="default: search_spaces/<model>.yaml"
    )
    search.add_argument("--selection", default="nested", metavar="S", help=f"{' or '.join(planning.SELECTIONS)} (default: nested)")
    search.add_argument("--validation-folds", type=typed_whole, default=1, metavar="N", help="validation speakers in rotation (default: 1)")
    search.add_argument("--sampler", default="tpe", metavar="S", help=f"{' or '.join(planning.SAMPLERS)} (default: tpe)")
    search.add_argument("--search-seed", type=typed_whole, default=0, metavar="N", help="another one tries other settings (default: 0)")
    search.add_argument("--no-pruning", action="store_false", dest="prune", help="run every search trial to its last epoch")
    search.add_argument(
        "--optuna-storage", type=typed_words, default=None, metavar="URL", help="database for the studies (default: a journal in STORAGE)"
    )
    search.add_argument("--deterministic", action="store_true", help="the same choices whatever the order in which trials end")


def add_places(p: argparse.ArgumentParser, *, mlflow: bool = True) -> None:
    """The options that say where trials run and where everything lies, and --retry-failed and --plan."""
    where = p.add_argument_group("where")
    where.add_argument("--name", default=None, help="of the sweep; its resume key (default: from the databases and options)")
    where.add_argument("--out", type=typed_place, default=None, help="folder or URI; tables go to OUT/<sweep>/ (default: ./results)")
    where.add_argument("--storage", type=typed_place, default=None, help="ledger, studies, features (default: OUT/.tfser)")
    p.set_defaults(mlflow=mlflow)
    if mlflow:
        uri = "MLflow (default: MLFLOW_TRACKING_URI, else SQLite in the storage folder)"
        where.add_argument("--tracking-uri", type=typed_words, default=None, help=uri)
    address = os.environ.get("RAY_ADDRESS") or None
    where.add_argument("--address", type=typed_words, default=address, help="Ray cluster (default: RAY_ADDRESS, else a local Ray)")
    where.add_argument("--in-process", action="store_true", help="no Ray: one trial after another in this process")
    cpus, gpus = os.environ.get("TFSER_TRIAL_CPUS") or None, os.environ.get("TFSER_TRIAL_GPUS") or "auto"
    one = "CPUs of one trial (default: TFSER_TRIAL_CPUS, else 1)"
    where.add_argument("--trial-cpus", type=as_option(number, "TFSER_TRIAL_CPUS"), default=cpus, metavar="X", help=one)
    shared = "GPU share of one trial; auto tries the largest one on a GPU to see how many fit (default: TFSER_TRIAL_GPUS, else auto)"
    where.add_argument("--trial-gpus", type=as_option(_gpu_share, "TFSER_TRIAL_GPUS"), default=gpus, metavar="X", help=shared)
    together = "trials of one shape that a worker trains as one network, at most; equal to 1 up to rounding (default: 1)"
    where.add_argument("--together", type=typed_whole, default=1, metavar="N", help=together)
    where.add_argument("--captured", action="store_true", help="on GPUs: replay full batches of a trial as a CUDA graph")
    where.add_argument(
        "--checkpoint", type=typed_number, default=120.0, metavar="S", help="seconds between checkpoints of a trial (default: 120)"
    )
    p.add_argument("--retry-failed", action="store_true", help="train again what failed in an earlier start")
    p.add_argument("--plan", action="store_true", help="print what would be trained; run nothing")


def _gpu_share(text: str) -> float | None:
    """``auto`` is ``None``: it is chosen where the GPUs are."""
    try:
        return None if text == "auto" else number(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor a number (0.125 lets eight trials share a GPU)") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked request with everything that it names."""

    name: str
    request: planning.Request
    plan: planning.Plan
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
    said = any(getattr(arguments, name) not in (None, []) for name in ("model", "ablation", "epochs", "fixed", "space", "trials"))
    if arguments.databases == ["synthetic"] and not said:
        arguments.model, arguments.trials, arguments.epochs = ["time_frequency_transformer"], 3, 16
        arguments.space = [resources.data_folder("search_spaces") / "demo.yaml"]
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
            problems.append(f"--set: {key} is given twice, as {clipped(fixed[key])} and as {clipped(value)}; leave one of the two out")
        fixed[key] = value
    request = planning.Request(
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
    problems.extend(planning.problems(request, found))
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
        problems.append(f"--name: {name!r} becomes a folder; use a-z, 0-9, '.', '_', '+' and '-', beginning with a letter or digit")
    elif arguments.name is not None and RESERVED.fullmatch(arguments.name):
        problems.append(f"--name: {arguments.name!r} becomes a folder, and Windows has none of that name; choose another")
    elif arguments.name is not None and arguments.name.startswith(LEAKS_PREFIX):
        problems.append(f"--name: names that begin with {LEAKS_PREFIX} are those of tfser leaks, which puts that before what it is given")
    databases: dict[str, Database] = {}
    audio: dict[str, Mapping[str, str]] = {}
    digests: dict[str, str] = {}
    for requested in dict.fromkeys(arguments.databases):
        try:
            database = load(requested, arguments.data, allow_incomplete=arguments.allow_incomplete, decode=True)
            if database.name in databases:
                problems.append(f"{requested}: a database called {database.name} is already asked for; name it otherwise: NAME={requested}")
            databases[database.name] = database
            audio[database.name] = audio_digests(database)
            if copies := len(audio[database.name]) - len(set(audio[database.name].values())):
                said = f"{copies} recordings are there twice, with the same labels"
                databases[database.name] = replace(database, remark="; ".join([database.remark] * bool(database.remark) + [said]))
            digests[database.name] = database.digest(audio[database.name])
            problems.extend(planning.fold_problems(request, database))
        except RequestError as error:
            problems.extend(f"{error.source}: {problem}" for problem in error.problems)
            more += error.more
    plan = None
    if not problems:
        try:
            plan = planning.make(request, list(databases.values()), lambda d: digests[d.name], found if request.trials else {})
        except RequestError as error:
            problems.extend(error.problems)
            more += error.more
    if problems or plan is None:
        raise RequestError("tfser sweep", problems, more)
    out = collect.default_out() if arguments.out is None else arguments.out
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
        tracking_uri=uri or tracking.default_uri(Path(str(storage))),
    )


def _spaces(arguments: argparse.Namespace, request: planning.Request, problems: list[str]) -> dict[str, spaces.Space]:
    """Model to its search space, with what --set fixes taken out of it."""
    if not request.trials:
        if arguments.space:
            problems.append("--space: without --trials nothing is drawn from it; add --trials N")
        return {}
    models = [m for m in request.models if m in MODELS]
    known = {model: planning.hyperparameters(model) for model in MODELS}
    found: dict[str, spaces.Space] = {}
    for path in arguments.space or [resources.data_folder("search_spaces") / f"{model}.yaml" for model in models]:
        try:
            read = spaces.read(path, known)
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
    if arguments.address and not arguments.in_process and (wrong := safety.no_driver_at(arguments.address)):
        found.append(wrong)
    if arguments.optuna_storage and (wrong := tracking_uri.no_database(arguments.optuna_storage)):
        found.append(redacted(f"--optuna-storage: {wrong}"))
    out = collect.default_out() if arguments.out is None else arguments.out
    storage = out / ".tfser" if arguments.storage is None else arguments.storage
    if arguments.mlflow and not uri and is_remote(storage):
        found.append(f"--tracking-uri: an SQLite database cannot lie in {storage}; name an MLflow server, or sqlite:////a/local/file.db")
    return found


def _typed(request: planning.Request, known: Mapping[str, Hyperparameter]) -> dict[str, Value]:
    """What --set fixes of a model, without the values that are refused elsewhere."""
    values: dict[str, Value] = {}
    for name, text in request.fixed:
        if name in known:
            with contextlib.suppress(ValueError):
                values[name] = known[name].parse(text)
    return values


def _default_name(arguments: argparse.Namespace, request: planning.Request, digests: Mapping[str, str]) -> str:
    """Readable, and another one for every difference in what is asked for.

    A manifest's name says little about what it holds, so its content is part of it.
    """
    names = "-".join(slug(name) for name in digests)[:60] or "sweep"
    own = [digests[name] for name in digests if name not in KNOWN]
    spaces_differ = arguments.space if request.trials else []
    if request == planning.Request() and not spaces_differ and not own:
        return names
    text = json.dumps([repr(request), [str(p) for p in spaces_differ], own])
    words = [] if request.models == tuple(MODELS) else [slug(m) for m in request.models]
    words.append(f"{request.trials}trials" if request.trials else f"{request.epochs}epochs" if request.epochs else "")
    return "-".join(w for w in (names, *words, hashlib.sha256(text.encode()).hexdigest()[:6]) if w)[:100]


def recall(sweep: Sweep) -> dict[str, Any]:
    """What the sweep's name stands for from now on; the caller holds the lease and writes it with ``remember``.

    Databases, models, ablations, folds and seeds may be added under the same name. What would change the
    trials already there may not.

    Raises:
        RequestError: the name stands for other options, or a database by that name held something else.
    """
    r = sweep.request
    now: dict[str, Any] = {
        "protocol": r.protocol,
        "trials": r.trials,
        "epochs": r.epochs,
        "selection": r.selection,
        "validation_folds": r.validation_folds,
        "pruning": r.prune,
        "sampler": r.sampler,
        "search_seed": r.search_seed,
        "set": dict(r.fixed),
        "space": {study.configuration.model: study.space.digest for study in sweep.plan.studies if study.space},
        "databases": dict(sweep.digests),
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        before = json.loads(read_text(memory_place(sweep)))
        differs = []
        for key, what in (("space", "the search space of {} is another one"), ("databases", "{} holds other utterances, labels or audio")):
            differs += [what.format(name) for name, value in before.get(key, {}).items() if now[key].get(name, value) != value]
            now[key] = {**before.get(key, {}), **now[key]}
        differs += [f"{k}: {before[k]!r} then, {now[k]!r} now" for k in before if k not in ("space", "databases") and before[k] != now[k]]
        if differs:
            raise RequestError(f"sweep {sweep.name}", [f"{text}; choose another --name, or ask for what it was" for text in differs])
    return now


def remember(sweep: Sweep, memory: Mapping[str, Any]) -> None:
    """Keep what ``recall`` gave, once nothing can be wrong with the request any more."""
    commit_text(memory_place(sweep), json.dumps(memory, sort_keys=True, indent=1))


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
