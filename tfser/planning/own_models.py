"""Models that are not built in: what can be wrong with their declaration, and what a request asks of them.

``use`` lets this process train one; every command and every worker calls it. Runs a person's code only to load it and
to build the model once.
"""

from __future__ import annotations

import contextlib
import json
import keyword
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tfser.errors import RequestError, near_names, unknown
from tfser.features.base import FeatureSet
from tfser.features.sets import FEATURE_SETS
from tfser.models import Estimator, Model, Network, add, find
from tfser.models.own_features import own
from tfser.models.sources import Source, described, read
from tfser.planning.configuration import OwnModel
from tfser.planning.search_space import Dimension, Space
from tfser.planning.settings import build_settings, setting_problems, settings_of
from tfser.text.typed import clipped
from tfser.trial import Hyperparameter, Value

_TAKEN = {
    "epochs", "trials", "space", "validation_folds", "pruning", "sampler", "search_seed", "source",
    "input_channels", "input_bands",
}  # fmt: skip
"""Names beside the settings in a row's or a model's settings."""

LEARNING_RATE = (1e-4, 1e-2)
"""Range of the learning rate in a search space that is made of declared ranges, as in those of built-in networks."""

EMOTIONS = 4
"""Emotions with which a model is built to see whether it can be."""


def named(
    typed: Iterable[str], gone: Mapping[str, tuple[Source, Model]] | None = None
) -> tuple[list[Source], list[RequestError]]:
    """Return the sources of several models, each ready to be used, and why others cannot be.

    Args:
        typed: each a file and a name, or the name of an entry point.
        gone: those whose file is not there, and what is remembered of them; they can be planned with, not trained.
    """
    gone = gone or {}
    found: list[Source] = []
    refused: list[RequestError] = []
    for word in typed:
        try:
            source = _remembered(*gone[word]) if word in gone else get(word)
        except RequestError as error:
            refused.append(error)
            continue
        other = next((each for each in found if each.name.casefold() == source.name.casefold()), None)
        if other is None:
            found.append(source)
        elif other.digest != source.digest or other.attribute != source.attribute:
            why = f"its model is called {source.name}, and so is that of {other.typed}; give one another name"
            refused.append(RequestError(word, [why]))
    return found, refused


def get(typed: str) -> Source:
    """Return the source of a model, and let this process train it.

    Raises:
        RequestError: every problem of its file or package, and of its declaration.
    """
    source = read(typed)
    model = source.model()
    if problems := declaration_problems(model):
        raise RequestError(typed, problems)
    use(source)
    return source


def _remembered(source: Source, model: Model) -> Source:
    """Let this process plan with a model whose file is gone, and return its source."""
    _take(source, find(model.name, source.digest) or model)
    return source


_TOLD: dict[tuple[str, str], OwnModel] = {}
"""Name and digest of the models of this process to what tables say of them."""


def told(name: str, digest: str) -> OwnModel | None:
    """Return what tables say of a model; ``None`` for one that is built in.

    Args:
        name: the model's.
        digest: of its source.
    """
    return _TOLD.get((name, digest))


def use(source: Source) -> Model:
    """Let this process train the model of a source, and return it.

    Raises:
        Exception: see ``Source.model``.
    """
    model = source.model()
    features = model.features
    if isinstance(features, FeatureSet) and FEATURE_SETS.get(features.name) is not features:
        model = replace(model, features=replace(features, extractor=own(features.extractor, source.digest)))
    _take(source, model)
    return model


def _take(source: Source, model: Model) -> None:
    """Make a model known to this process, with what tables say of it."""
    add(model, source.digest)
    defaults: dict[str, Value] = {name: h.default for name, h in settings_of(model).items()}
    if isinstance(model, Network):
        defaults["epochs"] = model.epochs
    _TOLD[model.name, source.digest] = OwnModel(
        title=model.title,
        typed=source.typed,
        kind="network" if isinstance(model, Network) else "estimator",
        parts=tuple((ablation, tuple(model.parts.get(ablation, {}).items())) for ablation in model.ablations),
        defaults=json.dumps(defaults, sort_keys=True, ensure_ascii=False),
        reruns=tuple(model.reruns),
    )


