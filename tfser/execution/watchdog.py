"""The process that watches a worker's trials: when the time is up, it stops the worker, commits and kills.

It gets whole ledger entries as text, so that it starts in a fraction of a second. Knows places and processes; knows
nothing of trials.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from tfser.storage.places import commit_text, make_folder, place, read_text

_LOOK_S = 60.0
"""Seconds between two looks at whether the worker is there: its own children may hold the pipe open."""


def main() -> None:
    """Read from stdin, a JSON line each, what to watch, and ``null`` at its end; leave when the worker does."""
    worker, unread = int(sys.argv[1]), b""
    watched: dict[str, Any] | None = None
    while True:
        left = _LOOK_S if watched is None else max(watched["until"] - time.monotonic(), 0.0)
        ready = select.select([sys.stdin.fileno()], [], [], left)[0]
        if os.getppid() != worker:  # it is gone, and its number may be another process's
            return
        if not ready:
            if watched is None:
                continue
            end(worker, watched["entries"])
            return
        piece = os.read(sys.stdin.fileno(), 1 << 16)
        if not piece:
            return
        *lines, unread = (unread + piece).split(b"\n")
        for line in lines:
            watched = json.loads(line)


def end(worker: int, entries: list[tuple[str, str]]) -> None:
    """End a worker and the processes that it started.

    Args:
        worker: its process id.
        entries: (path, content) of ledger entries, committed where none that is done is there.
    """
    import psutil

    os.kill(worker, signal.SIGSTOP)  # first: what it does now cannot be undone later, and the driver must not miss it
    try:
        for path, text in entries:
            if not _is_done(path):
                entry = place(path)
                make_folder(entry.parent)
                commit_text(entry, text)
    finally:
        children = psutil.Process(worker).children(recursive=True)
        for process in children:
            if process.pid != os.getpid():
                with contextlib.suppress(psutil.Error):
                    process.kill()
        os.kill(worker, signal.SIGKILL)


def _is_done(path: str) -> bool:
    try:
        return bool(json.loads(read_text(place(path)))["status"] == "done")
    except (OSError, ValueError, KeyError, TypeError):
        return False


if __name__ == "__main__":
    main()
