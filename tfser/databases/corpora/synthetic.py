"""The built-in database: an artificial voice, so that the first command works on a machine without any corpus.

A source-filter voice: pulses at a gliding f0 and breath noise, shaped frame by frame by four formants. Speakers differ
in long-term traits (f0, vocal tract length, tilt, recording channel). Emotions differ mostly inside a syllable: how
fast syllables follow each other, in which direction pitch and formants glide, whether the energy peaks early or late.
A long-term average hides that: a classifier of averages does poorly, and a model of local dynamics does well. The
voice says nothing about real emotions, and its remark says so.

It is deterministic: the samples are the same on every machine and in every version of numpy. ``RandomState`` is used
because its stream is frozen, unlike that of ``Generator``. Samples are rounded to 16 bits, so that the last bit of a
sine or an FFT does not matter. Nothing here touches the disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from tfser.audio import files
from tfser.databases.base import Database, DatabaseInfo, Utterance
from tfser.databases.reader import Reader

GENERATOR = "tfser-synthetic-1"
"""Raise the number whenever a sample changes, so that features of the earlier voice are not used for the new one."""

RATE_HZ = 16_000
_WINDOW = 512
_HOP = 128
_FREQUENCIES_HZ = np.fft.rfftfreq(_WINDOW, 1 / RATE_HZ)
_VOWELS_HZ = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (390, 1990, 2550),
    (570, 840, 2410),
    (440, 1020, 2240),
    (490, 1350, 1690),
)
_BANDWIDTHS_HZ = (90.0, 110.0, 150.0, 220.0)


@dataclass(frozen=True, slots=True)
class _Speaker:
    """Long-term traits, which an average spectrum shows."""

    session: str
    f0_hz: float
    tract: float
    """Factor on every formant."""
    tilt_db: float
    """dB per octave above 500 Hz, added to the voice's own tilt."""
    gain_db: float
    breath: float
    """Noise relative to the pulses."""


@dataclass(frozen=True, slots=True)
class _Emotion:
    """Short-term traits, inside a syllable."""

    rate_hz: float
    """Syllables per second."""
    glide: float
    """Octaves by which the formants move within a syllable; positive is upwards."""
    pitch_glide: float
    """Octaves by which f0 moves within a syllable."""
    attack: float
    """Position of the energy's peak in the syllable, 0 to 1."""
    depth_db: float
    """Depth of the energy's fall between syllables, in dB."""
    tilt_db: float
    """dB per octave: the little that an average shows."""


SPEAKERS = {
    "ada": _Speaker("s1", 205.0, 1.14, 1.5, 0.0, 0.10),
    "ben": _Speaker("s1", 108.0, 0.94, -1.5, -6.0, 0.05),
    "cleo": _Speaker("s2", 225.0, 1.04, -0.5, -6.0, 0.10),
    "dan": _Speaker("s2", 132.0, 0.87, 2.5, -3.0, 0.08),
}

EMOTIONS = {
    "angry": _Emotion(5.8, -0.55, -0.60, 0.20, 22.0, 1.0),
    "happy": _Emotion(5.0, 0.55, 0.65, 0.75, 18.0, 0.5),
    "neutral": _Emotion(3.8, 0.0, 0.0, 0.50, 16.0, 0.0),
    "sad": _Emotion(2.6, -0.40, -0.45, 0.30, 14.0, -1.0),
}

_COUNTS = {s: {e: 12 + (i + 2 * j) % 3 for j, e in enumerate(EMOTIONS)} for i, s in enumerate(SPEAKERS)}

