"""Segment scores to utterance scores, without trials or files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tfser.evaluation import metrics
from tfser.training.determinism import settled


@dataclass(frozen=True, slots=True)
class Scores:
    """Class probabilities of the scored utterances and their segments."""

    probabilities: np.ndarray
    """float64, shape (utterances, emotions); rows sum to 1."""
    truth: np.ndarray
    """int64, shape (utterances,)."""
    segment_confusion: np.ndarray
    """int64, shape (emotions, emotions): a count of segments."""

    @property
    def confusion(self) -> np.ndarray:
        """The utterances' confusion matrix; a tie counts as the first emotion."""
        return metrics.confusion(self.truth, self.probabilities.argmax(axis=1), self.probabilities.shape[1])


class Scorer:
    """A model and the preparation of its input: frames of segments to class probabilities.

    Args:
        model: moved to ``device``; its training may go on.
        mean: mean of each mel band over the training speakers, float64, shape (values,).
        std: standard deviation of each mel band, likewise.
        device: the device to score on.
        channels: channels of a row of features, which holds all bands of the first channel, then those of the next.
    """

    def __init__(
        self, model: nn.Module, mean: np.ndarray, std: np.ndarray, device: torch.device, channels: int = 1
    ) -> None:
        self.model, self.device, self.channels = model.to(device), device, channels
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self._offset = torch.from_numpy(mean).to(device, torch.float32)
        self._scale = torch.from_numpy(1 / std).to(device, torch.float32)

    def prepared(self, frames: Tensor) -> Tensor:
        """Standardise per band and transpose: (segments, length, values) to (segments, channels, bands, length)."""
        return by_channel((frames - self._offset) * self._scale, self.channels)

    def segments(self, pieces: Iterable[Tensor]) -> np.ndarray:
        """Return class probabilities: float64, shape (segments of all pieces, emotions).

        Args:
            pieces: (segments, length, values) on ``device``. Each piece is one forward pass, and the last bits of a
                segment's probabilities depend on the other segments in its pass.
        """
        self.model.eval()
        with settled(self.device), torch.inference_mode():
            outputs = [self.model(self.prepared(piece)).softmax(dim=1).double().cpu() for piece in pieces]
        probabilities: np.ndarray = torch.cat(outputs).numpy()
        return probabilities


def by_channel(rows: Tensor, channels: int) -> Tensor:
    """Give rows the shape of a network's input: (segments, length, values) to (segments, channels, bands, length)."""
    x = rows.transpose(1, 2)
    return x.unsqueeze(1) if channels == 1 else x.reshape(len(x), channels, -1, x.shape[2])


def utterance_means(segments: np.ndarray, of_utterance: np.ndarray) -> np.ndarray:
    """Return each utterance's probabilities, the mean of its segments': float64, shape (utterances, emotions).

    Args:
        segments: float64, shape (segments, emotions).
        of_utterance: int64, shape (segments,): each segment's utterance, counted from 0, ascending.
    """
    counts = np.bincount(of_utterance)
    sums = np.zeros((len(counts), segments.shape[1]))
    np.add.at(sums, of_utterance, segments)
    means: np.ndarray = sums / counts[:, None]
    return means
