"""Checks of settings that every architecture's ``problems`` shares."""

from __future__ import annotations

from collections.abc import Mapping

from tfser.errors import unknown
from tfser.trial import Hyperparameter, Value

SIZES = ("n_mels", "segment_frames")
"""Settings of features and segments that decide the shape of a model's input."""


def range_problems(
    ablations: tuple[str, ...],
    hyperparameters: Mapping[str, Hyperparameter],
    ablation: str,
    settings: Mapping[str, Value],
    *,
    sizes: tuple[str, ...] = SIZES,
    any_channels: bool = False,
) -> list[str]:
    """Return what is missing or out of its own range; the model checks relations between settings.

    Settings of the training are ignored.

    Args:
        ablations: those of the model.
        hyperparameters: the model's own settings.
        ablation: the ablation to build.
        settings: every setting.
        sizes: settings of features and segments that the model is built from; ``n_mels`` only where its features have
            mel bands.
        any_channels: whether it reads as many channels as its features have.
    """
    problems = []
    if ablation not in ablations:
        problems.append(unknown("ablation", ablation, ablations))
    for name in sizes:
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problems.append(f"{name}: {value!r} is not a whole number of at least 1")
    if settings.get("deltas") and not any_channels:
        problems.append(f"deltas: {settings['deltas']!r} adds channels, and this model reads one; legal: 0")
    for name, hyperparameter in hyperparameters.items():
        reason = hyperparameter.problem(settings[name]) if name in settings else "missing"
        if reason:
            problems.append(f"{name}: {reason}")
    return problems


def divisor_problems(name: str, value: int, whole: int, what: str) -> list[str]:
    """Say why ``value`` cannot divide ``whole``, which ``what`` describes."""
    if whole % value == 0:
        return []
    legal = ", ".join(str(n) for n in range(1, whole + 1) if whole % n == 0)
    return [f"{name}: {value} does not divide {what}; legal: {legal}"]


def odd_problems(name: str, value: int) -> list[str]:
    """Say why ``value`` cannot be a kernel."""
    return (
        []
        if value % 2
        else [f"{name}: {value} is even, and only an odd kernel can be padded alike on both sides; legal: 1, 3, 5, ..."]
    )
