"""Locks of the operating system on open files, which end with their process.

Windows has none of this kind. A file there counts as one on a file system without locks.
"""

from __future__ import annotations

import errno
import os
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def available() -> bool:
    """Return whether this system has such locks; a file system of it may still lack them."""
    return fcntl is not None


def wait_for(file: IO[bytes] | int) -> None:
    """Lock an open file, after every other process that has.

    Raises:
        OSError: there are no locks.
    """
    _lock(file, 0 if fcntl is None else fcntl.LOCK_EX)


def take(file: IO[bytes] | IO[str]) -> None:
    """Lock an open file at once.

    Raises:
        BlockingIOError: another process has.
        OSError: there are no locks.
    """
    _lock(file, 0 if fcntl is None else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock(file: IO[bytes] | IO[str] | int, kind: int) -> None:
    if fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock(file, kind)


def account() -> int:
    """Return the number of this process's account, which its files have as ``st_uid``; 0 for all on Windows."""
    return os.getuid() if hasattr(os, "getuid") else 0
