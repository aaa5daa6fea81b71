"""Optuna's journal, in which a sweep's studies are kept; no line is read twice.

The format is Optuna's, and ``optuna-dashboard`` opens the file. Knows nothing of studies, spaces or trials.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from tfser.storage import temporary
from tfser.storage.patience import Patience
from tfser.storage.places import Place, commit, listed, read_bytes
from tfser.storage.side_by_side import answers

SYNC_S = 1.0
"""Shortest time between two waits for the disk."""

PART_BYTES = 1 << 18
"""A journal behind a URI is stored in parts of about this size."""

BATCH_S = 2.0
"""Seconds for which lines of a journal behind a URI are gathered, so that not each of a setting's twenty is a request.

A dashboard lags by so much, and a driver that is killed loses so much of the journal, never of the ledger.
"""


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
    """A journal behind a URI: a local file, whose new lines are stored in batches.

    It is stored in parts, because objects cannot grow. Only the last part is stored again, so that a line costs the
    same however long the journal is.

    What is stored is always the beginning of what was written, because parts are stored in order. So a driver that is
    killed leaves the journal as it was up to ``batch_s`` before. The next start makes good what is missing from the
    ledger, to which a worker commits before the driver hears of it: a setting whose end is missing is told again from
    its entry, and one that is missing altogether is asked for again, from the same seed.

    Args:
        path: the first part.
        say: told when the store does not answer.
        batch_s: longest time for which a line is only in the local file; 0 stores every line at once.
    """

    def __init__(self, path: Place, say: Callable[[str], None] = lambda text: None, batch_s: float = 0.0) -> None:
        what = f"the journal of the studies, {path},"
        self._path, self._patience = path, Patience(what, lambda error: isinstance(error, OSError), say)
        self._batch_s, self._stored_at = batch_s, float("-inf")
        folder = temporary.Folder("journal")
        weakref.finalize(self, folder.remove)
        local, begins = folder.path / path.name, [0]
        with local.open("wb") as file:
            for content in answers(read_bytes, _parts(path)):
                begins.append(file.tell())
                file.write(content)
        self._begins = begins[1:] or begins
        """Where each part begins in the local file."""
        super().__init__(local)
        self._part = len(self._begins) - 1
        """The part that was stored last."""
        self._stored = local.stat().st_size
        """Bytes of the local file that are stored."""
        self._changing = threading.RLock()
        self._closed = threading.Event()
        self._late: threading.Thread | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines to the local file, and to the store what has waited for long enough.

        Raises:
            TfserError: the store did not answer for long.
        """
        with self._changing:
            size = self._local.stat().st_size
            if size - self._begins[-1] >= PART_BYTES:
                self._begins.append(size)
            super().append_logs(logs)
        if self._stored_at + self._batch_s <= time.monotonic():
            self._patience(lambda again: self._store())
        elif self._late is None:
            late = (weakref.ref(self), self._closed, self._batch_s)
            self._late = threading.Thread(target=_store_late, args=late, name="tfser-journal", daemon=True)
            self._late.start()

    def _store(self) -> None:
        """Store the lines that are not stored yet.

        Raises:
            OSError: the store does not answer; a later call stores them.
        """
        with self._changing:
            ends = [*self._begins[1:], self._local.stat().st_size]
            with self._local.open("rb") as file:
                while self._stored < ends[-1]:
                    if self._stored == ends[self._part]:
                        self._part += 1
                    begin, end = self._begins[self._part], ends[self._part]
                    file.seek(begin)
                    content = file.read(end - begin)
                    commit(_part_of(self._path, self._part), lambda stored: stored.write(content))  # noqa: B023  # called at once
                    self._stored = end
            self._stored_at = time.monotonic()

    def store_late(self) -> None:
        """Store lines that have waited for long enough, if the store answers; else the next line is patient."""
        if self._stored_at + self._batch_s <= time.monotonic():
            with contextlib.suppress(OSError):
                self._store()

    def close(self, *, store: bool = True) -> None:
        """End; store the last lines, if that is wanted and the store answers."""
        self._closed.set()
        if store:
            with contextlib.suppress(OSError):
                self._store()


def _store_late(journal: weakref.ref[StoredJournal], closed: threading.Event, batch_s: float) -> None:
    """Store lines after which none follows for long, as while every worker trains."""
    while not closed.wait(batch_s):
        there = journal()
        if there is None:
            return
        there.store_late()
        del there


class CopiedJournal(BaseJournalBackend):
    """A copy of a journal in memory. What is written to it is gone with the process, and the journal stays as it is.

    Args:
        path: the journal, which another process may be writing; empty where there is none.
    """

    def __init__(self, path: Place) -> None:
        content = b"".join(answers(read_bytes, _parts(path)))
        whole = content[: content.rfind(b"\n") + 1]  # another process may be writing the last line
        self._logs: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the lines from that number on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines to the copy."""
        self._logs += json.loads(json.dumps(logs))


def _parts(path: Place) -> list[Place]:
    """Return the stored parts of a journal, in order; a local journal has the first one alone."""
    there, parts = {each.name for each in listed(path.parent, f"{path.name}*")}, list[Place]()
    while (part := _part_of(path, len(parts))).name in there:
        parts.append(part)
    return parts


def _part_of(path: Place, part: int) -> Place:
    return path if part == 0 else path.with_name(f"{path.name}.{part:04d}")
