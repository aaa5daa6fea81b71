"""Paths in a sweep file: as they stand there, relative to the file, and as seen from the working folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tfser.databases import AUDFORMAT, KNOWN, named
from tfser.models.sources import is_file


def _is_relative(text: str) -> bool:
    return "://" not in text and not text.startswith("~") and not os.path.isabs(text)


def from_here(text: str, folder: Path) -> str:
    """Return a path in a file of a folder as a path from the working folder; absolute ones and URIs stay.

    Args:
        text: the path as it stands in the file.
        folder: the file's folder.
    """
    if not _is_relative(text) or folder.resolve() == Path.cwd():
        return text
    return os.path.relpath(folder.absolute() / text)


def seen_from(text: str, folder: Path) -> str:
    """Return a path from the working folder as it has to stand in a file of a folder; see ``from_here``."""
    if not _is_relative(text) or folder.resolve() == Path.cwd():
        return text
    return os.path.relpath(os.path.abspath(text), folder.absolute())


def database_path(word: str, change: Callable[[str], str]) -> str:
    """Return a request for a database with its path changed; a known name has none."""
    name, what = named(word)
    front = "" if name is None else f"{name}="
    if what.startswith(AUDFORMAT):
        return f"{front}{AUDFORMAT}{change(what.removeprefix(AUDFORMAT))}"
    is_path = what not in KNOWN and (what.lower().endswith(".csv") or "/" in what or "\\" in what)
    return front + (change(what) if is_path else what)


def model_path(word: str, change: Callable[[str], str]) -> str:
    """Return a word of --model with the path of its file changed; other words stay."""
    if not is_file(word):
        return word
    file, ending, rest = word.rpartition(".py")
    return f"{change(file + ending)}{rest}"
