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

``divides`` drops the choices that do not divide the named setting (divided by a whole number);
``when`` searches the setting only where an earlier one has one of the listed values, and leaves it at
its published or fixed value elsewhere. Knows nothing of studies, folds or scores.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from tfser import yaml_text
from tfser.errors import RequestError, unknown
from tfser.files import Place
from tfser.trial import Hyperparameter, Value
from tfser.typed import clipped

KINDS = ("choice", "int", "float")
COMBINATIONS = 20000
"""How many combinations of whole-number and choice settings are tried against the model before a start."""
MOST_STEPS = 1_000_000
"""Steps of a range: with more of them a step is a slip, and Optuna's arithmetic loses its last digits."""
_TRUTH = {"yes": True, "on": True, "no": False, "off": False}
"""What people write for a setting that is true or false, beside those two words."""


class Sampler(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float: ...


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
    """Earlier settings and the values of theirs under which this one is searched."""

    def active(self, settings: Mapping[str, Value]) -> bool:
        """Whether it is searched beside these earlier settings."""
        return all(settings[name] in values for name, values in self.when)

    def listed(self) -> Sequence[Value]:
        """Every value of a choice or a whole-number range; a range of fractions has none that can be listed."""
        if self.kind == "choice":
            return self.values
        if self.kind == "int":
            return range(int(self.values[0]), int(self.values[1]) + 1, int(self.step or 1))
        return ()

    def legal(self, settings: Mapping[str, Value]) -> tuple[Value, ...]:
        """The choices that are left beside these earlier settings."""
        if self.divides is None:
            return self.values
        name, by = self.divides
        width = int(settings[name]) // by
        return tuple(value for value in self.values if width % int(value) == 0)

    def sample(self, sampler: Sampler, settings: Mapping[str, Value]) -> Value:
        """Ask for a value; a narrowed choice goes under a name of its own, as Optuna's choices cannot change."""
        if self.kind == "choice":
            legal = self.legal(settings)
            name = self.name if legal == self.values else f"{self.name} of {', '.join(map(str, legal))}"
            value: Value = sampler.suggest_categorical(name, legal)
            return value
        low, high = self.values
        if self.kind == "int":
            return sampler.suggest_int(self.name, int(low), int(high), step=int(self.step or 1), log=self.log)
        return sampler.suggest_float(self.name, float(low), float(high), step=self.step, log=self.log)

    def nearest(self, value: Value, settings: Mapping[str, Value]) -> tuple[str, Value]:
        """The parameter's name and its legal value nearest to a published one: what a study tries first."""
        if self.kind == "choice":
            legal = self.legal(settings)
            name = self.name if legal == self.values else f"{self.name} of {', '.join(map(str, legal))}"
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

    @property
    def digest(self) -> str:
        """Equal questions, equal digest, whatever the file is called."""
        rows = [[d.name, d.kind, d.values, d.log, d.step, d.divides, d.when] for d in self.dimensions]
        return hashlib.sha256(json.dumps([self.model, dict(self.fixed), rows], sort_keys=True).encode()).hexdigest()[:12]

    def without(self, names: Mapping[str, Value]) -> Space:
        """The same space with some settings fixed from outside (``--set``), no longer searched."""
        left = tuple(d for d in self.dimensions if d.name not in names)
        return Space(source=self.source, model=self.model, fixed={**self.fixed, **names}, dimensions=left)

    def sample(self, sampler: Sampler, base: Mapping[str, Value]) -> dict[str, Value]:
        """Every setting: ``base``, then what the file fixes, then what the sampler says."""
        settings = {**base, **self.fixed}
        for dimension in self.dimensions:
            if dimension.active(settings):
                settings[dimension.name] = dimension.sample(sampler, settings)
        return settings

    def first(self, base: Mapping[str, Value]) -> dict[str, Value]:
        """The parameters of the published setting, or of the legal setting nearest to it."""
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

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
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


def read(path: Place, hyperparameters: Mapping[str, Mapping[str, Hyperparameter]]) -> Space:
    """Read and check one file.

    Args:
        path: the YAML file.
        hyperparameters: for each model, every setting there is.

    Raises:
        RequestError: every problem, with its line.
    """
    source = str(path)
    try:
        node, values = yaml_text.read(path)
    except FileNotFoundError:
        raise RequestError(source, ["no such file; search spaces come with tfser in search_spaces/, or write your own"]) from None
    except OSError as error:
        raise RequestError(source, [f"it cannot be read: {error.strerror or error}"]) from None
    except yaml_text.YamlError as error:
        raise RequestError(source, [str(error)]) from None
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise RequestError(source, ["it has to be a mapping with the keys model, fixed (optional) and search"])
    reader = _Reader(node)
    space = reader.space(source, values, hyperparameters)
    if reader.problems:
        raise RequestError(source, reader.problems)
    assert space is not None
    return space


class _Reader:
    """Collects every problem of one file with its line."""

    def __init__(self, node: yaml.MappingNode) -> None:
        self.problems: list[str] = []
        self.lines: dict[tuple[str, ...], int] = {}
        self._walk(node, ())

    def _walk(self, node: yaml.MappingNode, path: tuple[str, ...]) -> None:
        for key, value in node.value:
            place = (*path, str(key.value))
            if place in self.lines:
                self._say(place, f"it stands twice (line {self.lines[place]} too)", key.start_mark.line + 1)
            self.lines[place] = key.start_mark.line + 1
            if isinstance(value, yaml.MappingNode):
                self._walk(value, place)

    def _say(self, place: tuple[str, ...], problem: str, line: int | None = None) -> None:
        self.problems.append(f"line {line or self.lines.get(place, 1)}: {'.'.join(place) or 'file'}: {problem}")

    def space(self, source: str, values: dict[str, Any], hyperparameters: Mapping[str, Mapping[str, Hyperparameter]]) -> Space | None:
        for key in values:
            if key not in ("model", "fixed", "search"):
                self._say((str(key),), unknown("key", key, ("model", "fixed", "search")))
        model = values.get("model")
        if not isinstance(model, str) or model not in hyperparameters:
            self._say(("model",), unknown("model", model, hyperparameters))
            return None
        known = hyperparameters[model]
        fixed = {n: self._value(("fixed", str(n)), n, value, known) for n, value in self._mapping(values, "fixed").items()}
        dimensions: list[Dimension] = []
        for name, spec in self._mapping(values, "search").items():
            if name not in known:
                self._say(("search", str(name)), unknown("setting", name, known))
            elif name in fixed:
                self._say(("search", name), "it is fixed above; remove one of the two")
            else:
                dimension = self._dimension(("search", name), name, spec, known, [d.name for d in dimensions])
                if dimension:
                    dimensions.append(dimension)
        if not dimensions and not self.problems:
            self._say(("search",), "nothing is searched; name at least one setting, or run with --trials 0")
        return Space(source=source, model=model, fixed=fixed, dimensions=tuple(dimensions))

    def _mapping(self, values: dict[str, Any], key: str) -> dict[str, Any]:
        found = values.get(key) or {}
        if not isinstance(found, dict):
            self._say((key,), f"it has to be a mapping of settings, not {clipped(found)}")
            return {}
        return found

    def _value(self, place: tuple[str, ...], name: str, value: Any, known: Mapping[str, Hyperparameter]) -> Any:
        """The value of a setting as it is meant; what is wrong with it is said."""
        if name not in known:
            self._say(place, unknown("setting", name, known))
            return value
        if isinstance(known[name].default, bool) and str(value).lower() in _TRUTH:
            value = _TRUTH[str(value).lower()]
        problem = known[name].problem(value)
        if problem and isinstance(value, str) and re.fullmatch(r"[-+]?0[0-9]+", value):
            problem += "; with a zero in front some readers count in eights, so leave it out"
        elif problem and isinstance(value, float) and value.is_integer() and known[name].problem(int(value)) is None:
            problem += f"; write {int(value)}"
        if problem:
            self._say(place, problem)
        return value

    def _dimension(
        self, place: tuple[str, ...], name: str, spec: Any, known: Mapping[str, Hyperparameter], earlier: list[str]
    ) -> Dimension | None:
        before = len(self.problems)
        if not isinstance(spec, dict) or sum(kind in spec for kind in KINDS) != 1:
            self._say(place, f"it needs exactly one of choice: [...], int: [low, high], float: [low, high], not {clipped(spec)}")
            return None
        kind = next(kind for kind in KINDS if kind in spec)
        for key in spec:
            if key not in (kind, "scale", "step", "divides", "when"):
                self._say((*place, str(key)), unknown("key", key, (kind, "scale", "step", "divides", "when")))
        values = spec[kind]
        if not isinstance(values, list) or not values:
            self._say((*place, kind), f"it has to be a list that is not empty, not {clipped(values)}")
            return None
        values = [self._value((*place, kind), name, value, known) for value in values]
        if len(self.problems) > before:
            return None
        if kind != "choice" and (len(values) != 2 or values[0] >= values[1]):
            self._say((*place, kind), f"it has to be [low, high] with low below high, not {clipped(values)}")
        elif kind != "choice" and isinstance(values[0], float) and not math.isfinite(values[1] - values[0]):
            self._say((*place, kind), f"{clipped(values)} is wider than any number")
        if kind == "choice" and len(set(values)) < len(values):
            self._say((*place, kind), f"a choice stands twice in {clipped(values)}")
        whole = isinstance(known[name].default, int) and not isinstance(known[name].default, bool)
        if kind == "int" and not whole or kind == "float" and whole or kind != "choice" and isinstance(known[name].default, (str, bool)):
            right = "int" if whole else "float" if isinstance(known[name].default, float) else "choice"
            self._say((*place, kind), f"{name} takes {right}: values, not {kind}:")
        if name in ("n_mels", "preemphasis") and kind == "float":
            self._say((*place, kind), "every value needs features of its own, so list the values with choice:")
        if len(self.problems) > before:
            return None
        scale, step = spec.get("scale", "linear"), spec.get("step")
        if scale not in ("linear", "log") or (scale == "log" and (kind == "choice" or step is not None or values[0] <= 0)):
            self._say((*place, "scale"), f"{clipped(scale)}: legal is linear or log; log needs a range above 0 without a step")
        if step is not None:
            self._step(place, step, kind, values)
        divides = self._divides(place, spec.get("divides"), kind, values, known, earlier)
        when = self._when(place, spec.get("when"), known, earlier)
        if len(self.problems) > before:
            return None
        return Dimension(name=name, kind=kind, values=tuple(values), log=scale == "log", step=step, divides=divides, when=when)

    def _step(self, place: tuple[str, ...], step: Any, kind: str, values: list[Any]) -> None:
        """What is wrong with the step of a range."""
        kinds = int if kind == "int" else (int, float)
        if kind == "choice" or isinstance(step, bool) or not isinstance(step, kinds) or not 0 < step < math.inf:
            what = "whole number" if kind == "int" else "number"
            self._say((*place, "step"), f"{clipped(step)}: it has to be a {what} above 0, for a range")
        elif step > values[1] - values[0]:
            self._say((*place, "step"), f"{step!r} is wider than the range {clipped(values)}")
        elif (values[1] - values[0]) / step > MOST_STEPS:
            self._say((*place, "step"), f"{step!r} cuts {clipped(values)} into more than {MOST_STEPS} steps; make it larger")

    def _divides(
        self, place: tuple[str, ...], text: Any, kind: str, values: list[Any], known: Mapping[str, Hyperparameter], earlier: list[str]
    ) -> tuple[str, int] | None:
        if text is None:
            return None
        match = re.fullmatch(r"\s*(\w+)\s*(?:/\s*([1-9][0-9]{0,8}))?\s*", str(text), re.ASCII)
        if not match or match[1] not in known or type(known[match[1]].default) is not int:
            self._say(
                (*place, "divides"), f"{clipped(text)}: it has to be a whole-number setting, or one / a whole number, such as n_mels / 4"
            )
        elif kind != "choice" or not all(isinstance(v, int) and v > 0 for v in values) or 1 not in values:
            self._say((*place, "divides"), "it needs choice: with whole numbers, 1 among them (1 divides everything)")
        elif match[1] not in earlier and f"search.{match[1]}" in {".".join(p) for p in self.lines}:
            self._say((*place, "divides"), f"{match[1]} is searched below; move it above {place[-1]}")
        else:
            return match[1], int(match[2] or 1)
        return None

    def _when(
        self, place: tuple[str, ...], when: Any, known: Mapping[str, Hyperparameter], earlier: list[str]
    ) -> tuple[tuple[str, tuple[Value, ...]], ...]:
        if when is None:
            return ()
        if not isinstance(when, dict) or not all(isinstance(v, list) and v for v in when.values()):
            self._say((*place, "when"), f"{clipped(when)}: it has to be a mapping of earlier settings to lists of values")
            return ()
        found = []
        for name, values in when.items():
            if name not in earlier:
                self._say((*place, "when"), f"{str(name)[:80]} is not searched above; there are {', '.join(earlier) or 'none'}")
            else:
                found.append((name, tuple(self._value((*place, "when", name), name, value, known) for value in values)))
        return tuple(found)


def refusals(space: Space, base: Mapping[str, Value], problems: Any) -> list[str]:
    """Why the model would refuse a combination that the space can sample: at most three, with the setting.

    Every combination of choices and whole numbers is tried up to ``COMBINATIONS``; beyond that, as many
    drawn at random.

    Args:
        space: what is searched.
        base: every setting with its published or fixed value.
        problems: settings to the reasons the model refuses them.
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
            found[problem] = f"{space.source}: it can sample what the model refuses: {problem}; say so with divides: or when:"
        if len(found) >= 3:
            break
    return list(found.values())
