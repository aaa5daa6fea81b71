"""The type of a figure, the amount of work behind one, and the timing of values and baselines in turn."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table and one object of ``--json``."""

    name: str
    value: float
    """Median over the repeats, in ``unit``."""
    unit: str
    baseline: float
    """Median of the baseline, in ``unit``."""
    ratio: float
    """Median of the repeats' ratios, value to baseline."""
    n: int
    """Number of repeats."""
    spread: float
    """Difference of the largest and the smallest ratio of the repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The amount of work behind a figure."""

    repeats: int
    """Repeats of value and baseline in turn, without warm-up rounds."""
    quick: bool
    """Whether a little of everything only shows that it runs, without measuring anything."""
    database: str = "synthetic"
    """The database of what is measured on one."""
    data: Path | None = None
    """The folder that holds the corpora."""


FULL = Scale(repeats=5, quick=False)
QUICK = Scale(repeats=2, quick=True)


def figure(name: str, unit: str, values: Sequence[float], baselines: Sequence[float]) -> Figure:
    """Make a figure from values and baselines measured in turn."""
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
    """Return how long ``work`` takes once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pin this thread, and those it starts, to one core if the system allows it; PyTorch gets one thread."""
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
