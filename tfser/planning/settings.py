"""The settings of a model, its front end and its training: their ranges, defaults and published values."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tfser.features.store import FrontEnd
from tfser.models import MODELS
from tfser.training.determinism import PRECISIONS
from tfser.trial import Hyperparameter, Value


def hyperparameters(model: str) -> dict[str, Hyperparameter]:
    """Return every setting of a model, its front end and its training, with the published defaults."""
    architecture = MODELS[model]
    general = {
        name: Hyperparameter(
            default=architecture.published.get(name, h.default), low=h.low, high=h.high, choices=h.choices, help=h.help
        )
        for name, h in HYPERPARAMETERS.items()
    }
    return {**general, **architecture.hyperparameters}


def published_settings(model: str) -> dict[str, Value]:
    """Return every setting of a model at its published value."""
    return {name: h.default for name, h in hyperparameters(model).items()}


def front_end(settings: Mapping[str, Value]) -> FrontEnd:
    """Return the front end that these settings describe."""
    return FrontEnd(n_mels=int(settings["n_mels"]), preemphasis=float(settings["preemphasis"]))


def is_published(model: str, settings: str) -> bool:
    """Return whether settings, as ``fixed_settings`` writes them, are all the paper's; it has to state epochs."""
    epochs = MODELS[model].published_epochs if model in MODELS else None
    return epochs is not None and settings == fixed_settings(published_settings(model), epochs)


def fixed_settings(settings: Mapping[str, Value], epochs: int) -> str:
    """Return a row's settings where nothing is searched: every hyperparameter and the epochs, as canonical JSON."""
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
    "n_mels": Hyperparameter(default=80, low=8, high=200, help="mel bands"),
    "preemphasis": Hyperparameter(default=0.0, low=0.0, high=0.9999, help="pre-emphasis coefficient"),
}
"""Settings of every model's training and front end; a model adds its own, and its published values."""
