"""A second head that tells the training speakers apart, against which the network learns (Ganin et al. 2016).

The head reads what the network's last linear layer onto the emotions reads, through a layer that passes it on unchanged
and turns the gradient around: times -l. So the head learns to tell speakers, and the network to give it nothing to tell
them by. l grows with the share p of the schedule's steps that are done, as Ganin et al. let it:
l = adversary_weight * (2 / (1 + exp(-10 p)) - 1). The head's cross-entropy is added to the loss; it is no part of the
trained state, and the recorded loss is the emotions' alone. Only speakers that are trained on have an output.

Knows nothing of trials or folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.errors import TrialError
from tfser.trial import Hyperparameter

SETTINGS: Mapping[str, Hyperparameter] = {
    "adversary_weight": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=1000.0,
        help="weight of the reversed gradient of a head that tells training speakers apart; 0 is no head (Ganin et al. "
        "2016)",
    ),
    "adversary_units": Hyperparameter(
        default=64, implied=64, low=1, high=65536, help="adversary_weight: units of the head's hidden layer"
    ),
}


class _Reversed(torch.autograd.Function):
    """Pass a tensor on; multiply its gradient by minus a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def last_linear(model: nn.Module, emotions: int) -> nn.Linear | None:
    """Return the last linear layer of a network with an output per emotion; ``None`` where it has none."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == emotions]
    return layers[-1] if layers else None


class Adversary:
    """The head, and what it hears of the network's forward passes.

    Args:
        model: the network; it is not changed.
        settings: a trial's.
        speakers: the speaker of each training utterance.
        emotions: their number.
        steps: of the whole schedule.
        device: of the network.

    Raises:
        TrialError: the network has no linear layer onto the emotions, or not every utterance has a speaker.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Mapping[str, Any],
        speakers: Sequence[str],
        emotions: int,
        steps: int,
        device: torch.device,
    ) -> None:
        layer = last_linear(model, emotions)
        if layer is None:
            raise TrialError(
                f"adversary_weight: the network has no linear layer onto its {emotions} emotions to read at"
            )
        if not speakers:
            raise TrialError("adversary_weight: nothing tells the speakers of the training utterances")
        names, number = np.unique(np.array(speakers), return_inverse=True)
        self.speaker = torch.from_numpy(number).to(device)
        """int64, shape (training utterances,)."""
        self._weight, self._steps, self._taken = float(settings["adversary_weight"]), steps, 0
        units = int(settings.get("adversary_units", 64))
        first = nn.Linear(layer.in_features, units)
        self.head = nn.Sequential(first, nn.ReLU(), nn.Linear(units, len(names))).to(device)
        self._dtype = first.weight.dtype
        heard: list[Tensor] = []
        self._heard = heard

        def hear(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # The list, not this object: an average of weights copies the network, and functions are not copied.
            if module.training and torch.is_grad_enabled():
                heard[:] = inputs[:1]

        layer.register_forward_pre_hook(hear)

    @property
    def weight(self) -> float:
        """The weight of the reversed gradient in the next step."""
        done = min(self._taken / max(self._steps, 1), 1.0)
        return self._weight * (2 / (1 + math.exp(-10 * done)) - 1)

    def logits(self) -> Tensor:
        """Return what the head tells of the batch that the network has just computed: (segments, speakers)."""
        (x,) = self._heard
        self._heard.clear()
        weight, self._taken = self.weight, self._taken + 1
        if x.ndim > 2:  # a layer that is applied to parts of a segment
            x = x.flatten(1, -2).mean(dim=1)
        logits: Tensor = self.head(_Reversed.apply(x.to(self._dtype), weight))  # type: ignore[no-untyped-call]
        return logits

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on."""
        return {"taken": self._taken, "head": self.head.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
        self._taken = state["taken"]
        self.head.load_state_dict(state["head"])
