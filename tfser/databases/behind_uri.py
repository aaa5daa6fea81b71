"""Corpora behind a URI: the requested one is mirrored on this machine and read like any other.

This module knows nothing of labels or audio.
"""

from __future__ import annotations

from pathlib import Path

from tfser.databases.folders import plain
from tfser.databases.reader import Reader
from tfser.errors import RequestError
from tfser.storage import local_copies, places


def corpus(reader: Reader, data: places.Place | None) -> Path | None:
    """Return the requested folder as a local one; of a folder of all corpora, only this corpus is copied.

    Raises:
        RequestError: it cannot be read.
    """
    if data is None or isinstance(data, Path):
        return data
    names = {plain(name) for name in (reader.info.name, *reader.folders)}
    return _mirrored(data, "--data", names)


def folder(text: str, option: str) -> Path:
    """Return a local path unchanged, and a folder behind a URI mirrored on this machine.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        named = places.place(text)
    except ValueError as error:
        raise RequestError(option, [str(error)]) from None
    return named if isinstance(named, Path) else _mirrored(named, option, set())


def _mirrored(named: places.Place, option: str, wanted: set[str]) -> Path:
    try:
        return local_copies.mirror(named, lambda names: [name for name in names if plain(name) in wanted])
    except OSError as error:
        raise RequestError(
            f"{option} {named}", [f"{error.strerror or error}; see that it is there and that this machine may read it"]
        ) from None
