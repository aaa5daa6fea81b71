"""Audio files to waveforms: no labels, no features.

Every fault of a file ends in an ``AudioError`` with a kind and a sentence for the file's owner. Headers are not
trusted: files are decoded in bounded blocks, and the decoded length is compared with the promised one, because
libsndfile silently shortens a truncated file, and reads no more than is promised where there is more. A program that
writes into a pipe cannot fill in the length afterwards; the placeholder that it writes promises nothing, and all
samples that are there are read.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import io
import os
import re
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
"""A larger file is refused before it is opened. 600 s of 24-bit audio at 192 kHz in two channels are smaller."""

RATES_HZ = (4_000, 384_000)
"""Lowest and highest sampling rate that a header may state."""

MOST_CHANNELS = 16
"""A header that states more channels is broken."""

LOUDEST = 16.0
"""Multiple of full scale. Larger floating-point samples mean a broken file, or integers written as floats."""

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "AIFF", "NIST")
"""Formats that are read, in libsndfile's words. Lossless only: an mp3 has no exact length, and coding changes features.

A WAV may have either byte order (RIFF, RIFX), and an AIFF may be an AIFC. Every format's promised length is checked.
"""

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
            with _sound(descriptor, size) as file:
                _believable(file, path)
                promised = file.frames
                samples = _decoded(file)
                rate, form = file.samplerate, file.format
            if form != "FLAC":  # libsndfile holds a FLAC to its promise
                promised = max(promised, _PROMISES[form](descriptor, size, samples.shape))
            beyond = _BEYOND[form](descriptor, size, samples.shape[1]) if form in _BEYOND else 0
        except (soundfile.SoundFileError, RuntimeError, OSError, ValueError, OverflowError) as error:
            raise AudioError("unreadable", str(path), f"cannot be decoded: {_reason(error)}") from None
    found = samples.shape[1]
    if found < promised:
        detail = (
            f"truncated: its header promises {promised} samples ({promised / rate:.2f} s), "
            f"{found} could be decoded ({found / rate:.2f} s), {promised - found} are missing; copy it again"
        )
        raise AudioError("unreadable", str(path), detail)
    if beyond:
        detail = (
            f"its header promises {found} samples ({found / rate:.2f} s), but it holds {found + beyond} "
            f"({(found + beyond) / rate:.2f} s), and only a part would be read; write it again"
        )
        raise AudioError("unreadable", str(path), detail)
    if found == 0:
        raise AudioError("empty", str(path), "it holds no samples")
    # NaN if any sample is NaN. Unlike abs(), this does not copy the samples.
    loudest = max(float(samples.max()), -float(samples.min()))
    if not np.isfinite(loudest):
        bad = int((~np.isfinite(samples)).sum())
        raise AudioError(
            "non-finite", str(path), f"{bad} of {samples.size} samples are NaN or infinite; write the file again"
        )
    if loudest > LOUDEST:
        detail = (
            f"its floating-point samples reach {loudest:.3g} times full scale (1.0); divide them, or store integers"
        )
        raise AudioError("unreadable", str(path), detail)
    return Waveform(samples, rate)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

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
    """Open an ordinary file of a plausible size: (descriptor, size in bytes).

    It is opened without blocking; otherwise a named pipe called x.wav would hang for ever.
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
    """Refuse an implausible header before a sample is decoded."""
    if file.format not in FORMATS:
        detail = f"its format is {file.format}; {', '.join(FORMATS)} are read: convert it to wav or flac"
        raise AudioError("unreadable", str(path), detail)
    if file.subtype not in SUBTYPES:
        detail = (
            f"its samples are coded as {file.subtype}; {', '.join(SUBTYPES)} are read: convert it to 16-bit wav or flac"
        )
        raise AudioError("unreadable", str(path), detail)
    low, high = RATES_HZ
    if not low <= file.samplerate <= high:
        detail = f"its header says {file.samplerate} Hz; {low} to {high} Hz are believed: the header is broken"
        raise AudioError("unreadable", str(path), detail)
    if not 1 <= file.channels <= MOST_CHANNELS:
        detail = f"its header says {file.channels} channels; at most {MOST_CHANNELS} are believed: the header is broken"
        raise AudioError("unreadable", str(path), detail)
    seconds = file.frames / file.samplerate
    if file.format == "FLAC" and file.frames > 1 << 36:  # the field has 36 bits; libsndfile returns more for "unknown"
        detail = "its header does not say how many samples it holds (it was written to a pipe)"
        more = "so that no truncation could be seen; write it again, to a file"
        raise AudioError("unreadable", str(path), f"{detail}, {more}")
    if seconds > LONGEST_S:
        raise AudioError(
            "too long", str(path), f"its header promises {seconds:.0f} s; at most {LONGEST_S:.0f} s are read"
        )


