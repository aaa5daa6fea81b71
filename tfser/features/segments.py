"""Frames to the segments that a network sees; no file is read."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

Loudness = Callable[[np.ndarray], np.ndarray]
"""Rows of features (rows, values) to the energy of each: (rows,), never negative."""


def as_tensor(frames: np.ndarray) -> torch.Tensor:
    """Wrap memory-mapped frames in a tensor without a copy; nothing may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(frames)


def segment_frames(start: int, frames: int, segment: int, hop: int) -> np.ndarray:
    """Return the frames of each segment of one utterance: int64, shape (segments, segment).

    The last partial segment is shifted back to end with the utterance. An utterance shorter than one segment is
    repeated, so that digital silence is never trained on (method: ours).

    Args:
        start: the utterance's first frame in the pack.
        frames: its number of frames, at least 1.
        segment: frames per segment.
        hop: frames between the starts of segments.
    """
    if frames <= segment:
        return start + (np.arange(segment) % frames)[None, :]
    starts = np.arange(0, frames - segment + 1, hop)
    if starts[-1] + segment < frames:
        starts = np.append(starts, frames - segment)
    return (start + starts[:, None] + np.arange(segment)[None, :]).astype(np.int64)


def loudest(taken: np.ndarray, energy: np.ndarray, share: float) -> np.ndarray:
    """Return the segments with the highest energy, in time's order: (segments, segment) to (fewer, segment).

    Of equal ones the earlier are kept, and at least one is.

    Args:
        taken: the frames of each segment, counted from the utterance's first.
        energy: of each frame of the utterance, shape (frames,).
        share: of the segments that are kept; their number is rounded up.
    """
    count = max(1, math.ceil(share * len(taken) - 1e-9))
    order = np.argsort(-energy[taken].sum(axis=1), kind="stable")
    return taken[np.sort(order[:count])]


def hop_of(settings: Mapping[str, Any], purpose: Literal["training", "scoring"]) -> int:
    """Return the frames between the starts of segments that are trained on, or scored."""
    own = int(settings.get(f"{purpose}_hop", 0))
    return own or int(settings["segment_hop"]) or int(settings["segment_frames"])


@dataclass(frozen=True, slots=True)
class Cut:
    """How utterances are cut into segments."""

    length: int
    """Frames per segment."""
    hop: int
    """Frames between the starts of segments."""
    share: float = 1.0
    """Share of an utterance's segments that are kept, those with the highest energy."""
    loudness: Loudness | None = None
    """The energy of frames; needed for a share below 1."""

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        loudness: Loudness | None = None,
        purpose: Literal["training", "scoring"] = "scoring",
    ) -> Cut:
        """Return the cut that a trial's settings describe.

        Args:
            settings: the trial's.
            loudness: the energy of frames; needed for a share of the segments.
            purpose: whether the segments are trained on or scored; each may have a hop of its own.

        Raises:
            ValueError: a share of the segments is asked of features that do not tell their energy.
        """
        length, share = int(settings["segment_frames"]), float(settings.get("segment_share", 1.0))
        if share < 1 and loudness is None:
            raise ValueError(f"segment_share: {share:g} of the segments, and nothing tells their energy")
        return cls(length, hop_of(settings, purpose), share, loudness)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Return the frames of an utterance's segments, counted from its first: int64, shape (segments, length).

        Args:
            frames: the utterance's, shape (frames, values).
        """
        taken = segment_frames(0, len(frames), self.length, self.hop)
        if self.share >= 1 or self.loudness is None:
            return taken
        return loudest(taken, self.loudness(frames), self.share)
