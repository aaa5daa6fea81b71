"""Writes the catalogue of names to standard output, as JSON. Imports every command; see ``catalogue``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from typing import Any

from tfser.commands import COMMANDS
from tfser.databases import KNOWN
from tfser.databases.base import Utterance
from tfser.errors import RequestError
from tfser.evaluation.folds import folds
from tfser.models import COMPARISON, DEFAULT, MODELS, Model
from tfser.planning import request
from tfser.planning.settings import settings_of
from tfser.trial import PROTOCOLS, Hyperparameter

PARSERS = {"sweep": "tfser.sweep.options", "models": "tfser.models_command.command"}
"""Command to the module of its parser, where that is not the module that runs it."""


def contents() -> dict[str, Any]:
    """Return everything as JSON values."""
    from tfser.benchmark.command import MEASURES
    from tfser.leaks.plan import ROWS
    from tfser.report.tables.printed_notes import AVERAGINGS

    return {
        "commands": {name: {"help": what, **described(_parser(name))} for name, (_, what) in COMMANDS.items()},
        "models": {name: _model(model) for name, model in MODELS.items()},
        "default_models": list(DEFAULT),
        "every_model": COMPARISON,
        "databases": {name: reader.info.title for name, reader in KNOWN.items()},
        "folds": {name: _folds(name) for name in KNOWN},
        "words": {
            "protocol": list(PROTOCOLS),
            "selection": list(request.SELECTIONS),
            "sampler": list(request.SAMPLERS),
            "averaging": list(AVERAGINGS),
            "leak": [*ROWS[1:], "all"],
            "only": list(MEASURES),
        },
    }


def _parser(command: str) -> argparse.ArgumentParser:
    module = importlib.import_module(PARSERS.get(command, COMMANDS[command][0]))
    made: argparse.ArgumentParser = module.parser()
    return made


def described(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the options and positional words of a parser, and its commands, as JSON values."""
    options, commands = [], {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = {name: described(each) for name, each in action.choices.items()}
        elif not isinstance(action, argparse._HelpAction):
            options.append(
                {
                    "options": list(action.option_strings),
                    "dest": action.dest,
                    "nargs": action.nargs,
                    "many": isinstance(action, argparse._AppendAction),
                    "metavar": action.metavar,
                    "help": action.help or "",
                    "choices": None if action.choices is None else [str(choice) for choice in action.choices],
                }
            )
    return {"options": options, "commands": commands}


def _model(model: Model) -> dict[str, Any]:
    settings = {name: {"help": h.help, "values": _values(h)} for name, h in settings_of(model).items()}
    return {"title": model.title, "ablations": list(model.ablations), "settings": settings}


def _values(h: Hyperparameter) -> list[str]:
    """Return the values of a setting that takes words; none of a number."""
    return ["true", "false"] if isinstance(h.default, bool) else [str(choice) for choice in h.choices or ()]


def _folds(database: str) -> dict[str, list[str]]:
    """Return the folds of a database by protocol, as far as they are known without its files."""
    reader = KNOWN[database]
    if reader.make is None:
        return {"speaker": list(reader.info.expected_speakers)}
    utterances: tuple[Utterance, ...] = reader.make().utterances
    found: dict[str, list[str]] = {}
    for protocol in PROTOCOLS:
        with contextlib.suppress(RequestError, ValueError):
            found[protocol] = list(folds(utterances, protocol, database))
    return found


if __name__ == "__main__":
    json.dump(contents(), sys.stdout)
