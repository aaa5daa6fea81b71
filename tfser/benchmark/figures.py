"""What a figure is, how much work one does, and how values and baselines are timed in turn. Measures nothing itself."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table, and one object of ``--json``."""

    name: str
    value: float
    """Median over the repeats, in ``unit``."""
    unit: str
    baseline: float
    """Median of what it is compared with, in ``unit``."""
    ratio: float
    """Median of the repeats' ratios, value to baseline."""
    n: int
    """Repeats."""
    spread: float
    """Largest less smallest ratio of the repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much work a figure does."""

    repeats: int
    """Of value and baseline in turn; rounds that only warm up are not counted."""
    quick: bool
    """Whether it is only to show that everything runs: a little of everything, which measures nothing."""


FULL = Scale(repeats=5, quick=False)
QUICK = Scale(repeats=2, quick=True)


def figure(name: str, unit: str, values: Sequence[float], baselines: Sequence[float]) -> Figure:
    """A figure from values and baselines measured in turn."""
    ratios = [value / baseline for value, baseline in zip(values, baselines, strict=True)]
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        baseline=statistics.median(baselines),
        ratio=statistics.median(ratios),
        n=len(ratios),
        spread=max(ratios) - min(ratios),
    )


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pin this thread, and those it starts, to one core where the system allows it; PyTorch gets one thread."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)
