"""The wrong protocols that are common in print: which utterances a leaking trial trains on, is scored on and is standardised with.

Everything else in tfser keeps the test speaker apart; this module is the one place that does not, for ``tfser.leaks``
to measure what that is worth. Knows nothing of audio, models or settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from tfser.evaluation import folds
from tfser.trial import ProtocolName, TrialSpec

SHUFFLE_SEED = 0
"""Of the random split: one shuffle for every model, setting and training seed, so that all are scored on the same shares."""


class Named(folds.Labelled, Protocol):
    """What this module needs of an utterance."""

    @property
    def id(self) -> str: ...


def parts(count: int) -> tuple[str, ...]:
    """Names of the shares of a random split.

    >>> parts(3)
    ('part01', 'part02', 'part03')
    """
    return tuple(f"part{number:02d}" for number in range(1, count + 1))


def random_split(utterances: Sequence[Named], protocol: ProtocolName, part: str) -> tuple[list[int], list[int]]:
    """Indices to train on, and indices to score on, when utterances and not speakers are held out.

    There are as many shares as the protocol has folds, of equal size but for one utterance, stratified by nothing. An utterance's share
    depends on the ids alone, whatever their order.

    Args:
        utterances: all of a database.
        protocol: ``speaker`` or ``session``; it says how many shares there are.
        part: one of ``parts``.

    Raises:
        ValueError: there is no such share.
    """
    names = parts(len(folds.folds(utterances, protocol)))
    if part not in names:
        raise ValueError(f"no share named {part}; there are {names[0]} to {names[-1]}")
    # Sorted by a hash: a shuffle that no version of a library can change.
    shuffled = sorted(
        range(len(utterances)), key=lambda i: hashlib.sha256(f"{SHUFFLE_SEED} {utterances[i].id}".encode()).digest()
    )
    held_out = set(shuffled[names.index(part) :: len(names)])
    every = range(len(utterances))
    return [i for i in every if i not in held_out], [i for i in every if i in held_out]


def beyond(spec: TrialSpec, scored: list[int]) -> list[int]:
    """Which of the utterances that are not trained on enter the standardisation: none, but for a trial with that leak.

    Args:
        spec: the trial.
        scored: what it is scored on.
    """
    return scored if "standardisation" in spec.leaks else []
