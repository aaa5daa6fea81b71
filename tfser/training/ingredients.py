"""What helps networks on small corpora: every setting of it, each off by default, and what does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.features import augmentation
from tfser.training import adversary, averaging, inner, masking, mixing, optimisers, sampling, schedules, variation
from tfser.trial import Hyperparameter, Value

_MODULES = (
    mixing,
    schedules,
    averaging,
    optimisers,
    sampling,
    masking,
    augmentation,
    variation,
    adversary,
    inner,
)

SETTINGS: Mapping[str, Hyperparameter] = {name: h for module in _MODULES for name, h in module.SETTINGS.items()}
"""Every setting, by name. Each is ``implied`` at its default, so that trials without it keep their ids."""

_FUSED = ("scoring_hop",)
"""Settings among them that several networks can be trained with as one."""


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return why settings do not fit each other, in words."""
    return [
        problem
        for module in (schedules, averaging, sampling, augmentation, inner)
        for problem in module.problems(settings)
    ]


def alone(settings: Mapping[str, Any]) -> list[str]:
    """Return the settings by which a trial has to be trained alone, each with its value."""
    found = []
    for name, h in SETTINGS.items():
        value = settings.get(name, h.default)
        if name not in _FUSED and value != h.default:
            found.append(f"{name} {value}")
    return found


def without_data(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return settings for a training on made-up frames: without what needs speakers, bands or augmented copies."""
    off = (
        "sampling",
        "schedule",
        "augmented_copies",
        "vtlp",
        "adversary_weight",
        "inner_speakers",
        "early_end_patience",
    )
    return {**settings, **{name: SETTINGS[name].default for name in off}}
