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
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.errors import TrialError
from tfser.evaluation import metrics
from tfser.features.segments import Cut, as_tensor
from tfser.features.standardise import KINDS, OWN, Kind, statistics
from tfser.training import ingredients
from tfser.training.adversary import Adversary
from tfser.training.averaging import Averaging
from tfser.training.captured import CapturedStep, Step
from tfser.training.data import Curves, TrialData, batches, copied
from tfser.training.determinism import derived_seed, precision_of, seed_all, settled
from tfser.training.forward import Forward
from tfser.training.inner import EarlyEnd
from tfser.training.masking import masks
from tfser.training.mixing import Mix
from tfser.training.optimisers import optimiser
from tfser.training.recurrent_dropout import WHY, has_it
from tfser.training.sampling import Sampling
from tfser.training.schedules import Schedule, steps_of
from tfser.training.scoring import OwnStatistics, Scorer, Scores, checked_logits
from tfser.training.segments import Segments, WholeUtterances, to_score
from tfser.training.utterance_rules import UtteranceRule
from tfser.training.variation import Variation

__all__ = ["SCORING_SEGMENTS", "Curves", "Training", "TrialData", "batches", "copied"]

SCORING_SEGMENTS = 256
"""Segments per forward pass when validation curves are scored."""


class Training:
    """A trial in progress: call ``run_epoch`` until ``epoch`` is ``epochs``, then ``score``.

    Args:
        build: makes the model; called under the seed.
        data: the data that this trial may see.
        settings: every hyperparameter by name.
        seed: seed of initialisation, order, augmentation and dropout.
        epochs: total number of epochs.
        device: the device to train on.
        captured: whether full batches go through a captured CUDA graph: the same result with fewer launches. It holds
            the whole step, or where settings vary what is around them only forward and backward pass.

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
        cut, trained = Cut.of(settings, data.loudness), Cut.of(settings, data.loudness, "training")
        self.rule = UtteranceRule.of(settings)
        """The utterance rule; one that is a classifier is fitted before each scoring."""
        self._train = Segments(data.frames, data.train, trained, device)
        self._fitted = self._train if cut == trained else Segments(data.frames, data.train, cut, device)
        """The training utterances, cut as those that are scored; an utterance rule is fitted on them."""
        scored = partial(to_score, data.frames, cut, device, whole=self.rule.name == "whole")
        self._scored = scored(data.scored) if data.scored else None
        self._inner = scored(data.inner) if data.inner else None
        kind = KINDS[KINDS.index(settings.get("standardisation", "training"))]
        made = statistics(
            data.frames,
            (*data.train, *data.scored, *data.inner),
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
        self._captured: Step | None = None
        self._capture = captured
        steps = len(batches(torch.arange(len(self._train.frames)), int(settings["batch_size"])))
        self._adversary = self._made_adversary(steps_of(settings, epochs, steps))
        self._capture &= self._adversary is None  # a captured graph hands out nothing but its logits
        head = [] if self._adversary is None else [*self._adversary.head.parameters()]
        self.optimizer = optimiser([*self.model.parameters(), *head], settings)
        self._weights = self._class_weights()
        self._masks = masks(settings)
        self._sampling = Sampling(
            settings, self._train.of_utterance, self._train.emotion.numpy(), data.speakers[: len(data.train)]
        )
        self._variation, self._own_of_copies = self._made_variation(kind)
        self._early = EarlyEnd(settings)
        self._schedule = Schedule(self.optimizer, settings, epochs, steps)
        self._averaging = Averaging(self.model, settings)

    def _made_adversary(self, steps: int) -> Adversary | None:
        """Make the head that tells speakers, if one is asked for; its weights have a seed of their own."""
        if not float(self.settings.get("adversary_weight", 0.0)):
            return None
        speakers = self.data.speakers[: len(self.data.train)]
        with settled(self.device):
            seed_all(derived_seed(self.seed, "adversary"))
            return Adversary(self.model, self.settings, speakers, len(self.data.emotions), steps, self.device)

    def _made_variation(self, kind: Kind) -> tuple[Variation | None, list[OwnStatistics]]:
        """Make what varies the training utterances from epoch to epoch, and the statistics of their copies."""
        data, settings = self.data, self.settings
        if not data.copies and not float(settings.get("vtlp", 0.0)):
            return None, []
        cut = self._train
        variation = Variation(
            settings, self.seed, self._frames, data.train, cut.frames, cut.utterances, data.copies, data.centres_hz
        )
        if self.own is None:
            return variation, []
        speakers = data.speakers[: len(data.train)]
        made = (statistics(copy.frames, copy.rows, kind, speakers=speakers) for copy in data.copies)
        return variation, [self.own, *(OwnStatistics(each, self.device) for each in made)]

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

    def _training_batch(self, chosen: Tensor) -> Tensor:
        """Return the input of training segments by their numbers, as this epoch varies them."""
        if self._variation is None:
            return self._batch(self._train.frames[chosen], self._train.utterances[chosen])
        x = self._variation.gathered(chosen)
        if self._own_of_copies:
            x, read, utterances = x.float(), self._variation.read(chosen), self._train.utterances[chosen]
            for number, own in enumerate(self._own_of_copies):
                x[read == number] = own.applied(x[read == number], utterances[read == number])
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
                self._captured = self._recorded(torch.arange(size, device=self.device))
            order = self.begin_epoch()
            total = torch.zeros((), dtype=torch.float64, device=self.device)
            for chosen in batches(order, size):
                total += self._step(chosen) * len(chosen)
            mean_loss = float(total) / len(order)
        self.end_epoch(mean_loss)

    def _recorded(self, chosen: Tensor) -> Step:
        """Capture what a full batch goes through, on the batch of ``chosen``; return the step that replays it."""
        if not self._masks and not ingredients.alone(self.settings):
            return CapturedStep(self._trained, chosen, self.model, self.optimizer)
        graph = self._forward.captured(self._batch(self._train.frames[chosen], self._train.utterances[chosen]))
        return partial(self._trained, forward=graph)

    def _step(self, chosen: Tensor) -> Tensor:
        """Train on one batch, given by the numbers of its segments; return its mean loss."""
        full = len(chosen) == int(self.settings["batch_size"])
        loss = self._captured(chosen) if self._captured and full else self._trained(chosen)
        self._schedule.after_step()
        self._averaging.after_step()
        return loss

    def _trained(self, chosen: Tensor, forward: nn.Module | None = None) -> Tensor:
        """Step the optimiser once, for a batch that goes through ``forward``, or through the network's own."""
        x = self._training_batch(chosen)
        for mask in self._masks:
            x = mask(x)
        mix = Mix.drawn(self.settings, len(chosen), self.device)
        logits = checked_logits((forward or self._forward)(mix.inputs(x)), len(chosen), len(self.data.emotions))
        smoothing = float(self.settings.get("label_smoothing", 0.0))
        loss = mix.cross_entropy(logits, self._train.labels[chosen], self._weights, smoothing)
        both = loss
        if self._adversary is not None:
            speakers = self._adversary.speaker[self._train.utterances[chosen]]
            both = loss + mix.cross_entropy(self._adversary.logits(), speakers)
        self.optimizer.zero_grad(set_to_none=True)
        both.backward()  # type: ignore[no-untyped-call]
        if longest := float(self.settings.get("clip_norm", 0.0)):
            nn.utils.clip_grad_norm_(self.model.parameters(), longest)
        self.optimizer.step()
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
        """Capture again when next needed: a graph depends on where parameters and the optimiser's state lay."""
        self._captured = None

    def begin_epoch(self) -> Tensor:
        """Seed the random states for the next epoch and return its segments in training order."""
        if self._variation is not None:
            self._variation.begin(self.epoch)
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
        if self._inner is not None:
            first = len(self.data.train) + len(self.data.scored)
            uar = metrics.uar(self._scores_of(self._inner, SCORING_SEGMENTS, first).confusion)
            self.curves.inner_uar.append(uar)
            self._early.after_epoch(self.epoch, uar, lambda: copied(self.weights()))
        self._schedule.after_epoch(self.curves.inner_uar[-1] if self.curves.inner_uar else None)

    @property
    def is_past_its_best(self) -> bool:
        """Whether the setting ``early_end_patience`` ends the training now."""
        return self._early.is_due(self.epoch)

    def take_best(self) -> None:
        """Go back to the best epoch on the inner speakers, where it is kept; the training cannot go on after it."""
        if self._early.best is not None:
            self.epoch, weights = self._early.best
            self.rule, own = UtteranceRule.of(self.settings).restored(weights)
            self.scorer.model.load_state_dict(own)

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
        if self._scored is None:  # a rule that is a classifier has to be fitted all the same
            self._fit_rule()
            count = len(self.data.emotions)
            none = np.zeros(0, dtype=np.int64)
            return Scores(np.zeros((0, count)), none, np.zeros((count, count), dtype=np.int64))
        return self._scores_of(self._scored, at_once, first=len(self.data.train))

    def _scores_of(self, of: Segments | WholeUtterances, at_once: int | None, first: int) -> Scores:
        """Return class probabilities of utterances; see ``score`` and ``_outputs``."""
        segments = self._outputs(of, at_once, first)
        self._fit_rule()
        truth, of_utterance = of.emotion.numpy(), of.of_utterance
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
            first: number of their first utterance among those to train on, to score, and the inner speakers'.
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
            "adversary": copied({} if self._adversary is None else self._adversary.state()),
            "early": copied(self._early.state()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; the result equals that of an uninterrupted training."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.forget_capture()
        self.curves = Curves(**state["curves"])
        self.epoch = state["epoch"]
        self.rule = UtteranceRule.of(self.settings)
        self._schedule.restore(state.get("schedule", {}))  # a checkpoint may be older than this
        self._averaging.restore(state.get("average", {}))
        self._early.restore(state.get("early", {}))
        if self._adversary is not None:
            self._adversary.restore(state["adversary"])
        self.scorer.model = self._averaging.model
