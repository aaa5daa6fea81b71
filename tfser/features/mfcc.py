"""A waveform to frames of MFCC with log energy and deltas: what hidden Markov and Gaussian mixture models read.

The usual 39 values: 12 coefficients without the zeroth, log energy, and the deltas and delta-deltas of these 13 (25 ms
Hamming window, 10 ms hop, pre-emphasis 0.97, 26 mel bands, as in HTK). Deltas are further values of a row, not
channels, because these models read rows. Ours: 16 kHz, an orthonormal DCT, no liftering, no padding at the ends, and
``log(mel + 1e-6)`` and ``log(energy + 1e-6)`` at full scale 1. The energy is that of the window's samples before
pre-emphasis and without the window's weights.

``pitch=true`` appends the pitch period and the harmonics-to-noise ratio of every frame, voiced or not, before deltas
are taken (Han, Yu and Tashev 2014): the period in milliseconds, of the highest peak of the normalised
cross-correlation r (``tfser/features/pitch.py``), and 10 log10(r / (1 - r)), cut to -40 to 40 dB.

This module knows nothing of files, databases or packs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torchaudio

from tfser.audio.files import Waveform
from tfser.features import log_mel
from tfser.features.base import Extractor, FeatureSet
from tfser.features.log_mel import RATE_HZ, FrontEnd, mel_frames, mono, with_deltas
from tfser.features.pitch import FRAME, pitch
from tfser.features.segments import Loudness
from tfser.trial import Hyperparameter, Value

VERSION = 1
"""Raised with a change of this file that changes values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mfcc(Extractor):
    """How a waveform becomes frames of MFCC."""

    n_mfcc: int = 12
    """Coefficients, from the first; the zeroth is about the energy."""
    energy: bool = True
    """Whether log energy follows the coefficients."""
    deltas: int = 2
    """Orders of deltas that are appended to a row."""
    mean_normalised: bool = False
    """Whether each coefficient's mean over the utterance is taken from it; the energy stays."""
    mel: FrontEnd = FrontEnd(n_mels=26, preemphasis=0.97, window=400)  # noqa: RUF009  # frozen
    """The mel spectrogram that the coefficients are made of."""
    pitch: bool = False
    """Whether the pitch period and the harmonics-to-noise ratio follow."""

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> Mfcc:
        """Return the MFCC that these settings describe."""
        return cls(
            n_mfcc=int(settings["n_mfcc"]),
            energy=bool(settings["energy"]),
            deltas=int(settings["deltas"]),
            mean_normalised=bool(settings["mean_normalisation"]),
            mel=replace(FrontEnd.of(settings), deltas=0),
            pitch=bool(settings.get("pitch", False)),
        )

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        parts: tuple[int | str, ...] = (
            self.n_mfcc, self.energy, self.deltas, self.mean_normalised, self.mel.id, VERSION,
            *(["pitch"] * self.pitch),  # without it, the id that there was before it
        )  # fmt: skip
        return f"mfcc{self.bands}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:10]}"

    @property
    def bands(self) -> int:
        """Return the values of a row: 39 by default."""
        return (self.n_mfcc + self.energy + 2 * self.pitch) * (1 + self.deltas)

    @property
    def hop_s(self) -> float:
        """See ``Extractor``."""
        return self.mel.hop_s

    @property
    def first_s(self) -> float:
        """See ``Extractor``."""
        return self.mel.first_s

    @property
    def window_s(self) -> float:
        """See ``Extractor``."""
        return self.mel.window_s

    @property
    def words(self) -> str:
        """See ``Extractor``."""
        return ", ".join(
            (
                f"{self.n_mfcc} MFCC{' and log energy' * self.energy}",
                *(["pitch period and harmonics-to-noise ratio"] * self.pitch),
                *(["deltas"] * (self.deltas > 0)),
                *(["delta-deltas"] * (self.deltas > 1)),
                *(["mean of the utterance subtracted"] * self.mean_normalised),
                self.mel.words,
            )
        )

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the frames of an utterance: float32, shape (frames, bands).

        Raises:
            ValueError: fewer samples than one FFT frame.
        """
        rows = with_deltas(self.static(mono(waveform)), self.deltas).T.contiguous().numpy()
        return rows.astype(np.float32, copy=False)

    def static(self, samples: torch.Tensor) -> torch.Tensor:
        """Return coefficients and energy without deltas: shape (values, frames).

        Args:
            samples: one channel at 16 kHz, shape (samples,).
        """
        values = dct(self.n_mfcc, self.mel.n_mels).to(samples.dtype) @ mel_frames(samples, self.mel)
        if self.mean_normalised:
            values = values - values.mean(dim=1, keepdim=True)
        parts = [values]
        if self.energy:
            before = (self.mel.n_fft - self.mel.window) // 2  # where the FFT has its window
            frames = samples.unfold(0, self.mel.n_fft, self.mel.hop)[:, before : before + self.mel.window]
            parts.append(frames.square().sum(dim=1).add(self.mel.floor).log()[None])
        if self.pitch:
            parts.append(self._voice(samples, values.shape[1]).to(values.dtype))
        return torch.cat(parts)

    def _voice(self, samples: torch.Tensor, frames: int) -> torch.Tensor:
        """Return the pitch period, milliseconds, and the harmonics-to-noise ratio, dB: shape (2, frames).

        Zeros follow the utterance, because a frame of the pitch may be longer than one of the FFT.
        """
        hz, correlation = pitch(torch.nn.functional.pad(samples, (0, FRAME)), RATE_HZ, self.mel.hop)
        r = correlation.clamp(min=1e-4, max=1 - 1e-4)
        return torch.stack([1000 / hz, 10 * (r / (1 - r)).log10()])[:, :frames]

    @property
    def loudness(self) -> Loudness | None:
        """Return how the energy of frames is told, ``None`` without log energy; see ``loudness_of``."""
        return self._energies if self.energy else None

    def _energies(self, rows: np.ndarray) -> np.ndarray:
        energies: np.ndarray = np.exp(rows[:, self.n_mfcc].astype(np.float64))
        return energies


@lru_cache(maxsize=16)
def dct(n_mfcc: int, n_mels: int) -> torch.Tensor:
    """Return the orthonormal DCT without its zeroth row: shape (n_mfcc, n_mels)."""
    rows: torch.Tensor = torchaudio.functional.create_dct(n_mfcc + 1, n_mels, norm="ortho").T[1:].double()
    return rows


def problems(settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings do not fit each other, in words."""
    found = log_mel.problems(settings)
    if int(settings["n_mfcc"]) >= int(settings["n_mels"]):
        found.append(f"n_mfcc: {settings['n_mfcc']} is not below n_mels {settings['n_mels']}")
    return found


