"""A waveform to log-mel frames: the front end of both papers.

16 kHz, 20 ms Hamming window, 10 ms hop, 512-point FFT, 80 mel bands, logarithm; the Time-Frequency Transformer
also pre-emphasises with 0.97. Ours: the HTK mel scale (figure 6 of the ATFNN paper places band 50 near 2.7 kHz, which
fits HTK's scale and not Slaney's), power spectrum, no padding at the ends, and ``log(mel + 1e-6)`` at full scale 1.

This module knows nothing of files, databases or packs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import torch
import torchaudio

from tfser.audio.files import Waveform
from tfser.features.base import FeatureSet
from tfser.trial import Hyperparameter, Value

FLOOR = 1e-6
"""Added to the mel energies before the logarithm; about 20 dB above 16-bit quantisation noise."""

LARGEST_TERM = 1000
"""Largest term of the fraction by which audio is resampled; a filter bank holds about the product of both terms.

Every common sampling rate needs less (44,100 Hz is 441/160). Only odd rates are approximated, by at most 0.05 %.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """How a waveform becomes log-mel frames."""

    n_mels: int = 80
    """Mel bands."""
    preemphasis: float = 0.0
    """y[n] = x[n] - preemphasis * x[n-1]; 0 is none."""
    rate_hz: int = 16000
    """Sampling rate of the frames; other audio is resampled to it."""
    window: int = 320
    """Analysis window, samples (20 ms)."""
    hop: int = 160
    """Shift between frames, samples (10 ms)."""
    n_fft: int = 512

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> FrontEnd:
        """Return the front end that these settings describe."""
        return cls(n_mels=int(settings["n_mels"]), preemphasis=float(settings["preemphasis"]))

    @property
    def id(self) -> str:
        """Name of the folder of its features; equal front ends have equal ids."""
        text = json.dumps([asdict(self), FLOOR, "htk", "power", 1], sort_keys=True)
        return f"mel{self.n_mels}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def channels(self) -> int:
        """See ``Extractor``."""
        return 1

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return self.n_mels

    @property
    def vector(self) -> bool:
        """See ``Extractor``."""
        return False

    @property
    def dtype(self) -> Literal["float32"]:
        """See ``Extractor``."""
        return "float32"

    @property
    def hop_s(self) -> float:
        """See ``Extractor``."""
        return self.hop / self.rate_hz

    @property
    def first_s(self) -> float:
        """Return the middle of the first FFT; the window is padded on both sides to its length."""
        return self.n_fft / 2 / self.rate_hz

    @property
    def window_s(self) -> float:
        """See ``Extractor``."""
        return self.window / self.rate_hz

    @property
    def band_centres_hz(self) -> np.ndarray:
        """Return the peak of each band's triangle, evenly spaced on the HTK mel scale up to half the sampling rate."""
        highest = 2595 * np.log10(1 + self.rate_hz / 2 / 700)
        mel = highest * np.arange(1, self.n_mels + 1) / (self.n_mels + 1)
        hz: np.ndarray = 700 * (10 ** (mel / 2595) - 1)
        return hz

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the log-mel frames of an utterance; see ``log_mel``."""
        return log_mel(waveform, self)


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


def rate_ratio(source_hz: int, target_hz: int) -> Fraction:
    """Return ``source_hz / target_hz``, or the nearest fraction whose terms do not exceed ``LARGEST_TERM``.

    TESS's 24,414 Hz is 12207/8000 of 16 kHz, a filter bank of 3.6 GB; 914/599 is off by a millionth. Rates within
    0.05 % of each other, a hundredth of a semitone, count as equal (16,001 Hz and 16 kHz).

    >>> rate_ratio(44100, 16000), rate_ratio(24414, 16000)
    (Fraction(441, 160), Fraction(914, 599))
    """
    ratio = Fraction(source_hz, target_hz)
    if ratio > 1:
        return 1 / (1 / ratio).limit_denominator(LARGEST_TERM)
    return ratio.limit_denominator(LARGEST_TERM)


@lru_cache(maxsize=16)
def _resampler(ratio: Fraction) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(ratio.numerator, ratio.denominator)


@torch.inference_mode()
def log_mel(waveform: Waveform, front_end: FrontEnd) -> np.ndarray:
    """Return the log-mel spectrogram: float32, shape (frames, n_mels), natural logarithm of power.

    Channels are averaged, and audio at another sampling rate is resampled.

    Raises:
        ValueError: fewer samples than one FFT frame.
    """
    channels = torch.from_numpy(waveform.samples)
    samples = channels[0] if len(channels) == 1 else channels.mean(dim=0)
    ratio = rate_ratio(waveform.rate_hz, front_end.rate_hz)
    if ratio != 1:
        samples = _resampler(ratio)(samples)
    if len(samples) < front_end.n_fft:
        milliseconds = 1000 * len(samples) / front_end.rate_hz
        raise ValueError(
            f"it lasts {milliseconds:.1f} ms; one frame needs {1000 * front_end.n_fft / front_end.rate_hz:.0f} ms"
        )
    if front_end.preemphasis:
        samples = torchaudio.functional.preemphasis(samples, front_end.preemphasis)
    mel = _mel_spectrogram(front_end)(samples)
    frames: np.ndarray = mel.add_(FLOOR).log_().T.contiguous().numpy()
    return frames


LOG_MEL = FeatureSet(
    name="log_mel",
    meaning="log-mel frames",
    hyperparameters={
        "n_mels": Hyperparameter(default=80, low=8, high=200, help="mel bands"),
        "preemphasis": Hyperparameter(default=0.0, low=0.0, high=0.9999, help="pre-emphasis coefficient"),
    },
    extractor=FrontEnd.of,
)
