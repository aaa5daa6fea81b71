"""A waveform to log-mel frames: the front end of both papers.

16 kHz, 20 ms Hamming window, 10 ms hop, 512-point FFT, 80 mel bands, logarithm; the Time-Frequency Transformer
also pre-emphasises with 0.97. Ours: the HTK mel scale (figure 6 of the ATFNN paper places band 50 near 2.7 kHz, which
fits HTK's scale and not Slaney's), power spectrum, no padding at the ends, and ``log(mel + 1e-6)`` at full scale 1.
Each of these is a setting. A setting at the value that this text names changes no id, of a trial or of a pack.

This module knows nothing of files, databases or packs.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
import torch
import torchaudio

from tfser.audio.files import Waveform
from tfser.features.base import Extractor, FeatureSet
from tfser.trial import Hyperparameter, Value

FLOOR = 1e-6
"""Added to the mel energies before the logarithm; about 20 dB above 16-bit quantisation noise."""

LARGEST_TERM = 1000
"""Largest term of the fraction by which audio is resampled; a filter bank holds about the product of both terms.

Every common sampling rate needs less (44,100 Hz is 441/160). Only odd rates are approximated, by at most 0.05 %.
"""


RATE_HZ = 16000
"""Sampling rate of all built-in features; other audio is resampled to it."""

SCALES = ("htk", "slaney")
"""Mel scales that torchaudio has: 2595 log10(1 + f / 700), and one that is linear below 1 kHz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd(Extractor):
    """How a waveform becomes log-mel frames."""

    n_mels: int = 80
    """Mel bands."""
    preemphasis: float = 0.0
    """y[n] = x[n] - preemphasis * x[n-1]; 0 is none."""
    rate_hz: int = RATE_HZ
    """Sampling rate of the frames; other audio is resampled to it."""
    window: int = 320
    """Analysis window, samples (20 ms)."""
    hop: int = 160
    """Shift between frames, samples (10 ms)."""
    n_fft: int = 512
    mel_scale: str = "htk"
    """One of ``SCALES``. Both have triangles of height 1."""
    deltas: int = 0
    """Further channels: 1 adds deltas, 2 adds deltas and their deltas."""
    floor: float = FLOOR
    """Added to the mel energies before the logarithm."""

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> FrontEnd:
        """Return the front end that these settings describe."""
        return cls(
            n_mels=int(settings["n_mels"]),
            preemphasis=float(settings["preemphasis"]),
            window=samples_of(settings["window_ms"]),
            hop=samples_of(settings["hop_ms"]),
            n_fft=int(settings["fft"]),
            mel_scale=str(settings["mel_scale"]),
            deltas=int(settings.get("deltas", 0)),
            floor=float(settings["floor"]),
        )

    @property
    def id(self) -> str:
        """Name of the folder of its features; equal front ends have equal ids, as they had before deltas existed."""
        names = ("n_mels", "preemphasis", "rate_hz", "window", "hop", "n_fft")
        parts = [{name: getattr(self, name) for name in names}, self.floor, self.mel_scale, "power", 1]
        text = json.dumps([*parts, *([f"deltas {self.deltas}"] * bool(self.deltas))], sort_keys=True)
        return f"mel{self.n_mels}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def channels(self) -> int:
        """Return 1, and one for each order of deltas."""
        return 1 + self.deltas

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return self.n_mels

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
        """Return the peak of each band's triangle, evenly spaced on the mel scale up to half the sampling rate."""
        if self.mel_scale == "slaney":  # 3 mel are 200 Hz below 1 kHz, 27 mel a factor of 6.4 above it
            mel = (15 + 27 * np.log(self.rate_hz / 2 / 1000) / np.log(6.4)) * self._shares
            hz: np.ndarray = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))
        else:
            highest = 2595 * np.log10(1 + self.rate_hz / 2 / 700)
            hz = 700 * (10 ** (highest * self._shares / 2595) - 1)
        return hz

    @property
    def _shares(self) -> np.ndarray:
        """Return where the bands' peaks are on the mel scale, as shares of half the sampling rate."""
        shares: np.ndarray = np.arange(1, self.n_mels + 1) / (self.n_mels + 1)
        return shares

    @property
    def unit(self) -> str:
        """See ``Extractor``."""
        return "log power"

    @property
    def words(self) -> str:
        """Say what it computes; what the papers' front end has anyway is left out."""
        return ", ".join(
            (
                f"{self.rate_hz} Hz",
                f"window {1000 * self.window_s:g} ms",
                f"hop {1000 * self.hop_s:g} ms",
                f"FFT of {self.n_fft}",
                f"{self.n_mels} mel bands",
                f"pre-emphasis {self.preemphasis:g}",
                *(["Slaney's mel scale"] * (self.mel_scale == "slaney")),
                *([f"{self.deltas} delta channel{'s' * (self.deltas > 1)}"] * bool(self.deltas)),
                *([f"floor {self.floor:g}"] * (self.floor != FLOOR)),
            )
        )

    def loudness(self, rows: np.ndarray) -> np.ndarray:
        """Return the energy of each frame, in all bands; see ``loudness_of``."""
        energy: np.ndarray = np.exp(rows[:, : self.n_mels].astype(np.float64)).sum(axis=1)
        return energy

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the log-mel frames of an utterance: float32; see ``log_mel``."""
        return log_mel(waveform, self).astype(np.float32, copy=False)


def samples_of(milliseconds: Value) -> int:
    """Return a time as whole samples, at least one."""
    return max(1, round(float(milliseconds) * RATE_HZ / 1000))


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
        mel_scale=front_end.mel_scale,
    )


@lru_cache(maxsize=64)
def _empty_bands(n_mels: int, fft: int, mel_scale: str) -> int:
    """Return how many bands lie between two points of the FFT, so that they hold nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchaudio says the same, in other words
        bank = torchaudio.functional.melscale_fbanks(
            fft // 2 + 1, 0.0, RATE_HZ / 2, n_mels, RATE_HZ, mel_scale=mel_scale
        )
    return int((bank.max(dim=0).values == 0).sum())