def _decoded(file: soundfile.SoundFile) -> np.ndarray:
    """Return all samples, at most ``LONGEST_S`` of them: float32 (channels, samples).

    Memory grows with what is decoded, not with what the header promises.
    """
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


@dataclass(frozen=True, slots=True)
class _Riff:
    """The chunks of a RIFF, RIFX or RF64 file, as far as the samples."""

    order: str
    """Byte order, in ``struct``'s words."""
    at: int
    """Where the samples begin."""
    promised: int
    """Bytes of samples, as the header says."""
    length_at: int
    """Where that length is written."""
    long: bool
    """Whether it has 64 bits."""
    frame_bytes: int

    def unknown(self, size: int) -> bool:
        """Tell whether the length is a placeholder of a program that did not know it."""
        if self.long:
            return self.promised in (0, (1 << 63) - 1, (1 << 64) - 1) and size > self.at
        return self.promised in _UNKNOWN or self.promised >> 24 == 0x7F

    def there(self, size: int) -> int:
        """Return the number of bytes from the first sample to the end of the file, without a padding byte."""
        rest = size - self.at
        return rest - 1 if self.frame_bytes % 2 and rest % self.frame_bytes == 1 and not rest % 2 else rest


_UNKNOWN = (0xFFFFFFFF, 0xFFFFFFFF - 36, 0x80000000)
"""Lengths in bytes that ffmpeg and arecord write into a pipe. Those of sox and others begin with 0x7F."""


_NOT_FOLLOWED = "its chunks cannot be followed to the samples, so that no truncation could be seen; write it again"


def _riff(descriptor: int) -> _Riff | None:
    """Follow the chunks of a file to its samples; return ``None`` for a broken chain or another format."""
    kind = os.pread(descriptor, 12, 0)
    if len(kind) < 12 or kind[:4] not in (b"RIFF", b"RIFX", b"RF64") or kind[8:] != b"WAVE":
        return None
    order = ">" if kind[:4] == b"RIFX" else "<"
    offset, frame_bytes, in_ds64 = 12, 0, None
    for _ in range(1000):  # a chain of empty chunks must end
        head = os.pread(descriptor, 8, offset)
        if len(head) < 8:
            return None
        name, length = struct.unpack(f"{order}4sI", head)
        if name == b"fmt " and len(body := os.pread(descriptor, 16, offset + 8)) == 16:
            frame_bytes = struct.unpack_from(f"{order}H", body, 12)[0]
        elif name == b"ds64" and len(body := os.pread(descriptor, 16, offset + 8)) == 16:
            in_ds64 = offset + 16, struct.unpack_from("<Q", body, 8)[0]
        elif name == b"data":
            if kind[:4] == b"RF64" and in_ds64 and length == 0xFFFFFFFF:
                return _Riff(order, offset + 8, in_ds64[1], in_ds64[0], True, frame_bytes)
            return _Riff(order, offset + 8, length, offset + 4, False, frame_bytes)
        offset += 8 + length
        if length % 2 and os.pread(descriptor, 1, offset) == b"\0":  # some writers omit the padding byte
            offset += 1
    return None


def _sound(descriptor: int, size: int) -> soundfile.SoundFile:
    """Open a file. If its stated length is 0 and samples follow, give libsndfile a copy with the true length."""
    chunks = _riff(descriptor)
    if chunks is None or chunks.at == size or not (chunks.promised == 0 or (chunks.long and chunks.unknown(size))):
        return soundfile.SoundFile(descriptor, closefd=False)
    if not chunks.long and _only_chunks(descriptor, chunks.order, chunks.at, size):
        return soundfile.SoundFile(descriptor, closefd=False)
    content = bytearray(os.pread(descriptor, size, 0))
    struct.pack_into("<Q" if chunks.long else f"{chunks.order}I", content, chunks.length_at, chunks.there(size))
    return soundfile.SoundFile(io.BytesIO(content))


def _only_chunks(descriptor: int, order: str, offset: int, size: int) -> bool:
    """Tell whether the rest of a file from ``offset`` on is chunks only, and not samples."""
    while offset < size:
        head = os.pread(descriptor, 8, offset)
        if len(head) < 8 or not head[:4].isascii() or not head[:4].decode().isprintable():
            return False
        offset += 8 + (length := struct.unpack(f"{order}4xI", head)[0]) + (length & 1)
    return offset in (size, size + 1)


