"""Averages of the weights over the steps or epochs of a training; what is scored and kept is the average.

    ema_decay  exponential moving average of weights and of the statistics of batch normalisation, after every step:
               average = decay * average + (1 - decay) * weights; the first step's weights begin it (Tarvainen and
               Valpola 2017). It looks back about 1 / (1 - decay) steps.
    swa_from   stochastic weight averaging: the mean of the weights at the end of each epoch from this one on, with the
               statistics of batch normalisation computed anew over the training segments (Izmailov et al. 2018)

The weights that are trained on are never the average. Knows nothing of trials or data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from tfser.trial import Hyperparameter

SETTINGS: Mapping[str, Hyperparameter] = {
    "ema_decay": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=0.999999,
        help="decay per step of a moving average of the weights, which is what is scored; 0 is none (Tarvainen and "
        "Valpola 2017)",
    ),
    "swa_from": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=10**7,
        help="first epoch of stochastic weight averaging, from which the mean of the epochs' weights is scored; 0 is "
        "none (Izmailov et al. 2018)",
    ),
}


class Averaging:
    """The average of a network's weights, where settings ask for one.

    Args:
        model: what is trained; it has to be copyable.
        settings: a trial's.
    """

    def __init__(self, model: nn.Module, settings: Mapping[str, Any]) -> None:
        self._model, self._decay = model, float(settings.get("ema_decay", 0.0))
        self._from = int(settings.get("swa_from", 0))
        self._average: AveragedModel | None = None
        if self._decay:
            moving = get_ema_multi_avg_fn(self._decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(model, multi_avg_fn=moving, use_buffers=True)
        elif self._from:
            self._average = AveragedModel(model)

    @property
    def model(self) -> nn.Module:
        """The network that is scored and kept: the average, or what is trained where there is none yet."""
        if self._average is None or not int(self._average.n_averaged):
            return self._model
        average: nn.Module = self._average.module
        return average

    def after_step(self) -> None:
        """Take the weights after a step into a moving average."""
        if self._decay and self._average is not None:
            self._average.update_parameters(self._model)

    def after_epoch(self, epoch: int, inputs: Callable[[], Iterable[Tensor]]) -> None:
        """Take the weights at the end of an epoch into a plain mean.

        Args:
            epoch: its number, from 1.
            inputs: returns the network's inputs of the training segments, for batch normalisation.
        """
        if not self._decay and self._average is not None and epoch >= self._from:
            self._average.update_parameters(self._model)
            update_bn(inputs(), self._average.module)

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on; empty without an average."""
        return {} if self._average is None else dict(self._average.state_dict())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
        if self._average is not None:
            self._average.load_state_dict(state)


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return why these settings of averages do not fit each other, in words."""
    if float(settings.get("ema_decay", 0.0)) and int(settings.get("swa_from", 0)):
        return ["ema_decay and swa_from are two averages, of which one can be scored; set one of them to 0"]
    return []
