"""A driver whose storage lies behind a URI, by simulation: its time and its requests per trial, and a restart.

The workers train nothing: each trial commits a made-up entry, at no cost to the driver. Feed, schedule, ledger and
studies are the project's own; there is no MLflow.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfser.benchmark import made_up
from tfser.benchmark.far_store import FarStore
from tfser.benchmark.figures import Figure, Scale, figure
from tfser.databases import load
from tfser.execution import left_behind
from tfser.execution.ends import Ended
from tfser.execution.on_ray.feed import Feed
from tfser.execution.run_trial import Task
from tfser.execution.schedule import Schedule
from tfser.execution.worker_usage import Usage
from tfser.models import PROPOSED
from tfser.planning import plan, search_space_file
from tfser.planning import request as planning_request
from tfser.planning import settings as planning_settings
from tfser.record import Outcome
from tfser.search.study import close_storage, open_storage
from tfser.storage import leftovers, packaged_files, temporary
from tfser.storage.ledger import Ledger, text_of
from tfser.storage.places import Place, make_folder, place

MODEL = next(iter(PROPOSED))
EMOTIONS = ("angry", "calm", "glad", "sad")
DELAY_S = 0.04


def measure(scale: Scale) -> list[Figure]:
    """Measure final trials, search trials, and a restart on a ledger that is whole, near and far."""
    trials, settings, workers, entries = (64, 2, 10, 64) if scale.quick else (5_000, 10, 1000, 100_000)
    delay_s = 0.001 if scale.quick else DELAY_S
    found = []
    for what, made in (("final", finals(trials)), ("search", searches(trials, settings))):
        with FarStore(delay_s) as store:
            seconds, ended = drive(made, store, workers)
            each = 1000 * seconds / ended
            name = f"driver of {ended} {what} trials, requests of {1000 * delay_s:g} ms"
            found.append(figure(f"{name}, per trial (to a request)", "ms", [each], [1000 * delay_s]))
            for who, most in (("driver", 1), ("worker", 4)):
                what_of = f"{name}, requests of a {who} per trial (to {most})"
                found.append(figure(what_of, "requests", [store.count(who) / ended], [most]))
    with temporary.Folder("benchmark") as folder:
        near = restart(finals(entries), folder)
    with FarStore(delay_s) as store:
        far = restart(finals(entries), place(store.root))
    what = f"restart on {entries} finished trials"
    found.append(figure(f"{what} in a folder (to 120 s)", "s", [near], [120.0]))
    return [*found, figure(f"{what}, requests of {1000 * delay_s:g} ms (to 120 s)", "s", [far], [120.0])]


def finals(trials: int, epochs: int = 20) -> plan.Plan:
    """Plan the built-in database's 4 folds, both models, all their ablations, and as many seeds as needed."""
    request = planning_request.Request(ablations=("all",), epochs=epochs, seeds=-(-trials // 32))
    return plan.make(request, [load("synthetic", None)], lambda d: "0" * 16, {})


def searches(trials: int, settings: int) -> plan.Plan:
    """Plan studies of so many settings, until there are so many trials."""
    demo = packaged_files.data_folder("search_spaces") / "demo.yaml"
    asked = search_space_file.read(demo, {name: planning_settings.hyperparameters(name) for name in PROPOSED})
    request = planning_request.Request(models=(MODEL,), trials=settings, epochs=8)
    made = plan.make(request, [load("synthetic", None)], lambda d: "0" * 16, {MODEL: asked})
    each = -(-trials // (settings * len(made.studies)))
    studies = tuple(replace(study, search_seed=seed) for seed in range(each) for study in made.studies)
    return plan.Plan(configurations=made.configurations, studies=studies)


def drive(
    made: plan.Plan, store: FarStore, workers: int, told: Callable[[Ended[Outcome]], None] = lambda ended: None
) -> tuple[float, int]:
    """Run a plan on workers that train nothing; return the driver's seconds, and how many trials ended.

    The requests of its start are not counted.

    Args:
        made: the plan.
        store: the storage.
        workers: how many train at once.
        told: called for every trial that ended, as the mirror is.
    """
    storage, ended = place(store.root), 0
    ledger, studies = Ledger(storage / "ledger"), open_storage(storage / "search" / "s.journal")

    def watch(one: Ended[Outcome]) -> None:
        nonlocal ended
        ended += 1
        told(one)

    schedule = Schedule(made, ledger, studies, watch=watch)
    feed = Feed(schedule, lambda spec: task(spec, storage), Usage(), lambda waiting: 1, 10**9)
    running: list[tuple[float, int, Task]] = []
    dice, numbers, now, suggested, spent = random.Random(0), itertools.count(), 0.0, None, 0.0
    store.requests.clear()
    while suggested != Feed.FINISHED:
        begin = time.perf_counter()
        while len(running) < workers:
            number = next(numbers)
            suggested = feed.suggest(str(number))
            if not isinstance(suggested, dict):
                break
            heapq.heappush(running, (now + dice.uniform(0.5, 1.5), number, feed.running[str(number)][0]))
        spent += time.perf_counter() - begin
        if running:
            now, number, trained = heapq.heappop(running)
            with store.worker():
                ledger.settle(made_up.record(trained.spec, EMOTIONS, 40))
            begin = time.perf_counter()
            feed.on_trial_complete(str(number), {"trials": [{"status": "done"}], "times": [0.0, 1.0]})
            spent += time.perf_counter() - begin
    begin = time.perf_counter()
    feed.settle()
    if feed.error is not None:
        raise feed.error
    close_storage(studies)
    return spent + time.perf_counter() - begin, ended


def task(spec: Any, storage: Place) -> Task:
    """Return a worker's task."""
    return Task(spec=spec, pack=Path("features"), storage=storage)


def restart(made: plan.Plan, storage: Place) -> float:
    """Fill a ledger with a plan's entries; return the seconds in which a start finds that nothing is missing.

    Tables and MLflow come on top.
    """
    ledger = Ledger(storage / "ledger")
    fill(made, ledger)
    begin = time.perf_counter()
    leftovers.clear(storage, storage / "out", ledger)
    schedule = Schedule(made, ledger, None)
    found, _, gone = left_behind.read(schedule)
    assert schedule.finished
    assert not gone
    assert len(found) == made.final_trials
    return time.perf_counter() - begin


def fill(made: plan.Plan, ledger: Ledger) -> None:
    """Write an entry for every final trial, at no request's cost."""
    record = None
    for study in made.studies:
        for spec in study.final_specs(study.base, study.epochs).values():
            record = record or made_up.record(spec, EMOTIONS, 40)
            path, content = ledger.path(spec.trial_id), text_of(replace(record, spec=spec)).encode()
            if isinstance(path, Path):
                make_folder(path.parent)
                path.write_bytes(content)
            else:
                path.fs.store[path.path] = memory_file(path, content)


def memory_file(path: Any, content: bytes) -> Any:
    """Return what fsspec's memory holds of a file."""
    from fsspec.implementations.memory import MemoryFile

    return MemoryFile(path.fs, path.path, content)
