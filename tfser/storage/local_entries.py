"""Entries that a driver has read and needs again, on its own disk: behind a URI another look is another request.

They fill no memory, however far MLflow is behind. None of them is needed: the ledger has them all.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from pathlib import Path

from tfser.record import Entry, from_dict, to_dict
from tfser.storage import temporary


class LocalEntries:
    """A folder of this process."""

    def __init__(self) -> None:
        folder = temporary.Folder("entries")
        weakref.finalize(self, folder.remove)
        self._folder = folder.path

    def put(self, entry: Entry) -> None:
        """Keep an entry, if there is room for it."""
        with contextlib.suppress(OSError):
            self._path(entry.trial_id).write_text(json.dumps(to_dict(entry)), encoding="utf-8")

    def get(self, trial_id: str) -> Entry | None:
        """Return an entry; ``None`` where it is not kept."""
        try:
            return from_dict(json.loads(self._path(trial_id).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # a full disk may have cut it short
            return None

    def remove(self, trial_id: str) -> None:
        """Keep an entry no longer."""
        with contextlib.suppress(OSError):
            self._path(trial_id).unlink()

    def _path(self, trial_id: str) -> Path:
        return self._folder / trial_id
