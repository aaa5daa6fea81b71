"""A hundred thousand trials on a thousand workers, by simulation: the driver's work and memory per trial.

The workers train nothing: each trial commits a made-up ledger entry. Plan, schedule, ledger, studies and outbox are the
project's own; MLflow is replaced by a tracker that reads each entry and forgets it.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from tfser.benchmark import far, made_up
from tfser.benchmark.figures import Figure, Scale, figure, seconds
from tfser.benchmark.memory import memory_mb
from tfser.databases import load
from tfser.execution.ends import Ended
from tfser.execution.schedule import Schedule
from tfser.models import PROPOSED
from tfser.planning import plan, search_space, search_space_file
from tfser.planning import request as planning_request
from tfser.planning import settings as planning_settings
from tfser.record import Outcome
from tfser.search.study import STARTUP_TRIALS, open_storage
from tfser.storage import packaged_files, temporary
from tfser.storage.ledger import Ledger
from tfser.storage.places import commit_text
from tfser.tracking.outbox import Outbox
from tfser.trial import TrialSpec

MODEL = next(iter(PROPOSED))


def measure(scale: Scale) -> list[Figure]:
    """Measure planning, and the driver's work per final trial and per search trial; the full size only once."""
    repeats = scale.repeats if scale.quick else 1
    trials, workers, studies, settings = (200, 20, 8, 5) if scale.quick else (100_000, 1000, 1000, 10)
    figures = _planning(trials, repeats)
    figures += _finals(trials, workers, repeats)
    figures += _searches(studies, settings, workers, repeats)
    return figures + far.measure(scale)


