"""The schedule as Ray Tune asks for it: which trials are next, and what became of those that were handed out.

Knows Tune's searcher and the schedule; places nothing and decides nothing about lost workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from tfser.execution import run_trial
from tfser.execution.on_ray import worker
from tfser.execution.schedule import Schedule
from tfser.execution.worker_usage import Usage
from tfser.record import Entry, Pruned
from tfser.storage.ledger import Ledger
from tfser.storage.places import is_remote
from tfser.storage.side_by_side import AT_ONCE
from tfser.trial import TrialSpec


class NotCopied:
    """Stays one object where Tune copies and pickles: the schedule lives in this process alone."""

    def __deepcopy__(self, memo: dict[int, Any]) -> NotCopied:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, ("the schedule is planned anew at every start",))


class Feed(NotCopied):
    """The schedule as Tune asks for it: suggests the next trials and takes in those that ended.

    What Tune calls a trial is a pack of them: those that one worker trains together.

    Args:
        schedule: what there is to train.
        task: makes a trial's task.
        usage: told when workers were at trials.
        pack_size: number of trials that wait, to the size of the next pack at most.
        most: how many packs are suggested.
    """

    FINISHED = "FINISHED"
    """Tune's word for a searcher that has nothing left."""

    def __init__(
        self,
        schedule: Schedule,
        task: Callable[[TrialSpec], run_trial.Task],
        usage: Usage,
        pack_size: Callable[[int], int],
        most: int,
    ) -> None:
        self._schedule, self._task, self._usage, self._pack_size = schedule, task, usage, pack_size
        self.running: dict[str, list[run_trial.Task]] = {}
        self._fetched: dict[Future[Entry | None], run_trial.Task] = {}
        """Entries behind a URI that are on their way, so that Tune does not wait for each."""
        self._threads: ThreadPoolExecutor | None = None
        self.unread: list[TrialSpec] = []
        """Trials that were said to have an entry and have none that can be read; the runner takes them back."""
        self.lost: dict[str, list[TrialSpec]] = {}
        """Tune's id to the trials whose worker was lost; the runner learns why, and decides."""
        self.set_aside: list[tuple[TrialSpec, str]] = []
        """Trials that may go well with more memory, and what went wrong."""
        self.left = most
        self.refusal = ""
        """Why nothing more may be trained here."""
        self.error: Exception | None = None
        """The first thing that went wrong on the driver's side: a disk, a database. It ends the run."""

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Keep what is raised: Tune would take it for a failure of the trial, and end with a text about itself."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    @property
    def full(self) -> bool:
        """Whether another Tuner has to go on."""
        return self.left <= 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next pack, or ``None`` where Tune has to wait for one."""
        with self.noted():
            self.take_in_fetched()
            while (suggested := self._suggested(trial_id)) in (None, self.FINISHED) and self._fetched:
                if suggested is None and self.running:
                    return None
                self.take_in_fetched(wait_s=None)
            return suggested
        return self.FINISHED

    def take_in_fetched(self, wait_s: float | None = 0.0) -> None:
        """Take in the entries that have arrived.

        Args:
            wait_s: how long to wait for the first of them; ``None`` for as long as it takes.
        """
        if not self._fetched:
            return
        arrived, _ = wait(self._fetched, wait_s, FIRST_COMPLETED)
        for future in [one for one in self._fetched if one in arrived]:
            task = self._fetched.pop(future)
            with self.noted():
                entry = future.result()
                if entry is None:
                    self.unread.append(task.spec)
                else:
                    self._schedule.ended(task.spec, entry)

    def settle(self) -> None:
        """Wait for every entry that is on its way, and take it in."""
        while self._fetched:
            self.take_in_fetched(wait_s=None)
        if self._threads is not None:
            self._threads.shutdown()

    def _suggested(self, trial_id: str) -> dict[str, Any] | str | None:
        ends = self.refusal or self.full or self.error
        specs = (
            [] if ends else self._schedule.next_together(run_trial.pack_key, self._pack_size(self._schedule.waiting))
        )
        if not specs:
            # What was set aside is still running for the schedule; nothing that waits for it can come up now.
            wait = self.running and not self.refusal and not self.error and not self._schedule.finished
            return None if wait else self.FINISHED
        self.left -= 1
        self.running[trial_id] = [self._task(spec) for spec in specs]
        return {"tasks": [worker.pack_task(one) for one in self.running[trial_id]]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: a trial has one result, its last."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take in a pack that ended."""
        tasks, said = self.running.pop(trial_id, []), result or {}
        if "times" in said:
            self._usage.worked(*said["times"])
        lost: list[TrialSpec] = []
        for ended, answer in zip(tasks, said.get("trials") or [{}] * len(tasks), strict=False):
            with self.noted():  # each by itself: the others' results are taken in all the same
                self._take_in(ended, answer, lost)
        for ended in tasks:  # what was set aside has no worker now
            self._schedule.under_way.end(ended.spec.trial_id)
        if lost:
            self.lost[trial_id] = lost

    def _take_in(self, ended: run_trial.Task, answer: dict[str, Any], lost: list[TrialSpec]) -> None:
        trial_id = ended.spec.trial_id
        ledger = ended.ledger
        if answer.get("status") in ("done", "failed") and isinstance(ledger, Ledger) and is_remote(ledger.root):
            self._threads = self._threads or ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tfser-store")
            self._fetched[self._threads.submit(ledger.get, trial_id)] = ended
            return
        entry = ledger.get(trial_id)
        if entry is not None:
            self._schedule.ended(ended.spec, entry)
        elif answer.get("status") == "pruned":
            self._schedule.ended(ended.spec, Pruned(trial_id=trial_id, epochs=answer["pruned_after"]))
        elif answer.get("status") == "refused":
            self.refusal = answer["reason"]
        elif answer.get("status") == "memory":
            self.set_aside.append((ended.spec, answer["reason"]))
        else:
            lost.append(ended.spec)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger and the studies are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see ``save``."""


def searcher(
    schedule: Schedule,
    task: Callable[[TrialSpec], run_trial.Task],
    usage: Usage,
    pack_size: Callable[[int], int],
    most: int,
) -> Any:
    """Return a ``Feed`` that Tune takes for a searcher; its class is made here, as importing Ray takes seconds."""
    from ray.tune.search import Searcher

    class ScheduleSearcher(Feed, Searcher):  # type: ignore[misc]  # Ray is not typed
        def __init__(self) -> None:
            Searcher.__init__(self, metric="done", mode="max")
            Feed.__init__(self, schedule, task, usage, pack_size, most)

    return ScheduleSearcher()
