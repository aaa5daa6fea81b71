"""Learning rates that change during a training. ``learning_rate`` is always the highest one.

    constant       the same in every step
    warmup         step i of the first W has (i + 1) / W of it, W the steps of warmup_epochs; then constant (Goyal et
                   al. 2017, section 2.2)
    cosine         step i of T has (1 + cos(pi i / T)) / 2 of it (Loshchilov and Hutter 2017, without restarts)
    warmup_cosine  warmup, then cosine over the steps that are left
    one_cycle      from 1/25 up to it over 30 % of the steps, then down to 4e-6 of it, with Adam's first momentum
                   between 0.95 and 0.85 the other way round (Smith and Topin 2019; PyTorch's OneCycleLR)
    plateau        times plateau_factor whenever the UAR of the inner speakers (tfser.training.inner) did not rise for
                   more than plateau_patience epochs (PyTorch's ReduceLROnPlateau)

T is the number of steps of schedule_epochs, or of the whole trial where that is 0. A search that chooses among numbers
of epochs compares the same learning rates only with schedule_epochs set: without it, the final trial of the chosen 30
of 60 epochs has a schedule of 30. After T the learning rate stays what it was. Knows nothing of networks or data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from tfser.trial import Hyperparameter

SCHEDULES = ("constant", "warmup", "cosine", "warmup_cosine", "one_cycle", "plateau")

SETTINGS: Mapping[str, Hyperparameter] = {
    "schedule": Hyperparameter(
        default="constant",
        implied="constant",
        choices=SCHEDULES,
        help="how the learning rate changes; learning_rate is its highest value",
    ),
    "warmup_epochs": Hyperparameter(
        default=5, implied=5, low=1, high=10**6, help="schedule warmup and warmup_cosine: epochs of a rising rate"
    ),
    "schedule_epochs": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=10**7,
        help="schedule cosine, warmup_cosine and one_cycle: epochs of the whole schedule; 0 is those of the trial",
    ),
    "plateau_factor": Hyperparameter(
        default=0.1, implied=0.1, low=0.001, high=0.999, help="schedule plateau: what the rate is multiplied by"
    ),
    "plateau_patience": Hyperparameter(
        default=10, implied=10, low=0, high=10**6, help="schedule plateau: epochs without a better UAR that are allowed"
    ),
}


def steps_of(settings: Mapping[str, Any], epochs: int, steps: int) -> int:
    """Return the steps of a whole schedule.

    Args:
        settings: a trial's.
        epochs: the trial's.
        steps: of one epoch.
    """
    return (int(settings.get("schedule_epochs", 0)) or epochs) * steps


class Schedule:
    """The learning rate of an optimiser: call ``after_step`` and ``after_epoch``.

    Args:
        optimizer: its learning rate is changed at once.
        settings: a trial's.
        epochs: the trial's.
        steps: of one epoch.
    """

    def __init__(self, optimizer: Optimizer, settings: Mapping[str, Any], epochs: int, steps: int) -> None:
        name, rate = settings.get("schedule", "constant"), float(settings["learning_rate"])
        self._last = steps_of(settings, epochs, steps) - 1
        """Number of the last step whose learning rate may differ from the one before."""
        self._taken = 0
        self._by_step: lr_scheduler.LRScheduler | None = None
        self._by_epoch: lr_scheduler.ReduceLROnPlateau | None = None
        rising = int(settings.get("warmup_epochs", 5)) * steps if name in ("warmup", "warmup_cosine") else 0
        if name in ("warmup", "cosine", "warmup_cosine"):
            falling = self._last + 1 if name != "warmup" else None
            self._by_step = lr_scheduler.LambdaLR(optimizer, lambda step: share(step, rising, falling))
            self._last = rising - 1 if falling is None else self._last
        elif name == "one_cycle":
            self._by_step = lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=self._last + 1)
        elif name == "plateau":
            self._by_epoch = lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="max",
                factor=float(settings.get("plateau_factor", 0.1)),
                patience=int(settings.get("plateau_patience", 10)),
            )

    def after_step(self) -> None:
        """Set the learning rate of the next step."""
        if self._by_step is not None and self._taken < self._last:
            self._taken += 1
            self._by_step.step()

    def after_epoch(self, inner_uar: float | None) -> None:
        """Set the learning rate of the next epoch.

        Args:
            inner_uar: of the inner speakers; ``None`` for a trial without any.
        """
        if self._by_epoch is not None:
            assert inner_uar is not None, "setting_problems refuses plateau without inner speakers"
            self._by_epoch.step(inner_uar)

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on, as plain values; empty for a constant rate."""
        own = self._by_step or self._by_epoch
        return {} if own is None else {"taken": self._taken, "own": own.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; the optimiser restores the learning rate itself."""
        own = self._by_step or self._by_epoch
        if own is not None:
            self._taken = state["taken"]
            own.load_state_dict(state["own"])


def share(step: int, rising: int, end: int | None) -> float:
    """Return the share of the highest learning rate in a step.

    Args:
        step: its number, from 0.
        rising: steps of warm-up.
        end: steps of warm-up and cosine together; ``None`` where the rate stays constant after the warm-up.

    >>> [share(step, 4, None) for step in range(6)], share(2, 0, 4)
    ([0.25, 0.5, 0.75, 1.0, 1.0, 1.0], 0.5)
    """
    if step < rising:
        return (step + 1) / rising
    if end is None or end <= rising:
        return 1.0
    return (1 + math.cos(math.pi * (step - rising) / (end - rising))) / 2


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return why these settings of a schedule do not fit each other, in words."""
    if settings.get("schedule") == "plateau" and not int(settings.get("inner_speakers", 0)):
        return [
            "schedule: plateau watches speakers that are not trained on, and inner_speakers is 0; "
            "use inner_speakers of at least 1"
        ]
    return []
