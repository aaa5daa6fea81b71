"""The interface of runners, which train a schedule's trials. They differ in where trials run, never in the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # only for types: a machine that only trains lacks some of what these import
    from tfser.execution.run_trial import Task
    from tfser.execution.schedule import Schedule
    from tfser.execution.task import DeviceKind
    from tfser.execution.worker_usage import Usage
    from tfser.features.store import Mapper
    from tfser.trial import TrialSpec


RETRIES = 5
"""How often a trial is started again after its worker, its node or its features were lost."""


class Runner(Protocol):
    """Trains until the schedule is finished."""

    workers: int
    """Trials at once, as known at the start and again after ``choose_share``."""
    usage: Usage
    """How the workers spent their time."""

    @property
    def device(self) -> DeviceKind:
        """What networks are trained on."""
        ...

    @property
    def mapper(self) -> Mapper:
        """A ``map`` that spreads independent calls, such as feature extraction, over the workers."""
        ...

    def choose_share(self, tasks: Sequence[Task]) -> None:
        """Choose each trial's share of a machine, now that there are features to measure it on.

        Args:
            tasks: the trials that take the most memory.
        """
        ...

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], Task]) -> None:
        """Train everything the schedule has. Ctrl-C raises ``KeyboardInterrupt``; committed trials stay."""
        ...

    def close(self) -> None:
        """Stop what this runner started."""
        ...
