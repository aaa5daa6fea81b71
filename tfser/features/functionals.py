"""A waveform to one row of statistics: what support vector machines and other plain classifiers read.

``own``: 12 statistics of 15 contours and of their deltas (12 MFCC, log energy, pitch, voicing), 360 values. It follows
the sets of the Interspeech challenges in kind, but computes with torchaudio alone and equals none of them.

Any other set is openSMILE's, computed by the package ``opensmile``, which is an extra: its wheel carries audEERING's
research licence, which allows no commercial use. None of its configuration files are in tfser.

This module knows nothing of files, databases or packs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from tfser.audio.files import Waveform
from tfser.errors import RequestError
from tfser.features.base import Extractor, FeatureSet
from tfser.features.log_mel import RATE_HZ, mono, with_deltas
from tfser.features.mfcc import Mfcc
from tfser.features.pitch import VOICED, pitch
from tfser.trial import Hyperparameter, Value

VERSION = 1
"""Raised with a change of this file or of ``pitch.py`` that changes values."""

STATISTICS = (
    "mean", "sd", "min", "max", "range", "skewness", "kurtosis", "quartile1", "median", "quartile3", "slope",
    "line_error",
)  # fmt: skip
"""Of a contour over time, in this order.

``sd`` is of all frames, without Bessel's correction. ``skewness`` and ``kurtosis`` are the third and fourth
standardised moments, the latter less 3; both are 0 where a contour does not move. ``slope``, per second, is that of the
line of least squares, and ``line_error`` the root of its mean squared error.
"""

_MFCC = Mfcc(n_mfcc=12, energy=True, deltas=0)

CONTOURS = (*(f"mfcc{number}" for number in range(1, _MFCC.n_mfcc + 1)), "log_energy", "pitch_hz", "voicing")
"""Contours of ``own``; the delta of each follows them all. Pitch has statistics of voiced frames alone."""

OWN = "own"

OPENSMILE: Mapping[str, int] = {
    "eGeMAPSv02": 88,
    "IS09": 384,
    "IS10": 1582,
    "IS13": 6373,
    "ComParE_2016": 6373,
    "emobase": 988,
}
"""Sets of openSMILE, and their number of values."""

PADDED_S = 0.1
"""A shorter utterance gets zeros behind it for openSMILE, which has no values of less."""


STILL = 1e-5
"""Standard deviation, as a share of the largest value (and one), up to which a contour counts as constant."""


@dataclass(frozen=True, slots=True)
class Functionals(Extractor):
    """The statistics of ``own``."""

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        text = repr((self.names, _MFCC.id, VERSION))
        return f"functionals-{OWN}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of a row's values, such as ``pitch_hz_mean`` and ``mfcc1_delta_sd``."""
        contours = (*CONTOURS, *(f"{name}_delta" for name in CONTOURS))
        return tuple(f"{contour}_{statistic}" for contour in contours for statistic in STATISTICS)

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return 2 * len(CONTOURS) * len(STATISTICS)

    @property
    def vector(self) -> bool:
        """See ``Extractor``."""
        return True

    @property
    def words(self) -> str:
        """See ``Extractor``."""
        return (
            f"{RATE_HZ} Hz, {len(STATISTICS)} statistics of {len(CONTOURS)} contours (12 MFCC, log energy, pitch, "
            f"voicing) and of their deltas, {self.bands} values per utterance"
        )

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the statistics of an utterance: float32, shape (1, bands)."""
        samples = mono(waveform)
        samples = pad(samples, (0, max(0, _MFCC.mel.n_fft - len(samples))))
        cepstrum = with_deltas(_MFCC.static(samples), 1).double().numpy()
        hz, voicing = (each.numpy() for each in pitch(samples, RATE_HZ, _MFCC.mel.hop))
        voiced = voicing >= VOICED
        frames = np.arange(len(hz))
        # Deltas of pitch need a value in every frame: between voiced parts that of a straight line.
        contour = np.interp(frames, frames[voiced], hz[voiced]) if voiced.any() else np.zeros(len(hz))
        voices = with_deltas(torch.from_numpy(np.stack([contour, voicing])), 1).numpy()
        static, hop_s = len(CONTOURS) - 2, _MFCC.hop_s
        rows = []
        for order in (0, 1):
            rows.append(
                statistics(cepstrum[order * static : (order + 1) * static], np.arange(cepstrum.shape[1]) * hop_s)
            )
            rows.append(statistics(voices[2 * order : 2 * order + 1, voiced], frames[voiced] * hop_s))
            rows.append(statistics(voices[2 * order + 1 : 2 * order + 2], frames * hop_s))
        return np.concatenate(rows).reshape(1, -1).astype(np.float32)


def statistics(contours: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Return ``STATISTICS`` of contours: float64, shape (contours, statistics); all 0 without a frame.

    Args:
        contours: float64, shape (contours, frames).
        time_s: of each frame, shape (frames,).
    """
    if not contours.shape[1]:
        return np.zeros((len(contours), len(STATISTICS)))
    mean = contours.mean(axis=1, keepdims=True)
    centred = contours - mean
    variance = np.square(centred).mean(axis=1)
    # What rounding leaves of a constant is no movement.
    moves = np.sqrt(variance) > STILL * (1 + np.abs(contours).max(axis=1))
    safe = np.where(moves, variance, 1.0)
    skewness, kurtosis = ((centred**power).mean(axis=1) / safe ** (power / 2) for power in (3, 4))
    time = time_s - time_s.mean()
    slope = centred @ time / max(float(time @ time), 1e-12)
    error = np.sqrt(np.square(centred - slope[:, None] * time).mean(axis=1))
    low, quartile1, median, quartile3, high = np.quantile(contours, (0, 0.25, 0.5, 0.75, 1), axis=1)
    return np.stack(
        [
            mean[:, 0], np.sqrt(variance), low, high, high - low, np.where(moves, skewness, 0.0),
            np.where(moves, kurtosis - 3, 0.0), quartile1, median, quartile3, slope, error,
        ],
        axis=1,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSmile(Extractor):
    """The functionals of one of openSMILE's sets."""

    set: str
    """One of ``OPENSMILE``."""
    version: str
    """Version of the package ``opensmile``."""

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        return f"functionals-{self.set.lower()}-opensmile{self.version.lower()}-{VERSION}"

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return OPENSMILE[self.set]

    @property
    def vector(self) -> bool:
        """See ``Extractor``."""
        return True

    @property
    def words(self) -> str:
        """See ``Extractor``."""
        return f"{RATE_HZ} Hz, {self.set} of opensmile {self.version}, {self.bands} values per utterance"

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the functionals of an utterance: float32, shape (1, bands)."""
        samples = mono(waveform)
        samples = pad(samples, (0, max(0, int(PADDED_S * RATE_HZ) - len(samples))))
        table = _smile(self.set, threading.get_ident()).process_signal(samples.numpy(), RATE_HZ)
        return np.ascontiguousarray(table.to_numpy(), dtype=np.float32)


@cache
def _smile(name: str, thread: int) -> Any:
    """Return openSMILE with a set, which computes in this process and in one thread.

    Raises:
        RequestError: it is not installed on this machine.
    """
    try:
        import opensmile  # late: an extra
    except ModuleNotFoundError as error:
        if error.name != "opensmile":
            raise
        raise RequestError(f"functionals {name}", [_missing(name)]) from None
    return opensmile.Smile(
        feature_set=getattr(opensmile.FeatureSet, name),
        feature_level=opensmile.FeatureLevel.Functionals,
        num_workers=1,
        multiprocessing=False,
    )


def _version() -> str:
    """Return the version of opensmile; empty where it is not installed."""
    try:
        return importlib.metadata.version("opensmile")
    except importlib.metadata.PackageNotFoundError:
        return ""


def of(settings: Mapping[str, Value]) -> Extractor:
    """Return the functionals that these settings describe."""
    name = str(settings["set"])
    return Functionals() if name == OWN else OpenSmile(set=name, version=_version() or "missing")


def missing(settings: Mapping[str, Value]) -> list[str]:
    """Say which extra a set needs, where it is not installed."""
    if settings["set"] == OWN or _version():
        return []
    return [_missing(str(settings["set"]))]


def remark(settings: Mapping[str, Value]) -> str:
    """Say what the extra would add to own functionals, where it is not installed."""
    if settings["set"] != OWN or _version():
        return ""
    return (
        f"functionals: tfser's own, {Functionals().bands} values; the extra opensmile would add {', '.join(OPENSMILE)} "
        "(--set set=NAME), under a research licence that allows no commercial use"
    )


def _missing(name: str) -> str:
    return (
        f"set: {name} needs the package opensmile, which is not installed: pip install 'tfser[opensmile]' on every "
        "machine (its research licence allows no commercial use), or choose set=own"
    )


FUNCTIONALS = FeatureSet(
    name="functionals",
    meaning="statistics of MFCC, energy, pitch and voicing, one row per utterance",
    hyperparameters={
        "set": Hyperparameter(
            default=OWN,
            choices=(OWN, *OPENSMILE),
            help="own statistics, or a set of openSMILE (extra opensmile; no commercial use)",
        )
    },
    extractor=of,
    missing=missing,
    remark=remark,
)
