"""Checks of a network: it is built, trained for an epoch and scored as a trial is, on a few utterances."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.errors import TrialError, counted
from tfser.features.base import loudness_of
from tfser.models import Network
from tfser.models_command import case as cases
from tfser.models_command.case import Case, Material
from tfser.models_command.finding import Told, described, remark, wrong
from tfser.planning import own_models
from tfser.planning.settings import build_settings, extractor
from tfser.training.determinism import seed_all, settled, weights_digest
from tfser.training.estimators import SAME
from tfser.training.scoring import checked_logits
from tfser.training.training import SCORING_SEGMENTS, Training, TrialData

CPU = torch.device("cpu")

LARGEST = 5_000_000
"""Ours: most parameters of a network that is run with numbers at an extreme setting; a larger one runs without, and
learns from fewer utterances."""

FEWER = 4
"""Ours: utterances that a network of more parameters trains on, of several speakers."""


class NetworkChecks:
    """The checks of one network, in order; later ones use what earlier ones trained."""

    def __init__(self, case: Case, material: Material) -> None:
        assert isinstance(case.model, Network)
        self.case, self.model, self.material = case, case.model, material
        self.settings = build_settings(self.model, case.settings)
        self.training: Training | None = None

    def in_order(self) -> list[tuple[str, Callable[[], Told], bool]]:
        """Return each check's name, the check, and whether the later ones need what it does."""
        return [
            ("output", self.output, True),
            ("training", self.train, True),
            ("gradients", self.gradients, False),
            ("same seed", self.repeated, False),
            ("scored alone", self.alone, False),
            ("state", self.state, False),
            ("settings", self.extreme_settings, False),
        ]

    def output(self) -> Told:
        """Run it untrained on batches of two and one, with another number of emotions too."""
        found: Told = []
        for emotions in (len(self.material.emotions), len(self.material.emotions) + 3):
            for batch in (2, 1):
                x = self._noise(batch)
                given = x.clone()
                with settled(CPU), torch.inference_mode():
                    seed_all(0)
                    module = self._built(emotions).eval()
                    logits = checked_logits(module(x), batch, emotions)
                if bad := logits.numel() - int(logits.isfinite().sum()):
                    return wrong(
                        f"{bad} of {logits.numel()} logits are NaN or infinite in a forward pass before training"
                    )
                if not torch.equal(given, x) and not found:
                    found = remark("forward changes its input in place; write to a copy (x = x.clone())")
        if self.model.any_length:
            with settled(CPU), torch.inference_mode():
                x = self._noise(1, int(self.settings["segment_frames"]) + 7)
                checked_logits(self._built(len(self.material.emotions)).eval()(x), 1, len(self.material.emotions))
        return found

    def train(self) -> Told:
        """Train an epoch, and score."""
        self.training = self._trained(0)
        if (parameters := _parameters(self.training.model)) > LARGEST:
            return [("ok", f"with {FEWER} utterances, because it has {parameters:,} parameters")]
        return []

    def gradients(self) -> Told:
        """Name the parameters that the last step gave no gradient."""
        assert self.training is not None
        named = [(name, p) for name, p in self.training.model.named_parameters() if p.requires_grad]
        without = [name for name, p in named if p.grad is None]
        if not without:
            return []
        which = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        return remark(f"{len(without)} of {len(named)} parameters get no gradient, so they are never trained: {which}")

    def repeated(self) -> Told:
        """Train with the same seed again, and with another."""
        assert self.training is not None
        if self.digest(self._trained(0)) != self.digest(self.training):
            return wrong(
                "two trainings with one seed in one process differ; what is kept from one training to the next, and "
                "random numbers of a generator of its own (np.random.default_rng(), os.urandom, the clock) do that"
            )
        one, other = (self._untrained(seed) for seed in (0, 1))
        if any(p.numel() for p in one.model.parameters()) and weights_digest(one.model) == weights_digest(other.model):
            return remark("the weights before training are the same with another seed, so that runs differ less")
        return []

    def digest(self, training: Training) -> str:
        """Return a digest of weights and scores."""
        return weights_digest(training.weights()) + _bytes_digest(training.score().probabilities)

    def own_digest(self) -> str:
        """Return the digest of the training of this process."""
        return self.digest(self.training or self._trained(0))

    def alone(self) -> Told:
        """Score twice, then many segments per pass and one utterance per pass."""
        assert self.training is not None
        alone, together = self.training.score(), self.training.score(at_once=SCORING_SEGMENTS)
        model = self.training.model.eval()
        with settled(CPU), torch.inference_mode():
            x = self._noise(2)
            twice = [model(x) for _ in range(2)]
        if not torch.equal(*twice):
            return wrong(
                "two passes over one batch differ in eval mode: something draws random numbers at scoring, such as "
                "F.dropout without training=self.training"
            )
        most = float(np.abs(alone.probabilities - together.probabilities).max())
        if most > SAME:
            return wrong(
                f"the scores of an utterance depend on what is scored beside it, by up to {most:.4f}: statistics of "
                "the batch in eval mode do that, such as F.batch_norm(training=True) or a norm over the batch; "
                "keep running statistics, or normalise within each segment"
            )
        return []

    def state(self) -> Told:
        """Save the state, load it into a network that is built anew, and score with that."""
        assert self.training is not None
        file = io.BytesIO()
        torch.save(dict(self.training.model.state_dict()), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        again = self._untrained(7)
        before = self.training.score().probabilities
        again.model.load_state_dict(loaded)
        again.rule = self.training.rule  # a rule that is a classifier is no part of the network, and draws by the seed
        if not np.array_equal(again.score().probabilities, before):
            return wrong(
                "a network that is built anew and gets the saved state scores otherwise: something is learnt that is "
                "neither a parameter nor a buffer; keep it with register_buffer"
            )
        return []

    def extreme_settings(self) -> Told:
        """Build it with each setting at its ends, and run it on a batch."""
        found: Told = []
        for said, case in cases.extremes(self.case):
            if own_models.asked(case.model, case.ablation, case.settings):
                continue  # refused in words
            if problem := self._problem(case):
                found += wrong(f"with {said}: {problem}; narrow the range, or return the reason from problems")
        return found

    def _problem(self, case: Case) -> str | None:
        """Return what is wrong with settings that the model does not refuse."""
        if problems := own_models.build_problems(case.model, case.ablation, case.settings):
            return "; ".join(problems)
        settings = build_settings(case.model, case.settings)
        module: Any = own_models.built(self.model, case.ablation, settings)
        shape = tuple(int(settings[name]) for name in ("input_channels", "input_bands", "segment_frames"))
        if _parameters(module) > LARGEST:
            with contextlib.suppress(Exception):  # without numbers, which not all code can do
                return _run(module, torch.empty(2, *shape, device="meta"))
            return None
        try:
            with settled(CPU):
                seed_all(0)
                return _run(self.model.build(case.ablation, settings, own_models.EMOTIONS), torch.zeros(2, *shape))
        except Exception as error:
            return described(error, self.case.source)

    def _noise(self, batch: int, frames: int | None = None) -> Tensor:
        shape = [int(self.settings[name]) for name in ("input_channels", "input_bands", "segment_frames")]
        if frames is not None:
            shape[-1] = frames
        return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(3))

    def _built(self, emotions: int) -> nn.Module:
        return self.model.build(self.case.ablation, self.settings, emotions)

    def _untrained(self, seed: int) -> Training:
        training = self._of(self.material, seed)
        return self._of(cases.fewer(self.material, FEWER), seed) if _parameters(training.model) > LARGEST else training

    def _of(self, made: Material, seed: int) -> Training:
        return Training(
            lambda: self._built(len(made.emotions)),
            TrialData(
                frames=made.rows,
                emotions=made.emotions,
                train=made.train,
                scored=made.scored,
                speakers=made.speakers,
                loudness=loudness_of(extractor(self.model, self.case.settings)),
            ),
            self.settings,
            seed,
            1,
            CPU,
        )

    def _trained(self, seed: int) -> Training:
        """Train an epoch and score, as a trial does.

        Raises:
            TrialError: something is not finite, or the logits are none; the text says where.
        """
        training = self._untrained(seed)
        training.run_epoch()
        bad = [name for name, value in training.weights().items() if not value.isfinite().all()]
        if bad:
            which = ", ".join(bad[:3])
            raise TrialError(f"{counted(len(bad), 'weight')} ({which}) are NaN or infinite after one epoch")
        training.score()
        return training


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _run(module: nn.Module, x: Tensor) -> str | None:
    """Return what is wrong with the logits of a batch."""
    with torch.inference_mode():
        try:
            checked_logits(module.eval()(x), len(x), own_models.EMOTIONS)
        except TrialError as error:
            return str(error)
    return None


def _bytes_digest(numbers: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()