def problems(settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings of a mel spectrogram do not fit each other, in words."""
    found = window_problems(settings)
    fft, n_mels = int(settings["fft"]), int(settings["n_mels"])
    # An FFT of 512 was never asked, and a trial of that time has to stay complete.
    if fft != 512 and (empty := _empty_bands(n_mels, fft, str(settings["mel_scale"]))):
        found.append(
            f"fft: {fft} points leave {empty} of {n_mels} mel bands empty; use a longer fft or a smaller n_mels"
        )
    return found


def window_problems(settings: Mapping[str, Value]) -> list[str]:
    """Say why a window does not fit its DFT."""
    fft, window = int(settings["fft"]), samples_of(settings["window_ms"])
    if window <= fft:
        return []
    return [
        f"window_ms: {float(settings['window_ms']):g} ms are {window} samples at {RATE_HZ} Hz, more than the "
        f"{fft} points of fft; legal: at most {1000 * fft / RATE_HZ:g} ms, or an fft of at least {window}"
    ]


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


def mono(waveform: Waveform, rate_hz: int = RATE_HZ) -> torch.Tensor:
    """Return the mean of the channels at a sampling rate: shape (samples,), full scale 1."""
    channels = torch.from_numpy(waveform.samples)
    samples = channels[0] if len(channels) == 1 else channels.mean(dim=0)
    ratio = rate_ratio(waveform.rate_hz, rate_hz)
    return _resampler(ratio)(samples) if ratio != 1 else samples


def refuse_short(samples: torch.Tensor, needed: int, rate_hz: int = RATE_HZ) -> None:
    """Refuse an utterance that is shorter than one frame.

    Raises:
        ValueError: it is; the text has both lengths.
    """
    if len(samples) < needed:
        lasts = 1000 * len(samples) / rate_hz
        raise ValueError(f"it lasts {lasts:.1f} ms; one frame needs {1000 * needed / rate_hz:.0f} ms")


def with_deltas(static: torch.Tensor, orders: int) -> torch.Tensor:
    """Append deltas of deltas: shape (values, frames) to ((1 + orders) * values, frames).

    A delta is the slope of a line through five frames (regression over two frames on both sides). At an end, the frame
    there is repeated.
    """
    parts = [static]
    for _ in range(orders):
        parts.append(torchaudio.functional.compute_deltas(parts[-1], win_length=5))
    return torch.cat(parts)


def mel_frames(samples: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """Return the log-mel spectrogram without deltas: shape (n_mels, frames), natural logarithm of power.

    Raises:
        ValueError: fewer samples than one FFT frame.
    """
    refuse_short(samples, front_end.n_fft, front_end.rate_hz)
    if front_end.preemphasis:
        samples = torchaudio.functional.preemphasis(samples, front_end.preemphasis)
    mel: torch.Tensor = _mel_spectrogram(front_end)(samples)
    return mel.add_(front_end.floor).log_()


@torch.inference_mode()
def log_mel(waveform: Waveform, front_end: FrontEnd) -> np.ndarray:
    """Return the log-mel frames: float32, shape (frames, channels * n_mels), natural logarithm of power.

    Channels of the audio are averaged, and audio at another sampling rate is resampled.

    Raises:
        ValueError: fewer samples than one FFT frame.
    """
    mel = mel_frames(mono(waveform, front_end.rate_hz), front_end)
    frames: np.ndarray = with_deltas(mel, front_end.deltas).T.contiguous().numpy()
    return frames


SETTINGS: Mapping[str, Hyperparameter] = {
    "n_mels": Hyperparameter(default=80, low=8, high=200, help="mel bands"),
    "preemphasis": Hyperparameter(default=0.0, low=0.0, high=0.9999, help="pre-emphasis coefficient"),
    "window_ms": Hyperparameter(
        default=20.0, low=1.0, high=1000.0, implied=20.0, help="analysis window (Hamming), milliseconds"
    ),
    "hop_ms": Hyperparameter(
        default=10.0, low=1.0, high=1000.0, implied=10.0, help="shift between frames, milliseconds"
    ),
    "fft": Hyperparameter(default=512, low=32, high=32768, implied=512, help="points of the FFT"),
    "mel_scale": Hyperparameter(
        default="htk", choices=SCALES, implied="htk", help="mel scale: HTK's, or Slaney's (linear below 1 kHz)"
    ),
    "deltas": Hyperparameter(
        default=0, low=0, high=2, implied=0, help="delta channels: 1 adds deltas, 2 adds their deltas too"
    ),
    "floor": Hyperparameter(
        default=FLOOR, low=1e-12, high=1.0, implied=FLOOR, help="added to the mel energies before the logarithm"
    ),
}
"""The settings of ``log_mel``; ``mfcc`` has most of them too."""

LOG_MEL = FeatureSet(
    name="log_mel",
    meaning="log-mel frames",
    hyperparameters=SETTINGS,
    extractor=FrontEnd.of,
    problems=problems,
)
