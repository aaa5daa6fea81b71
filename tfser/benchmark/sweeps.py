"""What a sweep makes of two cores: trainings side by side, workers that wait, and what Ray Tune costs."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from tfser import plan
from tfser.benchmark.figures import Figure, Scale, figure
from tfser.databases import load
from tfser.features import FeatureStore, audio_digests
from tfser.files import absolute
from tfser.ledger import Ledger
from tfser.models import MODELS
from tfser.plan import front_end
from tfser.runners.in_process import InProcessRunner
from tfser.runners.ray_tune import RayTuneRunner
from tfser.runners.work import Task
from tfser.schedule import Schedule
from tfser.train import Training, TrialData
from tfser.trial import TrialSpec

MODEL = "time_frequency_transformer"
SETTINGS = (("batch_size", "16"), ("channels", "4"), ("segment_frames", "40"))


def measure(scale: Scale) -> list[Figure]:
    """Two trials against one; then, on a Ray of two workers, empty trials, and trials of about 10 s (once: they take minutes)."""
    figures = [_side_by_side(1 if scale.quick else 20, scale.repeats)]
    with tempfile.TemporaryDirectory(prefix="tfser-benchmark-") as name:
        folder = Path(name)
        corpus = _Corpus(folder)
        runner = RayTuneRunner(None, trial_gpus=0.0, workers=2, say=lambda text: None)
        try:
            figures.append(_empty(runner, corpus, 6 if scale.quick else 300, scale.repeats))
            seeds, each_s = (1, 0.2) if scale.quick else (10, 10.0)
            figures.append(_busy(runner, corpus, seeds, each_s, scale.repeats if scale.quick else 1))
        finally:
            runner.close()
    return figures


def _side_by_side(epochs: int, repeats: int) -> Figure:
    """Trainings of published size in two processes at once, and in one while the other waits."""
    context = multiprocessing.get_context("spawn")  # what was started with threads must not be forked
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=_train_when_told, args=(theirs, epochs), daemon=True) for _, theirs in pipes]
    both: list[float] = []
    alone: list[float] = []
    try:
        for process in processes:
            process.start()
        for repeat in range(repeats + 1):  # the first round warms up and does not count
            one, two = _seconds_of(pipes[:1]), _seconds_of(pipes)
            if repeat:
                alone.append(60 / one)
                both.append(2 * 60 / two)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return figure("two trials side by side (to one alone)", "1/min", both, alone)


def _seconds_of(pipes: Sequence[tuple[Any, Any]]) -> float:
    begin = time.perf_counter()
    for ours, _ in pipes:
        ours.send("train")
    for ours, _ in pipes:
        ours.recv()
    return time.perf_counter() - begin


def _train_when_told(pipe: Connection, epochs: int) -> None:
    """In a process of its own: some epochs of the full model on two batches of noise, whenever asked."""
    settings = {**plan.published_settings(MODEL), "batch_size": 16}
    length, count = int(settings["segment_frames"]), 32
    frames = np.random.default_rng(0).normal(size=(count * length, int(settings["n_mels"]))).astype(np.float32)
    rows = tuple((i * length, length, i % 4) for i in range(count))
    data = TrialData(frames=frames, emotions=("a", "b", "c", "d"), train=rows, scored=rows[:1])
    training = Training(lambda: MODELS[MODEL].build("T+F+TF", settings, 4), data, settings, 0, 1, torch.device("cpu"))
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        for _ in range(epochs):
            training.run_epoch()
        pipe.send("done")


class _Corpus:
    """A manifest of noise, 4 speakers x 8 utterances of 2 s, with its features and a storage of its own.

    Args:
        folder: where all of it goes.
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

    def plan(self, epochs: int, seeds: int) -> plan.Plan:
        """One final trial per speaker and seed."""
        request = plan.Request(models=(MODEL,), epochs=epochs, seeds=seeds, fixed=SETTINGS)
        return plan.make(request, [self.database], lambda d: d.digest(self.digests), {})

    def task(self, spec: TrialSpec, storage: str) -> Task:
        """What a worker is told; features are extracted where they are missing."""
        pack = FeatureStore(self.folder / "features").ensure(self.database, self.digests, front_end(spec.settings))
        return Task(spec=spec, pack=absolute(pack.path), storage=absolute(self.folder / storage))


class _Ready(Schedule):
    """Hands out trials whose entries are there, so that there is nothing to train."""

    def __init__(self, specs: Sequence[TrialSpec]) -> None:
        self.left, self.out = deque(specs), 0

    @property
    def finished(self) -> bool:
        """Whether each has been handed out and has ended."""
        return not self.left and not self.out

    def next(self) -> TrialSpec | None:
        """The next one."""
        self.out += bool(self.left)
        return self.left.popleft() if self.left else None

    def ended(self, spec: TrialSpec, record: Any) -> None:
        """It ended."""
        self.out -= 1

    def put_back(self, spec: TrialSpec) -> None:
        """Its worker was lost."""
        self.left.append(spec)
        self.out -= 1


def _empty(runner: RayTuneRunner, corpus: _Corpus, trials: int, repeats: int) -> Figure:
    """From the first trial's begin to the last one's end, per trial, with nothing to train; beside the same in one process."""
    finals = _schedule(corpus, 1, -(-trials // 4), "empty").finals
    specs = list(finals.values())[:trials]
    ledger = Ledger(corpus.folder / "empty" / "ledger")
    for spec in specs:
        ledger.commit({"trial_id": spec.trial_id, "spec": spec.to_dict(), "status": "done"})
    tasks = {spec.trial_id: corpus.task(spec, "empty") for spec in specs}
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(repeats):
        for into, one in ((ours, runner), (bare, InProcessRunner())):
            one.usage.clear()
            one.run(_Ready(specs), lambda spec: tasks[spec.trial_id])
            assert one.usage.first is not None
            assert one.usage.last is not None
            into.append(1000 * (one.usage.last - one.usage.first) / trials)
    return figure(f"an empty trial of {trials} through Ray Tune (to none)", "ms", ours, bare)


def _busy(runner: RayTuneRunner, corpus: _Corpus, seeds: int, each_s: float, repeats: int) -> Figure:
    """Share of the time between first start and last end in which two workers were at trials; the most there can be is 1."""
    alone = InProcessRunner()
    alone.run(_schedule(corpus, 3, 1, "calibration"), lambda spec: corpus.task(spec, "calibration"))
    epoch_s = alone.usage.busy_s / (3 * 4) * max(1.0, 2 / (os.cpu_count() or 1))
    epochs = max(1, round(each_s / epoch_s))
    shares: list[float] = []
    for repeat in range(repeats):
        runner.usage.clear()
        storage = f"busy{repeat}"
        runner.run(_schedule(corpus, epochs, seeds, storage), lambda spec: corpus.task(spec, storage))  # noqa: B023  # called at once
        shares.append(runner.usage.share or 0.0)
    name = f"{4 * seeds} trials of about {each_s:g} s on 2 workers, share of time at trials"
    return figure(name, "share", shares, [1.0] * len(shares))


def _schedule(corpus: _Corpus, epochs: int, seeds: int, storage: str) -> Schedule:
    return Schedule(corpus.plan(epochs, seeds), Ledger(corpus.folder / storage / "ledger"), None)
