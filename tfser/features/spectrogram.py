"""A waveform to the magnitudes of its DFT: what networks read that were made for pictures.

Satt, Rozenberg and Hoory (Interspeech 2017) and the networks after it: 40 ms Hamming window, 10 ms hop, a DFT of 800
points (20 Hz apart) or 1600 (10 Hz apart), 0 to 4 kHz. Ours: 16 kHz, no padding at the ends, the window's samples
followed by zeros up to the DFT's length, and the natural logarithm of ``magnitude + 0.001`` at full scale 1.

This module knows nothing of files, databases or packs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import torch

from tfser.audio.files import Waveform
from tfser.features.base import Extractor, FeatureSet
from tfser.features.log_mel import RATE_HZ, mono, refuse_short, samples_of, window_problems
from tfser.trial import Hyperparameter, Value

VERSION = 1
"""Raised with a change of this file that changes values."""

SCALES = ("log", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrogram(Extractor):
    """How a waveform becomes magnitudes on a linear scale of frequencies."""

    window: int = 640
    """Analysis window, samples (40 ms)."""
    hop: int = 160
    """Shift between frames, samples (10 ms)."""
    fft: int = 800
    """Points of the DFT."""
    top_hz: float = 4000.0
    """Frequencies below this one are kept."""
    magnitudes: str = "log"
    """One of ``SCALES``."""
    floor: float = 1e-3
    """Added to the magnitudes before the logarithm."""

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> Spectrogram:
        """Return the spectrogram that these settings describe."""
        return cls(
            window=samples_of(settings["window_ms"]),
            hop=samples_of(settings["hop_ms"]),
            fft=int(settings["fft"]),
            top_hz=float(settings["top_hz"]),
            magnitudes=str(settings["magnitudes"]),
            floor=float(settings["floor"]),
        )

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        digest = hashlib.sha256(repr((astuple(self), RATE_HZ, VERSION)).encode()).hexdigest()
        return f"spectrogram{self.bands}-{digest[:10]}"

    @property
    def bands(self) -> int:
        """Return the number of DFT points from 0 up to, and without, ``top_hz``."""
        return math.ceil(self.top_hz * self.fft / RATE_HZ)

    @property
    def hop_s(self) -> float:
        """See ``Extractor``."""
        return self.hop / RATE_HZ

    @property
    def window_s(self) -> float:
        """See ``Extractor``."""
        return self.window / RATE_HZ

    @property
    def band_centres_hz(self) -> np.ndarray:
        """Return the frequencies of the DFT points."""
        centres: np.ndarray = np.arange(self.bands) * RATE_HZ / self.fft
        return centres

    @property
    def unit(self) -> str:
        """See ``Extractor``."""
        return f"{self.magnitudes} magnitude"

    @property
    def words(self) -> str:
        """See ``Extractor``."""
        return (
            f"{RATE_HZ} Hz, window {1000 * self.window_s:g} ms, hop {1000 * self.hop_s:g} ms, DFT of {self.fft}, "
            f"{self.bands} bands from 0 to {self.top_hz:g} Hz, {self.magnitudes} magnitudes"
        )

    def loudness(self, rows: np.ndarray) -> np.ndarray:
        """Return the energy of each frame up to ``top_hz``; see ``loudness_of``."""
        magnitudes = rows.astype(np.float64)
        energy: np.ndarray = np.square(np.exp(magnitudes) if self.magnitudes == "log" else magnitudes).sum(axis=1)
        return energy

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the magnitudes of an utterance: float32, shape (frames, bands).

        Raises:
            ValueError: fewer samples than one window.
        """
        samples = mono(waveform)
        refuse_short(samples, self.window)
        frames = samples.unfold(0, self.window, self.hop) * torch.hamming_window(self.window, dtype=samples.dtype)
        magnitudes = torch.fft.rfft(frames, n=self.fft)[:, : self.bands].abs()
        values = magnitudes.add(self.floor).log() if self.magnitudes == "log" else magnitudes
        rows: np.ndarray = values.numpy().astype(np.float32, copy=False)
        return rows


SETTINGS: Mapping[str, Hyperparameter] = {
    "window_ms": Hyperparameter(default=40.0, low=1.0, high=1000.0, help="analysis window (Hamming), milliseconds"),
    "hop_ms": Hyperparameter(default=10.0, low=1.0, high=1000.0, help="shift between frames, milliseconds"),
    "fft": Hyperparameter(
        default=800, low=32, high=32768, help="points of the DFT: 800 are 20 Hz apart, 1600 are 10 Hz apart"
    ),
    "top_hz": Hyperparameter(default=4000.0, low=100.0, high=8000.0, help="frequencies from 0 up to this one are kept"),
    "magnitudes": Hyperparameter(default="log", choices=SCALES, help="their natural logarithm, or as they are"),
    "floor": Hyperparameter(default=1e-3, low=1e-12, high=1.0, help="added to the magnitudes before the logarithm"),
}

SPECTROGRAM = FeatureSet(
    name="spectrogram",
    meaning="frames of DFT magnitudes on a linear scale of frequencies",
    hyperparameters=SETTINGS,
    extractor=Spectrogram.of,
    problems=window_problems,
)
