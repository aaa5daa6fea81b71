"""Reads a sweep file, and says everything that is wrong with its form, each with its line.

What a value means is checked where that of the command line is.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tfser.databases import AUDFORMAT
from tfser.errors import RequestError
from tfser.planning.own_models import near
from tfser.storage import yaml_text
from tfser.storage.places import typed_place
from tfser.sweep.sweep_file_paths import database_path, from_here, model_path
from tfser.text.typed import clipped

ENDINGS = (".yaml", ".yml")
"""Ends of the names of sweep files; no database has them."""

DATABASES = "databases"
"""The key of what stands before the options."""

OF_THE_MACHINE = frozenset(
    {
        "address", "captured", "checkpoint", "in-process", "log-models", "optuna-storage", "out", "storage", "together",
        "tracking-uri", "trial-cpus", "trial-gpus", "trial-timeout",
    }
)  # fmt: skip
"""Options that say where and how trials run, which differs between the people who share a file."""

OF_ONE_START = frozenset({"json", "plan", "retry-failed", "save"})
"""Options that say what one start does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFile:
    """A sweep file that was read."""

    path: Path
    values: Mapping[str, Sequence[str]]
    """What it asks for: key to the words typed after it, with paths as seen from the working folder.

    A switch that is on has none.
    """
    lines: Mapping[str, int]
    """The line of every key, of those that were read."""
    problems: tuple[str, ...]
    """Everything that is wrong with it, each with the file and the line."""
    replaced: tuple[str, ...] = ()
    """What was typed beside it and takes the place of something in it, in words."""

    def located(self, problem: str) -> str:
        """Put the file and the line before a problem with an option that stands in it."""
        told = re.search(r"(?:^|: )--([a-z-]+)\b", problem)
        line = self.lines.get(told[1]) if told else None
        return problem if line is None else f"{self.path} line {line}: {problem}"


def is_named_so(word: str) -> bool:
    """Return whether a word before the options means a sweep file.

    >>> is_named_so("my_sweep.yaml"), is_named_so("labels.csv"), is_named_so("audformat:corpus.yaml")
    (True, False, False)
    """
    return word.lower().endswith(ENDINGS) and AUDFORMAT not in word


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return every option of a parser by its key."""
    return {a.option_strings[-1].removeprefix("--"): a for a in parser._actions if a.option_strings}


def keys_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that a sweep file can hold."""
    said = argparse._HelpAction, argparse._VersionAction
    others = OF_THE_MACHINE | OF_ONE_START
    return {key: a for key, a in options_of(parser).items() if key not in others and not isinstance(a, said)}


def read(path: Path, parser: argparse.ArgumentParser) -> SweepFile:
    """Read a sweep file.

    Raises:
        RequestError: it cannot be read, or is no mapping.
    """
    source = f"sweep file {path}"
    try:
        node, _ = yaml_text.read(path)
    except FileNotFoundError:
        raise RequestError(source, ["no such file; --save writes one from a command line"]) from None
    except OSError as error:
        raise RequestError(source, [f"it cannot be read: {error.strerror or error}"]) from None
    except yaml_text.YamlError as error:
        raise RequestError(source, [str(error)]) from None
    if not isinstance(node, yaml.MappingNode):
        legal = f"it has to be a mapping with the key {DATABASES} and those of the options, such as model: and seeds:"
        raise RequestError(source, [legal])
    reader = _Reader(path, keys_of(parser), options_of(parser))
    reader.read(node)
    return SweepFile(path=path, values=reader.values, lines=reader.lines, problems=reader.problems)


