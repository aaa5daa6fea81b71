"""How a command ends: with its own exit code, unless it is interrupted or its output cannot be written."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from tfser.text.starting import starting
from tfser.text.streams import unwritten

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


def ended(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; 130 where it was interrupted, 1 where its output could not be written.

    A command that has to say more of an interrupt says it itself.

    Raises:
        SystemExit: the command ended itself.
    """
    try:
        code = command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:
        if end.code or not _lost():
            raise
        return 1
    return code or int(_lost())


def _lost() -> bool:
    """Return whether standard output could not be written, and say why."""
    why = unwritten()
    if why:
        print(f"standard output cannot be written: {why}", file=sys.stderr)
    return bool(why)


def run(module: str) -> int:
    """Import the module of a command, run its ``main`` on the words of this process, and return the exit code."""

    def command() -> int:
        with starting():
            imported = importlib.import_module(module)
        return int(imported.main())

    return ended(command)
