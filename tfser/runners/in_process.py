"""One trial after another in this process: for tests, for debugging, and as the reference for every other runner."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfser.features import Mapper
from tfser.fused import fusion_key
from tfser.runners import RETRIES, work
from tfser.schedule import Schedule
from tfser.trial import TrialSpec
from tfser.usage import Usage


class InProcessRunner:
    """See ``tfser.runners.Runner``.

    Args:
        together: trials of one shape that are trained as one, at most.
    """

    workers = 1
    mapper: Mapper = staticmethod(map)

    def __init__(self, together: int = 1) -> None:
        self.usage = Usage()
        self._together = together

    def settle(self, tasks: Sequence[work.Task]) -> None:
        """One trial at a time has the whole machine."""

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], work.Task]) -> None:
        """Train everything the schedule has. A trial whose features are gone is tried again: ``task`` may make them anew."""
        self.usage.workers(time.time(), self.workers)
        losses: Counter[str] = Counter()
        while specs := schedule.next_together(fusion_key, self._together):
            began = time.time()
            try:
                records: Sequence[Mapping[str, Any]] = work.run_pack([task(spec) for spec in specs])
            except MemoryError as error:
                records = [{"status": "lost", "reason": f"out of memory: {error}"}] * len(specs)
            except work.FeaturesError as error:
                if losses[specs[0].trial_id] < RETRIES:
                    for spec in specs:
                        losses[spec.trial_id] += 1
                        schedule.put_back(spec)
                    continue
                records = [{"status": "lost", "reason": str(error)}] * len(specs)
            self.usage.worked(began, time.time())
            for spec, record in zip(specs, records, strict=True):
                schedule.ended(spec, record)

    def close(self) -> None:
        """Nothing was started."""