INFO = DatabaseInfo(
    name="synthetic",
    title="built-in synthetic voice",
    language="none",
    licence="made by this program",
    citation="none",
    homepage="none",
    how_to_get="nothing to get: it is made on the fly",
    layout="no files; ids are <speaker>-<emotion>-<nn>",
    emotions=tuple(EMOTIONS),
    sampling_rate_hz=RATE_HZ,
    expected_emotions={e: sum(row[e] for row in _COUNTS.values()) for e in EMOTIONS},
    expected_speakers={s: sum(row.values()) for s, row in _COUNTS.items()},
    expected_speaker_emotions=_COUNTS,
    remark="made-up audio: scores on it say nothing about emotion recognition",
)


class Synthetic(Database):
    """The database, which computes its audio when it is read."""

    def read(self, utterance: Utterance) -> files.Waveform:
        """Compute the utterance's audio: one channel at 16 kHz, about 1.2 to 1.8 s."""
        return files.Waveform(render(utterance)[None, :], RATE_HZ)

    def audio_digest(self, utterance: Utterance) -> str:
        """Identify the samples without computing them: the generator's version and the utterance determine them."""
        return hashlib.sha256(f"{GENERATOR}/{utterance.id}".encode()).hexdigest()


def make() -> Database:
    """Make the database with all utterances."""
    utterances = tuple(
        Utterance(
            id=f"{speaker}-{emotion}-{n:02d}", speaker=speaker, emotion=emotion, session=SPEAKERS[speaker].session
        )
        for speaker, row in _COUNTS.items()
        for emotion, count in row.items()
        for n in range(1, count + 1)
    )
    return Synthetic(info=INFO, utterances=utterances, remark=INFO.remark)


