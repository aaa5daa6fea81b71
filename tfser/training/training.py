"""One trial in one process: epochs of an optimiser on segments, and scores per utterance.

This module knows nothing of Ray, Optuna, MLflow or files: it gets frames, indices and settings, and returns numbers.
Every random choice comes from the seed and the epoch alone. Neither earlier trials in this process nor an interruption
changes a result.

Ours, where the papers are silent: a last batch of a single segment joins the batch before it (batch normalisation needs
two values per channel); weight decay is decoupled (``tfser.training.optimisers``); an utterance's score is the mean of
its segments' class probabilities, unless the setting ``utterance_rule`` names another rule; segments are standardised
per mel band with the mean and standard deviation of the training utterances, unless ``standardisation`` names another
kind. The last matters: over ten folds of EmoDB, a narrow Time-Frequency Transformer trained for a few epochs lost 6.6
points of UAR without it; ATFNN lost nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from tfser.errors import TrialError
from tfser.evaluation import metrics
from tfser.features.segments import Cut, Loudness, as_tensor
from tfser.features.standardise import KINDS, OWN, statistics
from tfser.training.determinism import Precision, derived_seed, precision_of, seed_all, settled
from tfser.training.kept_float32 import KeptFloat32
from tfser.training.optimisers import optimiser
from tfser.training.recurrent_dropout import WHY, has_it
from tfser.training.scoring import OwnStatistics, Scorer, Scores, checked_logits
from tfser.training.segments import Segments, WholeUtterances
from tfser.training.utterance_rules import UtteranceRule

SCORING_SEGMENTS = 256
"""Segments per forward pass when validation curves are scored."""


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
    """The same for each utterance that is scored."""
    speakers: tuple[str, ...] = ()
    """The speaker of each utterance of ``train``, then of each of ``scored``; for standardisation per speaker only."""
    loudness: Loudness | None = None
    """The energy of frames; for the setting ``segment_share`` only."""
    beyond: tuple[tuple[int, int, int], ...] = ()
    """As ``train``, for untrained utterances whose frames enter the standardisation.

    This is a leak, absent from every honest trial (``tfser.evaluation.leaky_protocols``).
    """


@dataclass(slots=True)
class Curves:
    """Values after each epoch, in order."""

    train_loss: list[float] = field(default_factory=list)
    """Mean cross-entropy per training segment, nats."""
    validation_uar: list[float] = field(default_factory=list)
    validation_war: list[float] = field(default_factory=list)


class Forward(nn.Module):
    """A model under a precision: its input to logits of float32 or wider. A captured graph holds both."""

    def __init__(self, model: nn.Module, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.model, self.device, self.precision = model, device, precision

    def forward(self, *inputs: Any) -> Tensor:
        """Compute the model's logits, shape (segments, emotions): float32, or float64 for a float64 model."""
        # Without autocast's cache of rounded weights: a pass uses each once, and a captured graph must not keep them.
        narrow = self.precision == "bfloat16"
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=narrow, cache_enabled=False),
            KeptFloat32(self.device.type) if narrow else contextlib.nullcontext(),
        ):
            logits: Tensor = self.model(*inputs)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            return logits  # for ``checked_logits``, which says why it cannot be trained
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def captured(self, like: Tensor) -> nn.Module:
        """Capture a CUDA graph, in training, for inputs shaped as ``like`` only: one launch instead of hundreds.

        Capturing needs warm-up passes; their effect on the running statistics is undone.
        """
        # The graph's gradients come from a stream of its own, for which PyTorch waits, and of which it warns.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        graphed = torch.cuda.make_graphed_callables(Forward(self.model, self.device, self.precision).train(), (like,))
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)  # in place: the graph reads and writes these tensors
        assert isinstance(graphed, nn.Module)
        return graphed


