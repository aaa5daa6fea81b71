"""How PyTorch gets and returns CPU memory; no number depends on it.

Two defaults take about a quarter of a training step on one core. glibc returns every tensor of more than 32 MiB to the
system as soon as it is freed, so that each of its pages is cleared and mapped again in the next step. And PyTorch fills
every new tensor with NaN while deterministic algorithms are on, which only reveals reads of unwritten memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

from torch.utils import deterministic

KEPT_BYTES = 2**31 - 1
"""Most bytes that a process keeps instead of returning them: the largest value that glibc's call takes."""

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
"""From glibc's ``malloc.h``. MMAP_MAX 0 ends mapping: glibc before 2.35 refuses mapping thresholds above 32 MiB."""


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process reuse its freed memory from now on; return whether the C library supports that.

    The process then keeps as much as it ever needed, with some gaps. At the published sizes and after some steps that
    is 1.5 GB instead of at most 1.4 for the Time-Frequency Transformer, and 3.2 GB instead of 1.9 for ATFNN. Nothing
    changes if the C library is not glibc, or if the environment has one of glibc's own ``MALLOC_..._`` variables.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    wanted = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, KEPT_BYTES))
    return all([mallopt(ctypes.c_int(what), ctypes.c_int(value)) == 1 for what, value in wanted])


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Leave new tensors unfilled, even while deterministic algorithms are on."""
    setting: Any = deterministic  # a module with a property, which type checkers cannot see
    before = setting.fill_uninitialized_memory
    setting.fill_uninitialized_memory = False
    try:
        yield
    finally:
        setting.fill_uninitialized_memory = before
