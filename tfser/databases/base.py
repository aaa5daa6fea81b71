"""Types for databases: utterances with a speaker and an emotion, and facts about a corpus.

Nothing here knows a particular corpus, a feature or a model. A reader (one file per corpus in ``corpora``) fills these
types from the files on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfser.audio import files
from tfser.errors import AudioError
from tfser.storage.local_copies import here


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One recording with its labels."""

    id: str
    """Unique within the database and the same on every machine (never an absolute path)."""
    speaker: str
    """The speaker; leave-one-speaker-out holds out one at a time."""
    emotion: str
    """One of the database's emotions."""
    session: str | None = None
    """The recording session; ``None`` if the corpus has none (IEMOCAP has ``Ses01`` to ``Ses05``)."""
    path: Path | None = None
    """The audio file; ``None`` for generated audio."""
    corpus: str | None = None
    """The corpus that it is of, where a database is made of several; else ``None``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a database on disk."""

    kind: str
    """One of the words of ``PROBLEM_KINDS``."""
    path: str
    """The file, folder or line with the fault, as text (never decoded again)."""
    detail: str
    """The fault, what was expected and what to do."""
    about: str = ""
    """A finer sort within the kind; problems of one kind and sort are printed as one line."""

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


PROBLEM_KINDS = {
    "missing": "a file or folder that the labels name is not there",
    "unreadable": "the file cannot be opened or decoded",
    "empty": "the file holds no samples",
    "non-finite": "some samples are NaN or infinite",
    "silent": "every sample is (nearly) zero",
    "clipped": "many samples sit at full scale",
    "too short": "fewer samples than one analysis window",
    "no features": "the features that a model reads cannot be made of it",
    "too long": "longer than any utterance can be",
    "rate": "another sampling rate than the corpus is published with (it is resampled)",
    "channels": "several channels (they are averaged)",
    "duplicate": "the same audio with two labels, or one name twice",
    "label": "an emotion, speaker or session that cannot be read or is not on the list",
    "count": "another number of utterances than published",
    "note": "worth knowing; not an error",
}
"""Every kind of problem and its meaning."""

HARMLESS_KINDS = frozenset({"rate", "channels", "clipped", "note"})
"""Kinds that are reported but do not make a database unfit for use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInfo:
    """Facts about a corpus that do not depend on a copy on disk."""

    name: str
    """The word for the command line, in lower case."""
    title: str
    printed: str = ""
    """Its short name in printed tables, as papers write it; empty for the name itself."""
    language: str
    licence: str
    citation: str
    homepage: str
    how_to_get: str
    layout: str
    """Where files are and how labels are coded, in words."""
    emotions: tuple[str, ...]
    """All emotions that are kept, in the order of the tables."""
    sampling_rate_hz: int | None = None
    """Published sampling rate; ``None`` if unknown."""
    expected_emotions: dict[str, int] = field(default_factory=dict)
    """Published utterances per emotion; empty if unknown."""
    expected_speakers: dict[str, int] = field(default_factory=dict)
    """Published utterances per speaker; empty if unknown."""
    expected_speaker_emotions: dict[str, dict[str, int]] = field(default_factory=dict)
    """Published utterances per speaker and emotion; empty if unknown."""
    expected_speaker_count: int | None = None
    """Published number of speakers, for a corpus whose speakers' names are unknown."""
    same_texts: bool = False
    """Whether all speakers say the same texts: held-out speakers then say trained-on words."""
    remark: str = ""
    """A remark for every place that shows a result on this database; may be empty."""

    @property
    def expected_utterances(self) -> int | None:
        """The published number of utterances, or ``None``."""
        return sum(self.expected_emotions.values()) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Utterances on disk (or generated), sorted by id, with the facts about their corpus."""

    info: DatabaseInfo
    utterances: tuple[Utterance, ...]
    root: Path | None = None
    """The folder that it was read from."""
    complete: bool = True
    """Whether the counts are as published; a table of an incomplete database says so."""
    remark: str = ""
    """A remark for every place that shows a result on it: the corpus's and this copy's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "utterances", tuple(sorted(self.utterances, key=lambda u: u.id)))

    @property
    def name(self) -> str:
        """The word in tables, trials and runs."""
        return self.info.name

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions in the order of tables and classifiers."""
        return self.info.emotions

    @property
    def speakers(self) -> tuple[str, ...]:
        """Every speaker, sorted."""
        return tuple(sorted({u.speaker for u in self.utterances}))

    def read(self, utterance: Utterance) -> files.Waveform:
        """Return the utterance's audio.

        Raises:
            AudioError: the file cannot be used.
        """
        if utterance.path is None:
            raise ValueError(f"{utterance.id} has no file; its database must override read()")
        return files.read(_here(utterance.path))

    def audio_digest(self, utterance: Utterance) -> str:
        """Return the SHA-256 of the audio's content, under which features are stored.

        Raises:
            AudioError: the file cannot be opened.
        """
        if utterance.path is None:
            raise ValueError(f"{utterance.id} has no file; its database must override audio_digest()")
        return files.digest(_here(utterance.path))

    def digest(self, audio_digests: Mapping[str, str]) -> str:
        """Return the database's part of a trial id: every id, label and audio content, but no path.

        Args:
            audio_digests: utterance id to ``audio_digest``.
        """
        rows = [
            [u.id, u.speaker, u.emotion, u.session, audio_digests[u.id], *([u.corpus] if u.corpus else [])]
            for u in self.utterances
        ]
        text = json.dumps([list(self.emotions), rows], separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _here(path: Path) -> Path:
    """Find the file on this machine; files of another machine's mirror are copied here one by one."""
    try:
        return here(path)
    except OSError as error:
        raise AudioError("unreadable", str(path), str(error)) from None


def counts(utterances: Iterable[Utterance]) -> dict[str, Counter[str]]:
    """Count the utterances per emotion, for each speaker."""
    table: dict[str, Counter[str]] = {}
    for utterance in utterances:
        table.setdefault(utterance.speaker, Counter())[utterance.emotion] += 1
    return table
