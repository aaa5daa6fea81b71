"""A whole sweep of final trials on workers that train nothing, on a simulated clock: what it takes of the driver.

Feed, schedule, ledger, outbox and MLflow's local database are the project's own; Ray alone is missing. A trial lasts
60 s on average. The driver's core time is all of this process but that of the made-up workers.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tfser.benchmark import far, made_up
from tfser.benchmark.far_store import FarStore
from tfser.benchmark.figures import Figure, Scale, figure
from tfser.benchmark.memory import memory_mb
from tfser.execution.ends import Ended
from tfser.execution.on_ray.feed import Feed
from tfser.execution.on_ray.tune_runner import trials_of_a_tuner
from tfser.execution.run_trial import Task
from tfser.execution.schedule import Schedule
from tfser.execution.under_way import UnderWay
from tfser.execution.worker_usage import Usage
from tfser.record import Outcome, Record
from tfser.storage import temporary
from tfser.storage.ledger import Ledger
from tfser.storage.local_entries import LocalEntries
from tfser.storage.places import Place, is_remote, place
from tfser.tracking.connection import default_uri
from tfser.tracking.outbox import Outbox
from tfser.tracking.runs import Tracker
from tfser.trial import TrialSpec

START_S = 10.0
"""How long a worker of a new Tuner takes until its first trial: a new process that imports PyTorch."""

BEHIND = 100
"""Runs that MLflow may be behind, before the simulated clock waits: a real sweep's trials end less often."""

DONE = {"trials": [{"status": "done"}], "times": [0.0, 1.0]}


def measure(scale: Scale) -> list[Figure]:
    """Measure idle workers, and the driver's core time and memory with MLflow, near and far."""
    trials, workers, few = (64, 8, 32) if scale.quick else (100_000, 1000, 5_000)
    idle = idle_share(trials, workers, trials_of_a_tuner(workers))
    what = f"{trials} trials of 60 s on {workers} workers"
    found = [figure(f"{what}, idle share (to 5 %)", "share", [idle], [0.05])]
    with temporary.Folder("benchmark") as folder:
        near = sweep(trials, workers, folder, folder)
    found += [
        figure(f"{what}, driver's CPU per trial with MLflow (to 30 ms)", "ms", [near.cpu_ms], [30.0]),
        figure(f"{what}, driver's memory (to that at a fifth)", "MB", [near.memory_mb], [near.early_mb]),
    ]
    with FarStore(0.001 if scale.quick else far.DELAY_S) as store, temporary.Folder("benchmark") as folder:
        behind = sweep(few, workers, place(store.root), folder, store)
    what = f"{few} trials, requests of {1000 * store.delay_s:g} ms"
    return [*found, figure(f"{what}, driver's CPU per trial with MLflow (to 30 ms)", "ms", [behind.cpu_ms], [30.0])]


@dataclass(frozen=True, slots=True)
class Driven:
    """What a sweep took of the driver."""

    cpu_ms: float
    """Core time per trial."""
    wall_ms: float
    """Time per trial, the made-up workers' included."""
    early_mb: float
    """Memory after a fifth of the trials."""
    memory_mb: float
    """Memory at the end."""


def sweep(trials: int, workers: int, storage: Place, folder: Path, store: FarStore | None = None) -> Driven:
    """Run a plan to its end, with every trial in MLflow.

    Args:
        trials: at least so many.
        workers: how many train at once.
        storage: of the ledger.
        folder: of MLflow's database and artifacts.
        store: counts and delays the requests to a remote storage.
    """
    ledger = Ledger(storage / "ledger")
    tracker = partial(Tracker, default_uri(folder), "benchmark", folder / "mlartifacts")
    outbox, local = Outbox(tracker, print), LocalEntries() if is_remote(storage) else None
    schedule = Schedule(far.finals(trials), ledger, None, watch=lambda ended: _mirror(ended, outbox, ledger, local))
    workers_s, early = 0.0, 0.0
    cpu, wall, count, fifth = time.process_time(), time.perf_counter(), 0, len(schedule.finals) // 5

    def train(spec: TrialSpec) -> None:
        nonlocal workers_s, count, early
        begin = time.thread_time()
        record = made_up.record(spec, far.EMOTIONS, 40)
        if store is None:
            ledger.settle(record)
        else:
            with store.worker():
                ledger.settle(record)
        workers_s += time.thread_time() - begin
        count += 1
        early = memory_mb() if count == fifth else early
        while len(outbox._missing) > BEHIND:
            time.sleep(0.01)

    for feed, number in _on_a_clock(
        schedule, lambda spec: far.task(spec, storage), workers, trials_of_a_tuner(workers)
    ):
        train(feed.running[number][0].spec)
        feed.on_trial_complete(number, DONE)
        if feed.error is not None:
            raise feed.error
    outbox.close(600.0)
    assert schedule.finished
    assert not outbox.lost
    cpu, wall = time.process_time() - cpu - workers_s, time.perf_counter() - wall
    return Driven(1e3 * cpu / count, 1e3 * wall / count, early, memory_mb())


