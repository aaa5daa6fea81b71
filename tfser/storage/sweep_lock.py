"""The lease of a sweep: only one driver at a time runs it, and a second one is told which.

On a local or shared folder the lease is a lock of the operating system, which ends with its process. Behind a URI there
are no locks: there the lease is an object that its holder renews, and another driver may take it over after
``LIFETIME_S`` without a renewal. Knows nothing of what a sweep does.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfser.errors import RequestError
from tfser.storage import locks, places

RENEW_S = 10.0
"""Seconds between renewals of a lease behind a URI."""

LIFETIME_S = 45.0
"""Seconds without a renewal after which such a lease may be taken over."""


@contextlib.contextmanager
def lease(storage: places.Place, sweep: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lease of a sweep.

    Args:
        storage: the sweep's storage folder.
        sweep: its name.
        say: told when this driver waits for a lease that may be stale, and when it lost its own.

    Raises:
        RequestError: another process holds it, the folder cannot be written, or this system has no locks.
    """
    if not locks.available():
        why = f"{platform.system()} lacks the file locks by which only one driver runs a sweep"
        raise RequestError(f"sweep {sweep}", [f"{why}; train on Linux or in WSL; --plan and all that reads works here"])
    folder = storage / "sweeps"
    try:
        places.make_folder(folder)
        held = _Lock(folder / f"{sweep}.lock") if isinstance(folder, Path) else _Renewed(folder / f"{sweep}.lease", say)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        detail = f"{error.strerror or error}{where}; name another with --storage"
        raise RequestError(f"storage {storage}", [detail]) from None
    except _HeldError as other:
        raise RequestError(f"sweep {sweep}", [f"it is being run by {other}"]) from None
    try:
        yield
    finally:
        held.release()


class LostError(KeyboardInterrupt):
    """This driver lost its lease, so that nothing more may be written in the sweep's name; else as Ctrl-C."""


def _stop(number: int, frame: object) -> None:
    raise LostError


class _HeldError(Exception):
    """Another process holds the lease; the text names it."""


def _who() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"


class _Lock:
    """A lease on a file system: a lock of the operating system."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  # held until the sweep ends
        try:
            locks.take(self._file)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise _HeldError(holder or "another process") from None
        self._file.truncate(0)
        self._file.write(_who() + "\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


class _Renewed:
    """A lease behind a URI, renewed while it is held. A driver that lost it ends its sweep, as Ctrl-C would."""

    def __init__(self, path: places.Place, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._holder, self._token = _who(), secrets.token_hex(8)
        self._released = threading.Event()
        if not places.create_text(path, self._text()):
            self._take_over()
        # Not SIGINT: a shell lets what it starts in the background ignore that.
        self._before = signal.signal(signal.SIGUSR1, _stop)
        self._thread = threading.Thread(target=self._renew, name="tfser-lease", daemon=True)
        self._thread.start()

    def _text(self) -> str:
        return json.dumps({"holder": self._holder, "token": self._token, "renewed_unix": time.time()})

    def _read(self) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(places.read_text(self._path))
            return values
        except (FileNotFoundError, ValueError):
            return {}

    def _take_over(self) -> None:
        """Wait for a sign of the holder until the lease ends. The clocks of two machines are never compared."""
        first = self._read()
        holder = first.get("holder", "unknown")
        self._say(f"Another driver may hold this sweep ({holder}); waiting up to {LIFETIME_S:.0f} s for a sign of it")
        begin = time.monotonic()
        while time.monotonic() - begin < LIFETIME_S:
            time.sleep(min(1.0, RENEW_S))
            now = self._read()
            if not now:
                break
            if now != first:
                raise _HeldError(str(now.get("holder", "another process")))
        places.remove(self._path)
        places.create_text(self._path, self._text())
        # A third driver may have taken it over in the same moment; the last one to write holds it.
        time.sleep(min(2.0, RENEW_S))
        now = self._read()
        if now.get("token") != self._token:
            raise _HeldError(str(now.get("holder", "another process")))

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._released.wait(RENEW_S):
            try:
                own = self._read().get("token") == self._token
                if own:
                    places.commit_text(self._path, self._text())
                    renewed = time.monotonic()
            except OSError:
                own = time.monotonic() - renewed < LIFETIME_S - RENEW_S  # after that another driver may take it over
            if not own and not self._released.is_set():
                why = "the storage could not be reached, or another driver took the sweep over"
                self._say(f"This driver lost its lease: {why}")
                os.kill(os.getpid(), signal.SIGUSR1)
                return

    def release(self) -> None:
        self._released.set()
        self._thread.join(RENEW_S)  # a renewal under way would bring back what is removed here
        signal.signal(signal.SIGUSR1, self._before)
        with contextlib.suppress(OSError):
            if self._read().get("token") == self._token:
                places.remove(self._path)