class Training:
    """A trial in progress: call ``run_epoch`` until ``epoch`` is ``epochs``, then ``score``.

    Args:
        build: makes the model; called under the seed.
        data: the data that this trial may see.
        settings: every hyperparameter by name.
        seed: seed of initialisation, order, augmentation and dropout.
        epochs: total number of epochs.
        device: the device to train on.
        captured: whether full batches go through a captured CUDA graph: the same result with fewer launches.

    Raises:
        ValueError: it is to be captured and has dropout between the layers of an LSTM.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        data: TrialData,
        settings: Mapping[str, Any],
        seed: int,
        epochs: int,
        device: torch.device,
        *,
        captured: bool = False,
    ) -> None:
        self.data, self.settings, self.seed, self.epochs, self.device = data, settings, seed, epochs, device
        self._precision = precision_of(settings)
        self.epoch = 0
        self.curves = Curves()
        cut = Cut.of(settings, data.loudness)
        self.rule = UtteranceRule.of(settings)
        """The utterance rule; one that is a classifier is fitted before each scoring."""
        self._train = Segments(data.frames, data.train, cut, device)
        self._scored: Segments | WholeUtterances = (
            WholeUtterances(data.scored, cut.length, device)
            if self.rule.name == "whole"
            else Segments(data.frames, data.scored, cut, device)
        )
        kind = KINDS[KINDS.index(settings.get("standardisation", "training"))]
        made = statistics(
            data.frames,
            (*data.train, *data.scored),
            kind,
            training=(*data.train, *data.beyond),
            speakers=data.speakers,
        )
        values = data.frames.shape[1]
        self.own = OwnStatistics(made, device) if kind in OWN else None
        """The statistics of each utterance, where it is standardised with others than the training's."""
        self.mean: np.ndarray = np.zeros(values) if self.own else made.mean[0]
        self.std: np.ndarray = np.ones(values) if self.own else made.std[0]
        self._frames = as_tensor(data.frames).to(device)
        """The database's features on ``device``, shape (frames, values)."""
        with settled(device):
            seed_all(derived_seed(seed, "initialisation"))
            self.scorer = Scorer(build(), self.mean, self.std, device, int(settings.get("input_channels", 1)))
        self.model = self.scorer.model
        if captured and has_it(self.model):
            raise ValueError(f"the network {WHY}; train it without capturing")
        self._forward = Forward(self.model, device, self._precision)
        self._captured: nn.Module | None = None
        self._capture = captured
        self.optimizer = optimiser(self.model.parameters(), settings)
        self._weights = self._class_weights()
        self._masks = [
            mask(width)
            for mask, width in (
                (torchaudio.transforms.FrequencyMasking, int(settings["frequency_mask"])),
                (torchaudio.transforms.TimeMasking, int(settings["time_mask"])),
            )
            if width
        ]

    def _class_weights(self) -> Tensor | None:
        if self.settings["class_weights"] == "none":
            return None
        labels = self._train.labels
        dtype = next(self.model.parameters()).dtype
        counts = torch.bincount(labels.cpu(), minlength=len(self.data.emotions)).to(dtype)
        present = (counts > 0).sum()
        return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 0.0).to(self.device)

    def _batch(self, frames: Tensor, utterances: Tensor | None = None) -> Tensor:
        """Gather and standardise segments: (segments, length) frame numbers to (segments, channels, bands, length).

        Args:
            frames: frame numbers.
            utterances: the number of each segment's utterance, among those to train on and then those to score; needed
                where each is standardised with statistics of its own.
        """
        x = self._frames[frames]
        if self.own is not None:
            assert utterances is not None
            x = self.own.applied(x, utterances)
        return self.scorer.prepared(x)

    def run_epoch(self) -> None:
        """Train one epoch.

        Raises:
            TrialError: the loss is not finite; the message names the epoch.
        """
        size = int(self.settings["batch_size"])
        with settled(self.device, self._precision):
            self.model.train()
            if self._capture and self._captured is None and len(self._train.frames) >= size:
                self._captured = self._forward.captured(
                    self._batch(self._train.frames[:size], self._train.utterances[:size])
                )
            order = self.begin_epoch()
            total = torch.zeros((), dtype=torch.float64, device=self.device)
            for chosen in batches(order, size):
                x = self._batch(self._train.frames[chosen], self._train.utterances[chosen])
                for mask in self._masks:
                    x = mask(x)
                forward = self._captured if self._captured is not None and len(chosen) == size else self._forward
                logits = checked_logits(forward(x), len(chosen), len(self.data.emotions))
                loss = F.cross_entropy(logits, self._train.labels[chosen], weight=self._weights)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                total += loss.detach() * len(chosen)
            mean_loss = float(total) / len(order)
        self.end_epoch(mean_loss)

    def share_frames(self, other: Training) -> None:
        """Read the frames in another training of the same data, so that a GPU holds them once."""
        if other.data.frames is self.data.frames:
            self._frames = other._frames

    def forget_capture(self) -> None:
        """Capture again when next needed: a captured graph depends on where the parameters lay in memory."""
        self._captured = None

    def begin_epoch(self) -> Tensor:
        """Seed the random states for the next epoch and return its segments in training order."""
        seed_all(derived_seed(self.seed, "epoch", self.epoch))
        return torch.randperm(len(self._train.frames)).to(self.device)

    def end_epoch(self, mean_loss: float) -> None:
        """Count an epoch that was trained.

        Raises:
            TrialError: the loss is not finite; the message names the epoch.
        """
        self.epoch += 1
        self.rule = UtteranceRule.of(self.settings)  # a classifier was fitted to the network as it was before
        if not np.isfinite(mean_loss):
            raise TrialError(
                f"the loss was {mean_loss} in epoch {self.epoch} of {self.epochs}; a smaller learning_rate may help"
            )
        self.curves.train_loss.append(mean_loss)

    def validate(self) -> None:
        """Score the scored utterances after this epoch and append to the curves (search trials)."""
        matrix = self.score(at_once=SCORING_SEGMENTS).confusion
        self.curves.validation_uar.append(metrics.uar(matrix))
        self.curves.validation_war.append(metrics.war(matrix))

    def score(self, at_once: int | None = None) -> Scores:
        """Return class probabilities of every scored utterance.

        Args:
            at_once: segments per forward pass. By default each utterance has its own pass, so that its scores depend
                on nothing else, to the bit.

        Raises:
            TrialError: a probability is not finite.
        """
        segments = self._outputs(self._scored, at_once, first=len(self.data.train))
        self._fit_rule()
        truth, of_utterance = self._scored.emotion.numpy(), self._scored.of_utterance
        return Scores(
            self.rule(segments, of_utterance),
            truth,
            metrics.confusion(truth[of_utterance], segments.argmax(axis=1), segments.shape[1]),
        )

    def _outputs(self, of: Segments | WholeUtterances, at_once: int | None, first: int) -> np.ndarray:
        """Return the network's probabilities: float64, shape (segments, emotions).

        Args:
            of: the segments.
            at_once: segments per forward pass; ``None`` for one utterance per pass.
            first: number of their first utterance among those to train on and then those to score.
        """

        def gathered(frames: Tensor, utterances: Tensor) -> Tensor:
            x = self._frames[frames]
            return x if self.own is None else self.own.applied(x, first + utterances)

        segments = self.scorer.segments(gathered(*each) for each in of.passes(at_once))
        if not np.isfinite(segments).all():
            raise TrialError(f"the scores are not finite after epoch {self.epoch}")
        return segments

    def _fit_rule(self) -> None:
        """Fit an utterance rule that is a classifier on the training utterances, for which the network sees them all.

        That costs about a third of an epoch; it is done once per epoch that is scored.
        """
        if not self.rule.is_fitted:
            segments = self._outputs(self._train, SCORING_SEGMENTS, first=0)
            emotion, seed = self._train.emotion.numpy(), derived_seed(self.seed, "utterance rule")
            self.rule = self.rule.fit(segments, self._train.of_utterance, emotion, len(self.data.emotions), seed)

    def weights(self) -> dict[str, Tensor]:
        """Return the trained state: the network's and, after a scoring, that of an utterance rule with a classifier."""
        return {**self.model.state_dict(), **self.rule.tensors()}

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs to go on from this epoch, as tensors and plain values."""
        return {
            "epoch": self.epoch,
            "model": copied(self.model.state_dict()),
            "optimizer": copied(self.optimizer.state_dict()),
            "curves": {name: list(getattr(self.curves, name)) for name in Curves.__slots__},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; the result equals that of an uninterrupted training."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curves = Curves(**state["curves"])
        self.epoch = state["epoch"]
        self.rule = UtteranceRule.of(self.settings)


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
