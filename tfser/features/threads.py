"""One thread for torch, BLAS and OpenMP, so that numbers do not depend on the number of cores."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from threadpoolctl import ThreadpoolController

_known: tuple[int, ThreadpoolController] | None = None
"""Number of modules that were loaded when this process's BLAS and OpenMP libraries were looked for, and those."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread; restore the number of threads at the end.

    The libraries are looked for only where a module was loaded since the last time, because that takes 10 ms.
    """
    global _known
    if _known is None or _known[0] != len(sys.modules):
        _known = len(sys.modules), ThreadpoolController()
    threads = torch.get_num_threads()
    with _known[1].limit(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
