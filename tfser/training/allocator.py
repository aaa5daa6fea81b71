"""How PyTorch's memory on a CPU is handed out and taken back: nothing here changes a number.

Two defaults cost a training step on one core about a quarter of its time. glibc returns every tensor of more than 32 MiB to
the system as soon as it is freed, so that the next step has each of its pages cleared and mapped anew; and PyTorch writes NaN into
every new tensor while it is asked for deterministic algorithms, which only shows reads of memory that nobody wrote.
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
"""What a process may keep instead of giving it back; the largest value that glibc's call takes."""

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
"""glibc's ``malloc.h``. No mapping instead of a high threshold for it: glibc before 2.35 refuses thresholds above 32 MiB."""


@functools.cache
def keep_freed_memory() -> bool:
    """From now on, memory that this process frees is used again by its next step; whether the C library can be told so.

    A process then holds on to the most that it ever needed, and to gaps between: at the published sizes and after some steps, 1.5
    instead of at most 1.4 GB for the Time-Frequency Transformer, 3.2 instead of 1.9 GB for ATFNN. Without effect where the C library
    is not glibc, or where the environment has one of glibc's own ``MALLOC_..._`` variables: whoever sets them has decided.
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
    """New tensors as they come, even where algorithms are deterministic."""
    setting: Any = deterministic  # a module with a property, which type checkers do not see
    before = setting.fill_uninitialized_memory
    setting.fill_uninitialized_memory = False
    try:
        yield
    finally:
        setting.fill_uninitialized_memory = before
