"""Temporary folders, and the removal of those that killed processes left.

Each folder holds a file that its process keeps locked. The lock ends with the process, which tells a folder in use from
a leftover. Knows nothing of what is in a folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tfser.storage import locks

LOCK = ".tfser-in-use"
"""The locked file."""

DAY_S = 86_400.0
"""Age after which a file or folder that no lock marks counts as left behind."""

_NAME = re.compile(r"tfser-[a-z]+-[a-z0-9_]{8}")


class Folder:
    """A folder of this process, removed by ``remove`` or at the end of a ``with``, else by another process's ``clear``.

    Args:
        kind: its purpose, in lower-case letters; part of its name.
    """

    def __init__(self, kind: str) -> None:
        lock = None
        while lock is None:  # another process may take the new folder for a leftover before it is locked
            self._root = Path(tempfile.mkdtemp(prefix=f"tfser-{kind}-"))
            lock = hold(self._root)
        self._lock = lock
        self.path = self._root / "content"
        self.path.mkdir()

    def remove(self) -> None:
        """Remove the folder and what it holds, as far as that is possible."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def hold(folder: Path) -> BinaryIO | None:
    """Mark a folder as in use while the returned file is open; return ``None`` where it was removed meanwhile.

    Raises:
        OSError: the mark cannot be written.
    """
    try:
        file = open(folder / LOCK, "ab")  # noqa: SIM115  # held
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # a file system without locks; the folder then stays
        locks.wait_for(file)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()
    return None


def is_free(file: BinaryIO) -> bool | None:
    """Lock an open file unless another process has; return whether that worked, ``None`` without file locks."""
    try:
        locks.take(file)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_dead(folder: Path) -> bool | None:
    """Remove a folder whose process is gone.

    Returns:
        Whether it was removed; ``None`` where nothing tells whether it is in use.

    Raises:
        OSError: it cannot be read, or not removed as a whole.
    """
    try:
        lock = open(folder / LOCK, "r+b")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        return None
    with lock:
        free = is_free(lock)
        if free:
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()
            (folder / LOCK).unlink()  # last, so that a half-removed folder is found again
            folder.rmdir()
        return free


def clear() -> tuple[int, list[Path]]:
    """Remove the folders in this machine's temporary folder whose processes are gone.

    Returns:
        How many were removed; and the folders of earlier versions, which stay because no lock tells whether they are in
        use.
    """
    removed, unclear = 0, []
    for folder in sorted(Path(tempfile.gettempdir()).glob("tfser-*")):
        with contextlib.suppress(OSError):
            mine = folder.lstat().st_uid == locks.account() and folder.is_dir() and not folder.is_symlink()
            if not mine or not _NAME.fullmatch(folder.name):
                continue
            dead = remove_dead(folder)
            if dead is None and not any(folder.iterdir()) and time.time() - folder.stat().st_mtime > DAY_S:
                folder.rmdir()
                dead = True
            removed += dead is True
            if dead is None:
                unclear.append(folder)
    return removed, unclear
