"""What a database is: utterances with a speaker and an emotion, and what is known about the corpus.

Nothing here knows a particular corpus, a feature or a model. A reader (one file per corpus beside
this one) fills these values from what lies on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfser import audio
from tfser.errors import AudioError
from tfser.files import here


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One recording with its labels."""

    id: str
    """Unique within the database and the same on every machine (never an absolute path)."""
    speaker: str
    """Who speaks; the unit that leave-one-speaker-out holds out."""
    emotion: str
    """One of the database's emotions."""
    session: str | None = None
    """The recording session, where the corpus has sessions (IEMOCAP: ``Ses01`` to ``Ses05``)."""
    path: Path | None = None
    """The audio file; ``None`` where the audio is generated."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a database on disk."""

    kind: str
    """One of the words of ``PROBLEM_KINDS``."""
    path: str
    """The file, folder or line it concerns, as text (never decoded again)."""
    detail: str
    """What is wrong, what was expected and what to do."""
    about: str = ""
    """Which sort of its kind it is; problems of one kind and sort are printed as one line."""

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
    "too long": "longer than any utterance can be",
    "rate": "another sampling rate than the corpus is published with (it is resampled)",
    "channels": "several channels (they are averaged)",
    "duplicate": "the same audio with two labels, or one name twice",
    "label": "an emotion, speaker or session that cannot be read or is not on the list",
    "count": "another number of utterances than published",
    "note": "worth knowing; not an error",
}
"""Every kind of problem and what it means."""

HARMLESS_KINDS = frozenset({"rate", "channels", "clipped", "note"})
"""Kinds that are reported but do not make a database unfit for use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInfo:
    """What is known about a corpus before anything is on disk."""

    name: str
    """The word typed on the command line; lower case."""
    title: str
    language: str
    licence: str
    citation: str
    homepage: str
    how_to_get: str
    layout: str
    """Where files lie and how labels are coded, for a person."""
    emotions: tuple[str, ...]
    """Every emotion kept, in the order that tables use."""
    sampling_rate_hz: int | None = None
    """As published; ``None`` where unknown."""
    expected_emotions: dict[str, int] = field(default_factory=dict)
    """Published utterances per emotion; empty where unknown."""
    expected_speakers: dict[str, int] = field(default_factory=dict)
    """Published utterances per speaker; empty where unknown."""
    expected_speaker_emotions: dict[str, dict[str, int]] = field(default_factory=dict)
    """Published utterances per speaker and emotion; empty where unknown."""
    expected_speaker_count: int | None = None
    """Published number of speakers where their names are unknown."""
    same_texts: bool = False
    """Whether the same texts recur for every speaker: held-out speakers then say trained-on words."""
    remark: str = ""
    """What has to be said wherever a result on this database is shown (may be empty)."""

    @property
    def expected_utterances(self) -> int | None:
        """Published number of utterances, or ``None``."""
        return sum(self.expected_emotions.values()) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Utterances on disk (or generated), sorted by id, with what is known about them."""

    info: DatabaseInfo
    utterances: tuple[Utterance, ...]
    root: Path | None = None
    """The folder it was read from."""
    complete: bool = True
    """Whether the counts are the published ones; a table of an incomplete database says so."""
    remark: str = ""
    """What has to be said wherever a result on it is shown: the corpus's remark and this copy's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "utterances", tuple(sorted(self.utterances, key=lambda u: u.id)))

    @property
    def name(self) -> str:
        """The word that tables, trials and runs use."""
        return self.info.name

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions in the order that tables and classifiers use."""
        return self.info.emotions

    @property
    def speakers(self) -> tuple[str, ...]:
        """Every speaker, sorted."""
        return tuple(sorted({u.speaker for u in self.utterances}))

    def read(self, utterance: Utterance) -> audio.Waveform:
        """The utterance's audio.

        Raises:
            AudioError: the file cannot be used.
        """
        if utterance.path is None:
            raise ValueError(f"{utterance.id} has no file; its database has to override read()")
        return audio.read(_here(utterance.path))

    def audio_digest(self, utterance: Utterance) -> str:
        """SHA-256 of the audio's content: what features are stored under.

        Raises:
            AudioError: the file cannot be opened.
        """
        if utterance.path is None:
            raise ValueError(f"{utterance.id} has no file; its database has to override audio_digest()")
        return audio.digest(_here(utterance.path))

    def digest(self, audio_digests: Mapping[str, str]) -> str:
        """What a trial's id holds of the database: every id, label and audio content (not its paths).

        Args:
            audio_digests: utterance id to ``audio_digest``; kept by the caller, who needs them anyway.
        """
        rows = [[u.id, u.speaker, u.emotion, u.session, audio_digests[u.id]] for u in self.utterances]
        text = json.dumps([list(self.emotions), rows], separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _here(path: Path) -> Path:
    """The file on this machine: another machine's mirror of a corpus is brought here file by file."""
    try:
        return here(path)
    except OSError as error:
        raise AudioError("unreadable", str(path), str(error)) from None


def counts(utterances: Iterable[Utterance]) -> dict[str, Counter[str]]:
    """Utterances per emotion, for each speaker."""
    table: dict[str, Counter[str]] = {}
    for utterance in utterances:
        table.setdefault(utterance.speaker, Counter())[utterance.emotion] += 1
    return table
