"""The ledger: one file per trial that ended, from which tables and MLflow are filled.

An entry is committed atomically and carries a checksum. A torn or edited file is found and set aside, and its trial is
trained again. Entries are found by trial id alone: the ledger knows nothing of sweeps, because a trial that two sweeps
ask for is trained once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tfser.record import Entry, Record, from_dict, to_dict
from tfser.storage import side_by_side
from tfser.storage.places import (
    Place,
    commit_bytes,
    create_bytes,
    is_remote,
    listed,
    move,
    read_bytes,
    read_text,
)
from tfser.storage.with_folder import written

MODEL_CARD = "model_card.md"
"""Name of a model card where it lies beside files that are not named after the trial."""

Stamp = tuple[int, int, int]
"""Number, bytes and time of change (nanoseconds) of an entry's file in a folder."""


class Ledger:
    """The entries under ``root``."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self.damaged: list[Place] = []
        """Entries that were set aside because their content does not match their checksum or name."""

    def path(self, trial_id: str) -> Place:
        """Return where the entry of a trial is or would be."""
        return self.root / trial_id[:2] / f"{trial_id}.json"

    def weights_path(self, trial_id: str) -> Place:
        """Return where the weights of a network's final trial are or would be."""
        return self.root / trial_id[:2] / f"{trial_id}.pt"

    def state_path(self, trial_id: str) -> Place:
        """Return where the fitted state of an estimator's final trial is or would be."""
        return self.root / trial_id[:2] / f"{trial_id}.skops"

    def model_path(self, record: Record) -> Place:
        """Return where the model of a final trial of either kind is or would be."""
        return (self.weights_path if record.fitted is None else self.state_path)(record.trial_id)

    def card_path(self, trial_id: str) -> Place:
        """Return where the model card of a deploy trial is or would be."""
        return self.root / trial_id[:2] / f"{trial_id}.md"

    def card(self, trial_id: str) -> str:
        """Return the model card of a deploy trial; empty where there is none."""
        try:
            return read_text(self.card_path(trial_id))
        except FileNotFoundError:
            return ""

    def ids(self) -> set[str]:
        """Return the ids of all entries, none of them verified."""
        return {path.stem for path in listed(self.root, "[0-9a-f][0-9a-f]/*.json")}

    def commit(self, entry: Entry, weights: Mapping[str, torch.Tensor] | bytes | None = None) -> None:
        """Write one entry, after its weights, so that an entry never lacks its weights.

        Args:
            entry: a record, or a failure that would recur.
            weights: the network's state, or the file of an estimator's fitted state; stored beside the entry.

        Raises:
            OSError: the entry could not be written, so there is none.
            ValueError: the entry holds a number that is not finite.
        """
        path, text, beside = self.path(entry.trial_id), text_of(entry), self._beside(entry.trial_id, weights)
        for file in (beside, (path, text.encode())):
            if file is not None:
                written(commit_bytes, *file)

    def settle(self, entry: Entry, weights: Mapping[str, torch.Tensor] | bytes | None = None) -> Entry:
        """Commit an entry unless another attempt has committed a record; return what the ledger then holds.

        Behind a URI, the file that is written first is made only if it is not there, which tells at no further request
        whether there was another attempt.

        Args:
            entry: as for ``commit``.
            weights: likewise.

        Raises:
            OSError: likewise.
            ValueError: likewise.
        """
        path, text, beside = self.path(entry.trial_id), text_of(entry), self._beside(entry.trial_id, weights)
        if is_remote(path) and written(create_bytes, *(beside or (path, text.encode()))):
            if beside is not None:
                written(commit_bytes, path, text.encode())
            return entry
        there = self.get(entry.trial_id)
        if isinstance(there, Record):
            return there
        self.commit(entry, weights)
        return entry

    def _beside(self, trial_id: str, weights: Mapping[str, torch.Tensor] | bytes | None) -> tuple[Place, bytes] | None:
        """Return the path and the content of what is kept beside an entry."""
        if weights is None or isinstance(weights, bytes):
            return None if weights is None else (self.state_path(trial_id), weights)
        buffer = io.BytesIO()
        torch.save(dict(weights), buffer)
        return self.weights_path(trial_id), buffer.getvalue()

    def get(self, trial_id: str) -> Entry | None:
        """Return the entry; ``None`` where there is none. A damaged one is set aside and counts as none."""
        return self._read(trial_id, self._content(trial_id))

    def stamp(self, trial_id: str) -> Stamp | None:
        """Return what changes with an entry's file; ``None`` where there is no file, and behind a URI."""
        path = self.path(trial_id)
        if not isinstance(path, Path):
            return None
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def each(self, trial_ids: Iterable[str]) -> Iterator[Entry | None]:
        """Yield what ``get`` returns for each trial, in order; behind a URI, the next ones are fetched meanwhile.

        Few entries are in memory at a time, however many are asked for.
        """
        if isinstance(self.root, Path):
            yield from map(self.get, trial_ids)
            return
        for trial_id, content in side_by_side.answers(lambda each: (each, self._content(each)), trial_ids):
            yield self._read(trial_id, content)

    def _content(self, trial_id: str) -> bytes | None:
        try:
            return read_bytes(self.path(trial_id))
        except FileNotFoundError:
            return None

    def _read(self, trial_id: str, content: bytes | None) -> Entry | None:
        if content is None:
            return None
        try:
            values: dict[str, Any] = json.loads(content.decode("utf-8"))
            checksum = values.pop("checksum")
            if checksum == _checksum(values) and (entry := from_dict(values)).trial_id == trial_id:
                return entry
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        self._set_aside(self.path(trial_id))
        return None

    def _set_aside(self, path: Place) -> None:
        aside = path.with_suffix(".damaged")
        with contextlib.suppress(FileNotFoundError):  # another thread, which writes to MLflow, found it too
            move(path, aside)
            self.damaged.append(aside)

    def weights(self, trial_id: str) -> dict[str, torch.Tensor]:
        """Load the weights of a final trial.

        Raises:
            FileNotFoundError: it has none.
        """
        state: dict[str, torch.Tensor] = torch.load(
            io.BytesIO(read_bytes(self.weights_path(trial_id))), weights_only=True, map_location="cpu"
        )
        return state

    def state(self, trial_id: str) -> bytes:
        """Return the file of an estimator's fitted state.

        Raises:
            FileNotFoundError: it has none.
        """
        return read_bytes(self.state_path(trial_id))


class ReadLedger(Ledger):
    """A ledger that is only read: a damaged entry counts as none and stays where it is."""

    def _set_aside(self, path: Place) -> None:
        """Leave it to the next start."""


def text_of(entry: Entry) -> str:
    """Return the content of an entry's file.

    Raises:
        ValueError: the entry holds a number that is not finite.
    """
    values = to_dict(entry)
    return json.dumps({**values, "checksum": _checksum(values)}, sort_keys=True, ensure_ascii=True, allow_nan=False)


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
