"""The paths in a manifest, as files on this machine and as ids that are the same on every machine."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfser.databases.folders import show


@dataclass(frozen=True, slots=True)
class Located:
    """The place that one typed path names, or the reason for its refusal."""

    id: str = ""
    path: Path = Path()
    about: str = ""
    """The rule that refused it; empty if none did."""
    refusal: str = ""


def locate_all(
    cells: Sequence[str], folder: Path, ids: Sequence[str] | None = None, *, remote: bool = False
) -> list[Located]:
    """Locate every path of one table.

    A relative path is below (or beside) the table's folder, and is the id. The ids of absolute paths come from the
    column of ids, or else from the innermost folder that holds all of them, so that another mount point gives the same
    ids.

    Args:
        cells: the paths as typed.
        folder: the table's folder.
        ids: the column ``id``, if there is one; it is used for absolute paths.
        remote: whether the table came from a URI; it then may not name other files of this machine.
    """
    found = [_read(cell, folder, remote) for cell in cells]
    absolute = [posixpath.isabs(one.id) for one in found]
    if not any(absolute):
        return found
    if ids is not None:
        return [_named(one, name) if one.id else one for one, name in zip(found, ids, strict=True)]
    files = [_whole(one.path) for one in found if one.id]
    root = posixpath.commonpath([posixpath.dirname(file) for file in files])
    own = _whole(folder)
    if not all(absolute) and posixpath.commonpath([root, own]) == own:
        root = own
    if root == "/":
        return [_unshared(one) if alone else one for one, alone in zip(found, absolute, strict=True)]
    return [Located(posixpath.relpath(_whole(one.path), root), one.path) if one.id else one for one in found]


def _read(cell: str, folder: Path, remote: bool) -> Located:
    """Locate one path; the id of an absolute one is still absolute."""
    if not cell:
        return Located(about="empty path", refusal="path is empty")
    if "\0" in cell:
        return Located(about="zero byte", refusal="path holds a zero byte")
    if re.match(r"[A-Za-z]:[\\/]|\\\\", cell):
        why = f"path {show(cell)} is absolute and of a Windows machine; write it relative to the manifest, with /"
        return Located(about="Windows path", refusal=why)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", cell):
        why = f"path {show(cell)} is a URI; audio lies in files, with paths relative to the manifest"
        return Located(about="URI", refusal=why)
    if cell.startswith("~"):
        if remote or not cell.startswith("~/"):
            why = f"path {show(cell)} is absolute: it begins with ~; write it relative to the manifest"
            return Located(about="home", refusal=why)
        cell = os.path.expanduser(cell)
    typed = posixpath.normpath(cell)
    if "\\" in typed and not os.path.lexists(folder / typed):
        typed = posixpath.normpath(typed.replace("\\", "/"))
    if remote and (posixpath.isabs(typed) or typed.split("/")[0] == ".."):
        what = "is absolute" if posixpath.isabs(typed) else "leads out of the manifest's folder"
        why = f"path {show(cell)} {what}; a manifest that was read from a URI may name only what lies below it"
        return Located(about="local file", refusal=why)
    return Located(typed, _in_any_form(folder / typed))


def _in_any_form(path: Path) -> Path:
    """Return the file under its typed name, or under that name in another Unicode form, because systems differ."""
    if not os.path.lexists(path):
        for form in ("NFC", "NFD"):
            other = Path(unicodedata.normalize(form, os.fspath(path)))
            if os.path.lexists(other):
                return other
    return path


def _whole(path: Path) -> str:
    return posixpath.normpath(os.path.abspath(path))


def _named(one: Located, name: str) -> Located:
    """Take the id from the column of ids."""
    if not name:
        return Located(about="empty id", refusal="id is empty")
    if (
        not name.isprintable()
        or len(name) > 200
        or name.startswith(("/", "~"))
        or re.match(r"[A-Za-z]:[\\/]|\\\\", name)
    ):
        why = f"id {show(name[:80])!r} is an absolute path or no printable name of at most 200 signs"
        return Located(about="id", refusal=why)
    return Located(name, one.path)


def _unshared(one: Located) -> Located:
    why = (
        f"path {show(one.id)} is absolute, and no one folder holds all the files; "
        "add a column id with a name for each utterance that is the same on every machine, "
        "or write paths relative to the manifest"
    )
    return Located(about="no common folder", refusal=why)
