"""Folders on disk: listings, comparable names, and names that can be printed.

Nothing here knows a corpus or a label. Names on disk can hold anything (newlines, undecodable bytes): they are shown
escaped and never trusted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from tfser.databases.base import Problem

DEEPEST = 8
"""Depth to which folders below a corpus's root are entered."""

IGNORED = ("__macosx", "lost+found")
"""Folders that operating systems leave behind, in lower case. So are names with a leading dot (``._x.wav``)."""


@dataclass(frozen=True, slots=True)
class Found:
    """One ordinary file."""

    path: Path
    relative: str
    """Its path below the listed folder, with ``/``."""

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return PurePath(self.relative).stem

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders below the listed one, then the file's name."""
        return PurePath(self.relative).parts


def show(path: str | os.PathLike[str]) -> str:
    r"""Escape a name so that it can be printed anywhere: undecodable bytes and control characters become ``\x..``."""
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def decodable(name: str) -> bool:
    """Tell whether a name is valid text; names on disk are bytes and need not be."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def listing(
    root: Path, extensions: tuple[str, ...], depth: int = DEEPEST, at_most: int | None = None
) -> tuple[list[Found], list[Problem]]:
    """List every file below ``root`` with one of the extensions, sorted, and what could not be listed.

    Links to folders are followed, each folder once.

    Args:
        root: the first folder.
        extensions: lower case, with the dot.
        depth: how deep folders below ``root`` are entered.
        at_most: stop after this many files.
    """
    found: list[Found] = []
    problems: list[Problem] = []
    entered: set[tuple[int, int]] = set()
    pending: list[tuple[str, str, int]] = [(os.fspath(root), "", 0)]
    while pending and (at_most is None or len(found) < at_most):
        folder, prefix, level = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                members = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(
                Problem("unreadable", show(folder), f"the folder cannot be listed: {error.strerror or error}", "folder")
            )
            continue
        for entry in members:
            if entry.name.startswith("."):
                continue
            audio = os.path.splitext(entry.name)[1].lower() in extensions
            relative = prefix + entry.name
            try:
                is_file, is_folder = entry.is_file(), entry.is_dir()
            except OSError as error:  # a link that points at itself
                problems.append(Problem("unreadable", show(entry.path), error.strerror or str(error)))
                continue
            if is_folder and not audio:
                if level < depth and entry.name.lower() not in IGNORED:
                    pending.append((entry.path, relative + "/", level + 1))
            elif not audio:
                continue
            elif not decodable(entry.name):
                problems.append(
                    Problem(
                        "label",
                        show(entry.path),
                        "the name is not valid UTF-8 and is not used; rename the file",
                        "bytes",
                    )
                )
            elif is_file:
                found.append(Found(Path(entry.path), relative))
            else:
                problems.append(_not_a_file(entry, is_folder))
    found.sort(key=lambda file: file.relative)
    return found, problems


def _not_a_file(entry: os.DirEntry[str], is_folder: bool) -> Problem:
    """Describe an entry with an audio name that is no ordinary file."""
    if is_folder:
        return Problem("unreadable", show(entry.path), "a folder with the name of an audio file")
    if entry.is_symlink() and not os.path.exists(entry.path):
        target = show(os.readlink(entry.path))
        return Problem("missing", show(entry.path), f"a link whose target {target} is not there")
    return Problem("unreadable", show(entry.path), "not an ordinary file (a pipe, socket or device)")


def plain(name: str) -> str:
    """Reduce a folder's name for comparison: without case, blanks, ``-``, ``_`` and ``.``."""
    return "".join(c for c in name.casefold() if c not in " -_.")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders directly below one, sorted; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return []
