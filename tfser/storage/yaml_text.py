"""Read YAML as a person means it, and refuse texts that would hang or end the process.

PyYAML reads YAML 1.1, which takes ``1e-4`` for a word, ``010`` for 8, ``1:30`` for 90, ``no`` for false and
``2020-01-02`` for a date. Here ``1e-4`` is a number, and anything else that YAML readers disagree about stays the word
that was typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import yaml

from tfser.storage.places import Place, read_start

LARGEST_BYTES = 256 << 10
"""Size of the largest file that is read, ten times the largest that comes with tfser."""

MOST_VALUES = 20_000
"""Most values in a file, with aliases resolved: a few lines of nested aliases can stand for billions."""

DEEPEST = 50
"""Most levels of nested lists and mappings."""

_LARGEST = 2**53
"""Largest whole number that a float holds exactly; Optuna keeps numbers as floats."""

_TAG = "tag:yaml.org,2002:"


class YamlError(ValueError):
    """A text that is refused, with the line and the reason."""


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with plain types only: mappings, lists, words, numbers, true, false and null."""

    yaml_implicit_resolvers = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (f"{_TAG}map", f"{_TAG}seq", f"{_TAG}str", f"{_TAG}null", None)
    }

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Read a number, whole where it is written so."""
        text = str(node.value)
        try:
            if node.tag == f"{_TAG}float":
                return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
            value = int(text.replace("_", ""), 0) if len(text) < 40 else _LARGEST + 1
        except ValueError:
            why = f"{text[:40]!r} is not a number"
            raise yaml.constructor.ConstructorError(None, None, why, node.start_mark) from None
        if abs(value) > _LARGEST:
            raise yaml.constructor.ConstructorError(None, None, f"{text[:40]} is beyond {_LARGEST}", node.start_mark)
        return value

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merge keys: merged values have no line of their own, and other keys silently replace them."""
        for key, _ in node.value:
            if key.value == "<<":
                problem = "<< (a merge key) is not read; write out what it would bring in"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)

    def truth(self, node: yaml.ScalarNode) -> bool:
        """Read true or false."""
        if node.value.lower() not in ("true", "false"):
            why = f"{node.value[:40]!r} is not true or false"
            raise yaml.constructor.ConstructorError(None, None, why, node.start_mark)
        return bool(node.value.lower() == "true")


_PLAIN = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?(([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor(f"{_TAG}int", _Loader.number)
_Loader.add_constructor(f"{_TAG}float", _Loader.number)
_Loader.add_constructor(f"{_TAG}bool", _Loader.truth)


def read(path: Place) -> tuple[yaml.Node | None, Any]:
    """Read a file.

    Returns:
        The nodes, which know their lines, and the plain values.

    Raises:
        OSError: it is not there or cannot be read.
        YamlError: it is refused.
    """
    content = read_start(path, LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise YamlError(f"it is larger than {LARGEST_BYTES >> 10} KiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = f"{content[error.start]:#04x}"
        raise YamlError(f"line {line}: byte {byte} is not UTF-8; save the file as UTF-8") from None
    return parse(text)


def parse(text: str) -> tuple[yaml.Node | None, Any]:
    """Read a text, as ``read`` does a file.

    Raises:
        YamlError: it is refused.
    """
    check_size(text, MOST_VALUES)
    with _in_words():
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return node, None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()


def check_size(text: str, most: int) -> None:
    """Refuse a text on which a YAML reader would hang, crash or run code.

    Args:
        text: the text, not parsed yet.
        most: most values that it may hold; an alias counts as all that it stands for.

    Raises:
        YamlError: it holds more, holds itself, is nested too deeply, makes Python objects, or is no YAML.
    """
    sizes: dict[str, int] = {}  # anchor to number of values
    entered: list[str | None] = []
    counts = [0]
    with _in_words():
        # Events come one by one, at any depth; libyaml's composer crashes on a deeply nested text.
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            line = event.start_mark.line + 1 if event.start_mark else 1
            tag: str = getattr(event, "tag", None) or ""
            if "python/" in tag:
                why = "Python objects are not made"
                raise YamlError(f"line {line}: could not determine a constructor for the tag {tag!r}: {why}")
            if isinstance(event, yaml.CollectionStartEvent):
                entered.append(event.anchor)
                counts.append(0)
                if len(entered) > DEEPEST:
                    raise YamlError(f"line {line}: it is nested more than {DEEPEST} levels deep, where recursion ends")
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                anchor, size = entered.pop(), counts.pop() + 1
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor in entered:
                    raise YamlError(f"line {line}: it holds itself; write it without anchors")
                anchor, size = None, sizes.get(event.anchor or "", 1)
            elif isinstance(event, yaml.ScalarEvent):
                anchor, size = event.anchor, 1
            else:
                continue
            if anchor is not None:
                sizes[anchor] = size
            counts[-1] += size
            if counts[-1] > most:
                rule = "an alias counts as all that it stands for"
                raise YamlError(f"line {line}: it holds more than {most} values ({rule})")


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn PyYAML's errors into one line each."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(f"line {mark.line + 1}: {reason}" if mark else reason) from None
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
