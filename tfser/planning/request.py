"""A request as a value, and what can be wrong with it. Knows no command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from tfser.errors import unknown
from tfser.models import DEFAULT, MODELS, Estimator, Network, built_in
from tfser.models.sources import installed
from tfser.planning import idle_settings
from tfser.planning.configuration import AskedSelection, Selection
from tfser.planning.own_models import asked, build_problems, near
from tfser.planning.search_space import Space, refusals
from tfser.planning.settings import HYPERPARAMETERS as NETWORK_SETTINGS
from tfser.planning.settings import (
    feature_problems,
    fixed_settings,
    hashed,
    hyperparameters,
    is_published,
    is_transductive,
    published_settings,
)
from tfser.training import ingredients
from tfser.trial import ProtocolName, Value

MOST_SEEDS, MOST_TRIALS, MOST_EPOCHS = 10_000, 1_000_000, 10_000_000
"""Ours: more than anyone needs, yet few enough that a slip of the finger cannot fill the memory with a plan."""

Sampler = Literal["tpe", "random"]
"""Optuna samplers that --sampler accepts.

``random`` is the baseline that a search has to beat; it begins with a random setting too, not with the published one.
"""

AskedPurpose = Literal["final", "deploy"]
"""What a start trains for: the recalls of every fold, or one model for use, of which no recall is known."""

SELECTIONS: tuple[AskedSelection, ...] = get_args(AskedSelection)
ASKED_PURPOSES: tuple[AskedPurpose, ...] = get_args(AskedPurpose)
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for: parsed, not yet checked."""

    models: tuple[str, ...] = DEFAULT
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
    """--set, as typed: ``KEY``, or ``MODEL.KEY`` for one model, and its value."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Digest of the source of each model that is not built in, by its name.

    Not in the representation, by which sweeps are named: an edit does not change what was asked for.
    """
    purpose: AskedPurpose = field(default="final", repr=False, compare=False)
    """``deploy`` asks for one model of each row that is trained on every speaker, instead of the folds' results.

    Neither in the representation nor compared: both are a sweep of one name, so that the model is found beside them.
    """
    gone: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Models among them whose file is not there, by name, and the sentence that says so.

    They are known by what they declared when they were trained, and can train nothing more.
    """


def problems(request: Request, spaces: Mapping[str, Space], *, models_known: bool = True) -> list[str]:
    """Return everything wrong with a request that shows without a database.

    Args:
        request: the request.
        spaces: search spaces by model.
        models_known: false where some model could not be read, so that nothing tells which settings there are.
    """
    if not models_known:
        return [*_deploy_problems(request), *_model_problems(request), *_number_problems(request)]
    models = [model for model in request.models if model in MODELS]
    found = _deploy_problems(request)
    unread = _unknown_settings(request, models)
    found += [*_name_problems(request, models), *_number_problems(request), *_epoch_problems(request, models), *unread]
    for model in models:
        unread += (wrong := _unreadable_settings(request, model))
        found += wrong
        if not unread:  # a model can be asked only about settings that were read
            found += _idle_problems(model, request, spaces.get(model))
            for ablation in ablations_of(request, model):
                found += _setting_problems(model, ablation, request, spaces.get(model))
    return list(dict.fromkeys(found))


def _deploy_problems(request: Request) -> list[str]:
    """Return which options speak of test folds where the model that is asked for has none."""
    if request.purpose != "deploy":
        return []
    found = []
    if request.protocol == "corpus":
        found.append("--protocol corpus: the model of --purpose deploy is of one database; name it, and no protocol")
    if request.folds:
        found.append(f"--fold: the model of --purpose deploy is trained on every {request.protocol}; leave it out")
    if request.selection == "oracle":
        why = "it chooses the epoch on the test fold, and the model of --purpose deploy has none"
        found.append(f"--selection oracle: {why}; use {' or '.join(s for s in SELECTIONS if s != 'oracle')}")
    return found


def _name_problems(request: Request, models: list[str]) -> list[str]:
    """Return what is wrong with names that have to be one of a list.

    Args:
        request: the whole request.
        models: those of its models that exist.
    """
    legal = [*(ablation for model in models or built_in() for ablation in MODELS[model].ablations), "all"]
    wrong = [unknown("--ablation", name, legal) for name in request.ablations if name not in legal]
    return [*_model_problems(request), *wrong]


def _model_problems(request: Request) -> list[str]:
    """Return which models there are not."""
    known: list[str] = [*built_in(), *request.sources]
    wrong = [name for name in request.models if name not in known]
    if wrong:
        known += installed()  # only now, because it reads what every installed package says of itself
    return [unknown("--model", name, known, every="tfser models list") + _ending(name) for name in wrong]


def _ending(name: str) -> str:
    """Return how a file has to be named, where a word looks like one without its ending."""
    file, colon, model = name.rpartition(":")
    return f"; a file is named with its ending: {file}.py:{model}" if colon and file else ""


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
    known = {model: hyperparameters(model) for model in models or built_in()}
    every = {name for settings in known.values() for name in settings}
    found = []
    for typed, _ in request.fixed:
        model, dot, name = typed.rpartition(".")
        if dot and model not in known:
            why = unknown("model", model, known, every="tfser models list")
            found.append(f"--set {typed}: {why}; before the dot stands one of --model")
        elif name not in (known[model] if dot else every):
            legal = known[model] if dot else every
            told = model if dot else models[0] if len(models) == 1 else "MODEL"
            tell = f"; tfser models describe {told} lists them all"
            fits = name in NETWORK_SETTINGS
            found.append(_only_of_networks(name, models) if fits and not dot else near("--set", name, legal, tell))
    return found


def _only_of_networks(name: str, models: list[str]) -> str:
    """Return the sentence for a setting of training where no model is trained in epochs."""
    are = "is an estimator and is" if len(models) == 1 else "are estimators and are each"
    return (
        f"--set {name}: it is a setting of networks, which are trained in epochs; {', '.join(models)} {are} fitted once"
    )


def _unreadable_settings(request: Request, model: str) -> list[str]:
    """Return which values of --set a model's settings cannot have."""
    known, found = hyperparameters(model), []
    for typed, text in request.fixed:
        name = setting_of(typed, model)
        if name in known:
            try:
                known[name].parse(text)
            except ValueError as error:
                found.append(f"--set {typed}: {error}")
    return found


