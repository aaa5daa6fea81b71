"""The front ends from their definitions, in NumPy alone, and extractors as a person might write them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfser.features.base import Extractor


def numpy_log_mel(samples, front_end, dtype=np.float64):
    """The front end of method section 2, from its definition, in NumPy alone; without deltas."""
    x = samples.astype(dtype)
    if front_end.preemphasis:
        x = np.concatenate([x[:1], x[1:] - dtype(front_end.preemphasis) * x[:-1]])
    left = (front_end.n_fft - front_end.window) // 2
    padded = np.pad(hamming(front_end.window), (left, front_end.n_fft - front_end.window - left)).astype(dtype)
    power = np.abs(np.fft.rfft(framed(x, front_end.n_fft, front_end.hop) * padded, axis=1)) ** 2
    top = front_end.rate_hz / 2
    if front_end.mel_scale == "htk":
        mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
        edges = 700 * (10 ** (np.linspace(mel(0), mel(top), front_end.n_mels + 2) / 2595) - 1)
    else:  # M. Slaney, Auditory Toolbox, 1998: 66.67 Hz apart below 1 kHz, a factor of 6.4^(1/27) above it
        highest = 15 + 27 * np.log(top / 1000) / np.log(6.4)
        mels = np.linspace(0, highest, front_end.n_mels + 2)
        edges = np.array([m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27) for m in mels])
    edges, hz = edges.astype(dtype), np.linspace(0, top, front_end.n_fft // 2 + 1, dtype=dtype)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bank = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    return np.log(power @ bank.T + dtype(front_end.floor))


def hamming(length):
    """The periodic window of DFTs, which torch has too."""
    return 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / length)


def framed(samples, length, hop):
    return np.stack([samples[i : i + length] for i in range(0, len(samples) - length + 1, hop)])


def numpy_deltas(rows):
    """The slope of the line of least squares through five frames; the frames at the ends are repeated."""
    padded = np.pad(rows, ((2, 2), (0, 0)), mode="edge")
    return np.stack([np.polyfit(np.arange(-2, 3), padded[i : i + 5], 1)[0] for i in range(len(rows))])


@dataclass(frozen=True)
class Returns(Extractor):
    """An extractor that returns the same for every utterance, right or wrong."""

    kind: str
    values: int = 2

    @property
    def id(self):
        return f"returns-{self.kind}-1"

    @property
    def bands(self):
        return self.values

    def __call__(self, waveform):
        rows = np.ones((3, self.values), dtype=np.float32)
        match self.kind:
            case "list":
                return rows.tolist()
            case "flat":
                return rows[0]
            case "wide":
                return np.ones((3, self.values + 1), dtype=np.float32)
            case "float64":
                return rows.astype(np.float64)
            case "nan":
                return rows * np.float32("nan")
            case "none":
                return rows[:0]
            case "raises":
                return {}[self.kind]
            case "refuses":
                raise ValueError("it has no vowel")
        return rows


@dataclass(frozen=True)
class Length(Extractor):
    """One value per utterance that many utterances share: how many quarters of a second it has begun."""

    @property
    def id(self):
        return "length-1"

    @property
    def bands(self):
        return 1

    @property
    def vector(self):
        return True

    def __call__(self, waveform):
        return np.array([[4 * waveform.samples.shape[1] // waveform.rate_hz]], dtype=np.float32)