def _promised_by_riff(descriptor: int, size: int, found: tuple[int, ...]) -> int:
    """Return the number of frames that a wav's ``data`` chunk promises.

    Raises:
        ValueError: no length can be compared with the decoded one.
    """
    chunks = _riff(descriptor)
    if chunks is None or not chunks.frame_bytes:
        raise ValueError(_NOT_FOLLOWED)
    if chunks.promised == 0 or chunks.unknown(size):
        return -(-chunks.there(size) // chunks.frame_bytes) if found[1] else 0
    return chunks.promised // chunks.frame_bytes if chunks.at + chunks.promised > size else 0


def _promised_by_aiff(descriptor: int, size: int, found: tuple[int, ...]) -> int:
    """Return the number of frames that an AIFF or AIFC file promises; 0 if its header does not say.

    Raises:
        ValueError: no length can be compared with the decoded one.
    """
    offset = 12
    for _ in range(1000):
        head = os.pread(descriptor, 8, offset)
        if len(head) < 8:
            break
        name, length = struct.unpack(">4sI", head)
        if name == b"COMM" and len(body := os.pread(descriptor, 8, offset + 8)) == 8:
            channels, frames, bits = struct.unpack(">HIH", body)
            piped = frames == 0xFFFFFFFF or frames == 0x7F000000 or frames * channels * (bits // 8) >> 24 >= 0x7E
            return 0 if piped else frames
        offset += 8 + length + (length & 1)
    raise ValueError(_NOT_FOLLOWED)


def _promised_by_nist(descriptor: int, size: int, found: tuple[int, ...]) -> int:
    """Return the samples per channel that a NIST SPHERE header promises; 0 if it does not say, as in a pipe."""
    header = os.pread(descriptor, 4096, 0)
    match = re.search(rb"^sample_count -i (\d{1,18})", header.partition(b"end_head")[0], re.MULTILINE)
    count = int(match[1]) if match else 0
    return 0 if count == found[0] * found[1] else count  # some writers count the samples of all channels


_PADDING_BYTES = 512
"""A shorter rest behind the samples is padding: some writers fill up a block of a disk."""

_TAGS = (b"LIST", b"id3 ", b"ID3", b"TAG", b"APETAGEX", b"bext", b"fact", b"cue ", b"smpl", b"JUNK", b"PAD ", b"_PMX")
"""What begins a chunk or tag behind the samples, also one whose own length is wrong."""


def _beyond_riff(descriptor: int, size: int, found: int) -> int:
    """Return the number of frames behind those that a wav's ``data`` chunk promises."""
    chunks = _riff(descriptor)
    if chunks is None or not chunks.promised or chunks.unknown(size):
        return 0
    end = chunks.at + chunks.promised
    starts = (end, end + 1) if chunks.promised % 2 else (end,)  # some writers omit the padding byte
    if size - end < _PADDING_BYTES or any(_only_chunks(descriptor, chunks.order, start, size) for start in starts):
        return 0
    rest = os.pread(descriptor, size - end, end)
    tagged = any(rest.startswith(_TAGS, start - end) for start in starts)
    return 0 if tagged or not any(rest) else len(rest) // chunks.frame_bytes


def _beyond_flac(descriptor: int, size: int, found: int) -> int:
    """Return the number of frames behind those that a FLAC's header promises; libsndfile stops at the promise."""
    content = bytearray(os.pread(descriptor, size, 0))
    at = content.index(b"fLaC") + 21  # the low 36 bits of five bytes

    def holds(frame: int) -> bool:
        content[at] = content[at] & 0xF0 | (frame + 1) >> 32
        struct.pack_into(">I", content, at + 1, (frame + 1) & 0xFFFFFFFF)
        with soundfile.SoundFile(io.BytesIO(content)) as file, contextlib.suppress(soundfile.SoundFileError):
            file.seek(frame)
            return True
        return False

    if not holds(found):
        return 0
    return 1 + bisect.bisect_left(range(found + 1, 1 << 32), True, key=lambda frame: not holds(frame))


_BEYOND = {"WAV": _beyond_riff, "WAVEX": _beyond_riff, "RF64": _beyond_riff, "FLAC": _beyond_flac}

_PROMISES = {
    "WAV": _promised_by_riff,
    "WAVEX": _promised_by_riff,
    "RF64": _promised_by_riff,
    "AIFF": _promised_by_aiff,
    "NIST": _promised_by_nist,
}


def _reason(error: Exception) -> str:
    """Return libsndfile's words without its prefix, which names a meaningless descriptor number."""
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip() or type(error).__name__
