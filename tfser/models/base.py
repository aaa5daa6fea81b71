"""What a model is: everything that tfser has to know of one, declared in the model's own file.

A ``Network`` is trained by tfser, in epochs, on segments. An ``Estimator`` is fitted once, on utterances. ``Model``
holds what does not depend on how a model learns. No other room knows a model by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from tfser.errors import RequestError
from tfser.features.base import FeatureSet
from tfser.features.sets import FEATURE_SETS
from tfser.trial import Hyperparameter, Value


def _none(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One method of telling emotions: its names, its ablations and its settings."""

    name: str
    """What a command line, a search space and a record call it."""
    title: str
    """Its name in tables."""
    paper: str | None = None
    """Key in ``results/published.yaml``; ``None`` for a model without a paper there."""
    reruns: tuple[str, ...] = ()
    """Cited methods of ``results/published.yaml`` that it runs again, by the names that stand there."""
    features: str | FeatureSet = "log_mel"
    """What it reads of an utterance: a key of ``FEATURE_SETS``, or a feature set of the model's own file."""
    ablations: tuple[str, ...] = ("full",)
    """Their names, the full model first."""
    parts: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Of each ablation: the parts in the order of the ablation table's columns, and whether this ablation has them."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """Of each ablation: seconds of training per frame beside those of the other models; 1.0 where it is not given.

    For an estimator they are those of the whole fit, per frame or, where its features are one vector, per utterance.

    It is the cost at the published sizes on one CPU core, relative to the full Time-Frequency Transformer and rounded.
    It sets the order in which trials begin and changes no number, so that a guess will do.
    """
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    """Settings of the model itself; the defaults are the published ones."""
    published: Mapping[str, Value] = field(default_factory=dict)
    """Settings of features and training that this model has by default; the paper's, but for those in ``ours``."""
    ours: Mapping[str, str] = field(default_factory=dict)
    """Settings on which the paper is silent, ``epochs`` among them: why ours has the default that it has."""
    problems: Callable[[str, Mapping[str, Value]], list[str]] = _none
    """Every reason why (ablation, settings) cannot be built, in words; empty if they can."""
    missing: Callable[[str, Mapping[str, Value]], list[str]] = _none
    """What this machine lacks to train (ablation, settings), a compiler say, in words; finished trials do not need it.

    The driver asks where it trains on its own machine, and every worker before a trial.
    """

    @property
    def feature_set(self) -> FeatureSet:
        """What it reads of an utterance, as a value.

        Raises:
            KeyError: there is no such feature set.
        """
        return FEATURE_SETS[self.features] if isinstance(self.features, str) else self.features


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMap:
    """What one part of a model attends to, in every segment."""

    short: str
    """Its name in columns: ``f``, ``t`` or ``tf``."""
    title: str
    """The paper's name of the map."""
    unit: str
    """The meaning of its values, in words."""
    cells: np.ndarray
    """float64, shape (segments, bands, frames of a segment)."""
    weights: np.ndarray
    """What the layer computed, in its own shape; segments come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The attention maps of a model, and how they are read."""

    maps: Callable[[nn.Module, Tensor, Mapping[str, Value]], Mapping[str, AttentionMap]]
    """(module, its input, settings) -> the maps by the name of their part, in the paper's order.

    It runs the module once and leaves no hook behind. An ablation without attention has no map.
    """
    ablations: tuple[str, ...]
    """Those that have a map."""
    lacking: str = "no attention"
    """What the other ablations have, in words."""
    line_hz: float | None = None
    """Frequency at which the paper's figure divides high from low frequencies with a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Model):
    """A model that is an ``nn.Module`` over a batch of segments, trained in epochs."""

    published_epochs: int | None = None
    """Published number of epochs; ``None`` if the paper does not state it."""
    epochs_where_silent: int = 100
    """Ours: epochs without --epochs where the paper states none. Such rows are ``fixed``, not ``published``."""
    build: Callable[[str, Mapping[str, Value], int], nn.Module]
    """(ablation, settings, number of emotions) -> a module with fresh parameters.

    The settings hold those of features and training too, and ``input_channels`` and ``input_bands``, the shape of a
    row of features. The parameters come from torch's current random state. Input of the module: float (batch,
    input_channels, input_bands, segment_frames); output: logits (batch, emotions). Settings that do not fit raise
    ``RequestError`` with all of ``problems``. A layer may say how several networks compute it as one:
    ``tfser.models.stacked``.
    """
    attention: Attention | None = None
    fast: Mapping[str, Value] = field(default_factory=dict)
    """Settings of its own that --fast fixes: the same training, up to rounding, by faster kernels."""
    any_length: bool = False
    """Whether the module takes any number of frames from segment_frames up, so that it can score a whole utterance."""

    @property
    def epochs(self) -> int:
        """Epochs that it trains without --epochs."""
        return self.epochs_where_silent if self.published_epochs is None else self.published_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator(Model):
    """A model that is fitted once, on utterances, by scikit-learn's conventions. It has no epochs and no curves."""

    build: Callable[[str, Mapping[str, Value], int], Any]
    """(ablation, settings, seed) -> an object with ``fit`` and ``predict_proba``, or ``decision_function``; any
    Pipeline.

    ``fit(X, y)`` gets the training utterances and the names of their emotions, and ``groups`` with their speakers
    where it takes an argument of that name (``tfser.training.estimators.groups_keyword`` says how a Pipeline and a
    search with cross-validation get them). After it, ``classes_`` has to name emotions. The seed is the trial's; the
    global random states follow from it too. X is float, shape (utterances, values), where the features are one vector
    per utterance, else a list with an array of frames per utterance, shape (frames, values). It is as extracted, unless
    the setting ``standardisation`` says otherwise.
    """
    transductive: bool = False
    """Whether the scores of an utterance may depend on what is scored beside it. Every table marks such a row."""
    least_speakers: int = 1
    """Training speakers without which ``fit`` fails: 2 where it chooses a setting on held-out ones."""


def builder(
    name: str,
    module: Callable[..., nn.Module],
    hyperparameters: Mapping[str, Hyperparameter],
    problems: Callable[[str, Mapping[str, Value]], list[str]],
    sizes: tuple[str, ...] = ("n_mels", "segment_frames"),
) -> Callable[[str, Mapping[str, Value], int], nn.Module]:
    """Return a ``build`` that passes settings by name to the arguments of ``module``.

    Args:
        name: the model's, for messages.
        module: takes ``ablation``, ``emotions``, every hyperparameter and every one of ``sizes``.
        hyperparameters: the model's own settings.
        problems: its ``problems``.
        sizes: what ``module`` has to know of its input: ``input_channels``, ``input_bands`` or settings.
    """

    def build(ablation: str, settings: Mapping[str, Value], emotions: int) -> nn.Module:
        found = problems(ablation, settings)
        if emotions < 2:
            found = [*found, f"emotions: {emotions} is not at least 2"]
        if found:
            raise RequestError(f"{name} {ablation}", found)
        arguments = {key: settings[key] for key in (*hyperparameters, *sizes)}
        return module(ablation=ablation, emotions=emotions, **arguments)

    return build
