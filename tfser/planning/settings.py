"""The settings of a model, its features and its training: their ranges, defaults and published values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from tfser.features.base import Extractor
from tfser.models import MODELS, Model, Network
from tfser.training.determinism import PRECISIONS
from tfser.trial import Hyperparameter, Value


def hyperparameters(model: str) -> dict[str, Hyperparameter]:
    """Return every setting of a model of this process, its features and its training, with the published defaults."""
    return _hyperparameters(MODELS[model])


def _hyperparameters(model: Model) -> dict[str, Hyperparameter]:
    shared = {**(HYPERPARAMETERS if isinstance(model, Network) else {}), **model.feature_set.hyperparameters}
    general = {name: replace(h, default=model.published.get(name, h.default)) for name, h in shared.items()}
    return {**general, **model.hyperparameters}


def settings_of(model: Model) -> dict[str, Hyperparameter]:
    """Return every setting of a model, whether or not this process can train it by name."""
    return _hyperparameters(model)


def published_settings(model: str) -> dict[str, Value]:
    """Return every setting of a model of this process at its published value."""
    return {name: h.default for name, h in hyperparameters(model).items()}


def complete(model: Model, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the settings of a trial with those that its spec leaves out, at the value that they had then."""
    implied = {name: h.implied for name, h in _hyperparameters(model).items() if h.implied is not None}
    return {**implied, **settings}


def hashed(model: Model, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return settings as a spec holds them: without those at their ``implied`` value, as before they existed."""
    known = _hyperparameters(model)
    return {
        name: value
        for name, value in settings.items()
        if name not in known or known[name].implied is None or known[name].implied != value
    }


def extractor(model: Model, settings: Mapping[str, Value]) -> Extractor:
    """Return the features that a model reads with these settings."""
    return model.feature_set.extractor(complete(model, settings))


def build_settings(model: Model, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return everything that a network is built from: all settings, and the shape of a row of its features."""
    reads = extractor(model, settings)
    return {**complete(model, settings), "input_channels": reads.channels, "input_bands": reads.bands}


def is_published(model: str, settings: str) -> bool:
    """Return whether settings, as ``fixed_settings`` writes them, are all the paper's; it has to state epochs."""
    declared = MODELS.get(model)
    epochs = declared.published_epochs if isinstance(declared, Network) else None
    return (
        declared is not None
        and epochs is not None
        and settings == fixed_settings(hashed(declared, published_settings(model)), epochs)
    )


def fixed_settings(settings: Mapping[str, Value], epochs: int) -> str:
    """Return a row's settings where nothing is searched: every hyperparameter and the epochs, as canonical JSON.

    Args:
        settings: as a spec holds them.
        epochs: the epochs.
    """
    return json.dumps({**settings, "epochs": epochs}, sort_keys=True, ensure_ascii=False)


HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "learning_rate": Hyperparameter(default=0.001, low=1e-7, high=10.0, help="Adam's initial learning rate"),
    "batch_size": Hyperparameter(default=64, low=2, high=65536, help="segments per step"),
    "weight_decay": Hyperparameter(default=0.0, low=0.0, high=10.0, help="decoupled weight decay"),
    "precision": Hyperparameter(
        default="float32",
        choices=PRECISIONS,
        help="of training: tf32 rounds the inputs of matrix products on GPUs, bfloat16 computes them in it; "
        "scores are always float32",
    ),
    "class_weights": Hyperparameter(
        default="none", choices=("none", "balanced"), help="weights of the emotions in the loss"
    ),
    "frequency_mask": Hyperparameter(
        default=0, low=0, high=1024, help="SpecAugment: widest masked stripe of bands, in training only"
    ),
    "time_mask": Hyperparameter(
        default=0, low=0, high=100000, help="SpecAugment: widest masked stripe of frames, in training only"
    ),
    "segment_frames": Hyperparameter(default=80, low=8, high=100000, help="frames per segment (10 ms each)"),
    "segment_hop": Hyperparameter(
        default=0, low=0, high=100000, help="frames between segment starts; 0 is segment_frames: no overlap"
    ),
}
"""Settings of every network's training; features and the model add theirs, and the model its published values."""
