"""--trial-timeout: ends a trial that takes too long, and leaves a failure in the ledger that says so.

A model can hang where no Python code runs, and hold Python's lock meanwhile, so that no thread of its process can end
it. A worker is therefore watched by another process (``tfser.execution.watchdog``), which commits the failure and kills
the worker. The driver finds the failure in the ledger and goes on with other trials. In the driver's own process
(--in-process) only an alarm is possible, which interrupts Python code and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from tfser.execution.task import Task, committed
from tfser.execution.this_machine import versions
from tfser.record import Failure, Outcome
from tfser.storage.ledger import text_of


class TimeUp(BaseException):
    """The alarm. It is no ``Exception``, because an estimator may catch those, as ``GridSearchCV`` does."""


def seconds(tasks: Sequence[Task]) -> float | None:
    """Return how long trials that are trained at once may take together; ``None`` for no limit."""
    limits = [task.limit_s for task in tasks if task.limit_s is not None]
    return sum(limits) if limits else None


@contextlib.contextmanager
def by_alarm(tasks: Sequence[Task]) -> Iterator[None]:
    """Raise ``TimeUp`` once the time is up; do nothing outside the main thread, because no other gets signals."""
    limit = seconds(tasks)
    if limit is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ended(tasks: Sequence[Task]) -> list[Outcome]:
    """Return how trials ended whose time is up; the failure of each that has no record is committed."""
    outcomes: list[Outcome] = []
    for task in tasks:
        outcome = committed(task)
        if outcome is None:
            task.ledger.commit(failure := _failure(task))
            outcomes.append(failure)
        else:
            outcomes.append(outcome)
    return outcomes


class Watchdog:
    """Watches the trials of this process from another one, which is started with the first trial that has a limit."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def __call__(self, tasks: Sequence[Task]) -> Iterator[None]:
        """End this process where trials take longer than their limit, after committing their failures."""
        limit = seconds(tasks)
        if limit is None:
            yield
            return
        until = time.monotonic() + limit
        entries = [(str(task.ledger.path(task.spec.trial_id)), text_of(_failure(task))) for task in tasks]
        self._say({"until": until, "entries": entries})
        try:
            yield
        finally:
            self._say(None)

    def _say(self, watched: object) -> None:
        line = json.dumps(watched).encode() + b"\n"
        try:
            self._send(line)
        except BrokenPipeError:  # it was killed, by a person or for want of memory
            self._process = None
            self._send(line)

    def _send(self, line: bytes) -> None:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command = [sys.executable, "-m", "tfser.execution.watchdog", str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


def _failure(task: Task) -> Failure:
    limit = task.limit_s or 0.0
    said = f"it took longer than --trial-timeout {limit:g} s"
    return Failure(
        trial_id=task.spec.trial_id,
        spec=task.spec,
        reason=f"{said}; type a larger one and --retry-failed to try it again",
        started_unix=time.time(),
        seconds=limit,
        versions=versions(),
    )
