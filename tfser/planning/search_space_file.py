"""A search space from its YAML file, with every problem in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from tfser.errors import RequestError, unknown
from tfser.planning.search_space import _TRUTH, KINDS, MOST_STEPS, Dimension, Space
from tfser.storage import yaml_text
from tfser.storage.places import Place
from tfser.text.typed import clipped
from tfser.trial import Hyperparameter, Value


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
        raise RequestError(
            source, ["no such file; search spaces come with tfser in search_spaces/, or write your own"]
        ) from None
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

    def space(
        self, source: str, values: dict[str, Any], hyperparameters: Mapping[str, Mapping[str, Hyperparameter]]
    ) -> Space | None:
        for key in values:
            if key not in ("model", "fixed", "search"):
                self._say((str(key),), unknown("key", key, ("model", "fixed", "search")))
        model = values.get("model")
        if not isinstance(model, str) or model not in hyperparameters:
            self._say(("model",), unknown("model", model, hyperparameters))
            return None
        known = hyperparameters[model]
        fixed = {
            n: self._value(("fixed", str(n)), n, value, known) for n, value in self._mapping(values, "fixed").items()
        }
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
            self._say(
                place,
                f"it needs exactly one of choice: [...], int: [low, high], float: [low, high], not {clipped(spec)}",
            )
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
        if (
            kind == "int"
            and not whole
            or kind == "float"
            and whole
            or kind != "choice"
            and isinstance(known[name].default, (str, bool))
        ):
            right = "int" if whole else "float" if isinstance(known[name].default, float) else "choice"
            self._say((*place, kind), f"{name} takes {right}: values, not {kind}:")
        if name in ("n_mels", "preemphasis") and kind == "float":
            self._say((*place, kind), "every value needs features of its own, so list the values with choice:")
        if len(self.problems) > before:
            return None
        scale, step = spec.get("scale", "linear"), spec.get("step")
        if scale not in ("linear", "log") or (
            scale == "log" and (kind == "choice" or step is not None or values[0] <= 0)
        ):
            self._say(
                (*place, "scale"), f"{clipped(scale)}: legal is linear or log; log needs a range above 0 without a step"
            )
        if step is not None:
            self._step(place, step, kind, values)
        divides = self._divides(place, spec.get("divides"), kind, values, known, earlier)
        when = self._when(place, spec.get("when"), known, earlier)
        if len(self.problems) > before:
            return None
        return Dimension(
            name=name, kind=kind, values=tuple(values), log=scale == "log", step=step, divides=divides, when=when
        )

    def _step(self, place: tuple[str, ...], step: Any, kind: str, values: list[Any]) -> None:
        """What is wrong with the step of a range."""
        kinds = int if kind == "int" else (int, float)
        if kind == "choice" or isinstance(step, bool) or not isinstance(step, kinds) or not 0 < step < math.inf:
            what = "whole number" if kind == "int" else "number"
            self._say((*place, "step"), f"{clipped(step)}: it has to be a {what} above 0, for a range")
        elif step > values[1] - values[0]:
            self._say((*place, "step"), f"{step!r} is wider than the range {clipped(values)}")
        elif (values[1] - values[0]) / step > MOST_STEPS:
            self._say(
                (*place, "step"), f"{step!r} cuts {clipped(values)} into more than {MOST_STEPS} steps; make it larger"
            )

    def _divides(
        self,
        place: tuple[str, ...],
        text: Any,
        kind: str,
        values: list[Any],
        known: Mapping[str, Hyperparameter],
        earlier: list[str],
    ) -> tuple[str, int] | None:
        if text is None:
            return None
        match = re.fullmatch(r"\s*(\w+)\s*(?:/\s*([1-9][0-9]{0,8}))?\s*", str(text), re.ASCII)
        if not match or match[1] not in known or type(known[match[1]].default) is not int:
            self._say(
                (*place, "divides"),
                f"{clipped(text)}: it has to be a whole-number setting, or one / a whole number, such as n_mels / 4",
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
            self._say(
                (*place, "when"), f"{clipped(when)}: it has to be a mapping of earlier settings to lists of values"
            )
            return ()
        found = []
        for name, values in when.items():
            if name not in earlier:
                self._say(
                    (*place, "when"),
                    f"{str(name)[:80]} is not searched above; there are {', '.join(earlier) or 'none'}",
                )
            else:
                found.append((name, tuple(self._value((*place, "when", name), name, value, known) for value in values)))
        return tuple(found)
