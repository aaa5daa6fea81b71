"""A runner in this process, one trial after another: for tests and debugging, and the reference for other runners."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tfser.execution import run_trial, time_limit
from tfser.execution.runner import RETRIES
from tfser.execution.schedule import Schedule
from tfser.execution.task import DeviceKind
from tfser.execution.worker_usage import Usage
from tfser.features.store import Mapper
from tfser.record import Failure, Outcome
from tfser.trial import TrialSpec


class InProcessRunner:
    """See ``tfser.execution.runner.Runner``.

    Args:
        together: most trials of one shape that are trained as one.
        device: what networks are trained on.
    """

    workers = 1
    mapper: Mapper = staticmethod(map)

    def __init__(self, together: int = 1, device: DeviceKind = "any") -> None:
        self.usage, self.device = Usage(), device
        self._together = together

    def choose_share(self, tasks: Sequence[run_trial.Task]) -> None:
        """Do nothing: one trial at a time has the whole machine."""

    def run(self, schedule: Schedule, task: Callable[[TrialSpec], run_trial.Task]) -> None:
        """Train everything the schedule has.

        A trial whose features are gone is tried again, because ``task`` may extract them again.
        """
        self.usage.workers(time.time(), self.workers)
        losses: Counter[str] = Counter()
        while specs := schedule.next_together(run_trial.pack_key, self._together):
            began = time.time()
            schedule.under_way.begin(specs)
            try:
                tasks = [replace(task(spec), tell=schedule.under_way.tell) for spec in specs]
                outcomes = run_trial.run_pack(tasks, time_limit.by_alarm)
            except time_limit.TimeUp:
                outcomes = time_limit.ended(tasks)
            except MemoryError as error:
                outcomes = _lost(specs, f"out of memory: {error}")
            except run_trial.FeaturesError as error:
                if losses[specs[0].trial_id] < RETRIES:
                    for spec in specs:
                        losses[spec.trial_id] += 1
                        schedule.put_back(spec)
                    continue
                outcomes = _lost(specs, str(error))
            self.usage.worked(began, time.time())
            for spec, outcome in zip(specs, outcomes, strict=True):
                schedule.ended(spec, outcome)

    def close(self) -> None:
        """Do nothing: nothing was started."""


def _lost(specs: Sequence[TrialSpec], reason: str) -> list[Outcome]:
    return [Failure(trial_id=spec.trial_id, spec=spec, reason=reason, status="lost") for spec in specs]
