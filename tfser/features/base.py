"""What a feature set is: what a model reads of an utterance, with its settings.

Each built-in feature set is a file of this room, and a model's file may bring one of its own. This module knows
nothing of files, databases or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from tfser.audio.files import Waveform
from tfser.features.segments import Loudness
from tfser.trial import Hyperparameter, Value


@runtime_checkable
class Extractor(Protocol):
    """A feature set at certain settings. Make it a frozen dataclass: equal settings, equal and hashable values.

    A class that inherits from this one needs ``id``, ``bands`` and ``__call__``, and takes over what it does not change
    of the rest: one channel of float32 rows, 10 ms apart.
    """

    @property
    def id(self) -> str:
        """Name of the folder of its packs: equal for equal features only, so it holds a version of the code.

        Legal are lower-case letters, digits and ``. _ + -``.
        """

    @property
    def bands(self) -> int:
        """Values of a row per channel. A row holds all bands of the first channel, then those of the next."""

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the features of an utterance: shape (rows, channels * bands), of type ``dtype``.

        Raises:
            ValueError: the utterance has none, such as one that is too short; the text says why.
        """

    @property
    def channels(self) -> int:
        """Channels of a row; 1 unless the set has delta channels beside its bands."""
        return 1

    @property
    def vector(self) -> bool:
        """Whether an utterance is one row (functionals) instead of a row per frame."""
        return False

    @property
    def dtype(self) -> Literal["float32", "float16"]:
        """How values are kept."""
        return "float32"

    @property
    def hop_s(self) -> float:
        """Seconds from one row to the next; 0 for one row per utterance."""
        return 0.0 if self.vector else 0.01

    @property
    def first_s(self) -> float:
        """Second at which the analysis window of the first row is centred."""
        return self.window_s / 2

    @property
    def window_s(self) -> float:
        """Seconds that the analysis window of a row covers."""
        return self.hop_s

    @property
    def band_centres_hz(self) -> np.ndarray | None:
        """Frequency of each band: float64, shape (bands,); ``None`` where bands are no frequencies."""
        return None

    @property
    def unit(self) -> str:
        """What a value is, in a word or two, beside the colours of a figure."""
        return "value"

    @property
    def words(self) -> str:
        """What it computes, for a person: ``16000 Hz, window 20 ms, ...``."""
        return f"{self.channels} x {self.bands} values per {'utterance' if self.vector else 'row'}"


def _fits(settings: Mapping[str, Value]) -> list[str]:
    return []


def _is_all(settings: Mapping[str, Value]) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """A kind of features: its name, its settings, and how an extractor is made of them."""

    name: str
    """What a model names it by."""
    meaning: str
    """What it is, in a line."""
    hyperparameters: Mapping[str, Hyperparameter]
    extractor: Callable[[Mapping[str, Value]], Extractor]
    """Settings to an extractor. Settings of other rooms are ignored."""
    problems: Callable[[Mapping[str, Value]], list[str]] = _fits
    """Every reason why these settings give no features, in words."""
    missing: Callable[[Mapping[str, Value]], list[str]] = _fits
    """What this machine lacks to extract them, in words, such as an extra. Trials that are finished do not need it."""
    remark: Callable[[Mapping[str, Value]], str] = _is_all
    """What an extra that is not installed would add to these settings, in a line; empty if nothing."""


def loudness_of(extractor: Extractor) -> Loudness | None:
    """Return how the energy of an extractor's rows is told; ``None`` where they do not tell it.

    An extractor whose rows do has a method ``loudness``, from rows of shape (rows, channels * bands) to the energy of
    each: shape (rows,), never negative, on any scale.
    """
    found: Loudness | None = getattr(extractor, "loudness", None)
    return found
