"""A request as a value, and what can be wrong with it. Knows no command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from tfser.databases.base import Database
from tfser.errors import RequestError, unknown
from tfser.evaluation import folds
from tfser.models import BUILT_IN, MODELS, Estimator, Network
from tfser.planning.configuration import AskedSelection, Selection
from tfser.planning.search_space import Space, refusals
from tfser.planning.settings import (
    feature_problems,
    fixed_settings,
    hashed,
    hyperparameters,
    is_published,
    is_transductive,
    published_settings,
    setting_problems,
)
from tfser.trial import ProtocolName, Value

MOST_SEEDS, MOST_TRIALS, MOST_EPOCHS = 10_000, 1_000_000, 10_000_000
"""Ours: more than anyone needs, yet few enough that a slip of the finger cannot fill the memory with a plan."""

Sampler = Literal["tpe", "random"]
"""Optuna samplers that --sampler accepts.

``random`` is the baseline that a search has to beat; it begins with a random setting too, not with the published one.
"""

SELECTIONS: tuple[AskedSelection, ...] = get_args(AskedSelection)
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for: parsed, not yet checked."""

    models: tuple[str, ...] = tuple(model.name for model in BUILT_IN)
    ablations: tuple[str, ...] = ()
    """Empty for each model's full form, ``all`` for every one."""
    protocol: ProtocolName = "speaker"
    folds: tuple[str, ...] = ()
    """Empty for every fold."""
    seeds: int = 1
    trials: int = 0
    """Optuna trials per study; 0 trains the published setting."""
    epochs: int | None = None
    selection: AskedSelection = "nested"
    validation_folds: int = 1
    prune: bool = True
    sampler: Sampler = "tpe"
    search_seed: int = 0
    fixed: tuple[tuple[str, str], ...] = ()
    """--set, as typed."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Digest of the source of each model that is not built in, by its name.

    Not in the representation, by which sweeps are named: an edit does not change what was asked for.
    """


def problems(request: Request, spaces: Mapping[str, Space]) -> list[str]:
    """Return everything wrong with a request that shows without a database."""
    models = [model for model in request.models if model in MODELS]
    unread = _unknown_settings(request, models)
    found = [*_name_problems(request, models), *_number_problems(request), *_epoch_problems(request, models), *unread]
    for model in models:
        unread += (wrong := _unreadable_settings(request, model))
        found += wrong
        if not unread:  # a model can be asked only about settings that were read
            for ablation in ablations_of(request, model):
                found += _setting_problems(model, ablation, request, spaces.get(model))
    return list(dict.fromkeys(found))


def _name_problems(request: Request, models: list[str]) -> list[str]:
    """Return what is wrong with names that have to be one of a list.

    Args:
        request: the whole request.
        models: those of its models that exist.
    """
    ablations = [*(ablation for model in models or MODELS for ablation in MODELS[model].ablations), "all"]
    named = [
        *(("--model", model, MODELS) for model in request.models),
        *(("--ablation", ablation, ablations) for ablation in request.ablations),
    ]
    return [unknown(option, name, known) for option, name, known in named if name not in known]


def _number_problems(request: Request) -> list[str]:
    """Return which numbers are outside the range that can be planned."""
    found = []
    for option, value, low, high in (
        ("--seeds", request.seeds, 1, MOST_SEEDS),
        ("--trials", request.trials, 0, MOST_TRIALS),
        ("--validation-folds", request.validation_folds, 1, MOST_SEEDS),
        ("--epochs", 1 if request.epochs is None else request.epochs, 1, MOST_EPOCHS),
    ):
        if value < low:
            found.append(f"{option}: {value} is below {low}")
        elif value > high:
            found.append(f"{option}: {value} is above {high}, the most that is planned")
    return found


def _epoch_problems(request: Request, models: list[str]) -> list[str]:
    """Return which options speak of epochs where no model has any, or one has none to choose.

    Args:
        request: the whole request.
        models: those of its models that exist.
    """
    estimators = [model for model in models if isinstance(MODELS[model], Estimator)]
    if not estimators:
        return []
    have = f"{', '.join(estimators)} {'has' if len(estimators) == 1 else 'have'} no epochs"
    found = []
    if request.epochs is not None and estimators == models:
        found.append(f"--epochs: {have}; leave it out")
    if request.selection == "oracle":
        found.append(f"--selection oracle: {have} to choose on the test fold; name networks only with --model")
    return found


def _unknown_settings(request: Request, models: list[str]) -> list[str]:
    """Return which settings of --set none of the models has."""
    known = {name for model in models or MODELS for name in hyperparameters(model)}
    return [unknown("--set", name, known) for name in dict(request.fixed) if name not in known]


