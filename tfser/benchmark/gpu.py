"""On one GPU: a training alone, many trainings, the share of its peak, and how long both papers' tables take.

Times are wall-clock, because a GPU waits for its host. Without a GPU nothing is measured, and a message says so. How
many trainings are fused, and how many processes train side by side, follows from the memory that fused trainings took.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfser.benchmark.figures import Figure, Scale, figure
from tfser.benchmark.processes import Child
from tfser.benchmark.reference import reference
from tfser.benchmark.training import Trainer
from tfser.errors import TfserError, in_a_line
from tfser.models import PROPOSED
from tfser.planning import settings as planning_settings
from tfser.training.determinism import settled
from tfser.training.together import FusedTraining
from tfser.training.training import Training, TrialData, batches

EMOTIONS = 4

MEMBERS = 14
"""Most trainings fused into one: the folds of the first paper's table."""

PROCESSES = 4
"""Most processes side by side, each with so many fused trainings."""

ROOM = 0.85
"""Ours: share of the card's free memory that is planned with. What a process caches is not all of use to it."""

CONTEXT_BYTES = 1 << 30
"""Ours: what a process holds on a card before its first tensor, generously."""

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


def measure(scale: Scale) -> Iterator[Figure]:
    """Measure, per model, each way of training beside a simpler one, and the share of the peak; then both tables."""
    if not torch.cuda.is_available():
        print("gpu: PyTorch sees no GPU here, so nothing was measured", file=sys.stderr)
        return
    yield from figures(scale, torch.device("cuda"))


def figures(scale: Scale, device: torch.device) -> Iterator[Figure]:
    """Measure the same on a given device; a CPU only shows that it runs, without captured steps.

    What fails costs its own figures, and a line on stderr says why.
    """
    hours: list[list[float]] = []
    for model in PROPOSED:
        try:
            best = yield from _of_model(model, scale, device)
        except (TfserError, torch.OutOfMemoryError) as error:
            _left_out(PROPOSED[model].title, error)
            continue
        segment = int(_settings(model, scale)["segment_frames"])
        segments = sum(table.segments(segment) for table in TABLES if table.model == model)
        hours.append([segments / rate / 3600 for rate in best])
    if len(hours) < len(PROPOSED):
        _left_out("both papers' tables", TfserError("the rate of a model is missing"))
        return
    total = [sum(of_models) for of_models in zip(*hours, strict=True)]
    yield figure(f"both papers' tables on {device.type}, projected, beside an hour", "h", total, [1.0] * len(total))


def _left_out(what: str, error: Exception) -> None:
    print(f"gpu: {what} is left out: {in_a_line(error)}", file=sys.stderr)


def _of_model(model: str, scale: Scale, device: torch.device) -> Generator[Figure, None, list[float]]:
    """Measure one model, and return the best segments per second of each repeat.

    Raises:
        TfserError, OutOfMemoryError: one training, or two that are fused, find no room.
    """
    settings, steps = _settings(model, scale), 1 if scale.quick else 20
    title, per_s = f"{PROPOSED[model].title} on {device.type}", "segment/s"
    one = per_member(model, settings, steps, device)
    # Beside the fused ones: the plain loop, one training alone, one captured, and the product.
    members = 2 if scale.quick else max(1, fitting(_room(device) - 4 * one, one, 1))
    rates = _here(model, settings, steps, device, members, scale)
    yield figure(f"{title}, one training beside the plain loop", per_s, rates["alone"], rates["plain"])
    if "captured" in rates:
        yield figure(f"{title}, one training captured, beside the plain loop", per_s, rates["captured"], rates["plain"])
    yield figure(f"{title}, {members} trainings in one beside one", per_s, rates["fused"], rates["alone"])
    best = rates["fused"]
    try:
        many, each = (2, 2) if scale.quick else side_by_side(_room(device), one)
        serve = functools.partial(_serve, model=model, settings=settings, steps=steps, device=device.type, members=each)
        alone, together = in_processes(serve, many, scale.repeats)
    except TfserError as error:
        _left_out(f"{title}, processes side by side", error)
    else:
        what = f"{title}, {many} processes of {each} trainings side by side, beside one"
        yield figure(what, per_s, together, alone)
        best = [max(pair) for pair in zip(best, together, strict=True)]
    products = Trainer(model, "ours", quick=True).products()
    yield figure(f"{title}, of the product peak", "GMAC/s", [products * rate / 1e9 for rate in best], rates["peak"])
    return best