def declaration_problems(model: Model) -> list[str]:
    """Return everything that is wrong with what a model declares, in words."""
    found = _shape_problems(model)
    for check in (_feature_problems, _hyperparameter_problems, _published_problems):
        try:
            found += check(model)
        except (TypeError, AttributeError, KeyError):
            if not found:  # else it stumbled over what is named already
                raise
    return found


def _shape_problems(model: Model) -> list[str]:
    """Return which fields of a declaration have not the form that they need."""
    ablations: object = model.ablations
    is_named = isinstance(ablations, (tuple, list)) and all(isinstance(a, str) and a.strip() for a in ablations)
    wrong = {
        f"title: {clipped(model.title)} is no text": not isinstance(model.title, str) or not model.title.strip(),
        f"ablations: {clipped(ablations)} is not a tuple of names, such as ('full',)": not is_named,
        "ablations: there is none; name the full model first, such as ('full',)": is_named and not model.ablations,
        f"ablations: {clipped(ablations)} has a name twice": is_named
        and len({*model.ablations}) < len(model.ablations),
        "ablations: 'all' stands for every one of them; choose another name": is_named and "all" in model.ablations,
        f"hyperparameters: {clipped(model.hyperparameters)} is not a mapping of names to Hyperparameter(...)": (
            not isinstance(model.hyperparameters, Mapping)
            or not all(isinstance(h, Hyperparameter) for h in model.hyperparameters.values())
        ),
        f"reruns: {clipped(model.reruns)} is not a tuple of names, such as ('LLDs+SVM',)": (
            not isinstance(model.reruns, (tuple, list)) or not all(isinstance(name, str) for name in model.reruns)
        ),
        f"build: {clipped(model.build)} cannot be called": (  # type: ignore[attr-defined]  # both kinds have it
            not callable(model.build)  # type: ignore[attr-defined]
        ),
        f"problems: {clipped(model.problems)} cannot be called": not callable(model.problems),
    }
    wrong |= {
        f"{name}: {clipped(getattr(model, name))} is not a mapping": not isinstance(getattr(model, name), Mapping)
        for name in ("parts", "cost", "published", "ours")
    }
    if isinstance(model, Network):
        wrong |= {
            f"{name}: {clipped(value)} is not a whole number from 1": not _whole(value)
            for name, value in (
                ("published_epochs", 1 if model.published_epochs is None else model.published_epochs),
                ("epochs_where_silent", model.epochs_where_silent),
            )
        }
    return [problem for problem, holds in wrong.items() if holds]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _feature_problems(model: Model) -> list[str]:
    """Return what is wrong with the features that a model names, and with names of ablations elsewhere."""
    found = []
    if isinstance(model.features, str):
        if model.features not in FEATURE_SETS:
            found.append(unknown("features", model.features, FEATURE_SETS))
    elif not isinstance(model.features, FeatureSet):
        found.append(f"features: {clipped(model.features)} is neither a name nor a FeatureSet")
    for what, mapping in (("parts", model.parts), ("cost", model.cost)):
        found += [unknown(what, name, model.ablations) for name in mapping if name not in model.ablations]
    return found


def _hyperparameter_problems(model: Model) -> list[str]:
    """Return what is wrong with a model's own settings."""
    shared = _shared(model)
    found = []
    for name, h in model.hyperparameters.items():
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            found.append(f"hyperparameters: {clipped(name)} is no name for a setting; use letters, digits and '_'")
        elif name in shared:
            whose = "features" if name in model.feature_set.hyperparameters else "training"
            why = f"{name} is a setting of {whose} already; give yours another name, or a default in published="
            found.append(f"hyperparameters: {why}")
        elif name in _TAKEN:
            found.append(f"hyperparameters: tfser has another meaning for {name}; choose another name")
        if isinstance(h.default, str) and not h.choices:
            found.append(f"hyperparameters: {name} has a word as default and no choices=(...)")
        elif problem := h.problem(h.default):
            found.append(f"hyperparameters: {name}: its default {problem}")
    return found


