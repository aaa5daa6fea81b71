"""Standardise features: subtract a mean from each value and divide by a deviation; the kind says whose they are.

    training    over all training utterances of the trial (per value, for a log-mel spectrogram per band)
    utterance   over the frames of the utterance itself
    speaker     over all utterances of its speaker that the trial may see
    none        nothing is subtracted, and the divisor is 1

``speaker`` is transductive: a test speaker is standardised with all of that speaker's utterances, unlabelled. Knows
nothing of models, folds or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Kind = Literal["training", "utterance", "speaker", "none"]
"""Whose statistics an utterance is standardised with."""

KINDS: tuple[Kind, ...] = get_args(Kind)

OWN: tuple[Kind, ...] = ("utterance", "speaker")
"""Kinds whose statistics come from the scored utterances themselves, not from the training."""

TRANSDUCTIVE: Kind = "speaker"
"""The kind by which an utterance's scores depend on what is scored beside it."""

SMALLEST = 1e-5
"""Smallest divisor: a value that never changes becomes 0."""

Utterances = Sequence[tuple[int, int, int]]
"""(first frame, frames, anything else) of some utterances of one array."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is subtracted and divided by; utterances that share both share a row."""

    mean: np.ndarray
    """float64, shape (rows, values)."""
    std: np.ndarray
    """float64, shape (rows, values), at least ``SMALLEST``."""
    row: np.ndarray
    """int64, shape (utterances,): the row of each utterance."""

    def of(self, chosen: slice) -> Statistics:
        """Return those of some of the utterances."""
        return Statistics(self.mean, self.std, self.row[chosen])

    def applied(self, frames: np.ndarray, utterances: Utterances) -> list[np.ndarray]:
        """Return the frames of each utterance, standardised: float64, shape (frames of it, values) each.

        Args:
            frames: shape (frames, values).
            utterances: those that ``row`` is about.
        """
        return [
            (frames[start : start + length] - self.mean[row]) / self.std[row]
            for (start, length, _), row in zip(utterances, self.row, strict=True)
        ]


def band_statistics(frames: np.ndarray, utterances: Utterances) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each value over some utterances' frames: float64, shape (values,)."""
    total, count = np.zeros(frames.shape[1]), 0
    for start, length, _ in utterances:
        total += frames[start : start + length].sum(axis=0, dtype=np.float64)
        count += length
    mean = total / count
    square = np.zeros(frames.shape[1])
    for start, length, _ in utterances:
        square += np.square(frames[start : start + length] - mean).sum(axis=0)
    return mean, np.maximum(np.sqrt(square / count), SMALLEST)


def statistics(
    frames: np.ndarray, utterances: Utterances, kind: Kind, *, training: Utterances = (), speakers: Sequence[str] = ()
) -> Statistics:
    """Return the statistics that some utterances are standardised with.

    Args:
        frames: shape (frames, values).
        utterances: all that are standardised: those to train on and those to score.
        kind: one of ``KINDS``.
        training: utterances whose frames make the statistics of kind ``training``.
        speakers: the speaker of each utterance, needed for kind ``speaker``.

    Raises:
        ValueError: the kind is ``speaker``, and not every utterance has one.
    """
    values, everything = frames.shape[1], np.zeros(len(utterances), dtype=np.int64)
    if kind == "none":
        return Statistics(np.zeros((1, values)), np.ones((1, values)), everything)
    if kind == "training":
        mean, std = band_statistics(frames, training)
        return Statistics(mean[None], std[None], everything)
    if kind == "speaker" and len(speakers) != len(utterances):
        raise ValueError(f"standardisation per speaker: {len(speakers)} speakers of {len(utterances)} utterances")
    keys: Sequence[object] = speakers if kind == "speaker" else range(len(utterances))
    members: dict[object, list[tuple[int, int, int]]] = {}
    for key, utterance in zip(keys, utterances, strict=True):
        members.setdefault(key, []).append(utterance)
    number = {key: i for i, key in enumerate(members)}
    made = [band_statistics(frames, own) for own in members.values()]
    mean, std = (np.stack(parts) for parts in zip(*made, strict=True))
    return Statistics(mean, std, np.array([number[key] for key in keys]))


def standardised(
    frames: np.ndarray, utterances: Utterances, kind: Kind, *, training: Utterances = (), speakers: Sequence[str] = ()
) -> list[np.ndarray]:
    """Return the frames of each utterance, standardised: float64, shape (frames of it, values) each.

    The arguments are those of ``statistics``.

    Raises:
        ValueError: see ``statistics``; or each utterance is one row, of which its own mean would leave nothing.
    """
    if kind == "utterance" and utterances and all(length == 1 for _, length, _ in utterances):
        raise ValueError("standardisation per utterance leaves nothing of features that are one row per utterance")
    made = statistics(frames, utterances, kind, training=training, speakers=speakers)
    return made.applied(frames, utterances)