class _Reader:
    """Collects the values of one file, and every problem with its line.

    Args:
        path: the file.
        keys: the options that it can hold.
        options: all options.
    """

    def __init__(self, path: Path, keys: Mapping[str, argparse.Action], options: Mapping[str, argparse.Action]) -> None:
        self.values: dict[str, list[str]] = {}
        self.lines: dict[str, int] = {}
        self._problems: list[tuple[int, str]] = []
        self._path, self._keys, self._options = path, keys, options

    def _say(self, node: yaml.Node, problem: str) -> None:
        self._problems.append((node.start_mark.line + 1, problem))

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, in the order of the lines."""
        said = [f"{self._path} line {line}: {problem}" for line, problem in sorted(self._problems)]
        missing = f"{self._path}: the key {DATABASES} is missing; it names what is trained on, such as synthetic"
        return (*said, *([] if DATABASES in self.lines else [missing]))

    def read(self, node: yaml.MappingNode) -> None:
        """Read the whole file."""
        for key, value in self._pairs(node, ""):
            if key.value == DATABASES:
                self._keep(key, [self._database(word) for word in self._databases(value)])
            elif key.value in self._keys:
                self._keep(key, self._option(key, value, self._keys[key.value]))
            else:
                self._say(key, self._no_key(str(key.value)))

    def _pairs(self, node: yaml.MappingNode, of: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Return the keys and values of a mapping, and say which keys stand twice."""
        found, lines = [], dict[str, int]()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._say(key, "a key has to be a word")
            elif key.value in lines:
                self._say(key, f"{of}{key.value}: it stands twice (line {lines[key.value]} too)")
            else:
                lines[key.value] = key.start_mark.line + 1
                found.append((key, value))
        return found

    def _keep(self, key: yaml.ScalarNode, words: list[str] | None) -> None:
        self.lines[key.value] = key.start_mark.line + 1
        if words is not None:
            self.values[key.value] = words

    def _no_key(self, name: str) -> str:
        if name in OF_THE_MACHINE & self._options.keys():
            return f"{name}: it is of the machine that runs the sweep; type --{name} beside the file"
        if name in OF_ONE_START & self._options.keys():
            return f"{name}: it is of one start; type --{name} beside the file"
        hint = " (an audformat database is named audformat:FOLDER)" if name in ("schemes", "tables") else ""
        legal = f"; legal are {DATABASES} and the long options of tfser sweep --help without their dashes"
        return near("key", name, [DATABASES, *self._keys], legal) + hint

    def _words(self, node: yaml.Node, of: str) -> list[str]:
        """Return the words of a word or a list of words."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not nodes:
            self._say(node, f"{of}: the list is empty; name something, or leave {of} out")
        words = (self._word(each, of) for each in nodes)
        return [word for word in words if word is not None]

    def _word(self, node: yaml.Node, of: str) -> str | None:
        """Return a word as it was typed, whatever type YAML would give it; say what is none."""
        if not isinstance(node, yaml.ScalarNode):
            kind = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
            self._say(node, f"{of}: here it takes one value, not {kind}")
        elif node.tag.endswith(":null"):
            self._say(node, f"{of}: it has no value; give it one, or leave it out")
        elif "\0" in node.value:
            self._say(node, f"{of}: {clipped(node.value)} holds a zero byte, which nothing typed can")
        else:
            return str(node.value)
        return None

    def _databases(self, node: yaml.Node) -> list[str]:
        """Return databases as typed: a word, a list of words, or mappings of names to paths."""
        words: list[str] = []
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(each, yaml.MappingNode):
                pairs = [(key.value, self._word(value, DATABASES)) for key, value in self._pairs(each, f"{DATABASES}.")]
                words += [f"{name}={path}" for name, path in pairs if path is not None]
            elif (word := self._word(each, DATABASES)) is not None:
                if word.startswith("-") or is_named_so(word):
                    what = "options have keys of their own" if word.startswith("-") else "a sweep file holds no other"
                    self._say(each, f"{DATABASES}: {clipped(word)} is no database; {what}")
                else:
                    words.append(word)
        if not words and not self._problems:
            self._say(node, f"{DATABASES}: none is named; name at least one, such as synthetic")
        return words

    def _database(self, word: str) -> str:
        return database_path(word, lambda path: from_here(path, self._path.parent))

    def _option(self, key: yaml.ScalarNode, node: yaml.Node, action: argparse.Action) -> list[str] | None:
        """Return the words of an option; ``None`` where it is a switch that is off, or nothing of it can be read."""
        name = str(key.value)
        if action.nargs == 0:
            word = self._word(node, name)
            if word is not None and word.lower() not in ("true", "false"):
                self._say(node, f"{name}: {clipped(word)} is neither true nor false")
            return [] if word is not None and word.lower() == "true" else None
        if name == "set":
            return self._settings(node)
        if action.nargs is None and isinstance(node, yaml.SequenceNode):
            self._say(node, f"{name}: it takes one value, not a list")
            return None
        words = [word for word in self._words(node, name) if self._is_legal(node, name, word, action)]
        paths = {"model": model_path} if name == "model" else {}
        if action.type is typed_place:
            paths = {name: lambda word, change: change(word)}
        for change in paths.values():
            words = [change(word, lambda path: from_here(path, self._path.parent)) for word in words]
        return words or None

    def _is_legal(self, node: yaml.Node, name: str, word: str, action: argparse.Action) -> bool:
        """Return whether a word has the form that the option takes; say why not."""
        if not callable(action.type):
            return True
        try:
            action.type(word)
        except (argparse.ArgumentTypeError, ValueError) as error:
            self._say(node, f"{name}: {error}")
            return False
        return True

    def _settings(self, node: yaml.Node) -> list[str] | None:
        """Return the settings of ``set``, each as KEY=VALUE."""
        if not isinstance(node, yaml.MappingNode):
            self._say(node, "set: it has to be a mapping of settings to values, such as channels: 8")
            return None
        words = []
        for key, value in self._pairs(node, "set."):
            word = self._word(value, f"set.{key.value}")
            if word == "":
                self._say(value, f"set.{key.value}: it is empty; give it a value, or leave it out")
            elif word is not None:
                words.append(f"{key.value}={word}")
        return words or None
