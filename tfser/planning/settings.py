"""The settings of a model, its features and its training: their ranges, defaults and published values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import torch

from tfser.errors import in_a_line
from tfser.features import augmentation, check
from tfser.features.base import Extractor, loudness_of
from tfser.features.standardise import KINDS, TRANSDUCTIVE
from tfser.models import MODELS, Estimator, Model, Network
from tfser.training import ingredients
from tfser.training.adversary import last_linear
from tfser.training.determinism import PRECISIONS
from tfser.training.utterance_rules import RULES
from tfser.trial import Hyperparameter, Value


def hyperparameters(model: str) -> dict[str, Hyperparameter]:
    """Return every setting of a model of this process, its features and its training, with the published defaults."""
    return settings_of(MODELS[model])


def settings_of(model: Model) -> dict[str, Hyperparameter]:
    """Return every setting of a model, whether or not this process can train it by name."""
    trained = HYPERPARAMETERS if isinstance(model, Network) else ESTIMATOR_HYPERPARAMETERS
    shared = {**trained, **model.feature_set.hyperparameters}
    general = {name: replace(h, default=model.published.get(name, h.default)) for name, h in shared.items()}
    return {**general, **model.hyperparameters}


def published_settings(model: str) -> dict[str, Value]:
    """Return every setting of a model of this process at its published value."""
    return {name: h.default for name, h in hyperparameters(model).items()}


def complete(model: Model, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the settings of a trial with those that its spec leaves out, at the value that they had then."""
    implied = {name: h.implied for name, h in settings_of(model).items() if h.implied is not None}
    return {**implied, **settings}


