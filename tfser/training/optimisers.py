"""The optimisers of a training; knows nothing of networks or data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

OPTIMIZERS = ("adam", "nadam")


def optimiser(parameters: Iterable[nn.Parameter], settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the optimiser that a trial's settings name; settings without one mean ``adam``.

    Weight decay is decoupled in both. Everything else is PyTorch's default; for ``nadam`` (Dozat 2016) that is a
    momentum of 0.9 which grows over the first steps.

    Raises:
        ValueError: there is no such optimiser.
    """
    name, rate, decay = settings.get("optimizer", "adam"), settings["learning_rate"], settings["weight_decay"]
    if name == "adam":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if name == "nadam":
        return torch.optim.NAdam(parameters, lr=rate, weight_decay=decay, decoupled_weight_decay=True)
    raise ValueError(f"optimizer: no {name!r}; there are {', '.join(OPTIMIZERS)}")
