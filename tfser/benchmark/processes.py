"""A process that measures for this one, and whose death costs one figure. Knows nothing of what it measures."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfser.errors import TfserError, in_a_line

_END_S = 10.0
"""Seconds that a process gets to end by itself."""

_WHY: dict[int, str] = {
    signal.SIGKILL: ", as the system does where memory is full",
    signal.SIGXCPU: ", because it took all the CPU time that it was given",
}
"""What a signal that ends a process most often means."""


class EndedError(TfserError):
    """A process that answers no more; the text says how it ended."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a process sends instead of an answer."""

    reason: str


class Child:
    """A process of its own, spawned, because one with threads must not be forked. It ends with its ``with``.

    Args:
        serve: a function of a module; it gets the process's end of a connection and ``arguments``, and returns or
            raises ``EOFError`` once nothing is asked any more.
        arguments: they are pickled.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, serve, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that the process's death is an end of file here

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self._end.close()
        self._process.join(_END_S)
        self._process.kill()
        self._process.join()

    def send(self, word: Any) -> None:
        """Ask something.

        Raises:
            EndedError: nobody is there.
        """
        try:
            self._end.send(word)
        except OSError:
            raise EndedError(self._ending()) from None

    def receive(self) -> Any:
        """Wait for an answer.

        Raises:
            EndedError: it failed, and says why, or it ended without a word.
        """
        try:
            answer = self._end.recv()
        except (EOFError, OSError):
            raise EndedError(self._ending()) from None
        if isinstance(answer, _Failed):
            raise EndedError(answer.reason)
        return answer

    def _ending(self) -> str:
        self._process.join(_END_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}{_WHY.get(-code, '')}"
        return f"its process ended with exit code {code}"


def give(cpu_s: int) -> None:
    """End this process once it has taken so many seconds of CPU time."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB.

    On Linux ``ru_maxrss`` of a new process begins with the peak of the process that started it, so that the kernel's
    own mark is read there.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)


def _run(connection: Any, serve: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Serve until nothing is asked any more; say why if that fails."""
    try:
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            serve(connection, *arguments)
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send(_Failed(str(error) if isinstance(error, TfserError) else in_a_line(error)))
