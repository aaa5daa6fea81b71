"""Waveforms to log-mel frames, kept once per (audio content, front end) and read memory-mapped.

Front end as in both papers: 16 kHz, 20 ms Hamming window, 10 ms hop, 512-point FFT, 80 mel bands,
logarithm; the Time-Frequency Transformer also pre-emphasises with 0.97. Ours: the HTK mel scale
(figure 6 of the ATFNN paper places band 50 near 2.7 kHz, which is HTK's and not Slaney's), power
spectrum, no padding at the ends, and ``log(mel + 1e-6)`` at full scale 1.

Knows nothing of emotions as targets, folds or models. A pack holds the frames of one database, one
utterance after another, with the table that says whose they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torchaudio

from tfser.audio import Waveform
from tfser.databases.base import Database, Utterance
from tfser.errors import AudioError, RequestError
from tfser.files import commit, commit_text

FLOOR = 1e-6
"""Added to the mel energies before the logarithm; about 20 dB above 16-bit quantisation noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """How a waveform becomes log-mel frames."""

    n_mels: int = 80
    """Mel bands."""
    preemphasis: float = 0.0
    """y[n] = x[n] - preemphasis * x[n-1]; 0 is none."""
    rate_hz: int = 16000
    """Audio at another rate is resampled to it."""
    window: int = 320
    """Analysis window, samples (20 ms)."""
    hop: int = 160
    """Shift between frames, samples (10 ms)."""
    n_fft: int = 512

    @property
    def id(self) -> str:
        """Names the folder of its features; equal front ends, equal id."""
        text = json.dumps([asdict(self), FLOOR, "htk", "power", 1], sort_keys=True)
        return f"mel{self.n_mels}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@cache
def _mel_spectrogram(front_end: FrontEnd) -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(
        sample_rate=front_end.rate_hz,
        n_fft=front_end.n_fft,
        win_length=front_end.window,
        hop_length=front_end.hop,
        n_mels=front_end.n_mels,
        window_fn=torch.hamming_window,
        center=False,
    )


