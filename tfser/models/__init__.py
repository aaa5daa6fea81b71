"""The architectures by name; an entry of ``MODELS`` holds all that a trial needs of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from tfser.errors import RequestError
from tfser.models import atfnn, time_frequency_transformer
from tfser.trial import Hyperparameter, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture: its ablations, its settings and its builder."""

    name: str
    """The key in ``MODELS``."""
    title: str
    """Its name in tables."""
    paper: str
    """Key in ``results/published.yaml``."""
    ablations: tuple[str, ...]
    """Their names, the full model first."""
    hyperparameters: Mapping[str, Hyperparameter]
    """Settings of the model itself; the defaults are the published ones."""
    published: Mapping[str, Value]
    """Published settings of front end and training."""
    published_epochs: int | None
    """Published number of epochs; ``None`` if the paper does not state it."""
    build: Callable[[str, Mapping[str, Value], int], nn.Module]
    """(ablation, settings with n_mels and segment_frames, number of emotions) -> a model with fresh parameters.

    The parameters come from torch's current random state. Settings of other models are ignored. It raises
    ``RequestError`` with all of ``problems``. Input of the model: float (batch, 1, n_mels, segment_frames); output:
    logits (batch, emotions).
    """
    problems: Callable[[str, Mapping[str, Value]], list[str]]
    """Every reason why (ablation, settings) cannot be built, in words; empty if they can."""


def _builder(
    name: str,
    module: Callable[..., nn.Module],
    hyperparameters: Mapping[str, Hyperparameter],
    problems: Callable[[str, Mapping[str, Value]], list[str]],
) -> Callable[[str, Mapping[str, Value], int], nn.Module]:
    """Return a builder that passes settings by name to the arguments of ``module``."""

    def build(ablation: str, settings: Mapping[str, Value], emotions: int) -> nn.Module:
        found = problems(ablation, settings)
        if emotions < 2:
            found = [*found, f"emotions: {emotions} is not at least 2"]
        if found:
            raise RequestError(f"{name} {ablation}", found)
        arguments = {key: settings[key] for key in (*hyperparameters, "n_mels", "segment_frames")}
        return module(ablation=ablation, emotions=emotions, **arguments)

    return build


MODELS: dict[str, Architecture] = {
    "time_frequency_transformer": Architecture(
        name="time_frequency_transformer",
        title="Time-Frequency Transformer",
        paper="wang2023tft",
        ablations=time_frequency_transformer.ABLATIONS,
        hyperparameters=time_frequency_transformer.HYPERPARAMETERS,
        published={"n_mels": 80, "segment_frames": 80, "preemphasis": 0.97, "learning_rate": 0.001, "batch_size": 64},
        published_epochs=1000,
        build=_builder(
            "time_frequency_transformer",
            time_frequency_transformer.TimeFrequencyTransformer,
            time_frequency_transformer.HYPERPARAMETERS,
            time_frequency_transformer.problems,
        ),
        problems=time_frequency_transformer.problems,
    ),
    "atfnn": Architecture(
        name="atfnn",
        title="ATFNN",
        paper="lu2022atfnn",
        ablations=atfnn.ABLATIONS,
        hyperparameters=atfnn.HYPERPARAMETERS,
        published={"n_mels": 80, "segment_frames": 128, "preemphasis": 0.0, "learning_rate": 0.0005, "batch_size": 128},
        published_epochs=None,
        build=_builder("atfnn", atfnn.ATFNN, atfnn.HYPERPARAMETERS, atfnn.problems),
        problems=atfnn.problems,
    ),
}