def _unreadable_settings(request: Request, model: str) -> list[str]:
    """Return which values of --set a model's settings cannot have."""
    known, found = hyperparameters(model), []
    for name, text in dict(request.fixed).items():
        if name in known:
            try:
                known[name].parse(text)
            except ValueError as error:
                found.append(f"--set {name}: {error}")
    return found


def _setting_problems(model: str, ablation: str, request: Request, space: Space | None) -> list[str]:
    """Return why a model refuses its settings, or some that the search space can sample."""
    base, architecture = base_settings(model, request), MODELS[model]
    names, asked = tuple(architecture.feature_set.hyperparameters), dict[tuple[Value, ...], list[str]]()

    def wrong(settings: Mapping[str, Value]) -> list[str]:
        features = tuple(settings[name] for name in names)  # few of many combinations differ in them
        if features not in asked:
            asked[features] = feature_problems(architecture, settings)
        return [*setting_problems(architecture, ablation, settings), *asked[features]]

    if space is None:
        return [f"{model} {ablation}: {problem}" for problem in wrong(base)]
    return refusals(space, base, wrong)


def base_settings(model: str, request: Request) -> dict[str, Value]:
    """Return every setting of a model: the published ones, then those of --set."""
    known = hyperparameters(model)
    return {**published_settings(model), **{n: known[n].parse(t) for n, t in request.fixed if n in known}}


def ablations_of(request: Request, model: str) -> tuple[str, ...]:
    """Return the ablations of a model that were asked for."""
    architecture = MODELS[model]
    if not request.ablations:
        return architecture.ablations[:1]
    if "all" in request.ablations:
        return architecture.ablations
    return tuple(a for a in architecture.ablations if a in request.ablations)


def fold_problems(request: Request, database: Database) -> list[str]:
    """Return what is wrong with a request for a database: folds that it lacks, or too few of them for a search."""
    try:
        every = folds.folds(database.utterances, request.protocol, database.name)
    except RequestError as error:
        return [f"{database.name}: {problem}" for problem in error.problems]
    found = [f"{database.name}: {unknown('--fold', fold, every)}" for fold in request.folds if fold not in every]
    if request.trials > 0 and len(every) < 2 + request.validation_folds:
        needed = f"a search needs {request.validation_folds} to validate, one to test and one to train on"
        advice = "Use --trials 0 or fewer --validation-folds"
        found.append(f"{database.name}: it has {len(every)} {request.protocol}s; {needed}. {advice}")
    return found


def epochs_of(request: Request, model: str) -> int:
    """Return the epochs that a model trains; 1 for an estimator, which has none. Only its trial ids hold that."""
    declared = MODELS[model]
    if not isinstance(declared, Network):
        return 1
    return declared.epochs if request.epochs is None else request.epochs


def selection_of(request: Request, model: str) -> Selection:
    """Return how a table says that the settings were chosen."""
    if request.trials or request.selection == "oracle":
        return request.selection
    return "published" if is_published(model, asked_settings(request, model, None)) else "fixed"


def transductive(request: Request, model: str, space: Space | None) -> bool:
    """Return whether a row's scores can depend on what is scored beside an utterance.

    Args:
        request: the whole request.
        model: the row's.
        space: what is searched; ``None`` where nothing is. A row is transductive if one of its settings is.
    """
    base = {**base_settings(model, request), **(space.fixed if space else {})}
    kinds = [d.values for d in space.dimensions if d.name == "standardisation"] if space else []
    possible = [base, *({**base, "standardisation": kind} for values in kinds for kind in values)]
    return any(is_transductive(MODELS[model], settings) for settings in possible)


def asked_settings(request: Request, model: str, space: Space | None) -> str:
    """Return what was asked for, as JSON, so that a row never replaces one of which something else was asked.

    Args:
        request: the whole request.
        model: the row's.
        space: what is searched; ``None`` where nothing is.
    """
    base = base_settings(model, request)
    epochs = epochs_of(request, model) if isinstance(MODELS[model], Network) else None
    own: dict[str, Value] = {"source": request.sources[model]} if model in request.sources else {}
    if space is None:
        return fixed_settings({**hashed(MODELS[model], base), **own}, epochs)
    searched = {dimension.name for dimension in space.dimensions}
    kept = hashed(MODELS[model], {**base, **space.fixed})
    left = {name: value for name, value in kept.items() if name not in searched}
    search: dict[str, Value] = {
        "trials": request.trials,
        "space": space.digest,
        "validation_folds": request.validation_folds,
        "pruning": request.prune,
        "sampler": request.sampler,
        "search_seed": request.search_seed,
    }
    trained: dict[str, Value] = {} if epochs is None else {"epochs": epochs}
    return json.dumps({**left, **own, **trained, **search}, sort_keys=True, ensure_ascii=False)
