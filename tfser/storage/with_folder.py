"""Write a file into a folder that may not be there yet, at no more requests than that takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tfser.storage.places import Place, has_folders, make_folder

Answer = TypeVar("Answer")


def written(write: Callable[[Place, bytes], Answer], path: Place, content: bytes) -> Answer:
    """Write a file; behind a URI, make its folder only where writing shows that this is what it lacks.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(path, Path):
        make_folder(path.parent)
        return write(path, content)
    try:
        return write(path, content)
    except OSError:
        if not has_folders(path):
            raise
    make_folder(path.parent)
    return write(path, content)
