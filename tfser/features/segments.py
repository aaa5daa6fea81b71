"""Frames to the segments that a network sees; no file is read."""

from __future__ import annotations

import warnings

import numpy as np
import torch


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