@cache
def _resampler(source_hz: int, target_hz: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(source_hz, target_hz)


def log_mel(waveform: Waveform, front_end: FrontEnd) -> np.ndarray:
    """Log-mel spectrogram: float32, shape (frames, n_mels), natural logarithm of power.

    Several channels are averaged, another sampling rate is resampled.

    Raises:
        ValueError: fewer samples than one FFT frame.
    """
    samples = torch.from_numpy(waveform.samples).mean(dim=0)
    if waveform.rate_hz != front_end.rate_hz:
        samples = _resampler(waveform.rate_hz, front_end.rate_hz)(samples)
    if len(samples) < front_end.n_fft:
        milliseconds = 1000 * len(samples) / front_end.rate_hz
        raise ValueError(f"it lasts {milliseconds:.1f} ms; one frame needs {1000 * front_end.n_fft / front_end.rate_hz:.0f} ms")
    if front_end.preemphasis:
        samples = torchaudio.functional.preemphasis(samples, front_end.preemphasis)
    mel = _mel_spectrogram(front_end)(samples)
    frames: np.ndarray = torch.log(mel + FLOOR).T.contiguous().numpy()
    return frames


@dataclass(frozen=True, slots=True)
class PackedUtterance:
    """Where one utterance's frames lie in a pack, and whose they are."""

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

    path: Path
    """Without suffix: ``.npy`` holds the frames, ``.json`` the table."""
    database: str
    database_digest: str
    emotions: tuple[str, ...]
    utterances: tuple[PackedUtterance, ...]

    def frames(self) -> np.ndarray:
        """All frames: float32, shape (frames, n_mels), read-only, shared by every process of the machine."""
        frames: np.ndarray = np.load(self.path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        return frames

    @classmethod
    def open(cls, path: Path) -> Pack:
        """Read a pack's table.

        Raises:
            OSError, ValueError, KeyError: it is missing or damaged.
        """
        table = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        rows = tuple(PackedUtterance(*row) for row in table["utterances"])
        return cls(path, table["database"], table["database_digest"], tuple(table["emotions"]), rows)


Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Applies a function to every item: the built-in ``map``, or one that spreads the items over a cluster."""


class FeatureStore:
    """Packs under ``root``; extraction is resumable and never leaves a half-written file under a final name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def ensure(self, database: Database, digests: Mapping[str, str], front_end: FrontEnd, mapper: Mapper = map) -> Pack:
        """The database's pack; extracts what no earlier pack holds.

        Args:
            database: whose audio.
            digests: its ``audio_digests``.
            front_end: what to extract.
            mapper: spreads the work.

        Raises:
            RequestError: audio that cannot be used (every file named), or a folder that cannot be written.
        """
        path = self.root / front_end.id / f"{database.name}-{database.digest(digests)}"
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Pack.open(path)
        with self._writable():
            return self._extract(database, front_end, digests, path, mapper)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RequestError(
                f"feature store {self.root}",
                [f"{error.strerror or error} ({error.filename or self.root}); free space or name another folder with --storage"],
            ) from None

    def _extract(self, database: Database, front_end: FrontEnd, digests: Mapping[str, str], path: Path, mapper: Mapper) -> Pack:
        folder = path.parent
        folder.mkdir(parents=True, exist_ok=True)
        held = _frames_held(folder)
        missing = {digests[u.id]: u for u in database.utterances if digests[u.id] not in held}
        entries = folder / "entries"
        todo = [(digest, u) for digest, u in missing.items() if not (entries / f"{digest}.npy").exists()]
        entries.mkdir(exist_ok=True)
        chunks = [(database, todo[i : i + 50], front_end, entries) for i in range(0, len(todo), 50)]
        problems = [problem for found in mapper(_extract_chunk, chunks) for problem in found]
        if problems:
            raise RequestError(f"database {database.name}", problems)

        rows, start = [], 0
        for digest in missing:
            held[digest] = np.load(entries / f"{digest}.npy", mmap_mode="r", allow_pickle=False)
        sources = [held[digests[u.id]] for u in database.utterances]
        for utterance, source in zip(database.utterances, sources, strict=True):
            rows.append([utterance.id, utterance.speaker, utterance.emotion, utterance.session, digests[utterance.id], start, len(source)])
            start += len(source)

        def write_frames(file: BinaryIO) -> None:
            header = {"descr": "<f4", "fortran_order": False, "shape": (start, front_end.n_mels)}
            np.lib.format.write_array_header_2_0(file, header)
            for source in sources:
                file.write(np.ascontiguousarray(source, dtype="<f4").tobytes())

        commit(path.with_suffix(".npy"), write_frames)
        table = {
            "database": database.name,
            "database_digest": database.digest(digests),
            "emotions": list(database.emotions),
            "utterances": rows,
        }
        commit_text(path.with_suffix(".json"), json.dumps(table, ensure_ascii=True))
        for digest in missing:
            (entries / f"{digest}.npy").unlink(missing_ok=True)
        return Pack.open(path)


def audio_digests(database: Database) -> dict[str, str]:
    """Every utterance's content digest, by id.

    Raises:
        RequestError: files that cannot be opened, and audio that stands under two speakers.
    """
    digests: dict[str, str] = {}
    problems = []
    for utterance in database.utterances:
        try:
            digests[utterance.id] = database.audio_digest(utterance)
        except AudioError as error:
            problems.append(str(error))
    first: dict[str, Utterance] = {}
    for utterance in database.utterances:
        other = first.setdefault(digests.get(utterance.id, utterance.id), utterance)
        if other.speaker != utterance.speaker:
            problems.append(
                f"{utterance.id} (speaker {utterance.speaker}) and {other.id} (speaker {other.speaker}) are the same audio: "
                "it would be trained on and tested on; correct the labels or remove one"
            )
    if problems:
        raise RequestError(f"database {database.name}", problems)
    return digests


def _frames_held(folder: Path) -> dict[str, np.ndarray]:
    """Content digest to frames, of every pack in the folder: a changed corpus extracts only what changed."""
    held: dict[str, np.ndarray] = {}
    for table in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            pack = Pack.open(table.with_suffix(""))
            frames = pack.frames()
            held.update({row.audio: frames[row.start : row.start + row.frames] for row in pack.utterances})
    return held


def _extract_chunk(chunk: tuple[Database, list[tuple[str, Utterance]], FrontEnd, Path]) -> list[str]:
    """Extract some utterances into entries; returns what is wrong with those that cannot be."""
    database, todo, front_end, entries = chunk
    problems = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for digest, utterance in todo:
            try:
                frames = log_mel(database.read(utterance), front_end)
            except AudioError as error:
                problems.append(str(error))
            except ValueError as error:
                problems.append(f"{utterance.path or utterance.id}: too short: {error}")
            else:
                commit(entries / f"{digest}.npy", partial(np.save, arr=frames, allow_pickle=False))
    finally:
        torch.set_num_threads(threads)
    return problems


def as_tensor(frames: np.ndarray) -> torch.Tensor:
    """A tensor over memory-mapped frames without a copy; nothing may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(frames)


def segment_frames(start: int, frames: int, segment: int, hop: int) -> np.ndarray:
    """Which frames each segment of one utterance takes: int64, shape (segments, segment).

    The last partial segment is shifted back to end with the utterance; an utterance shorter than one
    segment is repeated, so that no digital silence is ever trained on (method: ours).

    Args:
        start: the utterance's first frame in the pack.
        frames: its number of frames, at least 1.
        segment: frames per segment.
        hop: frames between the starts of segments.
    """
    if frames <= segment:
        return start + (np.arange(segment) % frames)[None, :]
    starts = np.arange(0, frames - segment + 1, hop)
    if starts[-1] + segment < frames:
        starts = np.append(starts, frames - segment)
    return (start + starts[:, None] + np.arange(segment)[None, :]).astype(np.int64)
