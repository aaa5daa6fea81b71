"""Trainings of one shape as one: every step is a step of each member, and members do not influence each other.

This module knows ``train`` and the stacked models, and nothing of tasks, files, Ray or MLflow. A member is an ordinary
``Training``. While it is in here, its parameters, running statistics and optimiser state lie beside the others'. It is
scored (by any utterance rule), saved and restored by its own methods, leaves at any time, and goes on alone or among
others.

A member has the same seeds, batches, masks and dropout as alone, batch statistics of its own batch, and the same
arithmetic up to the order of sums. After each step it therefore equals its training alone within the tolerance of its
precision, but not to the bit. Such differences grow over the epochs, as they do between two kinds of device: after 30
epochs the recalls were the same; after 100, an utterance between two emotions can have changed sides. For the numbers
of a training alone to the bit, train alone; a ledger entry states which it was.

Every member has its own epochs: one whose fold has fewer segments begins its next epoch while others are still in
theirs, so that none waits. If batches differ in size (the last of an epoch), the smaller ones are padded.

On a CPU, only narrow Time-Frequency Transformers train faster together, because a step of theirs is mostly calls. The
ATFNN spends its time in its F-Encoder and its LSTM, which are computed member by member. GPUs have not been measured;
there a step of one member is hundreds of small kernels, and this module is meant for that case.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adamw import adamw

from tfser.errors import TrialError
from tfser.models.stacked import StackedModel
from tfser.training import ingredients
from tfser.training.determinism import precision_of, settled
from tfser.training.forward import Forward
from tfser.training.recurrent_dropout import WHY, has_it
from tfser.training.scoring import by_channel, checked_logits
from tfser.training.training import Training, batches
from tfser.trial import TrialSpec

OWN_SETTINGS = ("learning_rate", "weight_decay", "class_weights", "frequency_mask", "time_mask")
"""Hyperparameters in which members may differ; all others must be equal."""


def fusion_key(spec: TrialSpec) -> tuple[object, ...]:
    """Return a key that is equal for trials that can be trained together.

    Those have one database, model and ablation, and equal settings except ``OWN_SETTINGS``. Fold, seed, purpose,
    validation speakers and epochs may differ. A trial whose settings are for one network at a time, such as another
    optimiser than Adam (``tfser.training.ingredients.alone``), has a key of its own.
    """
    shared = tuple((name, value) for name, value in spec.hyperparameters if name not in OWN_SETTINGS)
    alone = spec.trial_id if ingredients.alone(spec.settings) else ""
    return (spec.database, spec.database_digest, spec.model, spec.source, spec.ablation, spec.numerics, shared, alone)


@dataclass(slots=True, eq=False)
class _Course:
    """A member's way through its epoch."""

    training: Training
    batches: deque[Tensor] = field(default_factory=deque)
    """Segment numbers of the epoch's remaining steps; empty between epochs."""
    total: float = 0.0
    """Sum of the losses of the epoch's segments when the members were last separated."""
    segments: int = 0
    """Number of segments in the epoch."""
    random: tuple[Tensor, ...] = ()
    """State of its PyTorch random number generators."""


