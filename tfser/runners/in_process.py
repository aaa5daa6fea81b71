"""One trial after another in this process: for tests, for debugging, and as the reference for every other runner."""

from __future__ import annotations

from collections.abc import Callable

from tfser.features import Mapper
from tfser.runners import work
from tfser.schedule import Schedule
from tfser.trial import TrialSpec


class InProcessRunner:
    """See ``tfser.runners.Runner``."""

    workers = 1
    mapper: Mapper = staticmethod(map)

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], work.Task]) -> None:
        """Train everything the schedule has."""
        while (spec := schedule.next()) is not None:
            try:
                schedule.ended(spec, work.run(task(spec)))
            except MemoryError as error:
                schedule.ended(spec, {"status": "lost", "reason": f"out of memory: {error}"})

    def close(self) -> None:
        """Nothing was started."""
