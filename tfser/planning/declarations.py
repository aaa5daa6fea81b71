"""The declaration of a model as plain data, so that trials of a model can be planned whose file is gone.

What comes back trains nothing: it has the names, settings, ranges and ablations of the model, and none of its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Never

from tfser.features.base import FeatureSet
from tfser.features.sets import FEATURE_SETS
from tfser.models import Estimator, Model, Network
from tfser.trial import Hyperparameter

_DATA = ("name", "title", "paper", "reruns", "ablations", "parts", "cost", "published", "ours")
_OF_NETWORKS = ("published_epochs", "epochs_where_silent", "any_length")
_OF_ESTIMATORS = ("transductive",)


def to_dict(model: Model) -> dict[str, Any]:
    """Return what a model declares, as JSON values."""
    network, features = isinstance(model, Network), model.feature_set
    own = features.name if FEATURE_SETS.get(features.name) is features else _features(features)
    fields = (*_DATA, *(_OF_NETWORKS if network else _OF_ESTIMATORS))
    return {
        "kind": "network" if network else "estimator",
        **{name: getattr(model, name) for name in fields},
        "parts": {ablation: dict(parts) for ablation, parts in model.parts.items()},
        **{name: dict(getattr(model, name)) for name in ("cost", "published", "ours")},
        "hyperparameters": _settings(model.hyperparameters),
        "features": own,
    }


def from_dict(values: Mapping[str, Any]) -> Model:
    """Return a model that ``to_dict`` described; whatever would need its code raises ``LookupError``.

    Raises:
        KeyError, TypeError, ValueError: the values are something else.
    """
    network, features = {"network": True, "estimator": False}[values["kind"]], values["features"]
    fields: dict[str, Any] = {name: values[name] for name in (*_DATA, *(_OF_NETWORKS if network else _OF_ESTIMATORS))}
    fields |= {
        "reruns": tuple(values["reruns"]),
        "ablations": tuple(values["ablations"]),
        "hyperparameters": _read(values["hyperparameters"]),
        "features": features
        if isinstance(features, str)
        else FeatureSet(
            name=features["name"],
            meaning=features["meaning"],
            hyperparameters=_read(features["hyperparameters"]),
            extractor=_gone,
            missing=_lacks,
        ),
        "build": _gone,
    }
    return Network(**fields) if network else Estimator(**fields)


def _gone(*arguments: object) -> Never:
    raise LookupError("the model's file is gone")


def _lacks(settings: Mapping[str, object]) -> list[str]:
    return ["the features of the model's file cannot be made without it"]


def _features(features: FeatureSet) -> dict[str, Any]:
    settings = _settings(features.hyperparameters)
    return {"name": features.name, "meaning": features.meaning, "hyperparameters": settings}


def _settings(known: Mapping[str, Hyperparameter]) -> dict[str, Any]:
    return {name: asdict(h) for name, h in known.items()}


def _read(values: Mapping[str, Any]) -> dict[str, Hyperparameter]:
    return {name: Hyperparameter(**{**h, "choices": tuple(h["choices"])}) for name, h in values.items()}
