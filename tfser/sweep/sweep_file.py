"""Sweep files: the whole request of a sweep as YAML, so that it can be committed; read and written here.

A key is a long option without its dashes, and a value is what a person types after it. So a file can say what the
command line can, and every word of it is checked by the same code. What belongs to a machine or to one start is no key.
Relative paths are relative to the file. Knows the parser of the command line; knows no model and no database's content.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tfser.databases import named
from tfser.errors import RequestError
from tfser.storage.places import typed_place
from tfser.sweep.sweep_file_paths import database_path, model_path, seen_from
from tfser.sweep.sweep_file_reader import DATABASES, SweepFile, is_named_so, keys_of, options_of, read


def expand(words: Sequence[str], parser: Callable[[], argparse.ArgumentParser]) -> tuple[list[str], SweepFile | None]:
    """Return the words of a command line with those of the sweep file in its place, if it names one.

    What is typed beside the file takes the place of the same key in it; settings of --set do so one by one.

    Args:
        words: a command line that the parser accepts.
        parser: makes the parser.

    Raises:
        RequestError: it names several files, or databases beside one, or the file cannot be read.
    """
    given = typed(words, parser())
    files = [word for word in given[DATABASES] if is_named_so(word)]
    if not files:
        return list(words), None
    _refuse_others(given[DATABASES], files)
    file = read(Path(files[0]).expanduser(), parser())
    merged: dict[str, Sequence[str]] = dict(file.values)
    replaced = []
    for key, own in given.items():
        if key == DATABASES:
            continue
        if key == "set" and "set" in merged:
            own = _merged_settings(merged["set"], own)
        before = merged.get(key)
        if before is not None and list(before) != list(own):
            replaced.append(f"--{key} {' '.join(own)} takes the place of {key} {' '.join(before)} in {file.path}")
        merged[key] = own
    lines = {key: line for key, line in file.lines.items() if key not in given or key in (DATABASES, "set")}
    file = SweepFile(path=file.path, values=merged, lines=lines, problems=file.problems, replaced=tuple(replaced))
    return command_words(merged, parser()), file


def _refuse_others(databases: Sequence[str], files: Sequence[str]) -> None:
    """Refuse what cannot stand beside a sweep file.

    Raises:
        RequestError: everything of that.
    """
    problems = []
    if len(files) > 1:
        problems.append(f"there are {len(files)} sweep files, {', '.join(files)}; run them one after another")
    if others := [word for word in databases if word not in files]:
        what = f"{files[0]} is a sweep file, which names its databases itself"
        problems.append(f"{what}; add {', '.join(others)} to its databases, or leave it out")
    for word in files:
        if "://" in word:
            problems.append(f"{word}: a sweep file lies on this machine; fetch it first")
        elif named(word)[0] is not None:
            problems.append(f"{word}: a sweep file has no name in front; its key name names the sweep")
    if problems:
        raise RequestError("tfser sweep", problems)


def _merged_settings(before: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return settings, each as KEY=VALUE, with those typed in the place of others of the same key."""
    keys = {word.partition("=")[0] for word in own}
    return [*(word for word in before if word.partition("=")[0] not in keys), *own]


def typed(words: Sequence[str], parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return what was typed, as text, by key and in the order of the parser; what was left out is not in it."""
    options = options_of(parser)
    for action in parser._actions:
        action.type, action.default = None, argparse.SUPPRESS
    parser._defaults.clear()
    found = vars(parser.parse_args(words))
    names = {DATABASES: DATABASES, **{key: action.dest for key, action in options.items()}}
    values = {key: found[dest] for key, dest in names.items() if dest in found}
    return {key: [] if isinstance(v, bool) else v if isinstance(v, list) else [v] for key, v in values.items()}


def command_words(values: Mapping[str, Sequence[str]], parser: argparse.ArgumentParser) -> list[str]:
    """Return what a person types for these values, in the order of the parser."""
    words = list(values.get(DATABASES, ()))
    for key in options_of(parser):
        if key in values:
            own = values[key]
            if any(word.startswith("-") for word in own):  # a name, not the next option
                words += [f"--{key}={word}" for word in own]
            else:
                words += [f"--{key}", *own]
    return words


def text(words: Sequence[str], parser: Callable[[], argparse.ArgumentParser], folder: Path) -> str:
    """Return a command line as the content of a sweep file: what was typed, in the order of ``tfser sweep --help``.

    Args:
        words: the command line, without a sweep file in it.
        parser: makes its parser.
        folder: the file's.
    """
    given, keys = typed(words, parser()), keys_of(parser())

    def moved(path: str) -> str:
        return seen_from(path, folder)

    lines = _written(DATABASES, [database_path(word, moved) for word in given[DATABASES]])
    for key, action in keys.items():
        own = given.get(key)
        if own is None:
            continue
        if action.nargs == 0:
            lines.append(f"{key}: true")
        elif key == "set":
            pairs = [word.partition("=") for word in dict.fromkeys(own)]
            lines += ["set:", *(f"  {_scalar(name)}: {_scalar(value, plain=_TRUTH)}" for name, _, value in pairs)]
        else:
            places = action.type is typed_place
            own = [moved(w) if places else model_path(w, moved) if key == "model" else w for w in own]
            lines += _written(key, own)
    return "\n".join(lines) + "\n"


def _written(key: str, words: Iterable[str]) -> list[str]:
    """Return the lines of one key."""
    every = list(dict.fromkeys(words))
    if len(every) == 1:
        return [f"{key}: {_scalar(every[0])}"]
    return [f"{key}:", *(f"  - {_scalar(word)}" for word in every)]


_TRUTH = ("true", "false")
_OTHERWISE = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that YAML readers take for something else."""

_PLAIN = re.compile(
    r"[A-Za-z./][A-Za-z0-9_./+@%=-]*(?::[A-Za-z0-9_./+@%=-]+)*|-?(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?"
)


def _scalar(word: str, plain: Sequence[str] = ()) -> str:
    """Return a word as YAML: plain where every reader takes it as it is, else in quotes."""
    if word in plain or (_PLAIN.fullmatch(word) and word.lower() not in _OTHERWISE):
        return word
    return json.dumps(word, ensure_ascii=False)
