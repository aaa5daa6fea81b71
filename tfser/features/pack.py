"""A pack: the features of a whole database in one memory-mapped file, beside a table of where each utterance begins.

A row is a frame, or a whole utterance where the features are one vector. This module knows nothing of audio or of how
rows are made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

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
    """Its first row."""
    frames: int
    """Its number of rows."""
    corpus: str | None = None
    """The corpus that it is of, where the database is made of several."""


@dataclass(frozen=True, slots=True)
class Pack:
    """The features of one database from one extractor, memory-mapped."""

    path: Place
    """Without suffix: ``.npy`` holds the frames, ``.json`` the table."""
    database: str
    database_digest: str
    emotions: tuple[str, ...]
    utterances: tuple[PackedUtterance, ...]
    values: int
    """Values of a row."""
    dtype: str = "float32"
    """``float32`` or ``float16``."""
    sha256: str = ""
    """Of all rows as they lie in the file; empty in a pack of an earlier version."""

    def is_sound(self) -> bool:
        """Return whether the rows are those that were written, as far as the table tells. Reads all of them.

        Raises:
            OSError, ValueError: they cannot be read.
        """
        return not self.sha256 or hashlib.sha256(self.frames().data).hexdigest() == self.sha256

    def frames(self) -> np.ndarray:
        """Return all rows: shape (rows, values), read-only, shared by all processes of the machine.

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
        values, dtype, sha256 = table["n_mels"], table.get("dtype", "float32"), table.get("sha256", "")
        emotions = tuple(table["emotions"])
        pack = cls(path, table["database"], table["database_digest"], emotions, rows, values, dtype, sha256)
        if database_digest not in (None, pack.database_digest):
            raise ValueError(f"{path} holds database {pack.database_digest}, not {database_digest}")
        told = sum(row.frames for row in rows), values
        if is_remote(path):  # each trainer copies it; an object is never there in part
            bytes_there = size(path.with_suffix(".npy"))
            sound = 0 < bytes_there - _TYPES[dtype].itemsize * told[0] * told[1] < _LONGEST_HEADER
        else:
            frames = pack.frames()
            sound = (frames.shape, frames.dtype) == (told, _TYPES[dtype])
        if not sound:
            raise ValueError(f"{path}.npy does not hold the {told} {dtype} values that its table states")
        return pack

    @classmethod
    def write(
        cls,
        path: Place,
        database: Database,
        database_digest: str,
        values: int,
        entries: Sequence[tuple[Utterance, str, np.ndarray]],
        dtype: str = "float32",
    ) -> None:
        """Commit the frames and then their table, so that no table ever names missing frames.

        Args:
            path: the pack, without suffix; its folder must exist.
            database: the database whose name and emotions the table states.
            database_digest: the digest of the database; empty in a part of one.
            values: values of every row.
            entries: utterance, digest of its audio, rows of shape (rows, values).
            dtype: ``float32`` or ``float16``.

        Raises:
            OSError: a full disk or a read-only folder; no half-written file is left.
        """
        rows, start = [], 0
        for u, digest, frames in entries:
            of_several = [u.corpus] if u.corpus else []
            rows.append([u.id, u.speaker, u.emotion, u.session, digest, start, len(frames), *of_several])
            start += len(frames)

        written = hashlib.sha256()

        def write_frames(file: BinaryIO) -> None:
            np.lib.format.write_array_header_2_0(
                file, {"descr": _TYPES[dtype].str, "fortran_order": False, "shape": (start, values)}
            )
            for _, _, frames in entries:
                held = np.ascontiguousarray(frames, dtype=_TYPES[dtype]).data
                written.update(held)
                file.write(held)

        commit(path.with_suffix(".npy"), write_frames)
        table = {
            "database": database.name,
            "database_digest": database_digest,
            "emotions": list(database.emotions),
            "n_mels": values,  # the name that packs had when they all held log-mel frames
            "utterances": rows,
            **({} if dtype == "float32" else {"dtype": dtype}),
            "sha256": written.hexdigest(),
        }
        commit_text(path.with_suffix(".json"), json.dumps(table, ensure_ascii=True))


_TYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}

_LONGEST_HEADER = 4096
"""Most bytes before the values of an ``.npy`` file; NumPy writes fewer."""


DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError)
"""What ``Pack.open`` raises; such a pack is treated as missing."""
