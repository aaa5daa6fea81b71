"""Writing files so that a reader finds a whole file or none, and checking names before they become paths."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
"""What a sweep may be called: it becomes a folder."""


def commit(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write under a temporary name beside ``path``, flush to disk, and rename.

    Args:
        path: the final name; its folder has to exist.
        write: given the open temporary file.

    Raises:
        OSError: a full disk, a read-only folder; ``path`` is then as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def commit_text(path: Path, text: str) -> None:
    """``commit`` for text, as UTF-8 and with its line ends as they are."""
    commit(path, lambda file: file.write(text.encode("utf-8")))


def slug(text: str) -> str:
    """``text`` in lower case with everything but letters, digits, ``.``, ``_``, ``+`` and ``-`` turned into ``-``.

    >>> slug("T+F, Ses01F")
    't+f-ses01f'
    """
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9._+-]", "-", text.lower())).strip("-.")
