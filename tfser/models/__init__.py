"""The models by name; an entry of ``MODELS`` holds all that tfser has to know of a model."""

from __future__ import annotations

from typing import Protocol

from tfser.features.base import FeatureSet
from tfser.models import (
    acrnn,
    atfnn,
    cnn_lstm,
    dnn_elm,
    dtpm,
    fcn_attention,
    ga_bel,
    gerda,
    gmm,
    hmm,
    hu_svm,
    lda,
    rgsr,
    seqcap,
    ssl_head,
    stc_attention,
    svm,
    time_frequency_transformer,
)
from tfser.models.base import Attention, AttentionMap, Estimator, Model, Network
from tfser.trial import Hyperparameter, Value

__all__ = [
    "BUILT_IN",
    "COMPARISON",
    "DEFAULT",
    "MODELS",
    "PROPOSED",
    "Attention",
    "AttentionMap",
    "Estimator",
    "FeatureSet",
    "Hyperparameter",
    "Model",
    "Network",
    "Value",
    "add",
    "built_in",
    "find",
    "of",
]

PROPOSED: dict[str, Network] = {model.name: model for model in (time_frequency_transformer.MODEL, atfnn.MODEL)}
"""The networks that the two papers propose, by name."""

DEFAULT: tuple[str, ...] = tuple(PROPOSED)
"""The models of a sweep that names none."""

COMPARISON = "comparison"
"""Word of ``--model`` for every built-in model that the machine can run. No model has that name."""

BUILT_IN: tuple[Model, ...] = (
    *PROPOSED.values(),
    svm.MODEL,
    lda.MODEL,
    gmm.MODEL,
    hmm.MODEL,
    gerda.MODEL,
    rgsr.MODEL,
    hu_svm.MODEL,
    ga_bel.MODEL,
    dnn_elm.MODEL,
    acrnn.MODEL,
    cnn_lstm.MODEL,
    seqcap.MODEL,
    fcn_attention.MODEL,
    dtpm.MODEL,
    stc_attention.MODEL,
    ssl_head.MODEL,
)
"""Every model that comes with tfser: after those, the methods that the papers compare themselves with."""

MODELS: dict[str, Model] = {model.name: model for model in BUILT_IN}
"""Every model that this process can train by name: those that are built in, and those that a person has named."""

_BY_SOURCE: dict[tuple[str, str], Model] = {}
"""The models that are not built in, by name and digest of the source."""


def built_in() -> tuple[str, ...]:
    """Return the names of the models that come with tfser."""
    return tuple(model.name for model in BUILT_IN)


def add(model: Model, source: str) -> None:
    """Let this process train a model that is not built in.

    Args:
        model: the model.
        source: digest of its source.
    """
    MODELS[model.name] = _BY_SOURCE[model.name, source] = model


def find(name: str, source: str = "") -> Model | None:
    """Return the model of a trial; ``None`` where this process has none of that name and source."""
    return _BY_SOURCE.get((name, source)) if source else MODELS.get(name)


class Named(Protocol):
    """What says which model it is about: a trial's spec or a row's configuration."""

    @property
    def model(self) -> str: ...

    @property
    def source(self) -> str: ...


def of(spec: Named) -> Model:
    """Return the model of a trial or a row.

    Raises:
        LookupError: this process has none of that name and source.
    """
    model = find(spec.model, spec.source)
    if model is None:
        raise LookupError(f"model {spec.model} of source {spec.source or 'tfser'} is not known in this process")
    return model
