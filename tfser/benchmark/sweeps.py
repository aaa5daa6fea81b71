"""What a sweep gets out of two cores: trainings side by side, waiting workers, and the cost of Ray Tune."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from tfser.benchmark import made_up
from tfser.benchmark.figures import Figure, Scale, figure
from tfser.benchmark.processes import Child
from tfser.databases import load
from tfser.errors import TfserError
from tfser.execution.in_process import InProcessRunner
from tfser.execution.on_ray.tune_runner import RayTuneRunner
from tfser.execution.run_trial import Task
from tfser.execution.runner import Runner
from tfser.execution.schedule import Schedule
from tfser.execution.under_way import UnderWay
from tfser.execution.worker_usage import Usage
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import PROPOSED, of
from tfser.models.sources import Source
from tfser.planning import own_models, plan
from tfser.planning import request as planning_request
from tfser.planning import settings as planning_settings
from tfser.planning.settings import build_settings, extractor
from tfser.record import Failure, Outcome
from tfser.storage import temporary
from tfser.storage.ledger import Ledger
from tfser.storage.places import absolute
from tfser.training.training import Training, TrialData
from tfser.trial import TrialSpec

MODEL = next(iter(PROPOSED))
SETTINGS = (("batch_size", "32"), ("channels", "16"))

EMPTY = Path(__file__).with_name("empty_estimator.py")
"""An estimator that costs nothing but a trial, as a person would bring it."""


def measure(scale: Scale) -> list[Figure]:
    """Measure two trials beside one; then, on a Ray of two workers, empty trials, and trials of about 10 s (once).

    An empty trial of a network is in the ledger already; one of an estimator fits and scores a model that learns
    nothing, and commits its record.
    """
    empty = own_models.get(f"{EMPTY}:EMPTY")
    figures = [_side_by_side(1 if scale.quick else 20, scale.repeats)]
    trials, seeds, each_s, repeats = (6, 1, 0.2, scale.repeats) if scale.quick else (300, 10, 10.0, 1)
    with temporary.Folder("benchmark") as name:
        corpus = _Corpus(Path(name))
        specs = list(_schedule(corpus, 1, -(-trials // 4), "empty").finals.values())[:trials]
        for spec in specs:
            Ledger(corpus.folder / "empty" / "ledger").commit(made_up.record(spec, ("calm", "glad"), 2))
        bare: list[float] = []
        ours: list[float] = []
        fits = 4 * (2 if scale.quick else 250)
        bare_fits: list[float] = []
        our_fits: list[float] = []
        _run(InProcessRunner(), corpus, _empty_fits(corpus, empty, fits // 4, "alone", bare_fits, scale.repeats))
        shares: list[float] = []
        _run(InProcessRunner(), corpus, _empty(specs, bare, scale.repeats))
        busy = _busy(corpus, seeds, each_s, shares, repeats)
        runner = RayTuneRunner(None, trial_gpus=0.0, workers=2, sources=[empty], say=lambda text: None)
        try:
            if scale.quick:
                ray_fits = _empty_fits(corpus, empty, fits // 4, "ray", our_fits, scale.repeats)
                _run(runner, corpus, [*_empty(specs, ours, scale.repeats), *ray_fits, *busy])
            else:  # the workers' start counts, as in a sweep
                _run(runner, corpus, _empty([*specs], ours, scale.repeats))
                _run(runner, corpus, _empty_fits(corpus, empty, fits // 4, "ray", our_fits, scale.repeats))
                _run(runner, corpus, busy)
        finally:
            runner.close()
    figures.append(figure(f"an empty trial of {trials} through Ray Tune (to one without)", "ms", ours, bare))
    figures.append(figure(f"an empty fit of {fits} through Ray Tune (to one without)", "ms", our_fits, bare_fits))
    what = f"{4 * seeds} trials of about {each_s:g} s on 2 workers: share of time at trials (to all of it)"
    return [*figures, figure(what, "share", shares, [1.0] * len(shares))]


def _empty(specs: Sequence[TrialSpec], into: list[float], repeats: int) -> list[_Phase]:
    """Prepare trials with nothing to train, to measure milliseconds per trial from first start to last end."""

    def ended(usage: Usage) -> None:
        assert usage.first is not None
        assert usage.last is not None
        into.append(1000 * (usage.last - usage.first) / len(specs))

    return [_Phase(_Empty(specs), "empty", ended) for _ in range(repeats)]


def _empty_fits(
    corpus: _Corpus, empty: Source, seeds: int, storage: str, into: list[float], repeats: int
) -> list[_Phase]:
    """Prepare estimators that learn nothing, to measure milliseconds per trial from first start to last end."""

    def ended(usage: Usage) -> None:
        assert usage.first is not None
        assert usage.last is not None
        into.append(1000 * (usage.last - usage.first) / (4 * seeds))

    names = [f"{storage}{number}" for number in range(repeats)]
    return [_Phase(_schedule(corpus, None, seeds, name, empty), name, ended) for name in names]


def _busy(corpus: _Corpus, seeds: int, each_s: float, into: list[float], repeats: int) -> list[_Phase]:
    """Prepare trainings of equal length, to measure the share of time that workers spend at trials."""
    _cpu_seconds(corpus, 1)  # loads the model's code
    few, many = 1, 2 if each_s < 1 else 11
    short = _cpu_seconds(corpus, few)
    epoch_s = max((_cpu_seconds(corpus, many) - short) / (many - few), 1e-4)
    epochs = max(1, round((each_s - short) / epoch_s))
    return [
        _Phase(_schedule(corpus, epochs, seeds, f"busy{n}"), f"busy{n}", lambda usage: into.append(usage.share or 0.0))
        for n in range(repeats)
    ]


def _cpu_seconds(corpus: _Corpus, epochs: int) -> float:
    """Return the core time of one trial of so many epochs, whatever else runs there."""
    begin = time.process_time()
    _run(
        InProcessRunner(),
        corpus,
        [_Phase(_schedule(corpus, epochs, 1, "calibration"), "calibration", lambda usage: None)],
    )
    return (time.process_time() - begin) / 4


def _side_by_side(epochs: int, repeats: int) -> Figure:
    """Measure trainings of published size in two processes at once, beside one while the other waits."""
    both: list[float] = []
    alone: list[float] = []
    with Child(_train_when_told, epochs) as first, Child(_train_when_told, epochs) as second:
        for repeat in range(repeats + 1):  # the first round warms up and is not counted
            one, two = _seconds_of(first), _seconds_of(first, second)
            if repeat:
                alone.append(60 / one)
                both.append(2 * 60 / two)
    return figure("two trials side by side (to one alone)", "1/min", both, alone)


def _seconds_of(*children: Child) -> float:
    begin = time.perf_counter()
    for child in children:
        child.send("train")
    for child in children:
        child.receive()
    return time.perf_counter() - begin


def _train_when_told(pipe: Connection, epochs: int) -> None:
    """Train the full model for some epochs on two batches of noise, whenever asked, in a process of its own."""
    model = PROPOSED[MODEL]
    settings = build_settings(model, {**planning_settings.published_settings(MODEL), "batch_size": 16})
    length, count = int(settings["segment_frames"]), 32
    frames = np.random.default_rng(0).normal(size=(count * length, int(settings["n_mels"]))).astype(np.float32)
    rows = tuple((i * length, length, i % 4) for i in range(count))
    data = TrialData(frames=frames, emotions=("a", "b", "c", "d"), train=rows, scored=rows[:1])
    training = Training(lambda: model.build(model.ablations[0], settings, 4), data, settings, 0, 1, torch.device("cpu"))
    while True:
        pipe.recv()
        for _ in range(epochs):
            training.run_epoch()
        pipe.send("done")


class _Corpus:
    """A manifest of noise, 4 speakers x 8 utterances of 2 s, with its own features and storage.

    Args:
        folder: the folder for all of it.
    """

    def __init__(self, folder: Path) -> None:
        dice = np.random.default_rng(0)
        rows = ["path,speaker,emotion"]
        for number in range(32):
            soundfile.write(folder / f"{number}.wav", (0.1 * dice.standard_normal(32_000)).astype(np.float32), 16_000)
            rows.append(f"{number}.wav,speaker{number % 4},emotion{number // 4 % 4}")
        manifest = folder / "noise.csv"
        manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
        self.folder, self.database = folder, load(str(manifest), None)
        self.digests = audio_digests(self.database)

    def plan(self, epochs: int | None, seeds: int, own: Source | None = None) -> plan.Plan:
        """Plan one final trial per speaker and seed, of ``MODEL`` or of another source."""
        request = planning_request.Request(
            models=(own.name if own else MODEL,),
            sources={own.name: own.digest} if own else {},
            epochs=epochs,
            seeds=seeds,
            fixed=() if own else SETTINGS,
        )
        return plan.make(request, [self.database], lambda d: d.digest(self.digests), {})

    def task(self, spec: TrialSpec, storage: str) -> Task:
        """Return a worker's task; extract missing features."""
        pack = FeatureStore(self.folder / "features").ensure(
            self.database, self.digests, extractor(of(spec), spec.settings)
        )
        return Task(spec=spec, pack=absolute(pack.path), storage=absolute(self.folder / storage))


