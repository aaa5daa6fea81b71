"""Places: local paths, shared folders and fsspec URIs. A file is written so that a reader finds all of it or none.

Also checks names before they become paths. Knows nothing of what is in a file.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias
from urllib.parse import unquote

from tfser.errors import in_a_line
from tfser.storage import locks, side_by_side, temporary
from tfser.text.typed import given

if TYPE_CHECKING:  # late elsewhere: a machine that trains on local files does not need it
    from upath import UPath

Place: TypeAlias = "Path | UPath"
"""A local path, or a file or folder behind a URI; both have the methods of ``pathlib`` that read."""

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
"""Legal names of sweeps; each becomes a folder."""

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that no file or folder can have on Windows, whatever follows the first dot."""

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")

READS = 5
"""How often a read is tried while another process replaces the file."""

_REPLACED = (errno.EBUSY, errno.ESTALE)
"""Errors of S3 clients and network folders for a read that another process's write cut short."""

_IN_PARTS = 32 << 20
"""Size in bytes above which a client may read an object in several requests, and so mix its versions."""


def place(text: str | os.PathLike[str] | Place) -> Place:
    """Read a path or URI that a person typed or a task carries.

    Args:
        text: a path (``~`` is expanded) or a URI that fsspec reads, such as ``s3://bucket/folder``.

    Raises:
        ValueError: ``~`` stands for no folder; fsspec does not know that kind of URI, its package is not installed, or
            it does not answer.
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
            meant = Path("/", host, path).as_uri()
            raise ValueError(f"{words}: a file URI has three slashes before its path, as in {meant}")
        return Path(slash + unquote(path))
    from fsspec.config import conf
    from upath import UPath

    try:
        # Listings are not cached: another process commits entries all the time.
        how: dict[str, Any] = {"use_listings_cache": False}
        if scheme.lower() in ("s3", "s3a") and "config_kwargs" not in conf.get("s3", {}):
            how["config_kwargs"] = {"max_pool_connections": side_by_side.AT_ONCE}  # botocore's own 10 would queue them
        found: UPath = UPath(f"{scheme.lower()}://{rest.rstrip('/')}", **how)
        assert found.fs is not None  # made now, so that a missing package shows before anything starts
    except (ValueError, ImportError) as error:
        raise ValueError(f"{words}: {error}; for s3:// and gs:// install 'tfser[s3]' or 'tfser[gcs]'") from None
    except OSError as error:  # some kinds connect at once
        raise ValueError(f"{words}: it cannot be reached ({error})") from None
    return found


def expanded(words: str) -> Path:
    """Return a local path with ``~`` expanded."""
    try:
        return Path(words).expanduser()
    except RuntimeError:
        name = Path(words).parts[0]
        why = f"this machine has no account {name[1:]!r}" if name != "~" else "this account has no home folder"
        raise ValueError(f"{words}: {why}, so that {name!r} stands for nothing; write the whole path") from None


def typed_place(text: str) -> Place:
    """Read a place, as argparse wants it.

    Raises:
        argparse.ArgumentTypeError: with the reason.
    """
    try:
        return place(given(text))
    except ValueError as error:
        source = next((f" (from {name})" for name in ("TFSER_DATA",) if text == os.environ.get(name)), "")
        raise argparse.ArgumentTypeError(f"{error}{source}") from None


def is_remote(path: Place) -> bool:
    """Return whether ``path`` lies behind a URI."""
    return not isinstance(path, Path)


def absolute(path: Place) -> Place:
    """Return the same place as seen from any working folder."""
    return path.resolve() if isinstance(path, Path) else path


def commit(path: Place, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all.

    A local file is written under a temporary name beside ``path``, flushed to disk, then renamed. Meanwhile it is
    locked, so that ``remove_unfinished`` can tell what a killed process left. Behind a URI the content is gathered in a
    local temporary file, then stored as one object, which appears when it is complete.

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
"""End of the name of a file that is being written."""

_UNMARKED = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Name that an earlier version gave such a file, without a lock."""


