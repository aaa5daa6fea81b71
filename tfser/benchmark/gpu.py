"""On one GPU: a training alone, many trainings, the share of its peak, and how long both papers' tables take.

Times are wall-clock, because a GPU waits for its host. Without a GPU nothing is measured, and a message says so.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfser.benchmark.figures import Figure, Scale, figure
from tfser.benchmark.reference import reference
from tfser.benchmark.training import Trainer
from tfser.models import PROPOSED
from tfser.planning import settings as planning_settings
from tfser.training.determinism import settled
from tfser.training.together import FusedTraining
from tfser.training.training import Training, TrialData, batches

EMOTIONS = 4

MEMBERS = 14
"""Trainings fused into one: the folds of the first paper's table."""

PROCESSES = 4
"""Processes side by side, each with ``MEMBERS`` fused trainings."""

ABLATIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A database in a paper's tables: leave-one-speaker-out, every ablation, one seed."""

    model: str
    database: str
    utterances: int
    mean_s: float
    """Mean length of an utterance in seconds, an assumption."""
    folds: int
    epochs: int
    """Published number of epochs; 100 for the ATFNN, whose paper does not state it."""

    def segments(self, length: int) -> float:
        """Return all training segments of ``length`` frames of 10 ms; every ablation counts as the full model."""
        per_utterance = max(1, -(-int(self.mean_s * 100) // length))
        return self.folds * ABLATIONS * self.epochs * per_utterance * self.utterances * (1 - 1 / self.folds)


TABLES = (
    Table(model="time_frequency_transformer", database="iemocap", utterances=2280, mean_s=4.5, folds=10, epochs=1000),
    Table(model="time_frequency_transformer", database="casia", utterances=1200, mean_s=2.0, folds=4, epochs=1000),
    Table(model="atfnn", database="iemocap", utterances=2280, mean_s=4.5, folds=10, epochs=100),
    Table(model="atfnn", database="abc", utterances=430, mean_s=8.4, folds=8, epochs=100),
    Table(model="atfnn", database="casia", utterances=1200, mean_s=2.0, folds=4, epochs=100),
)


def measure(scale: Scale) -> list[Figure]:
    """Measure, per model, each way of training beside a simpler one, and the share of the peak; then both tables."""
    if not torch.cuda.is_available():
        print("gpu: PyTorch sees no GPU here, so nothing was measured", file=sys.stderr)
        return []
    return figures(scale, torch.device("cuda"))


def figures(scale: Scale, device: torch.device) -> list[Figure]:
    """Measure the same on a given device; a CPU only shows that it runs, without captured steps."""
    found: list[Figure] = []
    hours: list[list[float]] = []
    for model in PROPOSED:
        settings = _settings(model, scale)
        members, steps = (2, 1) if scale.quick else (MEMBERS, 20)
        runs: dict[str, Callable[[], float]] = {
            "plain": _plain(model, settings, steps, device),
            "alone": _alone(model, settings, steps, device, captured=False),
            "fused": _fused(model, settings, steps, device, members),
            "peak": functools.partial(_peak, device, 256 if scale.quick else 8192),
        }
        if device.type == "cuda":
            runs["captured"] = _alone(model, settings, steps, device, captured=True)
        with _side_by_side(model, settings, steps, device, members, 2 if scale.quick else PROCESSES) as side_by_side:
            rates: dict[str, list[float]] = {name: [] for name in (*runs, "side by side")}
            for repeat in range(scale.repeats + 1):  # the first round warms up, stacks and captures
                now = {**{name: run() for name, run in runs.items()}, "side by side": side_by_side()}
                if repeat:
                    for name, rate in now.items():
                        rates[name].append(rate)
        title, per_s = f"{PROPOSED[model].title} on {device.type}", "segment/s"
        found.append(figure(f"{title}, one training beside the plain loop", per_s, rates["alone"], rates["plain"]))
        if device.type == "cuda":
            found.append(
                figure(
                    f"{title}, one training captured, beside the plain loop", per_s, rates["captured"], rates["plain"]
                )
            )
        found.append(figure(f"{title}, {members} trainings in one beside one", per_s, rates["fused"], rates["alone"]))
        found.append(
            figure(f"{title}, processes of such side by side, beside one", per_s, rates["side by side"], rates["fused"])
        )
        products = Trainer(model, "ours", quick=True).products()
        best = [max(pair) for pair in zip(rates["fused"], rates["side by side"], strict=True)]
        found.append(
            figure(f"{title}, of the product peak", "GMAC/s", [products * rate / 1e9 for rate in best], rates["peak"])
        )
        segments = sum(table.segments(int(settings["segment_frames"])) for table in TABLES if table.model == model)
        hours.append([segments / rate / 3600 for rate in best])
    total = [sum(of_models) for of_models in zip(*hours, strict=True)]
    found.append(
        figure(f"both papers' tables on {device.type}, projected, beside an hour", "h", total, [1.0] * len(total))
    )
    return found


def _settings(model: str, scale: Scale) -> dict[str, Any]:
    architecture = PROPOSED[model]
    settings = {
        key: h.default
        for of in (planning_settings.HYPERPARAMETERS, architecture.hyperparameters)
        for key, h in of.items()
    }
    return settings | dict(architecture.published) | ({"batch_size": 2} if scale.quick else {})


def _noise(settings: Mapping[str, Any], steps: int) -> TrialData:
    """Make ``steps`` full batches of noise."""
    length, segments = int(settings["segment_frames"]), int(settings["batch_size"]) * steps
    frames = np.random.default_rng(0).standard_normal((segments * length, int(settings["n_mels"])), dtype=np.float32)
    rows = tuple((n * length, length, n % EMOTIONS) for n in range(segments))
    return TrialData(frames=frames, emotions=tuple("abcd"), train=rows, scored=rows[:1])


def _trainings(
    model: str, settings: Mapping[str, Any], steps: int, device: torch.device, members: int, *, captured: bool = False
) -> list[Training]:
    data, architecture = _noise(settings, steps), PROPOSED[model]

    def build() -> nn.Module:
        return architecture.build(architecture.ablations[0], settings, EMOTIONS)

    return [Training(build, data, settings, seed, 10**6, device, captured=captured) for seed in range(members)]


def _rate(segments: int, work: Callable[[], object]) -> float:
    """Return segments per second of work that ends with a number on the CPU, so that nothing is left to wait for."""
    begin = time.perf_counter()
    work()
    return segments / (time.perf_counter() - begin)


def _alone(
    model: str, settings: Mapping[str, Any], steps: int, device: torch.device, *, captured: bool
) -> Callable[[], float]:
    (training,) = _trainings(model, settings, steps, device, 1, captured=captured)
    return lambda: _rate(steps * int(settings["batch_size"]), training.run_epoch)


def _fused(
    model: str, settings: Mapping[str, Any], steps: int, device: torch.device, members: int
) -> Callable[[], float]:
    together = FusedTraining(_trainings(model, settings, steps, device, members))
    return lambda: _rate(members * steps * int(settings["batch_size"]), together.until_an_epoch_ends)


def _plain(model: str, settings: Mapping[str, Any], steps: int, device: torch.device) -> Callable[[], float]:
    """Return a plainly written epoch: batches from the host, the loss read after every step, PyTorch's Adam."""
    (training,) = _trainings(model, settings, steps, torch.device("cpu"), 1)
    network = reference(training.model).to(device).train()
    frames = torch.from_numpy(training.data.frames)
    x = frames.view(-1, int(settings["segment_frames"]), frames.shape[1]).mT.unsqueeze(1).contiguous()
    labels = torch.arange(len(x)) % EMOTIONS
    optimizer = torch.optim.Adam(network.parameters(), lr=float(settings["learning_rate"]))

    def step(batch: Tensor, truth: Tensor) -> None:
        loss = cross_entropy(network(batch.to(device)), truth.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # as for a progress bar

    def epoch() -> None:
        with settled(device):
            for chosen in batches(torch.randperm(len(x)), int(settings["batch_size"])):
                step(x[chosen], labels[chosen])

    return lambda: _rate(len(x), epoch)


def _peak(device: torch.device, edge: int) -> float:
    """Measure 10^9 multiply-accumulates per second of a large float32 matrix product, not rounded to TF32."""
    with settled(device):
        a = torch.ones(edge, edge, device=device)
        (a @ a)[0, 0].item()
        begin = time.perf_counter()
        for _ in range(5):
            b = a @ a
        b[0, 0].item()
        return float(5 * edge**3 / 1e9 / (time.perf_counter() - begin))


@contextlib.contextmanager
def _side_by_side(
    model: str, settings: Mapping[str, Any], steps: int, device: torch.device, members: int, processes: int
) -> Iterator[Callable[[], float]]:
    """Start processes that train ``members`` each at the same time on one device; yield their summed rate."""
    context = multiprocessing.get_context("spawn")
    ends = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        context.Process(
            target=_serve, args=(theirs, model, dict(settings), steps, device.type, members), daemon=True
        ).start()
        theirs.close()
        ends.append(ours)

    def rate() -> float:
        for end in ends:
            end.send(None)
        return float(sum(end.recv() for end in ends))

    try:
        rate()  # waits until each is up, with its model on the device
        yield rate
    finally:
        for end in ends:
            end.close()


def _serve(
    connection: Connection, model: str, settings: Mapping[str, Any], steps: int, device: str, members: int
) -> None:
    run = _fused(model, settings, steps, torch.device(device), members)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            connection.recv()
            connection.send(run())