class _Empty:
    """A schedule of trials that have entries already, so that there is nothing to train."""

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        self.left, self.out = deque(specs), 0

    @property
    def finished(self) -> bool:
        """Whether every trial was handed out and has ended."""
        return not self.left and not self.out

    @property
    def waiting(self) -> int:
        """Number of trials not yet handed out."""
        return len(self.left)

    def next_together(self, key: Callable[[TrialSpec], Hashable], most: int) -> list[TrialSpec]:
        """Return the next trials."""
        specs = [self.left.popleft() for _ in range(min(most, len(self.left)))]
        self.out += len(specs)
        return specs

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Count a trial that ended."""
        self.out -= 1

    def put_back(self, spec: TrialSpec) -> None:
        """Take back a trial whose worker was lost."""
        self.left.append(spec)
        self.out -= 1


@dataclass(slots=True)
class _Phase:
    """One of several schedules that a runner trains in turn."""

    schedule: Any
    storage: str
    ended: Callable[[Usage], None]
    """Called with the workers' usage at the end."""


class _Phases(Schedule):
    """Several schedules in one run, one after another; starting workers for each would take longer than the trials."""

    def __init__(self, phases: Sequence[_Phase], corpus: _Corpus, usage: Usage) -> None:
        self.phases, self.corpus, self.usage = deque(phases), corpus, usage
        self.under_way = UnderWay()
        usage.clear()

    @property
    def finished(self) -> bool:
        """Whether every schedule is finished."""
        return not self.phases

    @property
    def waiting(self) -> int:
        """Number of ready trials of the first schedule."""
        waiting: int = self.phases[0].schedule.waiting if self.phases else 0
        return waiting

    def next_together(self, key: Callable[[TrialSpec], Hashable], most: int) -> list[TrialSpec]:
        """Return the next trials of the first unfinished schedule."""
        specs: list[TrialSpec] = self.phases[0].schedule.next_together(key, most) if self.phases else []
        return specs

    def task(self, spec: TrialSpec) -> Task:
        """Return the task of a trial that was just handed out."""
        return self.corpus.task(spec, self.phases[0].storage)

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Count a trial that ended, and leave its schedule with the last one."""
        self.phases[0].schedule.ended(spec, outcome)
        if isinstance(outcome, Failure):
            raise TfserError(f"a trial of the benchmark was not trained: {outcome.reason}")
        if self.phases[0].schedule.finished:
            self.phases.popleft().ended(self.usage)
            self.usage.clear()

    def put_back(self, spec: TrialSpec) -> None:
        """Take back a trial whose worker was lost."""
        self.phases[0].schedule.put_back(spec)


def _run(runner: Runner, corpus: _Corpus, phases: Sequence[_Phase]) -> None:
    together = _Phases(phases, corpus, runner.usage)
    runner.run(together, together.task)


def _schedule(corpus: _Corpus, epochs: int | None, seeds: int, storage: str, own: Source | None = None) -> Schedule:
    return Schedule(corpus.plan(epochs, seeds, own), Ledger(corpus.folder / storage / "ledger"), None)