def _unfinished(path: Path) -> tuple[int, str]:
    """Make a locked temporary file beside ``path``; return its handle and its name."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=_PART)
        with contextlib.suppress(OSError):  # a file system without locks
            locks.wait_for(handle)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process took it for a leftover before it was locked, and removed it


def remove_unfinished(folder: Path) -> int:
    """Remove the files that processes killed in ``commit`` left below a folder; return how many.

    Where there are no locks, a file is removed a day after it was last written to.
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
    """Flush a new name to disk; where the file system cannot do that, the file is there all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def commit_bytes(path: Place, content: bytes) -> None:
    """Commit what is in memory; behind a URI that is one request."""
    if isinstance(path, Path):
        commit(path, lambda file: file.write(content))
    else:
        with as_os_error(path):
            path.fs.pipe_file(path.path, content)


def commit_text(path: Place, text: str) -> None:
    """Commit a text as UTF-8, with its line ends as they are."""
    commit_bytes(path, text.encode("utf-8"))


def create_bytes(path: Place, content: bytes) -> bool:
    """Write a file unless it is there already; return whether this process made it.

    Raises:
        OSError: it cannot be written.
    """
    try:
        if isinstance(path, Path):
            with open(path, "xb") as file:
                file.write(content)
        else:
            with as_os_error(path):
                path.fs.pipe_file(path.path, content, mode="create")
    except FileExistsError:
        return False
    return True


def create_text(path: Place, text: str) -> bool:
    """Do as ``create_bytes``, with a text as UTF-8."""
    return create_bytes(path, text.encode("utf-8"))


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
    """Ignore the error of a read that another process's write cut short."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REPLACED:
            raise


def replaced_meanwhile(path: Place) -> OSError:
    """Return the error of a file that was replaced during every read."""
    return OSError(errno.EBUSY, f"another process replaced it during each of {READS} reads; try again", str(path))


def read_text(path: Place) -> str:
    """Read a whole file of UTF-8.

    Raises:
        OSError, UnicodeDecodeError: it is not there, cannot be read, or is no text.
    """
    return read_bytes(path).decode("utf-8")


def read_start(path: Place, at_most: int) -> bytes:
    """Read the first bytes of a file of any length, or of a pipe.

    Raises:
        OSError: it is not there (``FileNotFoundError``) or cannot be read.
    """
    with as_os_error(path), path.open("rb") as file:
        return bytes(file.read(at_most))


def exists(path: Place) -> bool:
    """Return whether there is such a file or folder.

    Raises:
        OSError: its store does not answer.
    """
    with as_os_error(path):
        return path.exists()


def size(path: Place) -> int:
    """Return the size of a file in bytes.

    Raises:
        OSError: it is not there or cannot be read.
    """
    with as_os_error(path):
        return int(path.stat().st_size)


def listed(folder: Place, pattern: str) -> list[Place]:
    """Return what matches in a folder, sorted; nothing where there is no such folder.

    Behind a URI, the folders of a pattern such as ``*/*.json`` are listed side by side.

    Raises:
        OSError: it cannot be read.
    """
    outer, slash, inner = pattern.partition("/")
    if slash and is_remote(folder):
        each = side_by_side.answers(lambda inside: listed(inside, inner), listed(folder, outer))
        return [path for found in each for path in found]
    with as_os_error(folder):
        return sorted(folder.glob(pattern), key=str)


def has_folders(path: Place) -> bool:
    """Return whether a file there needs a folder; object stores have none."""
    return isinstance(path, Path) or path.protocol not in _OBJECT_STORES


def make_folder(path: Place) -> None:
    """Make a folder and those above it, unless it is there or the store has no folders.

    Raises:
        OSError: it cannot be made.
    """
    if not has_folders(path):
        return  # making one would make its bucket too, so that a mistyped name would go unnoticed
    with as_os_error(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Place) -> None:
    """Remove a file, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError), as_os_error(path):
        if isinstance(path, Path):
            path.unlink()
        else:
            path.fs.rm_file(path.path)  # UPath would first ask whether it is there


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
    """Turn a store's own errors into ``OSError``, which callers know."""
    try:
        yield
    except (OSError, UnicodeDecodeError):
        raise
    except Exception as error:
        if not is_remote(path):
            raise
        told = f"{path}: {in_a_line(error)}"
        status = getattr(error, "status_code", getattr(error, "code", None))
        changed = status == 412  # since it was opened
        raise (OSError(errno.EBUSY, told) if changed else OSError(told)) from None


def version_of(info: Mapping[str, Any]) -> str:
    """Return a text that changes with the content, as far as the store tells."""
    return f"{info.get('size')} {info.get('ETag') or info.get('etag') or info.get('mtime') or info.get('created')}"


def slug(text: str) -> str:
    """Return ``text`` in lower case, with ``-`` for everything but letters, digits, ``.``, ``_`` and ``+``.

    >>> slug("T+F, Ses01F")
    't+f-ses01f'
    """
    return re.sub(r"[^a-z0-9._+]+", "-", text.lower()).strip("-.")
