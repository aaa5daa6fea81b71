"""How a command ends: with its own exit code, unless it is interrupted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from tfser.text.starting import starting

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


def ended(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; 130 where it was interrupted.

    A command that has to say more of an interrupt says it itself.
    """
    try:
        return command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


def run(module: str) -> int:
    """Import the module of a command, run its ``main`` on the words of this process, and return the exit code."""

    def command() -> int:
        with starting():
            imported = importlib.import_module(module)
        return int(imported.main())

    return ended(command)
