"""Runners: what trains a schedule's trials. All give the same numbers; they differ in where trials run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # nothing here needs them to run, and a machine that only trains lacks what some of them import
    from tfser.features import Mapper
    from tfser.runners.work import Task
    from tfser.schedule import Schedule
    from tfser.trial import TrialSpec
    from tfser.usage import Usage


RETRIES = 5
"""How often a trial is started again after its worker, its node or what it read was lost."""


class Runner(Protocol):
    """Trains until the schedule is finished."""

    workers: int
    """Trials at once, as known at the start, and after ``settle``."""
    usage: Usage
    """What the workers' time went into."""

    @property
    def mapper(self) -> Mapper:
        """Spreads independent pieces of work (feature extraction) over the workers."""
        ...

    def settle(self, tasks: Sequence[Task]) -> None:
        """Choose what each trial gets of a machine, now that there are features to try it on.

        Args:
            tasks: the trials that take the most memory.
        """
        ...

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], Task]) -> None:
        """Train everything the schedule has. Ctrl-C raises ``KeyboardInterrupt``; committed trials stay."""
        ...

    def close(self) -> None:
        """Give back what was started."""
        ...
