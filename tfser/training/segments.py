"""The segments of some utterances, as a training reads them; knows nothing of networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tfser.features.segments import Cut, segment_frames


class Segments:
    """The segments of some utterances: their frames, utterances and emotions.

    The arrays that every step reads are on ``device``, so that no step waits for a copy.
    """

    def __init__(
        self, frames: np.ndarray, utterances: Sequence[tuple[int, int, int]], cut: Cut, device: torch.device
    ) -> None:
        pieces = [start + cut(frames[start : start + count]) for start, count, _ in utterances]
        self.frames = torch.from_numpy(np.concatenate(pieces)).to(device)
        """int64, shape (segments, length)."""
        self.of_utterance = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
        """int64, shape (segments,), ascending."""
        self.emotion = torch.tensor([emotion for *_, emotion in utterances])
        """int64, shape (utterances,), on the CPU."""
        self.labels = self.emotion[self.of_utterance].to(device)
        """int64, shape (segments,): each segment's emotion."""
        self.utterances = torch.from_numpy(self.of_utterance).to(device)
        """``of_utterance`` on ``device``."""

    def passes(self, at_once: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the frames and utterances of the segments of each forward pass.

        Args:
            at_once: segments per pass; ``None`` for one utterance per pass.
        """
        one_by_one = np.flatnonzero(np.diff(self.of_utterance, prepend=-1))
        pieces = one_by_one if at_once is None else np.arange(0, len(self.of_utterance), at_once)
        for chunk in np.split(np.arange(len(self.of_utterance)), pieces[1:]):
            yield self.frames[chunk], self.utterances[chunk]


class WholeUtterances:
    """Utterances to score at once, each one segment; one shorter than a segment is repeated to that length."""

    def __init__(self, utterances: Sequence[tuple[int, int, int]], length: int, device: torch.device) -> None:
        self._pieces = [segment_frames(start, n, max(n, length), length) for start, n, _ in utterances]
        self._device = device
        self.of_utterance = np.arange(len(utterances))
        self.emotion = torch.tensor([emotion for *_, emotion in utterances])

    def passes(self, at_once: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the frames and number of each utterance: one per pass, because their lengths differ."""
        for number, frames in enumerate(self._pieces):
            yield torch.from_numpy(frames).to(self._device), torch.tensor([number], device=self._device)


def to_score(
    frames: np.ndarray, cut: Cut, device: torch.device, utterances: Sequence[tuple[int, int, int]], *, whole: bool
) -> Segments | WholeUtterances:
    """Return utterances to score: their segments, or each of them whole."""
    if whole:
        return WholeUtterances(utterances, cut.length, device)
    return Segments(frames, utterances, cut, device)
