"""A request as a value, and everything that can be wrong with it before a database is read. Knows no command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tfser.databases.base import Database
from tfser.errors import RequestError, unknown
from tfser.evaluation import folds
from tfser.models import MODELS
from tfser.planning.search_space import Space, refusals
from tfser.planning.settings import fixed_settings, hyperparameters, is_published, published_settings
from tfser.trial import PROTOCOLS, Value

EPOCHS_WHERE_SILENT = 100
"""Ours: epochs without --epochs for a model whose paper does not state them (ATFNN). Its rows are ``fixed``, not ``published``."""


MOST_SEEDS, MOST_TRIALS, MOST_EPOCHS = 10_000, 1_000_000, 10_000_000
"""Ours: beyond any use, and small enough that a slip of the finger is refused instead of filling the memory with a plan."""


SELECTIONS = ("nested", "global", "oracle")
"""How settings and epochs are chosen. ``oracle`` takes the best epoch on the test fold: it exists to be
compared with literature that does so, and every table and run says it."""


SAMPLERS = ("tpe", "random")
"""Who says which setting to try next. ``random`` is the baseline that a search has to beat: it begins with a
random setting too, not with the published one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for, after parsing and before checking."""

    models: tuple[str, ...] = tuple(MODELS)
    ablations: tuple[str, ...] = ()
    """Empty: each model's full form; ``all``: every one."""
    protocol: str = "speaker"
    folds: tuple[str, ...] = ()
    """Empty: every fold."""
    seeds: int = 1
    trials: int = 0
    """Optuna trials per study; 0 trains the published setting."""
    epochs: int | None = None
    selection: str = "nested"
    validation_folds: int = 1
    prune: bool = True
    sampler: str = "tpe"
    search_seed: int = 0
    fixed: tuple[tuple[str, str], ...] = ()
    """--set, as typed."""


def problems(request: Request, spaces: Mapping[str, Space]) -> list[str]:
    """Everything wrong with a request that can be said without a database."""
    found = []
    for model in request.models:
        if model not in MODELS:
            found.append(unknown("--model", model, MODELS))
    models = [m for m in request.models if m in MODELS]
    of_any = models or list(MODELS)
    known_ablations = [a for m in of_any for a in MODELS[m].ablations]
    for ablation in request.ablations:
        if ablation != "all" and ablation not in known_ablations:
            found.append(unknown("--ablation", ablation, [*known_ablations, "all"]))
    if request.protocol not in PROTOCOLS:
        found.append(unknown("--protocol", request.protocol, PROTOCOLS))
    if request.sampler not in SAMPLERS:
        found.append(unknown("--sampler", request.sampler, SAMPLERS))
    if request.selection not in SELECTIONS:
        found.append(unknown("--selection", request.selection, SELECTIONS))
    for name, value, low, high in (
        ("--seeds", request.seeds, 1, MOST_SEEDS),
        ("--trials", request.trials, 0, MOST_TRIALS),
        ("--validation-folds", request.validation_folds, 1, MOST_SEEDS),
        ("--epochs", 1 if request.epochs is None else request.epochs, 1, MOST_EPOCHS),
    ):
        if value < low:
            found.append(f"{name}: {value} is below {low}")
        elif value > high:
            found.append(f"{name}: {value} is above {high}, the most that is planned")
    typed = dict(request.fixed)
    for name in typed:
        if not any(name in hyperparameters(m) for m in of_any):
            found.append(unknown("--set", name, {h for m in of_any for h in hyperparameters(m)}))
    for model in models:
        known = hyperparameters(model)
        for name, text in typed.items():
            if name in known:
                try:
                    known[name].parse(text)
                except ValueError as error:
                    found.append(f"--set {name}: {error}")
        if not any(problem.startswith("--set") for problem in found):
            for ablation in ablations_of(request, model):
                found.extend(_setting_problems(model, ablation, request, spaces.get(model)))
    return list(dict.fromkeys(found))


def _setting_problems(model: str, ablation: str, request: Request, space: Space | None) -> list[str]:
    base, architecture = base_settings(model, request), MODELS[model]
    if space is None:
        return [f"{model} {ablation}: {problem}" for problem in architecture.problems(ablation, base)]
    return refusals(space, base, lambda settings: architecture.problems(ablation, settings))


def base_settings(model: str, request: Request) -> dict[str, Value]:
    known = hyperparameters(model)
    return {**published_settings(model), **{n: known[n].parse(t) for n, t in request.fixed if n in known}}


def ablations_of(request: Request, model: str) -> tuple[str, ...]:
    architecture = MODELS[model]
    if not request.ablations:
        return architecture.ablations[:1]
    if "all" in request.ablations:
        return architecture.ablations
    return tuple(a for a in architecture.ablations if a in request.ablations)


def fold_problems(request: Request, database: Database) -> list[str]:
    """Everything wrong with a request that only shows beside a database: its folds and how many there are."""
    if request.protocol not in PROTOCOLS:
        return []
    try:
        every = folds.folds(database.utterances, request.protocol, database.name)
    except RequestError as error:
        return [f"{database.name}: {problem}" for problem in error.problems]
    found = [f"{database.name}: {unknown('--fold', fold, every)}" for fold in request.folds if fold not in every]
    if request.trials > 0 and len(every) < 2 + request.validation_folds:
        found.append(
            f"{database.name}: it has {len(every)} {request.protocol}s; a search needs {request.validation_folds} to validate, "
            "one to test and one to train on. Use --trials 0 or fewer --validation-folds"
        )
    return found


def epochs_of(request: Request, model: str) -> int:
    if request.epochs is not None:
        return request.epochs
    return MODELS[model].published_epochs or EPOCHS_WHERE_SILENT


def selection_of(request: Request, model: str) -> str:
    """What a table says of how the settings came about."""
    if request.trials or request.selection == "oracle":
        return request.selection
    return "published" if is_published(model, asked_settings(request, model, None)) else "fixed"


def asked_settings(request: Request, model: str, space: Space | None) -> str:
    """What tells a row from one of another request: two that differ in anything that was asked for never take each other's place.

    Args:
        request: the whole.
        model: of the row.
        space: what is searched; ``None`` where nothing is.
    """
    base, epochs = base_settings(model, request), epochs_of(request, model)
    if space is None:
        return fixed_settings(base, epochs)
    searched = {dimension.name for dimension in space.dimensions}
    left = {name: value for name, value in {**base, **space.fixed}.items() if name not in searched}
    search: dict[str, Value] = {
        "trials": request.trials,
        "space": space.digest,
        "validation_folds": request.validation_folds,
        "pruning": request.prune,
        "sampler": request.sampler,
        "search_seed": request.search_seed,
    }
    return json.dumps({**left, "epochs": epochs, **search}, sort_keys=True, ensure_ascii=False)
