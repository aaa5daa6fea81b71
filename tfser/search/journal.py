"""Optuna's journal, in which a sweep's studies are kept; no line is read twice.

The format is Optuna's, and ``optuna-dashboard`` opens the file. Knows nothing of studies, spaces or trials.
"""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from tfser.storage import temporary
from tfser.storage.patience import Patience
from tfser.storage.places import Place, commit, exists, read_bytes

SYNC_S = 1.0
"""Shortest time between two waits for the disk."""

PART_BYTES = 1 << 18
"""A journal behind a URI is stored in parts of about this size."""


class Journal(JournalFileBackend):
    """A journal file.

    Optuna's own backend keeps the place of every line in memory, opens the file for every question, waits for the disk
    after every line (six of them for a setting) and trips over a line that a killed process left half written. This one
    knows where it stopped reading and waits for the disk once a second. It cuts a half-written line off when it opens
    the file, which is safe because the caller holds the sweep's lease.

    A machine that loses power may lose the lines of the last second. Those settings are then asked for again, from the
    same seeds, and what was trained for them is in the ledger.
    """

    def __init__(self, path: Path) -> None:
        for lock in path.parent.glob(f"{path.name}.lock*"):
            lock.unlink(missing_ok=True)
        super().__init__(str(path))
        self._local = path
        self._read = 0, 0
        """Lines and bytes that were read."""
        self._on_disk = float("-inf")
        """When the disk was last waited for, by ``time.monotonic``."""
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # theirs is a generator
        """Read the lines from that number on."""
        number, offset = self._read if log_number_from == self._read[0] else (0, 0)
        if os.stat(self._local).st_size == offset:
            return
        with open(self._local, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):  # another process is writing it
                    return
                number, offset = number + 1, offset + len(line)
                self._read = number, offset
                if number > log_number_from:
                    yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()  # a dashboard may write, too
        try:
            with open(self._local, "ab") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                if time.monotonic() - self._on_disk >= SYNC_S:
                    os.fsync(file.fileno())
                    self._on_disk = time.monotonic()
        finally:
            self._lock.release()


class StoredJournal(Journal):
    """A journal behind a URI: a local file, stored after every line.

    It is stored in parts, because objects cannot grow. Only the last part is stored again, so that a line costs the
    same however long the journal is.
    """

    def __init__(self, path: Place, say: Callable[[str], None] = lambda text: None) -> None:
        what = f"the journal of the studies, {path},"
        self._path, self._patience = path, Patience(what, lambda error: isinstance(error, OSError), say)
        folder = temporary.Folder("journal")
        weakref.finalize(self, folder.remove)
        local, self._part, self._begin = folder.path / path.name, 0, 0
        with local.open("wb") as file:
            while exists(self._place):
                self._begin = file.tell()
                file.write(read_bytes(self._place))
                self._part += 1
        self._part = max(self._part - 1, 0)
        super().__init__(local)

    @property
    def _place(self) -> Place:
        """The part that is being written."""
        return _part_of(self._path, self._part)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines to the local file and to the store."""
        size = self._local.stat().st_size
        if size - self._begin >= PART_BYTES:
            self._part, self._begin = self._part + 1, size
        super().append_logs(logs)
        with self._local.open("rb") as file:
            file.seek(self._begin)
            content = file.read()
        self._patience(lambda again: commit(self._place, lambda stored: stored.write(content)))


class CopiedJournal(BaseJournalBackend):
    """A copy of a journal in memory. What is written to it is gone with the process, and the journal stays as it is.

    Args:
        path: the journal, which another process may be writing; empty where there is none.
    """

    def __init__(self, path: Place) -> None:
        content, part = b"", 0
        while (place := _part_of(path, part)) and exists(place):
            content += read_bytes(place)
            part += 1
        whole = content[: content.rfind(b"\n") + 1]  # another process may be writing the last line
        self._logs: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the lines from that number on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines to the copy."""
        self._logs += json.loads(json.dumps(logs))


def _part_of(path: Place, part: int) -> Place:
    """Return the place of a part of a journal; a local journal has the first one alone."""
    return path if part == 0 else path.with_name(f"{path.name}.{part:04d}")
