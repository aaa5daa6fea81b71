"""Augmented copies of utterances: their audio changed at random, then read by the extractor that the model has.

Copies are made once and kept as features of their own, numbered from 1. In each epoch each training utterance is read
from one of them or from the original, as (seed, epoch, utterance) says (``tfser.training.variation``). Utterances that
are scored are always read as they are. What a copy is follows from the utterance's samples, the settings and the copy's
number alone. It draws each of these that is asked for, in this order:

    speed            the factor 1 - s, 1 or 1 + s by resampling, with pitch and length (Ko et al. 2015)
    pitch_semitones  a shift within +-p semitones, in half semitones, without the length: torchaudio's phase vocoder,
                     then resampling
    reverberation_s  convolution with a synthetic impulse response: the direct sound, then noise that decays by 60 dB in
                     a time within [r / 4, r], with a quarter of the direct sound's energy (after Moorer 1979); the
                     energy of the utterance stays
    added_noise      white or pink noise at exactly noise_snr_db over the whole utterance
    gain_db          a gain within +-g dB

Nothing but the last one's range is a matter of loudness: samples are never clipped. Knows nothing of models or files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
import torchaudio
from torch import Tensor

from tfser.audio.files import Waveform
from tfser.features.base import Extractor
from tfser.features.log_mel import RATE_HZ, mono
from tfser.trial import Hyperparameter, Value

NOISES = ("none", "white", "pink")

SETTINGS: Mapping[str, Hyperparameter] = {
    "augmented_copies": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=100,
        help="copies of each training utterance with changed audio, one of which, or the original, is read in each "
        "epoch; 0 is none",
    ),
    "speed": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=0.5,
        help="augmented_copies: change of speed, by which a copy is slower, alike or faster; 0 is none (Ko et al. "
        "2015: 0.1)",
    ),
    "pitch_semitones": Hyperparameter(
        default=0.0, implied=0.0, low=0.0, high=12.0, help="augmented_copies: largest shift of pitch; 0 is none"
    ),
    "reverberation_s": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=10.0,
        help="augmented_copies: longest time in which a made-up room's sound decays by 60 dB; 0 is none",
    ),
    "added_noise": Hyperparameter(
        default="none", implied="none", choices=NOISES, help="augmented_copies: noise that is added"
    ),
    "noise_snr_db": Hyperparameter(
        default=20.0, implied=20.0, low=-20.0, high=100.0, help="augmented_copies: level of the speech over the noise"
    ),
    "gain_db": Hyperparameter(
        default=0.0, implied=0.0, low=0.0, high=60.0, help="augmented_copies: largest gain either way; 0 is none"
    ),
}
"""Settings of the audio's augmentation; what they change is extracted, as the settings of the features are."""

REVERBERANT = 0.25
"""Ours: energy of the reverberation beside that of the direct sound, 6 dB less."""

FFT, HOP = 512, 128
"""Of the phase vocoder: 32 ms and a quarter of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is changed at random in the audio of a copy; the fields are the settings of these names."""

    speed: float = 0.0
    pitch_semitones: float = 0.0
    reverberation_s: float = 0.0
    added_noise: str = "none"
    noise_snr_db: float = 20.0
    gain_db: float = 0.0

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> Change:
        """Return the change that a trial's settings describe; settings that it lacks are at their defaults."""
        values: dict[str, Any] = {name: settings.get(name, SETTINGS[name].default) for name in cls.__slots__}
        if values["added_noise"] == "none":
            values["noise_snr_db"] = SETTINGS["noise_snr_db"].default
        return cls(**values)

    @property
    def is_none(self) -> bool:
        """Whether nothing is changed."""
        return self == Change()

    def __call__(self, samples: Tensor, random: np.random.Generator) -> Tensor:
        """Return changed samples: shape (samples,) to (other samples,)."""
        if self.speed:
            samples = resped(samples, Fraction(round(100 * (1 + self.speed * random.integers(-1, 2))), 100))
        if self.pitch_semitones:
            most = int(2 * self.pitch_semitones)
            samples = shifted(samples, random.integers(-most, most + 1) / 2)
        if self.reverberation_s:
            samples = reverberated(samples, self.reverberation_s * random.uniform(0.25, 1.0), random)
        if self.added_noise != "none":
            samples = noisy(samples, self.added_noise, self.noise_snr_db, random)
        if self.gain_db:
            samples = samples * 10 ** (random.uniform(-self.gain_db, self.gain_db) / 20)
        return samples


def resped(samples: Tensor, factor: Fraction) -> Tensor:
    """Return samples played faster by a factor, at the same sampling rate: ``factor`` times fewer."""
    faster: Tensor = torchaudio.functional.resample(samples, factor.numerator, factor.denominator)
    return faster