def _setting(name: str, default: Value) -> Hyperparameter:
    return replace(log_mel.SETTINGS[name], default=default, implied=None)


SETTINGS: Mapping[str, Hyperparameter] = {
    "n_mfcc": Hyperparameter(default=12, low=1, high=40, help="coefficients, from the first on; without the zeroth"),
    "energy": Hyperparameter(default=True, help="whether log energy follows the coefficients"),
    "deltas": Hyperparameter(
        default=2, low=0, high=2, help="orders of deltas that follow in a row: 1 deltas, 2 delta-deltas too"
    ),
    "mean_normalisation": Hyperparameter(
        default=False, help="whether each coefficient's mean over the utterance is subtracted"
    ),
    "pitch": Hyperparameter(
        default=False,
        implied=False,
        help="whether pitch period and harmonics-to-noise ratio follow, before the deltas",
    ),
    "n_mels": _setting("n_mels", 26),
    "preemphasis": _setting("preemphasis", 0.97),
    "window_ms": _setting("window_ms", 25.0),
    "hop_ms": _setting("hop_ms", 10.0),
    "fft": _setting("fft", 512),
    "mel_scale": _setting("mel_scale", "htk"),
    "floor": Hyperparameter(
        default=log_mel.FLOOR, low=1e-12, high=1.0, help="added to mel and window energies before the logarithm"
    ),
}

MFCC = FeatureSet(
    name="mfcc",
    meaning="frames of MFCC with log energy and deltas",
    hyperparameters=SETTINGS,
    extractor=Mfcc.of,
    problems=problems,
)