def render(utterance: Utterance) -> np.ndarray:
    """Compute the samples: float32, shape (samples,), multiples of 2^-15."""
    speaker, emotion = SPEAKERS[utterance.speaker], EMOTIONS[utterance.emotion]
    seed = hashlib.sha256(f"{GENERATOR}/{utterance.id}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(seed, dtype="<u4"))
    frames = int(random.uniform(1.2, 1.8) * RATE_HZ / _HOP)
    position, syllable = _syllables(frames, emotion, random)

    f0 = speaker.f0_hz * 2 ** (
        random.uniform(-0.12, 0.12) + emotion.pitch_glide * (position - 0.5) - 0.12 * np.linspace(-1, 1, frames)
    )
    f0 *= 2 ** (0.10 * random.uniform(-1, 1, syllable[-1] + 1)[syllable])
    source = _pulses(f0, random)
    source += speaker.breath * random.standard_normal(len(source))

    formants = np.array(_VOWELS_HZ, dtype=float)[random.randint(0, len(_VOWELS_HZ), syllable[-1] + 1)[syllable]]
    formants = np.column_stack([formants, np.full(frames, 3400.0)])
    formants *= speaker.tract * 2 ** (emotion.glide * (position - 0.5))[:, None]
    response = _response(formants)  # (frames, frequencies)
    octaves = np.log2(np.maximum(_FREQUENCIES_HZ, 125.0) / 500.0)
    tilt_db = (-6.0 + speaker.tilt_db + emotion.tilt_db + random.uniform(-0.8, 0.8)) * octaves
    envelope_db = _envelope_db(position, emotion)
    response *= 10 ** ((tilt_db[None, :] + _channel_db(utterance.speaker)[None, :] + envelope_db[:, None]) / 20)

    voice = _filtered(source, response)
    voice *= 0.08 * 10 ** ((speaker.gain_db + random.uniform(-4, 4)) / 20) / np.sqrt(np.mean(voice**2))
    voice *= min(1.0, 0.9 / np.abs(voice).max())  # nothing is clipped
    voice += 0.001 * random.standard_normal(len(voice))
    samples: np.ndarray = (np.clip(np.round(voice * 32768), -32768, 32767) / 32768).astype(np.float32)
    return samples


def _syllables(frames: int, emotion: _Emotion, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every frame, its position in its syllable (0 to 1) and the syllable's number."""
    rate = emotion.rate_hz * random.uniform(0.88, 1.12)
    lengths_s = random.uniform(0.8, 1.2, 64) / rate
    # An utterance begins anywhere in its first syllable.
    ends = np.cumsum(lengths_s) - random.uniform(0, 1) * lengths_s[0]
    time_s = np.arange(frames) * _HOP / RATE_HZ
    syllable = np.searchsorted(ends, time_s, side="right")
    position = 1 - (ends[syllable] - time_s) / lengths_s[syllable]
    return position, syllable


def _envelope_db(position: np.ndarray, emotion: _Emotion) -> np.ndarray:
    """Return the energy within the syllable: raised cosines up to the peak and down again, 0 dB at the peak."""
    rising = position < emotion.attack
    phase = np.where(rising, position / emotion.attack, (1 - position) / (1 - emotion.attack))
    return -emotion.depth_db * (0.5 + 0.5 * np.cos(np.pi * np.clip(phase, 0, 1)))


def _pulses(f0_hz: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Place one unit pulse per period; a pulse between two samples is divided between them."""
    count = len(f0_hz) * _HOP
    f0 = np.interp(np.arange(count) / _HOP, np.arange(len(f0_hz)), f0_hz)
    phase = np.cumsum(f0) / RATE_HZ
    at = np.flatnonzero(np.diff(np.floor(phase)))
    late = (phase[at + 1] - np.floor(phase[at + 1])) / (f0[at + 1] / RATE_HZ)  # 0: the period began on the later sample
    strength = 1 + 0.08 * random.standard_normal(len(at))
    source = np.zeros(count)
    source[at + 1] += strength * (1 - late)
    source[at] += strength * late
    source *= np.sqrt(RATE_HZ / 150.0)
    return source


def _response(formants_hz: np.ndarray) -> np.ndarray:
    """Return the magnitude of a cascade of resonators: (frames, formants) -> (frames, frequencies), 1 at 0 Hz."""
    response = np.ones((len(formants_hz), len(_FREQUENCIES_HZ)))
    for centre, bandwidth in zip(formants_hz.T, _BANDWIDTHS_HZ, strict=True):
        half = (bandwidth / 2) ** 2
        below = (_FREQUENCIES_HZ[None, :] - centre[:, None]) ** 2 + half
        above = (_FREQUENCIES_HZ[None, :] + centre[:, None]) ** 2 + half
        response *= (centre[:, None] ** 2 + half) / np.sqrt(below * above)
    return response


def _channel_db(speaker: str) -> np.ndarray:
    """Return a speaker's microphone and room: a smooth curve over frequency, a few dB up and down."""
    random = np.random.RandomState(
        np.frombuffer(hashlib.sha256(f"{GENERATOR}/{speaker}".encode()).digest(), dtype="<u4")
    )
    knots = random.uniform(-6, 6, 9)
    curve: np.ndarray = np.interp(_FREQUENCIES_HZ, np.linspace(0, RATE_HZ / 2, 9), knots)
    return curve


def _filtered(source: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter by short-time overlap-add: (frames * hop,) and (frames, frequencies) -> (frames * hop,)."""
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW))
    padded = np.concatenate([np.zeros(_WINDOW // 2), source, np.zeros(_WINDOW)])
    starts = np.arange(len(response)) * _HOP
    pieces = padded[starts[:, None] + np.arange(_WINDOW)] * window
    pieces = np.fft.irfft(np.fft.rfft(pieces, axis=1) * response, n=_WINDOW, axis=1) * window
    out = np.zeros(len(padded))
    # Every fourth frame does not overlap: four additions instead of one per frame.
    for offset in range(0, _WINDOW, _HOP):
        group = pieces[offset // _HOP :: _WINDOW // _HOP]
        begin = offset
        out[begin : begin + group.size] += group.reshape(-1)[: len(out) - begin]
    voice: np.ndarray = out[_WINDOW // 2 : _WINDOW // 2 + len(source)]
    return voice


READER = Reader(info=INFO, make=make)