def setting_of(typed: str, model: str) -> str | None:
    """Return the setting of a model that a key of --set means; ``None`` for one of another model.

    >>> setting_of("channels", "mine"), setting_of("mine.channels", "mine"), setting_of("other.channels", "mine")
    ('channels', 'channels', None)
    """
    named, dot, name = typed.rpartition(".")
    return name if not dot or named == model else None


def fixed_of(request: Request, model: str) -> dict[str, str]:
    """Return what --set says of a model, as typed: a value for this model alone comes before one for all."""
    ordered = sorted(request.fixed, key=lambda pair: "." in pair[0])
    return {name: text for typed, text in ordered if (name := setting_of(typed, model)) is not None}


def _setting_problems(model: str, ablation: str, request: Request, space: Space | None) -> list[str]:
    """Return why a model refuses its settings, or some that the search space can sample."""
    base, architecture = base_settings(model, request), MODELS[model]
    names, told = tuple(architecture.feature_set.hyperparameters), dict[tuple[Value, ...], list[str]]()

    def wrong(settings: Mapping[str, Value]) -> list[str]:
        features = tuple(settings[name] for name in names)  # few of many combinations differ in them
        if features not in told:
            told[features] = feature_problems(architecture, settings)
        return [*asked(architecture, ablation, settings), *told[features]]

    if space is None:
        found = [f"{model} {ablation}: {problem}" for problem in wrong(base)]
    else:
        found = refusals(space, base, wrong)
    if found or model not in request.sources or model in request.gone:
        return found
    return [f"{model} {ablation}: {problem}" for problem in build_problems(architecture, ablation, base)]


def _idle_problems(model: str, request: Request, space: Space | None) -> list[str]:
    """Return which settings of --set, or of what a space holds fixed, never act within the epochs."""
    epochs = epochs_of(request, model)
    fixed, searched = (space.fixed, {d.name for d in space.dimensions}) if space else ({}, set())
    if not isinstance(MODELS[model], Network) or epochs < 1 or not searched.isdisjoint(idle_settings.READ):
        return []
    typed, source = fixed_of(request, model), space.source if space else ""
    return [
        f"{'--set ' if name in typed else f'{source}: '}{name}: of {model}, {why}, or more --epochs"
        for name, why in idle_settings.idle({**base_settings(model, request), **fixed}, epochs).items()
        if name in typed or name in fixed
    ]


def base_settings(model: str, request: Request) -> dict[str, Value]:
    """Return every setting of a model: the published ones, then those of --set."""
    known, fixed = hyperparameters(model), fixed_of(request, model)
    return {**published_settings(model), **{n: known[n].parse(t) for n, t in fixed.items() if n in known}}


def ablations_of(request: Request, model: str) -> tuple[str, ...]:
    """Return the ablations of a model that were asked for."""
    architecture = MODELS[model]
    if not request.ablations:
        return architecture.ablations[:1]
    if "all" in request.ablations:
        return architecture.ablations
    return tuple(a for a in architecture.ablations if a in request.ablations)


def never_together(request: Request) -> list[str]:
    """Return which settings of --set keep a model's trials from being trained several at once, in words.

    Args:
        request: checked with ``problems``. What a model has by default or a search samples only leaves --together idle.
    """
    found = []
    for model in request.models:
        if isinstance(MODELS.get(model), Network):
            typed, base = fixed_of(request, model), base_settings(model, request)
            alone = ingredients.alone({name: base[name] for name in typed if name in base})
            if alone:
                why = f"{model} is trained one at a time with {', '.join(alone)}"
                found.append(f"--together: {why}; leave out --together, or that")
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
    asked_for = fixed_settings(hashed(MODELS[model], base_settings(model, request)), epochs_of(request, model))
    return "published" if is_published(model, asked_for) else "fixed"


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
