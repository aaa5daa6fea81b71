"""Inner speakers: training speakers that a trial does not train on but scores after every epoch.

    inner_speakers      how many; they are the next ones after the fold and the validation speakers in the circle of
                        sorted names (``tfser.evaluation.folds.inner_groups``), and the record names them. A search
                        trial has them beside its validation speaker, which stays unseen by the training.
    early_end_patience  ends a final trial whose UAR on them did not rise for this many epochs, and keeps the weights of
                        its best epoch (Prechelt 1998, with the UAR in place of the error)

The schedule ``plateau`` watches them too. A final trial never looks at its test speaker for any of this. Knows nothing
of folds or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from tfser.trial import Hyperparameter

SETTINGS: Mapping[str, Hyperparameter] = {
    "inner_speakers": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=1000,
        help="training speakers (sessions, with that protocol) that are not trained on but scored after each epoch, "
        "for early_end_patience and schedule plateau",
    ),
    "early_end_patience": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=10**6,
        help="epochs without a better UAR on the inner speakers after which a final trial ends, at its best epoch; 0 "
        "trains all epochs",
    ),
}


class EarlyEnd:
    """The best epoch on the inner speakers so far, and whether a training should end.

    Args:
        settings: a trial's.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._patience = int(settings.get("early_end_patience", 0))
        self._best: dict[str, Any] = {}

    @property
    def is_on(self) -> bool:
        """Whether the best epoch is kept."""
        return self._patience > 0

    def after_epoch(self, epoch: int, uar: float, weights: Callable[[], Mapping[str, Tensor]]) -> None:
        """Keep an epoch that is better than all before.

        Args:
            epoch: its number, from 1.
            uar: on the inner speakers.
            weights: returns a copy of its weights.
        """
        if self.is_on and (not self._best or uar > self._best["uar"]):
            self._best = {"epoch": epoch, "uar": uar, "weights": dict(weights())}

    def is_due(self, epoch: int) -> bool:
        """Return whether a training should end after an epoch."""
        return bool(self._best) and epoch - int(self._best["epoch"]) >= self._patience

    @property
    def best(self) -> tuple[int, Mapping[str, Tensor]] | None:
        """The best epoch and its weights; ``None`` where it is not kept."""
        return (self._best["epoch"], self._best["weights"]) if self._best else None

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on."""
        return self._best

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``."""
        self._best = dict(state)


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return why these settings of inner speakers do not fit each other, in words."""
    if int(settings.get("early_end_patience", 0)) and not int(settings.get("inner_speakers", 0)):
        return [
            "early_end_patience: it watches speakers that are not trained on, and inner_speakers is 0; "
            "use inner_speakers of at least 1"
        ]
    return []
