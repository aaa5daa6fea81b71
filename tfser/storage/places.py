"""Places and files: a local path, a shared folder or an fsspec URI, written so that a reader finds a whole file or none.

Also the node's own copies of what lies behind a URI, and the check of names before they become paths.
Knows nothing of what is in a file.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias
from urllib.parse import unquote

from tfser.errors import in_a_line
from tfser.storage import temporary
from tfser.text.typed import given

if TYPE_CHECKING:  # a machine that only trains on local files does not need it
    from upath import UPath

Place: TypeAlias = "Path | UPath"
"""A local path, or a file or folder behind a URI; both have the methods of ``pathlib`` that read."""

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
"""What a sweep may be called: it becomes a folder."""

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""What no file or folder can be called on Windows, whatever follows the first dot."""

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")

READS = 5
"""How often a file is read whose content another process replaces meanwhile."""

_REPLACED = (errno.EBUSY, errno.ESTALE)
"""Errors of a read that another process's write cut short: S3 clients give the first, network folders the second."""

_IN_PARTS = 32 << 20
"""Bytes above which a store's client may read an object in several requests, which can meet different versions of it."""


def place(text: str | os.PathLike[str] | Place) -> Place:
    """What a person typed for a path, or what a task carries.

    Args:
        text: a path (``~`` is expanded) or a URI that fsspec reads, such as ``s3://bucket/folder``.

    Raises:
        ValueError: a home folder that nobody has; a URI of a kind that fsspec does not know, whose package is not installed, or
            that does not answer.
    """
    if not isinstance(text, (str, os.PathLike)):
        return text
    words = os.fspath(text)
    if not _URI.match(words):
        return expanded(words)
    scheme, _, rest = words.partition("://")
    if scheme.lower() == "file":
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise ValueError(
                f"{words}: a file URI has three slashes before its path, as in {Path('/', host, path).as_uri()}"
            )
        return Path(slash + unquote(path))
    from upath import UPath

    try:
        # Listings are not cached: another process commits entries all the time.
        found = UPath(f"{scheme.lower()}://{rest.rstrip('/')}", use_listings_cache=False)
        assert found.fs is not None  # made now, so that a missing package shows before anything starts
    except (ValueError, ImportError) as error:
        raise ValueError(f"{words}: {error}; for s3:// and gs:// install 'tfser[s3]' or 'tfser[gcs]'") from None
    except OSError as error:  # some kinds connect at once
        raise ValueError(f"{words}: it cannot be reached ({error})") from None
    return found


def expanded(words: str) -> Path:
    """A local path with ``~`` expanded."""
    try:
        return Path(words).expanduser()
    except RuntimeError:
        name = Path(words).parts[0]
        why = f"this machine has no account {name[1:]!r}" if name != "~" else "this account has no home folder"
        raise ValueError(f"{words}: {why}, so that {name!r} stands for nothing; write the whole path") from None


def typed_place(text: str) -> Place:
    """``place`` as argparse wants it.

    Raises:
        argparse.ArgumentTypeError: with the reason.
    """
    try:
        return place(given(text))
    except ValueError as error:
        source = next((f" (from {name})" for name in ("TFSER_DATA",) if text == os.environ.get(name)), "")
        raise argparse.ArgumentTypeError(f"{error}{source}") from None


def is_remote(path: Place) -> bool:
    """Whether ``path`` lies behind a URI."""
    return not isinstance(path, Path)


def absolute(path: Place) -> Place:
    """The same place from any working folder."""
    return path.resolve() if isinstance(path, Path) else path


