"""A pack: the frames of a whole database in one memory-mapped file, beside a table of where each utterance begins.

This module knows nothing of audio or of how frames are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from tfser.databases.base import Database, Utterance
from tfser.storage.local_copies import here
from tfser.storage.places import Place, commit, commit_text, is_remote, read_text, size


@dataclass(frozen=True, slots=True)
class PackedUtterance:
    """One utterance in a pack: its labels, and where its frames are."""

    id: str
    speaker: str
    emotion: str
    session: str | None
    audio: str
    """SHA-256 of the audio's content."""
    start: int
    """Its first frame."""
    frames: int


@dataclass(frozen=True, slots=True)
class Pack:
    """The frames of one database under one front end, memory-mapped."""

    path: Place
    """Without suffix: ``.npy`` holds the frames, ``.json`` the table."""
    database: str
    database_digest: str
    emotions: tuple[str, ...]
    utterances: tuple[PackedUtterance, ...]

    def frames(self) -> np.ndarray:
        """Return all frames: float32, shape (frames, n_mels), read-only, shared by all processes of the machine.

        Raises:
            OSError, ValueError: they cannot be read.
        """
        frames: np.ndarray = np.load(here(self.path.with_suffix(".npy")), mmap_mode="r", allow_pickle=False)
        return frames

    @classmethod
    def open(cls, path: Place, database_digest: str | None = None) -> Pack:
        """Read a pack's table and check that its frames are there.

        Args:
            path: the pack, without suffix.
            database_digest: the expected database; ``None`` accepts any.

        Raises:
            OSError, ValueError, KeyError, TypeError, AttributeError, EOFError: it is missing, damaged, or of another
                database.
        """
        table = json.loads(read_text(path.with_suffix(".json")))
        rows = tuple(PackedUtterance(*row) for row in table["utterances"])
        pack = cls(path, table["database"], table["database_digest"], tuple(table["emotions"]), rows)
        if database_digest not in (None, pack.database_digest):
            raise ValueError(f"{path} holds database {pack.database_digest}, not {database_digest}")
        told = sum(row.frames for row in rows), table["n_mels"]
        if is_remote(path):  # each trainer copies it; an object is never there in part
            bytes_there = size(path.with_suffix(".npy"))
            sound = 0 < bytes_there - 4 * told[0] * told[1] < _LONGEST_HEADER
        else:
            sound = pack.frames().shape == told
        if not sound:
            raise ValueError(f"{path}.npy does not hold the {told} values that its table states")
        return pack

    @classmethod
    def write(
        cls,
        path: Place,
        database: Database,
        database_digest: str,
        n_mels: int,
        entries: Sequence[tuple[Utterance, str, np.ndarray]],
    ) -> None:
        """Commit the frames and then their table, so that no table ever names missing frames.

        Args:
            path: the pack, without suffix; its folder must exist.
            database: the database whose name and emotions the table states.
            database_digest: the digest of the database; empty in a part of one.
            n_mels: bands of every array.
            entries: utterance, digest of its audio, frames of shape (frames, n_mels).

        Raises:
            OSError: a full disk or a read-only folder; no half-written file is left.
        """
        rows, start = [], 0
        for u, digest, frames in entries:
            rows.append([u.id, u.speaker, u.emotion, u.session, digest, start, len(frames)])
            start += len(frames)

        def write_frames(file: BinaryIO) -> None:
            np.lib.format.write_array_header_2_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (start, n_mels)}
            )
            for _, _, frames in entries:
                file.write(np.ascontiguousarray(frames, dtype="<f4").data)

        table = {
            "database": database.name,
            "database_digest": database_digest,
            "emotions": list(database.emotions),
            "n_mels": n_mels,
            "utterances": rows,
        }
        commit(path.with_suffix(".npy"), write_frames)
        commit_text(path.with_suffix(".json"), json.dumps(table, ensure_ascii=True))


_LONGEST_HEADER = 4096
"""Most bytes before the values of an ``.npy`` file; NumPy writes fewer."""


DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError)
"""What ``Pack.open`` raises; such a pack is treated as missing."""