def shifted(samples: Tensor, semitones: float) -> Tensor:
    """Return samples with another pitch and the same length."""
    # torchaudio's own pitch_shift resamples by fractions of the sampling rate, whose filters can take gigabytes.
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(100)
    if ratio == 1:
        return samples
    window = torch.hann_window(FFT, dtype=samples.dtype)
    spectrum = torch.stft(samples, FFT, HOP, window=window, return_complex=True, pad_mode="constant")
    advance = torch.linspace(0, np.pi * HOP, FFT // 2 + 1, dtype=samples.dtype)[:, None]
    stretched = torchaudio.functional.phase_vocoder(spectrum, float(1 / ratio), advance)
    longer = torch.istft(stretched, FFT, HOP, window=window, length=round(len(samples) * float(ratio)))
    found = torchaudio.functional.resample(longer, ratio.numerator, ratio.denominator)[: len(samples)]
    return torch.nn.functional.pad(found, (0, len(samples) - len(found)))


def reverberated(samples: Tensor, decay_s: float, random: np.random.Generator) -> Tensor:
    """Return samples in a made-up room, as many and as loud as before.

    Args:
        samples: at ``RATE_HZ``.
        decay_s: seconds in which its sound decays by 60 dB.
        random: draws the room.
    """
    time = np.arange(1, max(2, round(decay_s * RATE_HZ))) / RATE_HZ
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / decay_s)
    tail *= np.sqrt(REVERBERANT / np.square(tail).sum())
    room = torch.from_numpy(np.concatenate([[1.0], tail])).to(samples.dtype)
    wet: Tensor = torchaudio.functional.fftconvolve(samples, room)[: len(samples)]
    energy = wet.square().sum()
    return wet * (samples.square().sum() / energy).sqrt() if energy > 0 else wet


def noisy(samples: Tensor, kind: str, snr_db: float, random: np.random.Generator) -> Tensor:
    """Return samples with noise at a ratio of energies over all of them; silence stays silent.

    Args:
        samples: shape (samples,).
        kind: ``white``, or ``pink`` with a power of 1 / f.
        snr_db: the ratio.
        random: draws the noise.
    """
    if not samples.any():
        return samples
    noise = random.standard_normal(len(samples))
    if kind == "pink":
        spectrum = np.fft.rfft(noise)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0
        noise = np.fft.irfft(spectrum, len(samples))
    hiss = torch.from_numpy(noise).to(samples.dtype)
    mixed: Tensor = torchaudio.functional.add_noise(samples, hiss, torch.tensor(snr_db))
    return mixed


@dataclass(frozen=True, kw_only=True)
class Augmented(Extractor):
    """An extractor that reads a copy of each utterance. Everything else is as the model's own extractor says it."""

    inner: Extractor
    """The model's own."""
    change: Change
    copy: int
    """The copy's number, from 1."""
    _version: int = field(default=1, init=False)
    """Raised whenever the code makes other copies."""

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        told = [self.inner.id, [[n, getattr(self.change, n)] for n in Change.__slots__], self.copy, self._version]
        return f"{self.inner.id[:60]}-copy{self.copy}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]}"

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return self.inner.bands

    @property
    def channels(self) -> int:
        """See ``Extractor``."""
        return self.inner.channels

    @property
    def vector(self) -> bool:
        """See ``Extractor``."""
        return self.inner.vector

    @property
    def dtype(self) -> Literal["float32", "float16"]:
        """See ``Extractor``."""
        return self.inner.dtype

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the features of the copy; audio of another rate is resampled first."""
        samples = mono(waveform)
        content = hashlib.sha256(np.ascontiguousarray(samples.numpy()).tobytes())
        content.update(self.id.encode())
        random = np.random.default_rng(int.from_bytes(content.digest()[:16], "big"))
        changed = self.change(samples, random).to(torch.float32).numpy()
        return self.inner(Waveform(np.ascontiguousarray(changed)[None], RATE_HZ))


def copies(inner: Extractor, settings: Mapping[str, Value]) -> tuple[Augmented, ...]:
    """Return the extractors of all copies that a trial's settings ask for, in the order of their numbers."""
    many, change = int(settings.get("augmented_copies", 0)), Change.of(settings)
    return tuple(Augmented(inner=inner, change=change, copy=number) for number in range(1, many + 1))


def problems(settings: Mapping[str, Value]) -> list[str]:
    """Return why these settings of copies do not fit each other, in words."""
    change = Change.of(settings)
    if int(settings.get("augmented_copies", 0)) and change.is_none:
        changes = "speed, pitch_semitones, reverberation_s, added_noise, gain_db"
        return [f"augmented_copies: {settings['augmented_copies']} copies would be the original; set one of {changes}"]
    if not int(settings.get("augmented_copies", 0)) and not change.is_none:
        named = [n for n in Change.__slots__ if getattr(change, n) != SETTINGS[n].default and n != "noise_snr_db"]
        return [f"{', '.join(named)}: without copies nothing is changed; set augmented_copies to at least 1"]
    return []
