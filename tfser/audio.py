"""Audio files to waveforms, and nothing else: no labels, no features.

Everything a file can do wrong ends in an ``AudioError`` with a kind and a sentence for its owner. A
header is a promise that is not believed: files are decoded in bounded blocks, and what was decoded is compared
with what was promised, because libsndfile quietly shortens a truncated wav to what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tfser.errors import AudioError

LONGEST_S = 600.0
"""Seconds. A longer file is refused: no corpus has such utterances, and a header can promise anything."""

LARGEST_BYTES = 1 << 30
"""A larger file is refused before it is opened: 600 s of 24-bit audio at 192 kHz in two channels fit in."""

RATES_HZ = (4_000, 384_000)
"""Lowest and highest sampling rate that is believed."""

MOST_CHANNELS = 16
"""More channels than this are a broken header."""

LOUDEST = 16.0
"""Samples of a floating-point file beyond this multiple of full scale are a broken file or integers written as floats."""

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "AIFF", "NIST")
"""What is read, in libsndfile's words. Lossless only: an mp3 has no exact length to check, and coding changes features."""

SUBTYPES = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Sample codings that are read, in libsndfile's words."""

_BLOCK_SAMPLES = 1 << 18
_BLOCK_BYTES = 1 << 20


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
    with _opened(path) as (descriptor, size):
        if size == 0:
            raise AudioError("empty", str(path), "the file has 0 bytes; copy it again")
        try:
            with soundfile.SoundFile(descriptor, closefd=False) as file:
                _believable(file, path)
                promised = file.frames
                samples = _decoded(file)
                rate, form = file.samplerate, file.format
            if form in ("WAV", "WAVEX"):
                promised = _promised_by_riff(descriptor, size, promised)
        except (soundfile.SoundFileError, RuntimeError, OSError, ValueError, OverflowError) as error:
            raise AudioError("unreadable", str(path), f"cannot be decoded: {_reason(error)}") from None
    found = samples.shape[1]
    if found < promised:
        detail = (
            f"truncated: its header promises {promised} samples ({promised / rate:.2f} s), "
            f"{found} could be decoded ({found / rate:.2f} s), {promised - found} are missing; copy it again"
        )
        raise AudioError("unreadable", str(path), detail)
    if found == 0:
        raise AudioError("empty", str(path), "it holds no samples")
    loudest = max(float(samples.max()), -float(samples.min()))  # NaN if any sample is; no copy of the samples, unlike abs()
    if not np.isfinite(loudest):
        bad = int((~np.isfinite(samples)).sum())
        raise AudioError("non-finite", str(path), f"{bad} of {samples.size} samples are NaN or infinite; write the file again")
    if loudest > LOUDEST:
        detail = f"its floating-point samples reach {loudest:.3g} times full scale (1.0); divide them, or store integers"
        raise AudioError("unreadable", str(path), detail)
    return Waveform(samples, rate)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        AudioError: the file cannot be opened.
    """
    content = hashlib.sha256()
    with _opened(path) as (descriptor, size):
        try:
            while part := os.read(descriptor, min(size + 1, _BLOCK_BYTES)):
                content.update(part)
            return content.hexdigest()
        except OSError as error:
            raise AudioError("unreadable", str(path), error.strerror or str(error)) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """(descriptor, size in bytes) of an ordinary file of a sane size.

    Opened without blocking, since a named pipe called x.wav would otherwise hang for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        link = os.path.islink(path)
        raise AudioError("missing", str(path), "a link whose target is not there" if link else "no such file") from None
    except NotADirectoryError:
        raise AudioError("missing", str(path), "no such file: a part of its path is not a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AudioError("unreadable", str(path), f"cannot be opened: {detail}") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError("unreadable", str(path), "a folder with the name of an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("unreadable", str(path), "not an ordinary file (a pipe, socket or device)")
        if status.st_size > LARGEST_BYTES:
            detail = f"it has {status.st_size} bytes; at most {LARGEST_BYTES} are read, one utterance needs far fewer"
            raise AudioError("too long", str(path), detail)
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _believable(file: soundfile.SoundFile, path: Path) -> None:
    """Refuse what no corpus has before a sample is decoded."""
    if file.format not in FORMATS:
        detail = f"its format is {file.format}; {', '.join(FORMATS)} are read: convert it to wav or flac"
        raise AudioError("unreadable", str(path), detail)
    if file.subtype not in SUBTYPES:
        detail = f"its samples are coded as {file.subtype}; {', '.join(SUBTYPES)} are read: convert it to 16-bit wav or flac"
        raise AudioError("unreadable", str(path), detail)
    low, high = RATES_HZ
    if not low <= file.samplerate <= high:
        detail = f"its header says {file.samplerate} Hz; {low} to {high} Hz are believed: the header is broken"
        raise AudioError("unreadable", str(path), detail)
    if not 1 <= file.channels <= MOST_CHANNELS:
        detail = f"its header says {file.channels} channels; at most {MOST_CHANNELS} are believed: the header is broken"
        raise AudioError("unreadable", str(path), detail)
    seconds = file.frames / file.samplerate
    if seconds > LONGEST_S:
        raise AudioError("too long", str(path), f"its header promises {seconds:.0f} s; at most {LONGEST_S:.0f} s are read")


def _decoded(file: soundfile.SoundFile) -> np.ndarray:
    """All samples there are, float32 (channels, samples), at most ``LONGEST_S``; memory follows what is decoded."""
    block = max(1, _BLOCK_SAMPLES // file.channels)
    most = int(LONGEST_S * file.samplerate)
    blocks: list[np.ndarray] = []
    total = 0
    while total <= most:
        part = file.read(min(block, max(1, file.frames - total)), dtype="float32", always_2d=True)
        if not len(part):
            break
        blocks.append(part)
        total += len(part)
        if total >= file.frames:
            break
    if not blocks:
        return np.zeros((file.channels, 0), dtype=np.float32)
    whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return np.ascontiguousarray(whole.T)


def _promised_by_riff(descriptor: int, size: int, otherwise: int) -> int:
    """Frames that a wav's ``data`` chunk claims, or ``otherwise`` where the chunks cannot be followed.

    libsndfile reports what fits in the file instead of what the header claims, and so hides a truncation.
    """
    offset, frame_bytes = 12, 0
    for _ in range(1000):  # a chain of empty chunks must end
        head = os.pread(descriptor, 8, offset)
        if len(head) < 8:
            return otherwise
        name, length = struct.unpack("<4sI", head)
        if name == b"fmt ":
            body = os.pread(descriptor, 16, offset + 8)
            if len(body) == 16:
                frame_bytes = struct.unpack_from("<H", body, 12)[0]
        elif name == b"data":
            return max(otherwise, length // frame_bytes) if frame_bytes and offset + 8 + length > size else otherwise
        offset += 8 + length + (length & 1)
    return otherwise


def _reason(error: Exception) -> str:
    """The words of libsndfile without its prefix, which names a descriptor number that means nothing to a reader."""
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip() or type(error).__name__
