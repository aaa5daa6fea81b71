"""Segment scores to utterance scores, without trials or files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.errors import TrialError, counted
from tfser.evaluation import metrics
from tfser.features.segments import Cut, Loudness, segment_frames
from tfser.features.standardise import KINDS, OWN, Statistics, statistics
from tfser.training.determinism import seed_all, settled
from tfser.training.utterance_rules import UtteranceRule


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
        mean: mean of each mel band over the training speakers, float64, shape (values,); 0 where frames come
            standardised already.
        std: standard deviation of each mel band, likewise; 1 where frames come standardised already.
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
            outputs = [self._of_piece(piece).softmax(dim=1).double().cpu() for piece in pieces]
        probabilities: np.ndarray = torch.cat(outputs).numpy()
        return probabilities

    def _of_piece(self, piece: Tensor) -> Tensor:
        """Return the logits of a piece; whatever draws random numbers draws the same for each, in every process."""
        seed_all(0)
        return checked_logits(self.model(self.prepared(piece)), len(piece))


def checked_logits(found: Any, segments: int, emotions: int | None = None) -> Tensor:
    """Return what a network made of a batch, if it is logits.

    Args:
        found: what its forward returned.
        segments: number of segments in the batch.
        emotions: number of emotions; ``None`` where it is not known.

    Raises:
        TrialError: it is no tensor, or of another shape.
    """
    wanted = f"({segments}, {'emotions' if emotions is None else emotions})"
    whom = f"{counted(segments, 'segment')}{'' if emotions is None else f' and {emotions} emotions'}"
    what = ""
    if not isinstance(found, Tensor):
        what = f"a {type(found).__name__}"
    elif found.ndim != 2 or len(found) != segments or emotions not in (None, found.shape[1]):
        what = f"shape {tuple(found.shape)}"
    elif not found.is_floating_point():
        what = str(found.dtype).removeprefix("torch.")
    if what:
        raise TrialError(f"forward returned {what} for {whom}; it has to be floating-point logits of shape {wanted}")
    assert isinstance(found, Tensor)
    return found


def by_channel(rows: Tensor, channels: int) -> Tensor:
    """Give rows the shape of a network's input: (segments, length, values) to (segments, channels, bands, length)."""
    x = rows.transpose(1, 2)
    return x.unsqueeze(1) if channels == 1 else x.reshape(x.shape[0], channels, -1, x.shape[2])


class OwnStatistics:
    """The statistics of utterances that are not standardised with the training's, on a device."""

    def __init__(self, made: Statistics, device: torch.device) -> None:
        self.offset = torch.from_numpy(made.mean).to(device, torch.float32)
        """Shape (rows, values)."""
        self.scale = torch.from_numpy(1 / made.std).to(device, torch.float32)
        self.row = torch.from_numpy(made.row).to(device)
        """int64, shape (utterances,)."""

    def applied(self, frames: Tensor, utterances: Tensor) -> Tensor:
        """Standardise segments: frames (segments, length, values), and the number of each segment's utterance."""
        rows = self.row[utterances]
        return (frames - self.offset[rows][:, None]) * self.scale[rows][:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceScorer:
    """Scores any utterance as a trial scores its own: segments, standardisation and utterance rule of its settings."""

    scorer: Scorer
    settings: Mapping[str, Any]
    """The trial's, complete."""
    rule: UtteranceRule

    loudness: Loudness | None = None
    """The energy of frames; for the setting ``segment_share`` only."""

    def taken(self, frames: np.ndarray) -> np.ndarray:
        """Return the frames of each segment of an utterance: int64, shape (segments, length).

        Args:
            frames: the utterance's, shape (frames, values).
        """
        cut = Cut.of(self.settings, self.loudness)
        if self.rule.name == "whole":
            return segment_frames(0, len(frames), max(len(frames), cut.length), cut.length)
        return cut(frames)

    def gathered(self, frames: Tensor, taken: np.ndarray, beside: Sequence[np.ndarray] = ()) -> Tensor:
        """Return the frames of segments on the scorer's device, for its ``prepared``: (segments, length, values).

        Args:
            frames: the utterance's, on the CPU: shape (frames, values).
            taken: int64, shape (segments, length).
            beside: every utterance of its speaker, itself among them, in any order; by default itself alone. Only
                standardisation per speaker reads it.
        """
        device = self.scorer.device
        x = frames[torch.from_numpy(taken)].to(device)
        kind = KINDS[KINDS.index(self.settings.get("standardisation", "training"))]
        if kind not in OWN:
            return x
        of = beside if kind == "speaker" and beside else (frames.numpy(),)
        whole = np.concatenate(of) if len(of) > 1 else of[0]
        ends = np.cumsum([len(each) for each in of])
        utterances = [(int(end) - len(each), len(each), 0) for each, end in zip(of, ends, strict=True)]
        made = OwnStatistics(statistics(whole, utterances, "speaker", speakers=[""] * len(of)), device)
        return made.applied(x, torch.zeros(len(taken), dtype=torch.int64, device=device))

    def __call__(self, frames: Tensor, beside: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the probabilities of an utterance (emotions,), of its segments, and the frames of each segment."""
        taken = self.taken(frames.numpy())
        segments = self.scorer.segments([self.gathered(frames, taken, beside)])
        return self.rule(segments, np.zeros(len(taken), dtype=np.int64))[0], segments, taken
