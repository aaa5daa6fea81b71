"""What a training gets and what it tells: the data of a trial, its curves, its batches; knows nothing of networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfser.features.segments import Loudness
from tfser.training.variation import Copy


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialData:
    """The data that one trial may see: frames, and the utterances to train on and to score on.

    A search trial's value holds no test utterance at all.
    """

    frames: np.ndarray
    """float32, shape (frames, values): the features of a whole database, memory-mapped, never written to."""
    emotions: tuple[str, ...]
    train: tuple[tuple[int, int, int], ...]
    """(first frame, frames, emotion index) of each training utterance."""
    scored: tuple[tuple[int, int, int], ...]
    """The same for each utterance that is scored; none of a trial that trains on every speaker."""
    speakers: tuple[str, ...] = ()
    """The speaker of each utterance of ``train``, then of ``scored``, then of ``inner``.

    For standardisation per speaker, balanced sampling and an adversary only.
    """
    loudness: Loudness | None = None
    """The energy of frames; for the setting ``segment_share`` only."""
    copies: tuple[Copy, ...] = ()
    """Augmented copies of the training utterances; for the setting ``augmented_copies`` only."""
    centres_hz: np.ndarray | None = None
    """Frequency of each band; for the setting ``vtlp`` only."""
    inner: tuple[tuple[int, int, int], ...] = ()
    """As ``scored``, for each utterance of the inner speakers (``tfser.training.inner``)."""
    beyond: tuple[tuple[int, int, int], ...] = ()
    """As ``train``, for untrained utterances whose frames enter the standardisation.

    This is a leak, absent from every honest trial (``tfser.evaluation.leaky_protocols``).
    """


@dataclass(slots=True)
class Curves:
    """Values after each epoch, in order."""

    train_loss: list[float] = field(default_factory=list)
    """Mean loss per training segment, nats: the cross-entropy with the targets that it was trained on."""
    validation_uar: list[float] = field(default_factory=list)
    validation_war: list[float] = field(default_factory=list)
    inner_uar: list[float] = field(default_factory=list)
    """UAR on the inner speakers."""


def copied(value: Any) -> Any:
    """Copy mappings and lists of tensors and plain values, each tensor alone.

    A deep copy would take all the memory that a tensor is a view of, which for fused trainings is that of many.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(part) for key, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list) else value


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Split ``order`` into pieces of ``size``; a last piece of one joins the piece before it.

    >>> [len(piece) for piece in batches(torch.arange(9), 4)]
    [4, 5]
    """
    pieces = list(torch.split(order, size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces
