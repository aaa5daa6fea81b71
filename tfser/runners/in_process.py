"""One trial after another in this process: for tests, for debugging, and as the reference for every other runner."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tfser.features import Mapper
from tfser.runners import work
from tfser.schedule import Schedule
from tfser.trial import TrialSpec
from tfser.usage import Usage


class InProcessRunner:
    """See ``tfser.runners.Runner``."""

    workers = 1
    mapper: Mapper = staticmethod(map)

    def __init__(self) -> None:
        self.usage = Usage()

    def settle(self, tasks: Sequence[work.Task]) -> None:
        """One trial at a time has the whole machine."""

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], work.Task]) -> None:
        """Train everything the schedule has."""
        self.usage.workers(time.time(), self.workers)
        while (spec := schedule.next()) is not None:
            began = time.time()
            try:
                record = work.run(task(spec))
            except MemoryError as error:
                record = {"status": "lost", "reason": f"out of memory: {error}"}
            self.usage.worked(began, time.time())
            schedule.ended(spec, record)

    def close(self) -> None:
        """Nothing was started."""