def _published_problems(model: Model) -> list[str]:
    """Return what is wrong with the defaults that a model gives to settings of features and training."""
    shared, found = _shared(model), []
    for name, value in model.published.items():
        if name not in shared:
            found.append(near("published", name, shared))
        elif problem := shared[name].problem(value):
            found.append(f"published: {name}: {problem}")
    known = {*shared, *model.hyperparameters, "epochs"}
    return found + [near("ours", name, known) for name in model.ours if name not in known]


def _shared(model: Model) -> dict[str, Hyperparameter]:
    """Return the settings of features and training."""
    return settings_of(replace(model, hyperparameters={}, published={}))


def near(what: str, given: object, known: Iterable[str], more: str = "") -> str:
    """Return the sentence for a setting that does not exist: those with near names, not all of them.

    Args:
        what: what was read.
        given: the name that was read.
        known: every legal name.
        more: what tells them all.

    >>> near("--set", "chanels", ["channels", "kernel", "dropout"])
    "--set: no 'chanels' (did you mean 'channels'?)"
    """
    return f"{what}: no {clipped(given, 100)}{near_names(str(given), sorted(known), cutoff=0.7)}{more}"


def asked(model: Model, ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return why a model refuses settings; an error of a person's code is one of the reasons."""
    try:
        with _apart():
            return [str(problem) for problem in setting_problems(model, ablation, settings)]
    except Exception as error:
        return [described(error)]


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Let a person's code neither move the caller's random state nor print among a command's JSON."""
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr):
        yield


def build_problems(model: Model, ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Build a model once, without allocating its parameters where that works; return what goes wrong."""
    try:
        if isinstance(model, Estimator):
            with _apart():
                return _estimator_problems(model.build(ablation, dict(settings), 0))
        assert isinstance(model, Network)
        module: Any = built(model, ablation, build_settings(model, settings))
    except RequestError as error:
        return error.problems
    except Exception as error:
        return [described(error)]
    if not isinstance(module, nn.Module):
        return [f"build returned a {type(module).__name__}, not an nn.Module"]
    return []


def built(model: Network, ablation: str, settings: Mapping[str, Value]) -> object:
    """Build a network on no device, else on the CPU: some code needs numbers to build."""
    try:
        with _apart(), torch.device("meta"):
            return model.build(ablation, settings, EMOTIONS)
    except Exception:
        with _apart():
            return model.build(ablation, settings, EMOTIONS)


def _estimator_problems(estimator: object) -> list[str]:
    if not callable(getattr(estimator, "fit", None)):
        return [f"build returned a {type(estimator).__name__}, which has no fit"]
    if not any(hasattr(estimator, name) for name in ("predict_proba", "decision_function")):
        return [f"build returned a {type(estimator).__name__}, which has neither predict_proba nor decision_function"]
    return []


def declared_space(model: Model) -> Space | None:
    """Return a search space of the ranges that a model declares; ``None`` where it declares none.

    A range of two decades and more above 0 is searched on a logarithmic scale. Of the settings of training, a network's
    learning rate is searched.
    """
    dimensions = [d for name, h in model.hyperparameters.items() if (d := _dimension(name, h)) is not None]
    if isinstance(model, Network):
        dimensions.append(Dimension(name="learning_rate", kind="float", values=LEARNING_RATE, log=True))
    if not dimensions:
        return None
    source = f"the ranges that {model.name} declares"
    return Space(source=source, model=model.name, fixed={}, dimensions=tuple(dimensions), declared=True)


def _dimension(name: str, h: Hyperparameter) -> Dimension | None:
    if isinstance(h.default, bool):
        return Dimension(name=name, kind="choice", values=(False, True))
    if isinstance(h.default, str):
        return Dimension(name=name, kind="choice", values=h.choices) if len(h.choices) > 1 else None
    if h.low is None or h.high is None or not h.low < h.high:
        return None
    kind: type[int] | type[float] = int if isinstance(h.default, int) else float
    log = h.low > 0 and h.high / h.low >= 100
    return Dimension(name=name, kind=kind.__name__, values=(kind(h.low), kind(h.high)), log=log)
