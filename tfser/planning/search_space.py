"""Search spaces: one YAML file per question, checked whole before anything starts.

A file looks like this (the comment at its top says which question it asks and how to run it):

    model: time_frequency_transformer
    fixed:
      channels: 8
    search:
      n_mels: {choice: [40, 80]}
      time_heads: {choice: [1, 2, 4, 5], divides: n_mels / 4}
      learning_rate: {float: [1.0e-4, 1.0e-2], scale: log}
      time_mask: {int: [0, 40], step: 10, when: {class_weights: [balanced]}}

``divides`` drops the choices that do not divide the named setting, or that setting divided by a whole number. ``when``
searches the setting only where an earlier one has one of the listed values; elsewhere it keeps its published or fixed
value. Knows nothing of studies, folds or scores.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tfser.trial import Value

KINDS = ("choice", "int", "float")

COMBINATIONS = 20000
"""Combinations of whole-number and choice settings that are tried against the model before a start."""

MOST_STEPS = 1_000_000
"""Most steps of a range: with more, the step is a slip, and Optuna's arithmetic loses its last digits."""


class Sampler(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One searched setting."""

    name: str
    kind: str
    """One of ``KINDS``."""
    values: tuple[Value, ...]
    """The choices, or the lowest and highest value."""
    log: bool = False
    step: float | None = None
    divides: tuple[str, int] | None = None
    """(setting, n): only choices that divide setting / n."""
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    """Earlier settings, each with the values under which this one is searched."""

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"{self.name} {' or '.join(str(value) for value in self.values)}"
        low, high = (f"{value:g}" for value in self.values)  # numbers, as it is a range
        return f"{self.name} {low} to {high}{' (log)' if self.log else ''}"

    def active(self, settings: Mapping[str, Value]) -> bool:
        """Return whether it is searched beside these earlier settings."""
        return all(settings[name] in values for name, values in self.when)

    def listed(self) -> Sequence[Value]:
        """Return every value of a choice or a whole-number range; nothing for a range of fractions."""
        if self.kind == "choice":
            return self.values
        if self.kind == "int":
            return range(int(self.values[0]), int(self.values[1]) + 1, int(self.step or 1))
        return ()

    def legal(self, settings: Mapping[str, Value]) -> tuple[Value, ...]:
        """Return the choices that are left beside these earlier settings."""
        if self.divides is None:
            return self.values
        name, by = self.divides
        width = int(settings[name]) // by
        return tuple(value for value in self.values if width % int(value) == 0)

    def _offered(self, settings: Mapping[str, Value]) -> tuple[str, tuple[Value, ...]]:
        """Return the parameter's name and legal choices; fewer choices need another name, as Optuna's cannot change."""
        legal = self.legal(settings)
        return self.name if legal == self.values else f"{self.name} of {', '.join(map(str, legal))}", legal

    def sample(self, sampler: Sampler, settings: Mapping[str, Value]) -> Value:
        """Ask the sampler for a value."""
        if self.kind == "choice":
            name, legal = self._offered(settings)
            value: Value = sampler.suggest_categorical(name, legal)
            return value
        low, high = self.values
        if self.kind == "int":
            return sampler.suggest_int(self.name, int(low), int(high), step=int(self.step or 1), log=self.log)
        return sampler.suggest_float(self.name, float(low), float(high), step=self.step, log=self.log)

    def nearest(self, value: Value, settings: Mapping[str, Value]) -> tuple[str, Value]:
        """Return the parameter's name, and its legal value nearest to a published one: what a study tries first."""
        if self.kind == "choice":
            name, legal = self._offered(settings)
            if value in legal or isinstance(value, (str, bool)):
                return name, value if value in legal else legal[0]
            return name, min(legal, key=lambda choice: abs(float(choice) - float(value)))
        low, high = self.values
        clipped = min(max(float(value), float(low)), float(high))
        if self.step:
            clipped = float(low) + round((clipped - float(low)) / self.step) * self.step
            clipped -= self.step if clipped > float(high) + 1e-12 else 0.0
        return self.name, int(clipped) if self.kind == "int" else clipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A checked search space."""

    source: str
    """The file it was read from, for messages."""
    model: str
    fixed: Mapping[str, Value]
    dimensions: tuple[Dimension, ...]
    declared: bool = False
    """Whether it was made of the ranges that a model declares, and no file says it."""

    @property
    def digest(self) -> str:
        """Hash of the question: the same whatever the file is called."""
        rows = [[d.name, d.kind, d.values, d.log, d.step, d.divides, d.when] for d in self.dimensions]
        text = json.dumps([self.model, dict(self.fixed), rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def without(self, names: Mapping[str, Value]) -> Space:
        """Return the same space with some settings fixed by ``--set``, no longer searched."""
        left = tuple(d for d in self.dimensions if d.name not in names)
        return replace(self, fixed={**self.fixed, **names}, dimensions=left)

    def __str__(self) -> str:
        return ", ".join(map(str, self.dimensions)) or "nothing"

    def sample(self, sampler: Sampler, base: Mapping[str, Value]) -> dict[str, Value]:
        """Return every setting: ``base``, then what the file fixes, then what the sampler answers."""
        settings = {**base, **self.fixed}
        for dimension in self.dimensions:
            if dimension.active(settings):
                settings[dimension.name] = dimension.sample(sampler, settings)
        return settings

    def first(self, base: Mapping[str, Value]) -> dict[str, Value]:
        """Return the parameters of the published setting, or of the legal setting nearest to it."""
        settings, parameters = {**base, **self.fixed}, {}
        for dimension in self.dimensions:
            if dimension.active(settings):
                name, value = dimension.nearest(settings[dimension.name], settings)
                parameters[name] = settings[dimension.name] = value
        return parameters


class _Random:
    """Draws a setting uniformly, to check a space before a study exists."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.random.choice(list(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.random.uniform(low, high)


class _Chosen(_Random):
    """Replays one combination of choices and whole numbers; the rest is drawn."""

    def __init__(self, combination: Mapping[str, Value]) -> None:
        super().__init__(0)
        self.combination = combination

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        wanted = self.combination.get(name.split(" of ")[0])
        return wanted if wanted in choices else choices[0]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self.combination.get(name, low))


def refusals(space: Space, base: Mapping[str, Value], problems: Any) -> list[str]:
    """Return why the model would refuse what the space can sample: about three reasons at most.

    All combinations of choices and whole numbers are tried; where there are more than ``COMBINATIONS``, that many are
    drawn at random.

    Args:
        space: what is searched.
        base: every setting with its published or fixed value.
        problems: returns why the model refuses settings.
    """
    lists = [dimension.listed() or dimension.values[:1] for dimension in space.dimensions]
    count = 1
    for values in lists:
        count *= len(values)
    samplers: Any
    if count <= COMBINATIONS:
        names = [d.name for d in space.dimensions]
        samplers = (_Chosen(dict(zip(names, combination, strict=True))) for combination in itertools.product(*lists))
    else:
        samplers = (_Random(seed) for seed in range(COMBINATIONS))
    found: dict[str, str] = {}
    for sampler in samplers:
        settings = space.sample(sampler, base)
        for problem in problems(settings):
            found[problem] = f"{space.source}: it can sample what the model refuses: {problem}; " + (
                "name a --space FILE that cannot" if space.declared else "say so with divides: or when:"
            )
        if len(found) >= 3:
            break
    return list(found.values())