def fitting(room: float, one: float, processes: int) -> int:
    """Return how many trainings each of some processes can fuse: 0 where there is no room for one.

    Args:
        room: bytes.
        one: bytes of one of several fused trainings; 0 where they are not known.
        processes: the number of processes that share the room.

    >>> fitting(60e9, 2e9, 1), fitting(60e9, 2e9, 4), fitting(60e9, 0, 4), fitting(1e9, 2e9, 4)
    (14, 6, 14, 0)
    """
    left = room / processes - CONTEXT_BYTES
    return max(0, min(MEMBERS, int(left // one) if one else MEMBERS))


def side_by_side(room: float, one: float) -> tuple[int, int]:
    """Return how many processes find room, and how many trainings each fuses.

    As many processes as have room for ``MEMBERS`` trainings, but at least two, with fewer trainings where need be.

    Args:
        room: see ``fitting``.
        one: see ``fitting``.

    Raises:
        TfserError: there is no room for two processes.

    >>> side_by_side(60e9, 1e9), side_by_side(60e9, 1.5e9), side_by_side(60e9, 4e9)
    ((3, 14), (2, 14), (2, 7))
    """
    most = next((n for n in range(PROCESSES, 2, -1) if fitting(room, one, n) == MEMBERS), 2)
    if (members := fitting(room, one, most)) == 0:
        raise TfserError(
            f"two processes need {2 * (one + CONTEXT_BYTES) / 2**30:.3g} GiB, and {room / 2**30:.3g} are free"
        )
    return most, members


def per_member(model: str, settings: Mapping[str, Any], steps: int, device: torch.device) -> float:
    """Return the bytes that one of two fused trainings made PyTorch reserve on a GPU; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    _free(device)
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    _fused(model, settings, steps, device, 2)()
    return (torch.cuda.max_memory_reserved(device) - before) / 2


def _room(device: torch.device) -> float:
    """Return how many bytes of a GPU may be planned with, after freeing what this process no longer needs."""
    if device.type != "cuda":
        return float("inf")
    _free(device)
    return ROOM * torch.cuda.mem_get_info(device)[0]


def _free(device: torch.device) -> None:
    """Give a GPU's memory back that no tensor uses, with that of trainings that hold each other in a circle."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _here(
    model: str, settings: Mapping[str, Any], steps: int, device: torch.device, members: int, scale: Scale
) -> dict[str, list[float]]:
    """Measure in turn what trains in this process; nothing of it stays in memory.

    Returns:
        Segments per second by way of training, and the product peak, by repeat.
    """
    runs: dict[str, Callable[[], float]] = {
        "plain": _plain(model, settings, steps, device),
        "alone": _alone(model, settings, steps, device, captured=False),
        "fused": _fused(model, settings, steps, device, members),
        "peak": functools.partial(_peak, device, 256 if scale.quick else 8192),
    }
    if device.type == "cuda":
        runs["captured"] = _alone(model, settings, steps, device, captured=True)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(scale.repeats + 1):  # the first round warms up, stacks and captures
        for name, run in runs.items():
            rate = run()
            if repeat:
                rates[name].append(rate)
    return rates


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


def in_processes(serve: Callable[[Connection], None], processes: int, repeats: int) -> tuple[list[float], list[float]]:
    """Measure one process while the others wait, and all at the same time, in turn.

    Args:
        serve: answers each word with its rate.
        processes: how many.
        repeats: rounds that count.

    Returns:
        Rates of the one, and summed rates of all.

    Raises:
        EndedError: one of them ended; the text says how.
    """
    alone: list[float] = []
    together: list[float] = []
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(serve)) for _ in range(processes)]
        _rate_of(children)  # waits until each is up, with its model on the device
        for _ in range(repeats):
            alone.append(_rate_of(children[:1]))
            together.append(_rate_of(children))
    return alone, together


def _rate_of(children: Sequence[Child]) -> float:
    for child in children:
        child.send(None)
    return float(sum(child.receive() for child in children))


def _serve(
    connection: Connection, *, model: str, settings: Mapping[str, Any], steps: int, device: str, members: int
) -> None:
    run = _fused(model, settings, steps, torch.device(device), members)
    while True:
        connection.recv()
        connection.send(run())
