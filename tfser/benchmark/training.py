"""One training step on one core: segments per second beside the plain form, share of the core's peak, where time goes.

Where the CPU has products in bfloat16, also the step in that precision beside the one in float32.

It times an epoch of ``tfser.training.training.Training`` at the published sizes. The plain form is an epoch of
``reference`` with ``torch.optim.Adam``, in a process of its own that allocates memory as the C library does by default.
Processes on one core take turns, and CPU time counts, so that other work on the machine does not matter.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tfser.benchmark.figures import Figure, Scale, figure, one_core
from tfser.benchmark.processes import Child
from tfser.benchmark.reference import reference
from tfser.models import PROPOSED
from tfser.planning import settings as planning_settings
from tfser.training.allocator import keep_freed_memory
from tfser.training.determinism import computes_bfloat16
from tfser.training.training import Training, TrialData

EMOTIONS = 4
STEPS = 2
"""Training steps per epoch."""

KINDS = {
    "optimiser": r"Optimizer|adam",
    "LSTM": r"rnn|lstm",
    "attention": r"scaled_dot_product|ScaledDotProduct|_SoftmaxMeans",
    "convolution": r"conv",
    "batch norm": r"batch_norm|BatchNorm",
    "layer norm": r"layer_norm|LayerNorm",
    "ReLU": r"relu|clamp_min|threshold",
    "other products": r"aten::(addmm|mm|bmm|matmul|linear|addmv|mv)_?$|AddmmBackward|MmBackward|BmmBackward",
}
"""Kinds of operation by their names in a profile; the first kind that an operation or a caller of it matches counts."""

TRAINED = {"ours", "ours in bfloat16", "plain", "plain, memory kept"}
"""What a process can train: tfser's model in either precision, the plain one, or it with tfser's memory handling."""


def measure(scale: Scale) -> list[Figure]:
    """Measure, per model, two figures of speed, one of the peak's share, and one per kind of operation."""
    figures: list[Figure] = []
    with one_core():
        for name in PROPOSED:
            figures += _of_model(name, scale)
    return figures


def _of_model(name: str, scale: Scale) -> list[Figure]:
    title = f"{PROPOSED[name].title} step, one core"
    kinds = TRAINED if scale.quick or computes_bfloat16() else TRAINED - {"ours in bfloat16"}
    speeds: dict[str, list[float]] = {kind: [] for kind in sorted(kinds)}
    peaks: list[float] = []
    parts: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        trainers = {
            kind: stack.enter_context(_here(name, kind) if scale.quick else _elsewhere(name, kind)) for kind in speeds
        }
        for repeat in range(scale.repeats + 1):  # the first round warms caches and is not counted
            speed = {kind: float(ask("speed")) for kind, ask in trainers.items()}
            peak, part = trainers["ours"]("peak"), trainers["ours"]("parts")
            if repeat:
                for kind, value in speed.items():
                    speeds[kind].append(value)
                peaks.append(peak)
                parts.append(part)
        products = trainers["ours"]("products")
    per_s = "segment/s"
    figures = [
        figure(f"{title}, beside the plain form", per_s, speeds["ours"], speeds["plain"]),
        figure(f"{title}, beside it, memory kept", per_s, speeds["ours"], speeds["plain, memory kept"]),
        figure(f"{title}, of the product peak", "GMAC/s", [products * speed / 1e9 for speed in speeds["ours"]], peaks),
    ]
    if narrow := speeds.get("ours in bfloat16"):
        figures.append(figure(f"{title}, bfloat16 beside float32", per_s, narrow, speeds["ours"]))
    else:
        print("training: bfloat16 was not measured; this CPU has neither AVX512-BF16 nor AMX", file=sys.stderr)
    for kind in (*KINDS, "other"):
        if all(part.get(kind, 0) > 0 for part in parts):
            values, totals = [part[kind] for part in parts], [sum(part.values()) for part in parts]
            figures.append(figure(f"{title}, spent in {kind}", "ms/step", values, totals))
    return figures


Ask = Callable[[str], Any]


@contextlib.contextmanager
def _here(name: str, kind: str) -> Iterator[Ask]:
    """Run a small trainer in this process, to show that everything runs."""
    trainer = Trainer(name, kind, quick=True)
    yield lambda word: getattr(trainer, word)()


@contextlib.contextmanager
def _elsewhere(name: str, kind: str) -> Iterator[Ask]:
    """Run a trainer in its own process on the same core, because memory handling belongs to a whole process."""
    with Child(_serve, name, kind) as child:

        def ask(word: str) -> Any:
            child.send(word)
            return child.receive()

        yield ask


