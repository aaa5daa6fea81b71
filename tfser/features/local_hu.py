"""A waveform to one row of statistics of spectral features that are weighted by local Hu moments.

After Sun, Wen and Wang, "Weighted Spectral Features Based on Local Hu Moments for Speech Emotion Recognition" (2015),
of which only the abstract could be read: MFCC ignore neighbours in time and frequency; Hu moments of local regions of
the mel spectrogram say how much the energy is concentrated around its centre of gravity.

The rest is ours. A region is a square of ``patch`` bands and frames around a cell; at the edges the nearest cells are
repeated. Its energies are divided by their sum, so that loudness changes nothing. The first Hu moment is then the
variance of the place of energy along frequency, plus that along time, in cells. The logarithm of the mel energy times
this moment goes through the DCT, and the coefficients from the first on, with their deltas, are described by the first
seven statistics of ``functionals``.

This module knows nothing of files, databases or packs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from tfser.audio.files import Waveform
from tfser.features import log_mel, mfcc
from tfser.features.base import Extractor, FeatureSet
from tfser.features.functionals import STATISTICS, statistics
from tfser.features.log_mel import FrontEnd, mel_frames, mono, with_deltas
from tfser.features.mfcc import dct
from tfser.trial import Hyperparameter, Value

VERSION = 1
"""Raised with a change of this file that changes values."""

KEPT = STATISTICS.index("kurtosis") + 1
"""Statistics of a contour: mean, sd, min, max, range, skewness and kurtosis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHu(Extractor):
    """How a waveform becomes statistics of weighted spectral features."""

    patch: int = 3
    """Bands and frames of a region, odd."""
    coefficients: int = 12
    """Of the DCT, from the first; the zeroth is about the energy."""
    mel: FrontEnd = FrontEnd(n_mels=24, preemphasis=0.97, window=400)  # noqa: RUF009  # frozen
    """The mel spectrogram that is weighted."""

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> LocalHu:
        """Return the features that these settings describe."""
        return cls(
            patch=int(settings["patch"]),
            coefficients=int(settings["coefficients"]),
            mel=FrontEnd.of({**settings, "deltas": 0}),
        )

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        parts = (self.patch, self.coefficients, self.mel.id, STATISTICS[:KEPT], VERSION)
        return f"local_hu{self.bands}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:10]}"

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return 2 * self.coefficients * KEPT

    @property
    def vector(self) -> bool:
        """See ``Extractor``."""
        return True

    @property
    def words(self) -> str:
        """See ``Extractor``."""
        return (
            f"{KEPT} statistics of {self.coefficients} coefficients of log-mel weighted by local Hu moments "
            f"({self.patch} x {self.patch}) and of their deltas; {self.mel.words}"
        )

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the statistics of an utterance: float32, shape (1, bands)."""
        samples = mono(waveform)
        samples = pad(samples, (0, max(0, self.mel.n_fft - len(samples))))
        mel = mel_frames(samples, self.mel).double()
        contours = dct(self.coefficients, self.mel.n_mels) @ (mel * concentration(mel.exp(), self.patch))
        time_s = np.arange(contours.shape[1]) * self.mel.hop_s
        found = statistics(with_deltas(contours, 1).numpy(), time_s)[:, :KEPT]
        return found.reshape(1, -1).astype(np.float32)


def concentration(energies: Tensor, patch: int) -> Tensor:
    """Return the first Hu moment of the region around each cell, in squared cells: 0 where one cell has all energy.

    Args:
        energies: of mel bands, above 0, float64, shape (bands, frames).
        patch: bands and frames of a region.
    """
    offset = torch.arange(patch, dtype=energies.dtype) - patch // 2
    along = offset.expand(patch, patch)
    kernels = torch.stack([torch.ones_like(along), along, along.T, along.square() + along.T.square()])
    around = pad(energies[None, None], (patch // 2,) * 4, mode="replicate")
    total, time, frequency, both = conv2d(around, kernels[:, None])[0]
    moments: torch.Tensor = (both / total - (time / total).square() - (frequency / total).square()).clamp_min(0)
    return moments


def problems(settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings do not fit each other, in words."""
    found = log_mel.problems(settings)
    if int(settings["coefficients"]) >= int(settings["n_mels"]):
        found.append(f"coefficients: {settings['coefficients']} is not below n_mels {settings['n_mels']}")
    if int(settings["patch"]) % 2 == 0:
        found.append(f"patch: {settings['patch']} is not odd, so that no cell is in its middle")
    return found


LOCAL_HU = FeatureSet(
    name="local_hu",
    meaning="statistics of log-mel weighted by local Hu moments, one row per utterance",
    hyperparameters={
        "patch": Hyperparameter(default=3, low=3, high=15, help="bands and frames of a local region, odd"),
        "coefficients": Hyperparameter(default=12, low=1, high=40, help="of the DCT, from the first on"),
        "n_mels": replace(mfcc.SETTINGS["n_mels"], default=24),
        **{name: mfcc.SETTINGS[name] for name in ("preemphasis", "window_ms", "hop_ms", "fft", "mel_scale", "floor")},
    },
    extractor=LocalHu.of,
    problems=problems,
)
