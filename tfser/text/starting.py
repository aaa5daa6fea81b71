"""Shows in a terminal that a command is being loaded, which takes seconds. Imports nothing that takes long itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Show a line with the seconds meanwhile; print nothing where standard output is no terminal."""
    out = sys.stdout
    dumb = os.environ.get("TERM", "").lower() in ("", "dumb", "unknown") or os.environ.get("TTY_INTERACTIVE") == "0"
    if dumb or out is None or not out.isatty():
        yield
        return
    loaded = threading.Event()

    def count() -> None:
        seconds = 0
        while not loaded.wait(1.0):
            seconds += 1
            out.write(f"\r\x1b[2Kloading ({seconds // 60}:{seconds % 60:02})")
            out.flush()

    thread = threading.Thread(target=count, daemon=True, name="starting")
    thread.start()
    try:
        yield
    finally:
        loaded.set()
        thread.join()
        out.write("\r\x1b[2K")
        out.flush()
