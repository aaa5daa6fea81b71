"""The command ``python -m tfser.models list | describe NAME | new FILE.py | check NAME``.

It tells what can be trained, begins a model of a person's own, and checks one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from tfser.errors import RequestError, unknown
from tfser.models import BUILT_IN, MODELS, Model, sources, templates
from tfser.models.sources import Source
from tfser.models_command import check
from tfser.models_command.describe import in_full, in_short, print_described, print_list
from tfser.planning import own_models
from tfser.planning.settings import published_settings
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_path


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser models",
        description="List the models that can be trained, describe one with its settings, begin your own, or check it.",
    )
    commands = p.add_subparsers(dest="command", required=True)
    every = commands.add_parser(
        "list", allow_abbrev=False, help="every model that is built in or installed, with its ablations and its size"
    )
    one = commands.add_parser(
        "describe",
        allow_abbrev=False,
        help="ablations, features, cost, and every hyperparameter with default, legal values and meaning",
    )
    one.add_argument("name", metavar="NAME", help="a name that list prints, or FILE.py:NAME")
    for command in (every, one):
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    new = commands.add_parser("new", allow_abbrev=False, help="write the file of a model of your own; it runs at once")
    new.add_argument("file", type=typed_path, metavar="FILE.py", help="a new file; one that is there stays as it is")
    new.add_argument("--estimator", action="store_true", help="an estimator of scikit-learn's kind, not a network")
    rules = commands.add_parser("check", allow_abbrev=False, help="run a model in small, and say what is wrong with it")
    check.add_options(rules)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        argv: the words after the command's name; by default those of the process.
    """
    take_any_text()
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "new":
            _new(arguments.file, estimator=arguments.estimator)
        elif arguments.command == "check":
            return check.run(check.Request.of(arguments))
        elif arguments.command == "list":
            models = _every()
            print(json.dumps(models)) if arguments.json else print_list(models)
        else:
            model = in_full(*_named(arguments.name))
            print(json.dumps(model)) if arguments.json else print_described(model)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _new(file: Path, *, estimator: bool) -> None:
    """Write a template, and say what to type next."""
    name = templates.write(file, estimator=estimator)
    kind = "estimator" if estimator else "network"
    print(f"Wrote {file} with the {kind} {name}. Change what its comments point at. It runs as it is:\n")
    print(f"  tfser sweep synthetic --model {shlex.quote(f'{file}:{name}')}\n")
    print(f"tfser models describe {shlex.quote(f'{file}:{name}')} lists its settings.")


def _named(typed: str) -> tuple[Model, Source | None]:
    """Return the model that a person named, and where it comes from if it is not built in.

    Raises:
        RequestError: there is none, or it cannot be read.
    """
    built_in = [model.name for model in BUILT_IN]
    if typed in built_in:
        return MODELS[typed], None
    if not sources.is_file(typed) and typed not in sources.installed():
        if typed in MODELS:  # named in this process before
            return MODELS[typed], None
        raise RequestError("NAME", [unknown("NAME", typed, sources.names(), every="tfser models list")])
    source = own_models.get(typed)
    model = MODELS[source.name]
    for ablation in model.ablations:
        if found := own_models.build_problems(model, ablation, published_settings(model.name)):
            raise RequestError(typed, [f"{ablation}: {problem}" for problem in found])
    return model, source


def _every() -> list[dict[str, Any]]:
    """Return what ``list`` says of every model; one that is installed and cannot be read says why."""
    said = [in_short(model) for model in MODELS.values()]
    for name in sources.installed():
        try:
            said.append(in_short(*_named(name)))
        except RequestError as error:
            said.append({"name": name, "problem": "; ".join(error.problems)})
    return list({one["name"]: one for one in said}.values())
