"""Wrong protocols that are common in print: the utterances that a leaking trial is trained, scored and standardised on.

Everything else in tfser keeps the test speaker apart. This module alone does not, so that ``tfser.leaks`` can measure
the effect. It knows nothing of audio, models or settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from tfser.evaluation import folds
from tfser.trial import ProtocolName, TrialSpec

SHUFFLE_SEED = 0
"""Seed of the random split: all models, settings and training seeds have one shuffle and score the same shares."""


class Named(folds.Labelled, Protocol):
    """The part of an utterance that this module needs."""

    @property
    def id(self) -> str: ...


def parts(count: int) -> tuple[str, ...]:
    """Return the names of the shares of a random split.

    >>> parts(3)
    ('part01', 'part02', 'part03')
    """
    return tuple(f"part{number:02d}" for number in range(1, count + 1))


def random_split(utterances: Sequence[Named], protocol: ProtocolName, part: str) -> tuple[list[int], list[int]]:
    """Return the indices to train on and to score on if utterances, not speakers, are held out.

    There are as many shares as the protocol has folds. Their sizes differ by at most one utterance, and nothing is
    stratified. An utterance's share depends on the ids alone, not on their order.

    Args:
        utterances: all of a database.
        protocol: ``speaker`` or ``session``; it determines the number of shares.
        part: one of ``parts``.

    Raises:
        ValueError: there is no such share.
    """
    names = parts(len(folds.folds(utterances, protocol)))
    if part not in names:
        raise ValueError(f"no share named {part}; there are {names[0]} to {names[-1]}")
    # Sorted by a hash: no version of a library can change this shuffle.
    shuffled = sorted(
        range(len(utterances)), key=lambda i: hashlib.sha256(f"{SHUFFLE_SEED} {utterances[i].id}".encode()).digest()
    )
    held_out = set(shuffled[names.index(part) :: len(names)])
    every = range(len(utterances))
    return [i for i in every if i not in held_out], [i for i in every if i in held_out]


def beyond(spec: TrialSpec, scored: list[int]) -> list[int]:
    """Return the utterances outside the training set that enter the standardisation: none without that leak.

    Args:
        spec: the trial.
        scored: the utterances that it is scored on.
    """
    return scored if "standardisation" in spec.leaks else []
