"""A store behind a URI whose every request takes a while, as a stand-in: this process's memory, counted and delayed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

REQUESTS = (
    *("cat_file", "pipe_file", "put_file", "rm_file", "rm", "cp_file", "mv", "info", "exists"),
    *("ls", "find", "open", "mkdir", "makedirs", "isdir", "isfile"),
)
"""Methods that are a request each where none of them called it; ``find`` lists a folder, and ``glob`` calls it."""


class FarStore:
    """The store; its folder is ``memory://far``.

    Args:
        delay_s: how long each of the driver's requests takes; a worker's take no time.
    """

    root = "memory://far"

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.requests: Counter[tuple[str, str]] = Counter()
        """(``driver`` or ``worker``, method) to the number of requests."""
        self._here = threading.local()
        self._counting = threading.Lock()

    def count(self, who: str) -> int:
        """Return how many requests a driver or a worker has made."""
        return sum(number for (side, _), number in self.requests.items() if side == who)

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Count what this thread asks for as a worker's requests, meanwhile."""
        self._here.side = "worker"
        try:
            yield
        finally:
            self._here.side = "driver"

    def __enter__(self) -> FarStore:
        self._own = {name: MemoryFileSystem.__dict__.get(name) for name in REQUESTS}
        for name in REQUESTS:
            setattr(MemoryFileSystem, name, self._request(name, getattr(MemoryFileSystem, name)))
        return self

    def __exit__(self, *error: object) -> None:
        for name, method in self._own.items():
            if method is None:
                delattr(MemoryFileSystem, name)
            else:
                setattr(MemoryFileSystem, name, method)
        with contextlib.suppress(FileNotFoundError):
            MemoryFileSystem().rm("/far", recursive=True)

    def _request(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def request(*arguments: Any, **named: Any) -> Any:
            here = self._here
            if getattr(here, "inside", False):
                return method(*arguments, **named)
            side = getattr(here, "side", "driver")
            with self._counting:
                self.requests[side, name] += 1
            if self.delay_s and side == "driver":
                time.sleep(self.delay_s)
            here.inside = True
            try:
                return method(*arguments, **named)
            finally:
                here.inside = False

        return request
