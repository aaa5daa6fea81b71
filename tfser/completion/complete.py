"""Answers a shell that asks what could come next on a command line of ``tfser``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter

from tfser.completion import catalogue, names
from tfser.completion.command import SHELLS

_FILES: Mapping[str, Callable[..., Any]] = {
    "FILE": FilesCompleter(),
    "FILE.py": FilesCompleter(("py",)),
    "DIR": DirectoriesCompleter(),
    "FOLDER": DirectoriesCompleter(),
    "PATH": DirectoriesCompleter(),
}
"""What an option takes, by the word that its help has for it."""

_FOLDERS = ("data", "out", "storage", "results")
"""Options that take a folder and whose help has no word for it."""


def answer() -> None:
    """Answer the shell, and end the process."""
    try:
        known = catalogue.read()
    except (OSError, ValueError, subprocess.SubprocessError):
        os._exit(1)  # the shell then offers nothing; the command itself will say what is wrong
    nothing: Any = _nothing
    argcomplete.autocomplete(parser(known), always_complete_options=False, default_completer=nothing)
    sys.exit(1)


def parser(known: Mapping[str, Any]) -> argparse.ArgumentParser:
    """Return a parser of every command line of ``tfser`` that knows what completes each word.

    Args:
        known: the catalogue.
    """
    p = argparse.ArgumentParser(prog="tfser", allow_abbrev=False)
    p.add_argument("--version", action="store_true")
    commands = p.add_subparsers(dest="tfser_command")
    for name, told in known["commands"].items():
        made = commands.add_parser(name, help=told["help"], allow_abbrev=False)
        _fill(made, told, name, known)
    return p


def _fill(p: argparse.ArgumentParser, told: Mapping[str, Any], command: str, known: Mapping[str, Any]) -> None:
    """Add what the catalogue tells of a parser."""
    for option in told["options"]:
        kind: dict[str, Any] = {"metavar": option["metavar"], "help": option["help"].replace("%", "%%")}
        if option["options"] and option["nargs"] == 0:
            kind = {"action": "store_true", "help": kind["help"]}
        else:
            kind |= {"nargs": option["nargs"], **({"action": "append"} if option["many"] else {})}
        if option["options"]:
            kind["dest"] = option["dest"]
        action = p.add_argument(*option["options"] or [option["dest"]], **kind)
        if option["nargs"] != 0:
            action.completer = _completer(command, option, known)  # type: ignore[attr-defined]  # argcomplete's
    if told["commands"]:
        commands = p.add_subparsers(dest="command")
        for name, each in told["commands"].items():
            _fill(commands.add_parser(name, allow_abbrev=False), each, f"{command} {name}", known)


def _completer(command: str, option: Mapping[str, Any], known: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what completes one option, or one positional word."""
    dest = option["dest"]
    if command == "completion":
        return functools.partial(_listed, list(SHELLS))
    if (made := names.of(command, dest)) is not None:
        return functools.partial(_asked, made, known)
    words = option["choices"] or known["words"].get(dest)
    if words:
        return functools.partial(_listed, words)
    if dest in _FOLDERS:
        return DirectoriesCompleter()
    return _FILES.get(option["metavar"] or "", _nothing)


def _listed(words: list[str], **asked: Any) -> list[str]:
    return words


def _nothing(**asked: Any) -> list[str]:
    return []  # argcomplete's own SuppressCompleter would hide the option too


def _asked(made: names.Names, known: Mapping[str, Any], prefix: str, parsed_args: Any, **more: Any) -> Any:
    """Return names that depend on what is typed already; none where they cannot be read."""
    with contextlib.suppress(Exception):  # a wrong word before it; the command itself says what is wrong
        return made(known, prefix, flat(parsed_args))
    return []


def flat(typed: argparse.Namespace) -> argparse.Namespace:
    """Return the words of each option as one list. Of actions, argcomplete runs those that append, not extend."""
    found = {}
    for name, value in vars(typed).items():
        nested = isinstance(value, list) and any(isinstance(each, list) for each in value)
        found[name] = [word for each in value for word in each] if nested else value
    return argparse.Namespace(**found)
