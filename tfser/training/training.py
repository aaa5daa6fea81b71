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

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.errors import TrialError
from tfser.evaluation import metrics
from tfser.features.segments import Cut, Loudness, as_tensor
from tfser.features.standardise import KINDS, OWN, statistics
from tfser.training.averaging import Averaging
from tfser.training.determinism import derived_seed, precision_of, seed_all, settled
from tfser.training.forward import Forward
from tfser.training.masking import masks
from tfser.training.mixing import Mix
from tfser.training.optimisers import optimiser
from tfser.training.sampling import Sampling
from tfser.training.schedules import Schedule
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
    """Mean loss per training segment, nats: the cross-entropy with the targets that it was trained on."""
    validation_uar: list[float] = field(default_factory=list)
    validation_war: list[float] = field(default_factory=list)


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
        cut, trained = Cut.of(settings, data.loudness), Cut.of(settings, data.loudness, "training")
        self.rule = UtteranceRule.of(settings)
        """The utterance rule; one that is a classifier is fitted before each scoring."""
        self._train = Segments(data.frames, data.train, trained, device)
        self._fitted = self._train if cut == trained else Segments(data.frames, data.train, cut, device)
        """The training utterances, cut as those that are scored; an utterance rule is fitted on them."""
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
        self._forward = Forward(self.model, device, self._precision)
        self._captured: nn.Module | None = None
        self._capture = captured
        self.optimizer = optimiser(self.model.parameters(), settings)
        self._weights = self._class_weights()
        self._masks = masks(settings)
        self._sampling = Sampling(
            settings, self._train.of_utterance, self._train.emotion.numpy(), data.speakers[: len(data.train)]
        )
        steps = len(batches(torch.arange(len(self._train.frames)), int(settings["batch_size"])))
        self._schedule = Schedule(self.optimizer, settings, epochs, steps)
        self._averaging = Averaging(self.model, settings)

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
                total += self._step(chosen) * len(chosen)
            mean_loss = float(total) / len(order)
        self.end_epoch(mean_loss)

    def _step(self, chosen: Tensor) -> Tensor:
        """Train on one batch, given by the numbers of its segments; return its mean loss."""
        x = self._batch(self._train.frames[chosen], self._train.utterances[chosen])
        for mask in self._masks:
            x = mask(x)
        mix = Mix.drawn(self.settings, len(chosen), self.device)
        full = self._captured is not None and len(chosen) == int(self.settings["batch_size"])
        forward = self._captured if self._captured is not None and full else self._forward
        logits = checked_logits(forward(mix.inputs(x)), len(chosen), len(self.data.emotions))
        smoothing = float(self.settings.get("label_smoothing", 0.0))
        loss = mix.cross_entropy(logits, self._train.labels[chosen], self._weights, smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if longest := float(self.settings.get("clip_norm", 0.0)):
            nn.utils.clip_grad_norm_(self.model.parameters(), longest)
        self.optimizer.step()
        self._schedule.after_step()
        self._averaging.after_step()
        return loss.detach()

    def _inputs(self) -> Iterator[Tensor]:
        """Return the network's inputs of all training segments in order, without masks."""
        for chosen in batches(torch.arange(len(self._train.frames)), int(self.settings["batch_size"])):
            yield self._batch(self._train.frames[chosen], self._train.utterances[chosen])

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
        return self._sampling.order().to(self.device)

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
        with settled(self.device, self._precision):
            seed_all(derived_seed(self.seed, "average", self.epoch))
            self._averaging.after_epoch(self.epoch, self._inputs)
        self.scorer.model = self._averaging.model

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
            segments = self._outputs(self._fitted, SCORING_SEGMENTS, first=0)
            emotion, seed = self._fitted.emotion.numpy(), derived_seed(self.seed, "utterance rule")
            self.rule = self.rule.fit(segments, self._fitted.of_utterance, emotion, len(self.data.emotions), seed)

    def weights(self) -> dict[str, Tensor]:
        """Return the trained state: the network's and, after a scoring, that of an utterance rule with a classifier.

        Where weights are averaged, the network is their average.
        """
        return {**self.scorer.model.state_dict(), **self.rule.tensors()}

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs to go on from this epoch, as tensors and plain values."""
        return {
            "epoch": self.epoch,
            "model": copied(self.model.state_dict()),
            "optimizer": copied(self.optimizer.state_dict()),
            "curves": {name: list(getattr(self.curves, name)) for name in Curves.__slots__},
            "schedule": copied(self._schedule.state()),
            "average": copied(self._averaging.state()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; the result equals that of an uninterrupted training."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curves = Curves(**state["curves"])
        self.epoch = state["epoch"]
        self.rule = UtteranceRule.of(self.settings)
        self._schedule.restore(state.get("schedule", {}))  # a checkpoint may be older than this
        self._averaging.restore(state.get("average", {}))
        self.scorer.model = self._averaging.model


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
