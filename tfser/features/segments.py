"""Frames to the segments that a network sees. Knows no file."""

from __future__ import annotations

import warnings

import numpy as np
import torch


def as_tensor(frames: np.ndarray) -> torch.Tensor:
    """A tensor over memory-mapped frames without a copy; nothing may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(frames)


def segment_frames(start: int, frames: int, segment: int, hop: int) -> np.ndarray:
    """Which frames each segment of one utterance takes: int64, shape (segments, segment).

    The last partial segment is shifted back to end with the utterance; an utterance shorter than one
    segment is repeated, so that no digital silence is ever trained on (method: ours).

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
