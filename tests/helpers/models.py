"""Small models with random weights, and segments to score."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tfser.models import MODELS, Network

SMALL: dict[str, dict[str, Any]] = {
    "time_frequency_transformer": {
        "n_mels": 16,
        "segment_frames": 16,
        "channels": 4,
        "feed_forward": 8,
        "time_frequency_feed_forward": 8,
    },
    "atfnn": {"n_mels": 10, "segment_frames": 16, "encoder_channels": 6, "lstm_hidden": 5},
}
"""A small model that differs from the published one in size only."""


def published(architecture: Network) -> dict[str, Any]:
    return {name: h.default for name, h in architecture.hyperparameters.items()} | dict(architecture.published)


def small(model: str, ablation: str, seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS[model].build(ablation, published(MODELS[model]) | SMALL[model] | changes, 4)


def segments(model: str, batch: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(
        batch, 1, SMALL[model]["n_mels"], SMALL[model]["segment_frames"], generator=torch.Generator().manual_seed(seed)
    )