def hashed(model: Model, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return settings as a spec holds them: without those at their ``implied`` value, as before they existed."""
    known = settings_of(model)
    return {
        name: value
        for name, value in settings.items()
        if name not in known or known[name].implied is None or known[name].implied != value
    }


def extractor(model: Model, settings: Mapping[str, Value]) -> Extractor:
    """Return the features that a model reads with these settings."""
    return model.feature_set.extractor(complete(model, settings))


def extractors(model: Model, settings: Mapping[str, Value]) -> tuple[Extractor, ...]:
    """Return all features that a trial with these settings reads: the model's, then those of augmented copies."""
    reads = extractor(model, settings)
    return (reads, *(augmentation.copies(reads, settings) if isinstance(model, Network) else ()))


def extracted(model: Model) -> dict[str, Hyperparameter]:
    """Return the settings of a model that decide what is extracted, so that each of their values costs features."""
    copies = augmentation.SETTINGS if isinstance(model, Network) else {}
    return {**model.feature_set.hyperparameters, **copies}


def feature_problems(model: Model, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why a model gets no features with these settings, in words.

    Where this machine lacks something for them (``missing_here``), only the settings are looked at.
    """
    features, settings = model.feature_set, complete(model, settings)
    try:
        if (found := features.problems(settings)) or features.missing(settings):
            return found
        reads = features.extractor(settings)
        found = check.declared(reads)
        if not found and features.extractor(settings) != reads:
            found = ["two of its extractors with the same settings are not equal: make their class a frozen dataclass"]
    except Exception as error:  # a model's own file may bring the features
        found = [in_a_line(error)]
    return [f"features {features.name}: {problem}" for problem in found]


def missing_here(model: Model, settings: Mapping[str, Value]) -> list[str]:
    """Return what this machine lacks to extract a model's features, in words; finished trials do not need it."""
    features = model.feature_set
    try:
        return features.missing(complete(model, settings))
    except Exception as error:  # a model's own file may bring the features
        return [f"features {features.name}: {in_a_line(error)}"]


def build_settings(model: Model, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return everything that a network is built from: all settings, and the shape of a row of its features."""
    reads = extractor(model, settings)
    return {**complete(model, settings), "input_channels": reads.channels, "input_bands": reads.bands}


def setting_problems(model: Model, ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why (ablation, settings) of a model cannot be trained and scored, in words."""
    found = list(model.problems(ablation, settings))
    if isinstance(model, Network) and settings.get("utterance_rule") == "whole" and not model.any_length:
        others = ", ".join(rule for rule in RULES if rule != "whole")
        found.append(
            f"utterance_rule: whole needs a network that takes any number of frames, and {model.name} does not declare "
            f"any_length; legal: {others}"
        )
    if isinstance(model, Network):
        found += [*ingredients.problems(settings), *_warp_problems(model, settings)]
        found += _adversary_problems(model, ablation, settings)
    if isinstance(model, Network) and float(settings.get("segment_share", 1.0)) < 1:
        found += _share_problems(model, settings)
    if settings.get("standardisation") == "utterance" and _one_row(model, settings):
        others = ", ".join(kind for kind in KINDS if kind != "utterance")
        found.append(
            f"standardisation: utterance leaves nothing of {model.feature_set.name}, which is one row per utterance: "
            f"its own mean would make every value 0; legal: {others}"
        )
    return found


def _warp_problems(model: Model, settings: Mapping[str, Value]) -> list[str]:
    """Say why a vocal tract cannot be made longer or shorter."""
    if not float(settings.get("vtlp", 0.0)):
        return []
    try:
        if extractor(model, settings).band_centres_hz is not None:
            return []
    except Exception:  # a model's own file may bring the features; ``feature_problems`` says what is wrong
        return []
    name = model.feature_set.name
    return [f"vtlp: {float(settings['vtlp']):g} moves frequencies, and the bands of {name} are none; legal: 0"]


_READ_AT: dict[tuple[object, str], bool] = {}
"""How a network is built, and an ablation, to whether it has a layer that an adversary can read at."""


def _adversary_problems(model: Network, ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Say why no head can tell speakers by what a network makes of a segment."""
    if not float(settings.get("adversary_weight", 0.0)):
        return []
    key, emotions = (model.build, ablation), 97  # no layer within a network is as wide by chance
    if key not in _READ_AT:
        try:
            with torch.device("meta"):  # no memory is taken, and no random number drawn
                module = model.build(ablation, build_settings(model, settings), emotions)
        except Exception:  # the model's own problems say what is wrong
            return []
        _READ_AT[key] = last_linear(module, emotions) is not None
    if _READ_AT[key]:
        return []
    return [f"adversary_weight: {model.name} has no linear layer onto its emotions, where a head would read; legal: 0"]


def _share_problems(model: Model, settings: Mapping[str, Value]) -> list[str]:
    """Say why only a share of the segments cannot be taken."""
    asked = f"segment_share: {float(settings['segment_share']):g}"
    found = []
    if settings.get("utterance_rule") == "whole":
        found.append(f"{asked} of the segments, where utterance_rule whole scores the whole utterance; legal: 1")
    try:
        silent = loudness_of(extractor(model, settings)) is None
    except Exception:  # a model's own file may bring the features; ``feature_problems`` says what is wrong
        silent = False
    if silent:
        found.append(
            f"{asked} needs features that tell their energy, and these {model.feature_set.name} do not; legal: 1"
        )
    return found


def _one_row(model: Model, settings: Mapping[str, Value]) -> bool:
    """Return whether an utterance's features are one row; false where there are none (``feature_problems``)."""
    try:
        return extractor(model, settings).vector
    except Exception:  # a model's own file may bring the features
        return False


def is_transductive(model: Model, settings: Mapping[str, Value]) -> bool:
    """Return whether an utterance's scores depend on what is scored beside it."""
    declared = isinstance(model, Estimator) and model.transductive
    return declared or settings.get("standardisation") == TRANSDUCTIVE


def is_published(model: str, settings: str) -> bool:
    """Return whether settings, as ``fixed_settings`` writes them, are all the paper's; it has to state epochs.

    An estimator has none, so that all of its settings are enough.
    """
    declared = MODELS.get(model)
    if declared is None:
        return False
    epochs = declared.published_epochs if isinstance(declared, Network) else None
    stated = epochs is not None if isinstance(declared, Network) else declared.paper is not None
    return stated and settings == fixed_settings(hashed(declared, published_settings(model)), epochs)


def fixed_settings(settings: Mapping[str, Value], epochs: int | None) -> str:
    """Return a row's settings where nothing is searched: every hyperparameter and the epochs, as canonical JSON.

    Args:
        settings: as a spec holds them.
        epochs: the epochs; ``None`` for an estimator.
    """
    trained: dict[str, Value] = {} if epochs is None else {"epochs": epochs}
    return json.dumps({**settings, **trained}, sort_keys=True, ensure_ascii=False)


HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "learning_rate": Hyperparameter(default=0.001, low=1e-7, high=10.0, help="the optimiser's initial learning rate"),
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
    "segment_frames": Hyperparameter(
        default=80, low=8, high=100000, help="frames per segment (10 ms each, unless the features say otherwise)"
    ),
    "segment_hop": Hyperparameter(
        default=0, low=0, high=100000, help="frames between segment starts; 0 is segment_frames: no overlap"
    ),
    "segment_share": Hyperparameter(
        default=1.0,
        implied=1.0,
        low=0.001,
        high=1.0,
        help="share of an utterance's segments that is trained and scored, those with the highest energy; 1 is all",
    ),
    "standardisation": Hyperparameter(
        default="training",
        implied="training",
        choices=KINDS,
        help="whose mean and deviation each band gets: of all training utterances, of the utterance, of its speaker "
        "(transductive: a test speaker's whole unlabelled audio), or none",
    ),
    "utterance_rule": Hyperparameter(
        default="mean",
        implied="mean",
        choices=RULES,
        help="how segments' probabilities become an utterance's: their mean, their maximum, the whole utterance in one "
        "pass, their statistics into an extreme learning machine, or a temporal pyramid into linear SVMs",
    ),
    "statistics_units": Hyperparameter(
        default=120,
        implied=120,
        low=0,
        high=10000,
        help="utterance_rule statistics: random sigmoid units; 0 is ridge regression without them",
    ),
    "statistics_ridge": Hyperparameter(
        default=1.0, implied=1.0, low=1e-9, high=1e9, help="utterance_rule statistics: cost of the squared weights"
    ),
    "pyramid_p": Hyperparameter(
        default=2.0,
        implied=2.0,
        low=1.0,
        high=1000.0,
        help="utterance_rule pyramid: exponent of the pooling; 1 is the mean, a large one the maximum",
    ),
    "pyramid_c": Hyperparameter(
        default=1.0, implied=1.0, low=1e-9, high=1e9, help="utterance_rule pyramid: cost of the SVM's errors"
    ),
    **ingredients.SETTINGS,
}
"""Settings of every network's training; features and the model add theirs, and the model its published values."""

ESTIMATOR_HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "standardisation": Hyperparameter(
        default="none",
        implied="none",
        choices=KINDS,
        help="whose mean and deviation each value of the features gets: none, because a Pipeline scales by itself; or "
        "of all training utterances, of the utterance (of frames only), or of its speaker (transductive: a test "
        "speaker's whole unlabelled audio)",
    ),
}
"""Settings of every estimator; features and the model add theirs, and the model its published values."""