def commit(path: Place, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all.

    Locally: under a temporary name beside ``path``, flushed to disk, then renamed; locked meanwhile, so that
    ``remove_unfinished`` can tell what a killed process has left. Behind a URI: gathered in a local temporary file, then
    stored as one object, which appears when it is complete.

    Args:
        path: the final name; its folder has to exist.
        write: given the open temporary file.

    Raises:
        OSError: a full disk, a read-only folder, a store that does not answer; ``path`` is then as it was.
    """
    if not isinstance(path, Path):
        with temporary.Folder("commit") as folder:
            with open(folder / "gathered", "wb") as gathered:
                write(gathered)
            with as_os_error(path):
                path.fs.put_file(str(folder / "gathered"), path.path)
        return
    handle, name = _unfinished(path)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
        _flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


_PART = ".part"
"""At the end of the name of a file that is being written."""

_UNMARKED = re.compile(r"\..+\.[a-z0-9_]{8}")
"""What an earlier version called it, without a lock."""


def _unfinished(path: Path) -> tuple[int, str]:
    """An open, locked temporary file beside ``path``, and its name."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=_PART)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # it was taken for a leftover before it was locked


def remove_unfinished(folder: Path) -> int:
    """Remove what processes that were killed in ``commit`` left below a folder; returns how many files.

    A file without a lock that could tell is removed a day after it was last written to.
    """
    removed = 0
    for path in folder.rglob(".*"):
        if not (path.name.endswith(_PART) or _UNMARKED.fullmatch(path.name)) or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            free = temporary.is_free(file) if path.name.endswith(_PART) else None
            if free or free is None and time.time() - os.fstat(file.fileno()).st_mtime > temporary.DAY_S:
                path.unlink()
                removed += 1
    return removed


def _flush_folder(folder: Path) -> None:
    """The new name reaches the disk too; where a file system cannot do that, the file is there all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def commit_text(path: Place, text: str) -> None:
    """``commit`` for text, as UTF-8 and with its line ends as they are."""
    commit(path, lambda file: file.write(text.encode("utf-8")))


def create_text(path: Place, text: str) -> bool:
    """Write a file that must not be there yet; whether this process was the one to make it.

    Raises:
        OSError: it could not be written for another reason.
    """
    try:
        if isinstance(path, Path):
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        else:
            with as_os_error(path):
                path.fs.pipe_file(path.path, text.encode("utf-8"), mode="create")
    except FileExistsError:
        return False
    return True


def read_bytes(path: Place) -> bytes:
    """Return a whole file, of one version; read it again where another process replaces it meanwhile.

    Raises:
        OSError: it is not there (``FileNotFoundError``) or cannot be read.
    """
    before = None
    for _ in range(READS):
        with unless_replaced(), as_os_error(path):
            if isinstance(path, Path):
                return path.read_bytes()
            content: bytes = path.fs.cat_file(path.path)
            if len(content) < _IN_PARTS or before == (before := version_of(path.fs.info(path.path))):
                return content
    raise replaced_meanwhile(path)


@contextlib.contextmanager
def unless_replaced() -> Iterator[None]:
    """Pass over the error of a read that another process's write cut short."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REPLACED:
            raise


def replaced_meanwhile(path: Place) -> OSError:
    return OSError(errno.EBUSY, f"another process replaced it during each of {READS} reads; try again", str(path))


def read_text(path: Place) -> str:
    """A whole file of UTF-8.

    Raises:
        OSError, UnicodeDecodeError: it is not there, cannot be read, or is no text.
    """
    return read_bytes(path).decode("utf-8")


def read_start(path: Place, at_most: int) -> bytes:
    """The first bytes of a file of any length, or of a pipe.

    Raises:
        OSError: it is not there (``FileNotFoundError``) or cannot be read.
    """
    with as_os_error(path), path.open("rb") as file:
        return bytes(file.read(at_most))


def exists(path: Place) -> bool:
    """Whether there is such a file or folder.

    Raises:
        OSError: its store does not answer.
    """
    with as_os_error(path):
        return path.exists()


def size(path: Place) -> int:
    """Bytes of a file.

    Raises:
        OSError: it is not there or cannot be read.
    """
    with as_os_error(path):
        return int(path.stat().st_size)


def listed(folder: Place, pattern: str) -> list[Place]:
    """What matches in a folder, sorted; nothing where there is no such folder.

    Raises:
        OSError: it cannot be read.
    """
    with as_os_error(folder):
        return sorted(folder.glob(pattern), key=str)


def make_folder(path: Place) -> None:
    """Make a folder and those above it; nothing happens where it is there, or where the store has no folders.

    Raises:
        OSError: it cannot be made.
    """
    if not isinstance(path, Path) and path.protocol in _OBJECT_STORES:
        return  # making one would make its bucket too, so that a mistyped name would go unnoticed
    with as_os_error(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Place) -> None:
    """Remove a file; nothing happens where there is none.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError), as_os_error(path):
        path.unlink()


def move(path: Place, target: Place) -> None:
    """Give a file another name in the same place.

    Raises:
        OSError: it cannot be moved.
    """
    if isinstance(path, Path) and isinstance(target, Path):
        path.replace(target)
    elif not isinstance(path, Path) and not isinstance(target, Path):
        with as_os_error(path):
            path.fs.mv(path.path, target.path)
    else:
        raise ValueError(f"{path} and {target} are not in the same place")


@contextlib.contextmanager
def as_os_error(path: Place) -> Iterator[None]:
    """Every store has errors of its own; callers know ``OSError``."""
    try:
        yield
    except (OSError, UnicodeDecodeError):
        raise
    except Exception as error:
        if not is_remote(path):
            raise
        told = f"{path}: {in_a_line(error)}"
        status = getattr(error, "status_code", getattr(error, "code", None))
        raise (
            OSError(errno.EBUSY, told) if status == 412 else OSError(told)
        ) from None  # 412: it changed since it was opened


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when the content does, as far as the store tells."""
    return f"{info.get('size')} {info.get('ETag') or info.get('etag') or info.get('mtime') or info.get('created')}"


def slug(text: str) -> str:
    """``text`` in lower case with everything but letters, digits, ``.``, ``_``, ``+`` and ``-`` turned into ``-``.

    >>> slug("T+F, Ses01F")
    't+f-ses01f'
    """
    return re.sub(r"[^a-z0-9._+]+", "-", text.lower()).strip("-.")