class _Adam:
    """The members' own optimisers as one: a row of state for each, stepped with its own learning rate and decay.

    This is PyTorch's fused AdamW on rows instead of parameters, with the same result element by element.
    """

    def __init__(self, members: Sequence[Training], model: StackedModel) -> None:
        self._members, self._model = members, model
        stacked = set(model.stacked_names)
        self._mean, self._square = torch.zeros_like(model.flat.detach()), torch.zeros_like(model.flat.detach())
        self._apart: list[list[Tensor]] = []
        self._steps: list[Tensor] = []
        for number, member in enumerate(members):
            state = member.optimizer.state
            for parameter in member.model.parameters():
                if not state[parameter]:  # as the optimiser does in its first step
                    state[parameter]["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                    for name in ("exp_avg", "exp_avg_sq"):
                        state[parameter][name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            named = dict(member.model.named_parameters())
            for key, matrix in (("exp_avg", self._mean), ("exp_avg_sq", self._square)):
                model.share(number, {name: state[named[name]][key] for name in stacked}, matrix)
            self._apart.append([parameter for name, parameter in named.items() if name not in stacked])
            self._steps.append(next(iter(state.values()))["step"].clone())
        self._groups: dict[tuple[Any, ...], list[int]] = {}
        """Group the members that one call can step, by the call's arguments."""
        for number, member in enumerate(members):
            options: dict[str, Any] = member.optimizer.param_groups[0]
            alike = (options["lr"], options["weight_decay"], *options["betas"], options["eps"])
            self._groups.setdefault(alike, []).append(number)

    def step(self) -> None:
        """Step every member with the present gradients, then drop them."""
        rows, gradient = self._model.flat.detach(), self._model.flat.grad
        assert gradient is not None
        for (rate, decay, beta1, beta2, epsilon), numbers in self._groups.items():
            with_gradient = [(n, p, p.grad) for n in numbers for p in self._apart[n] if p.grad is not None]
            states = [self._members[n].optimizer.state[p] for n, p, _ in with_gradient]
            adamw(
                [rows[n] for n in numbers] + [p.detach() for _, p, _ in with_gradient],
                [gradient[n] for n in numbers] + [grad for _, _, grad in with_gradient],
                [self._mean[n] for n in numbers] + [state["exp_avg"] for state in states],
                [self._square[n] for n in numbers] + [state["exp_avg_sq"] for state in states],
                [],
                [self._steps[n] for n in numbers] + [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=rate,
                weight_decay=decay,
                eps=epsilon,
                maximize=False,
            )
            for _, parameter, _ in with_gradient:
                parameter.grad = None
        self._model.flat.grad = None

    def write_steps(self, number: int) -> None:
        """Write a member's number of steps into its own optimiser."""
        member = self._members[number]
        for name in self._model.stacked_names:
            member.optimizer.state[member.model.get_parameter(name)]["step"].copy_(self._steps[number])

    def release(self) -> None:
        """Give every member's state its own memory back."""
        for number, member in enumerate(self._members):
            self.write_steps(number)
            for name in self._model.stacked_names:
                state = member.optimizer.state[member.model.get_parameter(name)]
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key] = state[key].clone()


class FusedTraining:
    """Members trained together: call ``until_an_epoch_ends`` until ``members`` is empty.

    Args:
        members: trainings with one ``fusion_key``, on one device, each between two epochs and not at its end.

    Raises:
        ValueError: they do not fit together; the message names the difference.
    """

    def __init__(self, members: Sequence[Training]) -> None:
        if members[0].device.type == "cuda" and has_it(members[0].model):
            raise ValueError(f"these trainings cannot be fused: their network {WHY}")
        for member in members[1:]:
            if problem := _difference(members[0], member):
                raise ValueError(f"these trainings cannot be fused: {problem}")
            member.share_frames(members[0])
        self.device = members[0].device
        self._courses = [_Course(member) for member in members]
        self._draws = any(member._masks or member.settings.get("dropout") for member in members)
        self._together: _Together | None = None

    @property
    def members(self) -> list[Training]:
        """The trainings that are still in here."""
        return [course.training for course in self._courses]

    def remove(self, member: Training) -> None:
        """Remove a member that is between two epochs, if it is still here; the others are not affected."""
        if any(training is member for training in self.members):
            self._separate()
            self._courses = [course for course in self._courses if course.training is not member]

    def until_an_epoch_ends(self) -> list[tuple[Training, TrialError | None]]:
        """Train until at least one member has ended an epoch.

        A member leaves after its last epoch, or with a loss that is not finite.

        Returns:
            The members whose epoch has ended, each with its error if there was one.
        """
        ends: list[tuple[_Course, Callable[[], None]]]
        if len(self._courses) == 1 and not self._courses[0].batches:
            self._separate()
            ends = [(course, course.training.run_epoch) for course in self._courses]
        else:
            ends = [(course, partial(course.training.end_epoch, loss)) for course, loss in self._stepped()]
        result: list[tuple[Training, TrialError | None]] = []
        for course, end in ends:
            problem = None
            try:
                end()
            except TrialError as error:
                problem = error
            result.append((course.training, problem))
        for training, problem in result:
            if problem is not None or training.epoch >= training.epochs:
                self.remove(training)
        return result

    def _stepped(self) -> list[tuple[_Course, float]]:
        """Step until some epochs end; return their members with the mean losses."""
        with settled(self.device, precision_of(self._courses[0].training.settings)):
            for course in self._courses:
                if not course.batches:
                    self._begin(course)
            if self._together is None:
                self._together = _Together(self._courses, self._as_member)
            while all(course.batches for course in self._courses):
                self._step(self._together)
            ended = [(number, course) for number, course in enumerate(self._courses) if not course.batches]
            return [(course, self._together.end_epoch(number) / course.segments) for number, course in ended]

    def _separate(self) -> None:
        """Give every member its own memory back."""
        if self._together is not None:
            self._together.release()
            self._together = None

    def _begin(self, course: _Course) -> None:
        """Begin a member's epoch as it does alone."""
        order = course.training.begin_epoch()
        course.segments = len(order)
        course.batches.extend(batches(order, int(course.training.settings["batch_size"])))
        course.random = _random_state(self.device)

    @contextlib.contextmanager
    def _as_member(self, number: int) -> Iterator[None]:
        """Draw random numbers as the member draws them alone."""
        course = self._courses[number]
        torch.set_rng_state(course.random[0])
        for state in course.random[1:]:
            torch.cuda.set_rng_state(state, self.device)
        yield
        course.random = _random_state(self.device)

    def _step(self, together: _Together) -> None:
        """Step every member on its next batch."""
        chosen = [course.batches.popleft() for course in self._courses]
        sizes = tuple(len(batch) for batch in chosen)
        full = max(sizes)  # the others are padded with a segment of their own, whose result is not used
        numbers = torch.stack(
            [batch if len(batch) == full else F.pad(batch, (0, full - len(batch))) for batch in chosen]
        )
        x, labels = together.batch(numbers)
        if self._draws:
            x = torch.cat(
                [self._masked(number, member, sizes[number]) for number, member in enumerate(x.chunk(len(chosen)))]
            )
        together.step(x, labels, sizes)

    def _masked(self, number: int, x: Tensor, rows: int) -> Tensor:
        """Apply a member's masks to its input."""
        masks = self._courses[number].training._masks
        if not masks:
            return x
        true = x[:rows]
        with self._as_member(number):
            for mask in masks:
                true = mask(true)
        return torch.cat([true, x[rows:]])


class _Together:
    """What exists while the members share memory: the stacked model, the optimiser and the sums of the losses."""

    def __init__(
        self, courses: Sequence[_Course], as_member: Callable[[int], contextlib.AbstractContextManager[None]]
    ) -> None:
        self._courses = list(courses)
        members = [course.training for course in courses]
        self._device, self._frames = members[0].device, members[0]._frames
        self._model = StackedModel([member.model for member in members], as_member)
        self._forward = Forward(self._model, self._device, precision_of(members[0].settings))
        self._channels = members[0].scorer.channels
        counts = [len(member._train.frames) for member in members]
        self._first_row = torch.tensor([0, *counts[:-1]]).cumsum(0)[:, None].to(self._device)
        self._segments = torch.cat([member._train.frames for member in members])
        self._labels = torch.cat([member._train.labels for member in members])
        self._adam = _Adam(members, self._model)
        self._own = None if members[0].own is None else _side_by_side(members)
        self._offset = torch.stack([member.scorer._offset for member in members])[:, None, None]
        self._scale = torch.stack([member.scorer._scale for member in members])[:, None, None]
        plain = torch.ones(len(members[0].data.emotions), device=self._device)
        self._weights = torch.stack([plain if member._weights is None else member._weights for member in members])
        self._totals = torch.tensor([course.total for course in courses], dtype=torch.float64, device=self._device)
        self._counted: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the segments, standardised by member, (M B, channels, bands, length), and their emotions, (M, B).

        Args:
            numbers: numbers of each member's training segments, shape (M, B).
        """
        rows = numbers + self._first_row
        frames = self._frames[self._segments[rows.flatten()]]
        if self._own is not None:
            offset, scale, row = self._own
            chosen = row[rows.flatten()]
            frames = (frames - offset[chosen][:, None]) * scale[chosen][:, None]
        standardised: Tensor = (frames.view(*numbers.shape, *frames.shape[1:]) - self._offset) * self._scale
        return by_channel(standardised.flatten(0, 1), self._channels), self._labels[rows]

    def step(self, x: Tensor, labels: Tensor, sizes: tuple[int, ...]) -> None:
        """Run forward, backward and optimiser.

        Args:
            x: the members' batches one after another, masked.
            labels: shape (M, B).
            sizes: number of true segments, of the B, of each member.
        """
        if sizes not in self._counted:  # copied to the device once per combination of sizes
            size = torch.tensor(sizes, device=self._device)
            self._counted[sizes] = (size, torch.arange(labels.shape[1], device=self._device) < size[:, None])
        size, counts = self._counted[sizes]
        logits = checked_logits(self._forward(x, sizes), labels.numel(), self._weights.shape[1])
        losses = F.cross_entropy(logits, labels.flatten(), reduction="none").view_as(labels)
        weights = self._weights.gather(1, labels) * counts
        means = torch.where(counts, losses * weights, 0.0).sum(dim=1) / weights.sum(dim=1)
        means.sum().backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._totals += means.detach() * size

    def end_epoch(self, number: int) -> float:
        """Return a member's sum of losses and reset it; bring its own optimiser's number of steps up to date."""
        self._adam.write_steps(number)
        total = float(self._totals[number])
        self._totals[number] = 0
        return total

    def release(self) -> None:
        """Give every member its own memory back."""
        self._adam.release()
        self._model.release()
        for course, total in zip(self._courses, self._totals.tolist(), strict=True):
            course.total = total
            course.training.forget_capture()


def _side_by_side(members: Sequence[Training]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the statistics of all members' utterances one after another, and the row of each training segment."""
    offsets, scales, rows, before = [], [], [], 0
    for member in members:
        own = member.own
        assert own is not None, "members have one kind of standardisation"
        offsets.append(own.offset)
        scales.append(own.scale)
        rows.append(own.row[member._train.utterances] + before)
        before += len(own.offset)
    return torch.cat(offsets), torch.cat(scales), torch.cat(rows)


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    return (torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []))


def _difference(one: Training, other: Training) -> str | None:
    """Say in what two trainings differ that must be equal for fusion."""
    if {type(training.optimizer) for training in (one, other)} != {torch.optim.AdamW}:
        return "their optimiser is not Adam, the only one that is stepped for several at once"
    if said := ingredients.alone(one.settings) or ingredients.alone(other.settings):
        return f"a training with {', '.join(said)} is done alone"
    if one.data.frames is not other.data.frames:
        return "they read different features"
    if (one.device, one.data.emotions) != (other.device, other.data.emotions):
        return "they differ in their device or their emotions"
    names = sorted({*one.settings, *other.settings} - {*OWN_SETTINGS})
    unequal = [name for name in names if one.settings.get(name) != other.settings.get(name)]
    if unequal:
        return f"they differ in {', '.join(unequal)}; they may differ in {', '.join(OWN_SETTINGS)}"
    shapes = [[(name, value.shape) for name, value in training.model.state_dict().items()] for training in (one, other)]
    return None if shapes[0] == shapes[1] else "their models differ"