def _plan(trials: int) -> plan.Plan:
    """Plan the built-in database's 4 folds, both models, all their ablations, and as many seeds as needed."""
    request = planning_request.Request(ablations=("all",), epochs=20, seeds=-(-trials // 32))
    return plan.make(request, [load("synthetic", None)], lambda d: "0" * 16, {})


def _planning(trials: int, repeats: int) -> list[Figure]:
    """Measure the CPU time from request to first trial beside hashing as many specs, and memory beside their texts."""
    made_s, bare_s, held, texts = [], [], [], []
    for _ in range(repeats):
        with temporary.Folder("benchmark") as folder:
            ledger = Ledger(Path(folder) / "ledger")
            made_s.append(
                _cpu_seconds(lambda: Schedule(_plan(trials), ledger, None).next())  # noqa: B023  # called at once
            )
            tracemalloc.start()
            schedule = Schedule(_plan(trials), ledger, None)
            held.append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
            specs = list(schedule.finals.values())
        texts.append(sum(len(spec.to_json()) for spec in specs) / 1e6)
        bare_s.append(
            _cpu_seconds(lambda: [hashlib.sha256(spec.to_json().encode()).hexdigest() for spec in specs])  # noqa: B023
        )
    what = f"planning {trials} trials"
    return [
        figure(f"{what} (to hashing them)", "s", made_s, bare_s),
        figure(f"{what}, peak memory (to their texts)", "MB", held, texts),
    ]


def _commits(folder: Path, text: str, number: int) -> None:
    for i in range(number):
        commit_text(folder / f"{i % 100}.json", text)


def _cpu_seconds(work: Callable[[], object]) -> float:
    """Return the core time of ``work``, whatever else runs there."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


class _Forgets:
    """A tracker that receives every trial and keeps none."""

    answered = 0.0

    def holds(self, *of: Any) -> bool:
        """Return ``False``: nothing is kept."""
        return False

    def remove_doubles(self) -> None:
        """Do nothing: there are no doubles."""


class Clock:
    """Seconds by name of the driver's activity."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` and add its time to the name's total."""
        begin = time.perf_counter()
        result = work()
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - begin
        return result


def _finals(trials: int, workers: int, repeats: int) -> list[Figure]:
    """Measure the driver's work per final trial beside a bare commit, and memory at the end and at a tenth."""
    parts: dict[str, list[float]] = {}
    commits: list[float] = []
    early: list[float] = []
    late: list[float] = []
    for _ in range(repeats):
        with temporary.Folder("benchmark") as name:
            folder, clock = Path(name), Clock()
            ledger = Ledger(folder / "ledger")

            def log(trial_id: str, tracker: Any, ledger: Ledger = ledger) -> None:
                if not tracker.holds(trial_id):
                    ledger.get(trial_id)

            outbox = Outbox(lambda: _Forgets(), print)  # type: ignore[arg-type, return-value]

            def watch(
                ended: Ended[Outcome], outbox: Outbox = outbox, clock: Clock = clock, log: Callable[..., None] = log
            ) -> None:
                clock("outbox", lambda: outbox.put(partial(log, ended.spec.trial_id)))

            schedule = Schedule(_plan(trials), ledger, None, watch=watch)
            at_tenth = simulate(schedule, workers, clock, tenth=len(schedule.finals) // 10)
            late.append(memory_mb())
            early.append(at_tenth)
            outbox.close()
            count = len(schedule.finals)
            text = ledger.path(next(iter(schedule.finals.values())).trial_id).read_text(encoding="utf-8")
            commits.append(1000 * seconds(partial(_commits, folder, text, 200)) / 200)
        clock.spent["schedule"] -= clock.spent["outbox"]  # the schedule calls the outbox
        for part in ("schedule", "ledger", "outbox"):
            parts.setdefault(part, []).append(1000 * clock.spent[part] / count)
    what = f"driver with {trials} trials on {workers} workers"
    rows = [figure(f"{what}, {part} per trial (to a commit)", "ms", values, commits) for part, values in parts.items()]
    return [*rows, figure(f"{what}, memory (to that at a tenth)", "MB", late, early)]


def _searches(studies: int, settings: int, workers: int, repeats: int) -> list[Figure]:
    """Measure the driver's work per search trial with many studies in one journal, beside one study of Optuna alone."""
    ours: list[float] = []
    bare: list[float] = []
    demo = packaged_files.data_folder("search_spaces") / "demo.yaml"
    asked = search_space_file.read(demo, {name: planning_settings.hyperparameters(name) for name in PROPOSED})
    request = planning_request.Request(models=(MODEL,), trials=settings, epochs=8)
    made = plan.make(request, [load("synthetic", None)], lambda d: "0" * 16, {MODEL: asked})
    many = [
        replace(study, search_seed=seed) for seed in range(-(-studies // len(made.studies))) for study in made.studies
    ]
    for _ in range(repeats):
        with temporary.Folder("benchmark") as name:
            clock = Clock()
            wide = plan.Plan(configurations=made.configurations, studies=tuple(many))
            schedule = Schedule(wide, Ledger(Path(name) / "ledger"), open_storage(Path(name) / "studies.journal"))
            simulate(schedule, workers, clock)
            ours.append(1000 * clock.spent["schedule"] / (len(many) * settings))
        bare.append(1000 * seconds(lambda: _bare_study(asked, many[0], settings)) / settings)
    return [
        figure(
            f"driver with {studies} studies of {settings} trials, per search trial (to Optuna alone)", "ms", ours, bare
        )
    ]


def _bare_study(asked: search_space.Space, study: plan.Study, settings: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=STARTUP_TRIALS))
    for _ in range(settings):
        trial = alone.ask()
        asked.sample(trial, study.base)
        alone.tell(trial, random.random())


def simulate(schedule: Schedule, workers: int, clock: Clock, tenth: int = 0) -> float:
    """Run a schedule on workers that train nothing; return the process's memory in MB after ``tenth`` trials."""
    running: list[tuple[float, int, TrialSpec]] = []
    dice, number, at_tenth = random.Random(0), 0, 0.0
    while True:
        while len(running) < workers and (spec := clock("schedule", schedule.next)) is not None:
            now = running[0][0] if running else 0.0
            heapq.heappush(running, (now + dice.uniform(0.5, 1.5), number, spec))
            number += 1
        if not running:
            return at_tenth
        *_, spec = heapq.heappop(running)
        schedule.ledger.commit(made_up.record(spec, ("angry", "calm", "glad", "sad"), 40))  # by the worker
        entry = clock("ledger", partial(schedule.ledger.get, spec.trial_id))
        clock("schedule", partial(schedule.ended, spec, entry))
        if schedule.trained == tenth:
            at_tenth = memory_mb()
