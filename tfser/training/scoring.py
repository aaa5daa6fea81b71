"""Segment scores to utterance scores. Knows no trial and no file."""

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
    """int64, shape (emotions, emotions), segments counted one by one."""

    @property
    def confusion(self) -> np.ndarray:
        """Utterance-level confusion matrix; a tie goes to the first emotion."""
        return metrics.confusion(self.truth, self.probabilities.argmax(axis=1), self.probabilities.shape[1])


class Scorer:
    """A model with what prepares its input: frames of segments to class probabilities.

    Args:
        model: moved to ``device``; it may go on training.
        mean: of each mel band over the training speakers, float64, shape (n_mels,).
        std: likewise.
        device: where to score.
    """

    def __init__(self, model: nn.Module, mean: np.ndarray, std: np.ndarray, device: torch.device) -> None:
        self.model, self.device = model.to(device), device
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self._offset = torch.from_numpy(mean).to(device, torch.float32)
        self._scale = torch.from_numpy(1 / std).to(device, torch.float32)

    def prepared(self, frames: Tensor) -> Tensor:
        """Standardised per band and turned: (segments, length, n_mels) to the model's input, (segments, 1, n_mels, length)."""
        return ((frames - self._offset) * self._scale).transpose(1, 2).unsqueeze(1)

    def segments(self, pieces: Iterable[Tensor]) -> np.ndarray:
        """Class probabilities: float64, shape (segments of all pieces, emotions).

        Args:
            pieces: (segments, length, n_mels) on ``device``, each one forward pass: to the bit, a segment's probabilities depend on
                the segments that it shares a pass with.
        """
        self.model.eval()
        with settled(self.device), torch.inference_mode():
            outputs = [self.model(self.prepared(piece)).softmax(dim=1).double().cpu() for piece in pieces]
        probabilities: np.ndarray = torch.cat(outputs).numpy()
        return probabilities


def utterance_means(segments: np.ndarray, of_utterance: np.ndarray) -> np.ndarray:
    """An utterance's probabilities, the mean of its segments': float64, shape (utterances, emotions).

    Args:
        segments: float64, shape (segments, emotions).
        of_utterance: int64, shape (segments,): the utterance of each, counted from 0, ascending.
    """
    counts = np.bincount(of_utterance)
    sums = np.zeros((len(counts), segments.shape[1]))
    np.add.at(sums, of_utterance, segments)
    means: np.ndarray = sums / counts[:, None]
    return means