def _mirror(ended: Ended[Outcome], outbox: Outbox, ledger: Ledger, local: LocalEntries | None) -> None:
    """Hand a trial to the outbox as a sweep does."""
    trial_id = ended.spec.trial_id
    if local is not None and isinstance(ended.outcome, Record):
        local.put(ended.outcome)

    def write(tracker: Tracker) -> None:
        if not tracker.holds(ended.configuration, trial_id, "done"):
            entry = local.get(trial_id) if local is not None else ledger.get(trial_id)
            assert entry is not None
            tracker.trial(ended.configuration, entry)
        if local is not None:
            local.remove(trial_id)

    outbox.put(write, f"trial {trial_id}")


def idle_share(trials: int, workers: int, most: int, start_s: float = START_S) -> float:
    """Return the share of the workers' time without a trial, from the first Tuner's begin to the last trial's end.

    Args:
        trials: how many there are.
        workers: how many train at once.
        most: trials of one Tuner.
        start_s: how long the workers of each Tuner start.
    """
    schedule, clock = _Counts(trials), [0.0, 0.0]
    asked = _DoneTask(spec=_spec(), pack=Path("features"), storage=Path("ledger"))
    for feed, number in _on_a_clock(schedule, lambda spec: asked, workers, most, start_s, clock):
        feed.on_trial_complete(number, DONE)
    busy, end = clock
    return 1.0 - busy / (workers * end)


def _on_a_clock(
    schedule: Any, task: Any, workers: int, most: int, start_s: float = START_S, clock: list[float] | None = None
) -> Iterator[tuple[Feed, str]]:
    """Yield each trial when it ends, with the feed of its Tuner; the next Tuner begins when the last one has ended.

    Args:
        schedule: what there is to train.
        task: makes a trial's task.
        workers: how many train at once.
        most: trials of one Tuner.
        start_s: how long the workers of each Tuner start.
        clock: gets the workers' seconds at trials, and the time of the last end.
    """
    dice, now, numbers = random.Random(0), 0.0, itertools.count()
    clock = [0.0, 0.0] if clock is None else clock
    while not schedule.finished:
        feed = Feed(schedule, task, Usage(), lambda waiting: 1, most)
        running: list[tuple[float, int]] = []
        now += start_s
        while True:
            while len(running) < workers:
                number = next(numbers)
                if not isinstance(feed.suggest(str(number)), dict):
                    break
                lasts = 60.0 * dice.uniform(0.5, 1.5)
                clock[0] += lasts
                heapq.heappush(running, (now + lasts, number))
            if not running:
                break
            now, number = heapq.heappop(running)
            clock[1] = now
            yield feed, str(number)
        feed.settle()


class _Counts:
    """A schedule that only counts."""

    def __init__(self, trials: int) -> None:
        self.waiting, self.out, self.under_way = trials, 0, UnderWay()

    @property
    def finished(self) -> bool:
        """Whether every trial has ended."""
        return not self.waiting and not self.out

    def next_together(self, key: Any, most: int) -> list[TrialSpec]:
        """Hand out the next trial."""
        if not self.waiting:
            return []
        self.waiting, self.out = self.waiting - 1, self.out + 1
        return [_spec()]

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Count one that ended."""
        self.out -= 1


class _DoneLedger:
    """Has the entry of every trial."""

    def get(self, trial_id: str) -> Record:
        """Return the entry."""
        return _record()


class _DoneTask(Task):
    """A task whose trial has ended."""

    @property
    def ledger(self) -> Any:
        """The ledger."""
        return _DoneLedger()


def _spec() -> TrialSpec:
    return _record().spec


@lru_cache(maxsize=1)
def _record() -> Record:
    study = far.finals(1).studies[0]
    spec = next(iter(study.final_specs(study.base, study.epochs).values()))
    return replace(made_up.record(spec, far.EMOTIONS, 4), seconds=60.0)
