"""Local copies of what lies behind a URI, fetched once per version."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tfser.storage import locks, temporary
from tfser.storage.places import (
    READS,
    Place,
    as_os_error,
    commit_text,
    expanded,
    replaced_meanwhile,
    unless_replaced,
    version_of,
)

if TYPE_CHECKING:
    from upath import UPath


_MIRROR = "tfser-mirror"


def cache_folder() -> Path:
    """Return where this machine keeps copies of what lies behind URIs: TFSER_CACHE, else ``~/.cache/tfser``.

    An account whose home cannot be written has a folder of its own among the temporary ones.

    Raises:
        OSError: another account has made that folder.
    """
    named = os.environ.get("TFSER_CACHE")
    if named:
        try:
            return expanded(named)
        except ValueError as error:
            raise OSError(f"TFSER_CACHE: {error}") from None
    folder = Path(os.path.expanduser("~"), ".cache", "tfser")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not folder.is_absolute() or not os.access(there, os.W_OK):
        folder = Path(tempfile.gettempdir(), f"tfser-cache-{locks.account()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != locks.account():
            why = "it belongs to another account; name a folder of your own with TFSER_CACHE"
            raise OSError(errno.EPERM, why, str(folder))
    return folder


def here(path: Place) -> Path:
    """Return a file as this machine can open it: itself, or a copy of what lies behind a URI.

    A path inside another machine's mirror (see ``mirror``) is brought here from its URI.

    Raises:
        OSError: it is not there or cannot be copied.
    """
    if not isinstance(path, Path):
        return _copied(path, _mirrored(path))
    if _MIRROR in path.parts and not path.exists():
        scheme, *rest = path.parts[path.parts.index(_MIRROR) + 1 :]
        from upath import UPath

        return _copied(UPath(f"{scheme}://{'/'.join(rest)}"), path)
    return path


def mirror(folder: Place, names: Callable[[list[str]], list[str]] = lambda names: []) -> Path:
    """Return a local copy of a folder behind a URI: copy what is missing or changed, remove what is gone.

    Args:
        folder: behind a URI; a local one is returned as it is.
        names: picks the wanted names from those in the folder; where it picks none, all are wanted.

    Raises:
        OSError: it is not there or cannot be copied.
    """
    if isinstance(folder, Path):
        return folder
    local = _mirrored(folder)
    with as_os_error(folder):
        inside = sorted(entry.name for entry in folder.iterdir())
        if not inside:
            raise FileNotFoundError(f"{folder} holds nothing, or is not there")
        for root in [folder / name for name in names(inside)] or [folder]:
            found = _brought(root, local, folder)
            for path in _mirrored(root).rglob("*"):
                if path.is_file() and path not in found:
                    path.unlink()
    return local


_AT_ONCE = 64
"""Files that are copied at once."""


def _brought(root: UPath, local: Path, folder: UPath) -> set[Path]:
    """Copy what is missing or changed below ``root`` until the store holds nothing newer; return every copy.

    Args:
        root: a folder behind a URI.
        local: where the copies of ``folder`` lie.
        folder: ``root`` or one above it.
    """
    for _ in range(READS):
        found: dict[str, dict[str, Any]] = folder.fs.find(root.path, detail=True)
        versions = {
            local / os.path.relpath(name, folder.path): (name, version_of(info)) for name, info in found.items()
        }
        old = [path for path, (_, version) in versions.items() if not _is_version(path, version)]
        if not old:
            return set(versions)
        for first in range(0, len(old), _AT_ONCE):
            with contextlib.suppress(FileNotFoundError), unless_replaced():
                _fetch(folder, {path: versions[path] for path in old[first : first + _AT_ONCE]})
    raise replaced_meanwhile(root)


def _mirrored(path: UPath) -> Path:
    """Return where a copy lies; its path tells the URI."""
    parts = [part for part in path.path.split("/") if part]
    if ".." in parts:
        raise OSError(f"{path}: '..' has no meaning behind a URI")
    return cache_folder().resolve().joinpath(_MIRROR, path.protocol, *parts)


def _copied(source: UPath, target: Path) -> Path:
    """Return ``target`` with the content of ``source``: copy it where it is missing or of another version."""
    _note(target).parent.mkdir(parents=True, exist_ok=True)
    for _ in range(READS):
        with unless_replaced(), as_os_error(source):
            version = version_of(source.fs.info(source.path))
            if _is_version(target, version):
                return target
            with FileLock(_note(target).with_suffix(".lock")):  # the trials of a machine begin together
                for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
                    # A process that was killed while it copied left it.
                    if time.time() - left.stat().st_mtime > temporary.DAY_S:
                        left.unlink(missing_ok=True)
                if not _is_version(target, version):
                    _fetch(source, {target: (source.path, version)})
    raise replaced_meanwhile(source)


def _fetch(source: UPath, wanted: Mapping[Path, tuple[str, str]]) -> None:
    """Copy files from the store of ``source``; each appears when it is whole."""
    partial = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in wanted}
    for path in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        _note(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        source.fs.get([name for name, _ in wanted.values()], [str(path) for path in partial.values()])
        for path, (_, version) in wanted.items():
            partial[path].replace(path)
            commit_text(_note(path), version)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def _is_version(path: Path, version: str) -> bool:
    """Return whether a copy is of that version and still complete, by its size."""
    try:
        told = version.partition(" ")[0]
        return told in ("None", str(path.stat().st_size)) and _note(path).read_text(encoding="utf-8") == version
    except FileNotFoundError:
        return False


def _note(path: Path) -> Path:
    """Return the file that names the version of a copy: outside the mirror, where no reader of a corpus meets it."""
    parts = [f"{part}-versions" if part == _MIRROR else part for part in path.parts]
    return Path(*parts[:-1], f"{parts[-1]}.version")
