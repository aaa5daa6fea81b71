"""Reads a search space from its YAML file, and says everything that is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from typing import Any

import yaml

from tfser.errors import RequestError, unknown
from tfser.models import MODELS
from tfser.planning.own_models import near
from tfser.planning.search_space import KINDS, MOST_STEPS, Dimension, Space
from tfser.planning.settings import extracted
from tfser.storage import yaml_text
from tfser.storage.places import Place
from tfser.text.typed import clipped
from tfser.trial import Hyperparameter, Value

_TRUTH = {"yes": True, "on": True, "no": False, "off": False}
"""Other words that people write for true and false."""


def read(path: Place, hyperparameters: Mapping[str, Mapping[str, Hyperparameter]]) -> Space:
    """Read and check one file.

    Args:
        path: the YAML file.
        hyperparameters: every setting, by model.

    Raises:
        RequestError: every problem, with its line.
    """
    source = str(path)
    try:
        node, values = yaml_text.read(path)
    except FileNotFoundError:
        why = "no such file; search spaces come with tfser in search_spaces/, or write your own"
        raise RequestError(source, [why]) from None
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
    """Collects every problem of one file, each with its line."""

    def __init__(self, node: yaml.MappingNode) -> None:
        self.problems: list[str] = []
        self.lines: dict[tuple[str, ...], int] = {}
        """The line of every key, by its path from the top of the file."""
        self._model = "MODEL"
        self._walk(node, ())

    def _walk(self, node: yaml.MappingNode, path: tuple[str, ...]) -> None:
        """Note the line of every key, and say which keys stand twice."""
        for key, value in node.value:
            place = (*path, str(key.value))
            if place in self.lines:
                self.say(place, f"it stands twice (line {self.lines[place]} too)", key.start_mark.line + 1)
            self.lines[place] = key.start_mark.line + 1
            if isinstance(value, yaml.MappingNode):
                self._walk(value, place)

    def say(self, place: tuple[str, ...], problem: str, line: int | None = None) -> None:
        """Add a problem.

        Args:
            place: the keys from the top of the file to what is wrong.
            problem: what is wrong, and what is legal.
            line: where that is not the line of ``place``.
        """
        self.problems.append(f"line {line or self.lines.get(place, 1)}: {'.'.join(place) or 'file'}: {problem}")

    def space(
        self, source: str, values: dict[str, Any], hyperparameters: Mapping[str, Mapping[str, Hyperparameter]]
    ) -> Space | None:
        """Read the whole file; ``None`` where it names no model."""
        for key in values:
            if key not in ("model", "fixed", "search"):
                self.say((str(key),), unknown("key", key, ("model", "fixed", "search")))
        model = values.get("model")
        if not isinstance(model, str) or model not in hyperparameters:
            self.say(("model",), unknown("model", model, hyperparameters, every="tfser models list"))
            return None
        self._model, known = model, hyperparameters[model]
        costly = extracted(MODELS[model]) if model in MODELS else {}
        fixed = {
            n: self.value(("fixed", str(n)), n, value, known) for n, value in self._mapping(values, "fixed").items()
        }
        dimensions: list[Dimension] = []
        for name, entry in self._mapping(values, "search").items():
            if name not in known:
                self.say(("search", str(name)), self._no_setting(name, known))
            elif name in fixed:
                self.say(("search", name), "it is fixed above; remove one of the two")
            else:
                earlier = [d.name for d in dimensions]
                dimension = _Searched(self, name, entry, known, earlier, costly).dimension()
                if dimension:
                    dimensions.append(dimension)
        if not dimensions and not self.problems:
            self.say(("search",), "nothing is searched; name at least one setting, or run with --trials 0")
        return Space(source=source, model=model, fixed=fixed, dimensions=tuple(dimensions))

    def _no_setting(self, name: str, known: Mapping[str, Hyperparameter]) -> str:
        return near("setting", name, known, f"; tfser models describe {self._model} lists them all")

    def _mapping(self, values: dict[str, Any], key: str) -> dict[str, Any]:
        found = values.get(key) or {}
        if not isinstance(found, dict):
            self.say((key,), f"it has to be a mapping of settings, not {clipped(found)}")
            return {}
        return found

    def value(self, place: tuple[str, ...], name: str, value: Any, known: Mapping[str, Hyperparameter]) -> Any:
        """Return the value of a setting as it is meant, and say what is wrong with it."""
        if name not in known:
            self.say(place, self._no_setting(name, known))
            return value
        if isinstance(known[name].default, bool) and str(value).lower() in _TRUTH:
            value = _TRUTH[str(value).lower()]
        problem = known[name].problem(value)
        if problem and isinstance(value, str) and re.fullmatch(r"[-+]?0[0-9]+", value):
            problem += "; with a zero in front some readers count in eights, so leave it out"
        elif problem and isinstance(value, float) and value.is_integer() and known[name].problem(int(value)) is None:
            problem += f"; write {int(value)}"
        if problem:
            self.say(place, problem)
        return value


class _Searched:
    """One entry below ``search:``, read key by key.

    Args:
        reader: told what is wrong.
        name: the setting.
        entry: what the file says of it.
        known: every setting of the model.
        earlier: settings that are searched above this one.
        extracted: settings of the features.
    """

    def __init__(
        self,
        reader: _Reader,
        name: str,
        entry: Any,
        known: Mapping[str, Hyperparameter],
        earlier: list[str],
        extracted: Container[str],
    ) -> None:
        self._reader, self._name, self._entry, self._known, self._earlier = reader, name, entry, known, earlier
        self._extracted = extracted
        self._problems_before = len(reader.problems)

    def dimension(self) -> Dimension | None:
        """Return the setting's dimension; ``None`` where anything is wrong."""
        kind = self._kind()
        values = self._values(kind) if kind else []
        if kind and self._is_sound:
            self._check_values(kind, values)
        if not kind or not self._is_sound:
            return None
        log, step = self._log(kind, values), self._step(kind, values)
        divides, when = self._divides(kind, values), self._when()
        if not self._is_sound:
            return None
        return Dimension(
            name=self._name, kind=kind, values=tuple(values), log=log, step=step, divides=divides, when=when
        )

    @property
    def _is_sound(self) -> bool:
        """Whether nothing is wrong so far."""
        return len(self._reader.problems) == self._problems_before

    def _say(self, key: str, problem: str) -> None:
        self._reader.say(("search", self._name, key), problem)

    def _kind(self) -> str | None:
        """Return the one of ``KINDS`` that the entry has, and say which keys do not belong there."""
        entry = self._entry
        if not isinstance(entry, dict) or sum(kind in entry for kind in KINDS) != 1:
            legal = "choice: [...], int: [low, high], float: [low, high]"
            self._reader.say(("search", self._name), f"it needs exactly one of {legal}, not {clipped(entry)}")
            return None
        kind = next(kind for kind in KINDS if kind in entry)
        for key in entry:
            if key not in (kind, "scale", "step", "divides", "when"):
                self._say(str(key), unknown("key", key, (kind, "scale", "step", "divides", "when")))
        return kind

    def _values(self, kind: str) -> list[Any]:
        """Return the choices, or the lowest and highest value."""
        values = self._entry[kind]
        if not isinstance(values, list) or not values:
            self._say(kind, f"it has to be a list that is not empty, not {clipped(values)}")
            return []
        place = ("search", self._name, kind)
        return [self._reader.value(place, self._name, value, self._known) for value in values]

    def _check_values(self, kind: str, values: list[Any]) -> None:
        """Say what is wrong with values of which each by itself is legal."""
        if kind == "choice":
            if len(set(values)) < len(values):
                self._say(kind, f"a choice stands twice in {clipped(values)}")
        elif len(values) != 2 or values[0] >= values[1]:
            self._say(kind, f"it has to be [low, high] with low below high, not {clipped(values)}")
        elif isinstance(values[0], float) and not math.isfinite(values[1] - values[0]):
            self._say(kind, f"{clipped(values)} is wider than any number")
        default = self._known[self._name].default
        right = "choice" if isinstance(default, (str, bool)) else "int" if isinstance(default, int) else "float"
        if kind not in ("choice", right):
            self._say(kind, f"{self._name} takes {right}: values, not {kind}:")
        if self._name in self._extracted and kind == "float":
            self._say(kind, "every value needs features of its own, so list the values with choice:")

    def _log(self, kind: str, values: list[Any]) -> bool:
        """Return whether the range is searched on a logarithmic scale."""
        scale = self._entry.get("scale", "linear")
        has_log = kind != "choice" and self._entry.get("step") is None and values[0] > 0
        if scale not in ("linear", "log") or (scale == "log" and not has_log):
            legal = "legal is linear or log; log needs a range above 0 without a step"
            self._say("scale", f"{clipped(scale)}: {legal}")
        return bool(scale == "log")

    def _step(self, kind: str, values: list[Any]) -> Any:
        """Return the step of a range."""
        step = self._entry.get("step")
        if step is None:
            return None
        kinds = int if kind == "int" else (int, float)
        if kind == "choice" or isinstance(step, bool) or not isinstance(step, kinds) or not 0 < step < math.inf:
            what = "whole number" if kind == "int" else "number"
            self._say("step", f"{clipped(step)}: it has to be a {what} above 0, for a range")
        elif step > values[1] - values[0]:
            self._say("step", f"{step!r} is wider than the range {clipped(values)}")
        elif (values[1] - values[0]) / step > MOST_STEPS:
            self._say("step", f"{step!r} cuts {clipped(values)} into more than {MOST_STEPS} steps; make it larger")
        return step

    def _divides(self, kind: str, values: list[Any]) -> tuple[str, int] | None:
        """Return the setting that each choice has to divide, and what that setting is divided by before."""
        text = self._entry.get("divides")
        if text is None:
            return None
        match = re.fullmatch(r"\s*(\w+)\s*(?:/\s*([1-9][0-9]{0,8}))?\s*", str(text), re.ASCII)
        if not match or match[1] not in self._known or type(self._known[match[1]].default) is not int:
            legal = "it has to be a whole-number setting, or one / a whole number, such as n_mels / 4"
            self._say("divides", f"{clipped(text)}: {legal}")
        elif kind != "choice" or not all(isinstance(v, int) and v > 0 for v in values) or 1 not in values:
            self._say("divides", "it needs choice: with whole numbers, 1 among them (1 divides everything)")
        elif match[1] not in self._earlier and ("search", match[1]) in self._reader.lines:
            self._say("divides", f"{match[1]} is searched below; move it above {self._name}")
        else:
            return match[1], int(match[2] or 1)
        return None

    def _when(self) -> tuple[tuple[str, tuple[Value, ...]], ...]:
        """Return the earlier settings, and those of their values, that this one needs."""
        when = self._entry.get("when")
        if when is None:
            return ()
        if not isinstance(when, dict) or not all(isinstance(v, list) and v for v in when.values()):
            self._say("when", f"{clipped(when)}: it has to be a mapping of earlier settings to lists of values")
            return ()
        found = []
        for name, values in when.items():
            if name not in self._earlier:
                there = ", ".join(self._earlier) or "none"
                self._say("when", f"{str(name)[:80]} is not searched above; there are {there}")
                continue
            place = ("search", self._name, "when", name)
            found.append((name, tuple(self._reader.value(place, name, value, self._known) for value in values)))
        return tuple(found)
