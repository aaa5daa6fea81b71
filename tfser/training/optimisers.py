"""The optimisers of a training, and the clipping of gradients; knows nothing of networks or data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tfser.trial import Hyperparameter

OPTIMIZERS = ("adam", "nadam")

SETTINGS: Mapping[str, Hyperparameter] = {
    "optimizer": Hyperparameter(
        default="adam",
        implied="adam",
        choices=OPTIMIZERS,
        help="adam, or nadam: Adam with Nesterov momentum, whose trials are never trained together as one",
    ),
    "clip_norm": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=1e9,
        help="largest Euclidean norm of all gradients together, to which longer ones are scaled; 0 is none (Pascanu et "
        "al. 2013)",
    ),
}


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