def _serve(connection: Connection, name: str, kind: str) -> None:
    with one_core():
        trainer = Trainer(name, kind, quick=False)
        while True:
            connection.send(getattr(trainer, connection.recv())())


class Trainer:
    """A training, with one method without arguments per question.

    Args:
        name: a key of ``PROPOSED``.
        kind: one of ``TRAINED``.
        quick: whether a batch has only two segments.
    """

    def __init__(self, name: str, kind: str, *, quick: bool) -> None:
        architecture = PROPOSED[name]
        settings = {
            key: h.default
            for of in (planning_settings.HYPERPARAMETERS, architecture.hyperparameters)
            for key, h in of.items()
        }
        settings |= architecture.published
        self.batch, self.edge = (2, 64) if quick else (int(settings["batch_size"]), 2048)
        settings["batch_size"] = self.batch
        settings["precision"] = "bfloat16" if kind == "ours in bfloat16" else "float32"
        self.segments = STEPS * self.batch
        length, n_mels = int(settings["segment_frames"]), int(settings["n_mels"])
        frames = np.random.default_rng(0).standard_normal((self.segments * length, n_mels)).astype(np.float32)
        utterances = tuple((n * length, length, n % EMOTIONS) for n in range(self.segments))
        data = TrialData(frames=frames, emotions=tuple("abcd"), train=utterances, scored=utterances[:1])

        def build() -> nn.Module:
            return architecture.build(architecture.ablations[0], settings, EMOTIONS)

        self.epoch: Callable[[], None]
        if kind.startswith("ours"):
            self.epoch = Training(build, data, settings, 0, 10**6, torch.device("cpu")).run_epoch
            return
        if kind == "plain, memory kept":
            keep_freed_memory()
        x = torch.from_numpy(frames).view(self.segments, 1, length, n_mels).mT.contiguous()
        labels = torch.arange(self.segments) % EMOTIONS
        self.epoch = _plain_epoch(reference(build()), x, labels, self.batch, float(settings["learning_rate"]))

    def speed(self) -> float:
        """Return segments per second of CPU time."""
        begin = time.process_time()
        self.epoch()
        return self.segments / (time.process_time() - begin)

    def peak(self) -> float:
        """Return 10^9 multiply-accumulates per second of a large float32 matrix product."""
        a = torch.ones(self.edge, self.edge)
        a @ a
        begin = time.process_time()
        for _ in range(3):
            a @ a
        return float(3 * self.edge**3 / 1e9 / (time.process_time() - begin))

    def products(self) -> float:
        """Count multiply-accumulates per segment, of convolutions, LSTM and matrix products, forward and backward."""
        lstm = {
            torch.ops.aten.mkldnn_rnn_layer: _lstm_flops,
            torch.ops.aten.mkldnn_rnn_layer_backward: _lstm_backward_flops,
        }
        with FlopCounterMode(display=False, custom_mapping=lstm) as counter:
            self.epoch()
        return float(counter.get_total_flops()) / 2 / self.segments

    def parts(self) -> dict[str, float]:
        """Return milliseconds per step by kind of operation, in wall-clock time, the profiler's only clock."""
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
            self.epoch()
        spent: Counter[str] = Counter()
        for event in seen.events() or ():
            spent[_kind(event)] += event.self_cpu_time_total / 1e3 / STEPS
        return dict(spent)


def _plain_epoch(model: nn.Module, x: Tensor, labels: Tensor, batch: int, learning_rate: float) -> Callable[[], None]:
    """Return a plainly written epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def epoch() -> None:
        model.train()
        for chosen in torch.split(torch.randperm(len(x)), batch):
            loss = cross_entropy(model(x[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return epoch


def _kind(event: Any) -> str:
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    return next((kind for kind, pattern in KINDS.items() if any(re.search(pattern, name) for name in names)), "other")


def _lstm_flops(x: Any, w_input: Any, w_hidden: Any, *_: Any, **__: Any) -> int:
    """Count one layer in one direction by its first arguments: (frames, batch, width), (4 H, width), (4 H, H)."""
    return int(2 * x[0] * x[1] * w_input[0] * (w_input[1] + w_hidden[1]))


def _lstm_backward_flops(*shapes: Any, **__: Any) -> int:
    """Count two products for each product of the forward pass."""
    return 2 * _lstm_flops(*shapes)
