"""Audio files to waveforms, and nothing else: no labels, no features.

Everything a file can do wrong ends in an ``AudioError`` with a kind and a sentence for its owner.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tfser.errors import AudioError

LONGEST_S = 600.0
"""Seconds. A longer file is refused: no corpus has such utterances, and a header can promise anything."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """Samples and their rate."""

    samples: np.ndarray
    """float32, shape (channels, samples), full scale is 1."""
    rate_hz: int


def read(path: Path) -> Waveform:
    """Decode one file.

    Raises:
        AudioError: missing, unreadable, empty, too long, or with samples that are not finite.
    """
    try:
        with soundfile.SoundFile(path) as file:
            seconds = file.frames / file.samplerate
            if seconds > LONGEST_S:
                raise AudioError("too long", str(path), f"its header promises {seconds:.0f} s; at most {LONGEST_S:.0f} s are read")
            samples = file.read(dtype="float32", always_2d=True).T
            rate = file.samplerate
    except FileNotFoundError:
        raise AudioError("missing", str(path), "no such file") from None
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise AudioError("unreadable", str(path), str(error)) from None
    if samples.shape[1] == 0:
        raise AudioError("empty", str(path), "it holds no samples")
    if not np.isfinite(samples).all():
        raise AudioError("non-finite", str(path), "some samples are NaN or infinite")
    return Waveform(np.ascontiguousarray(samples), rate)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        AudioError: the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise AudioError("missing", str(path), "no such file") from None
    except OSError as error:
        raise AudioError("unreadable", str(path), error.strerror or str(error)) from None
