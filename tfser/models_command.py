"""The command ``python -m tfser.models list | describe NAME``: what can be trained, and with which settings.

Everything that it says comes from what a model declares and from the settings that all models share.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tfser.errors import RequestError, unknown
from tfser.features.log_mel import FrontEnd
from tfser.models import MODELS, Network
from tfser.planning.request import MOST_EPOCHS
from tfser.planning.settings import build_settings, hyperparameters, published_settings
from tfser.report import published
from tfser.report.tables.ablation import part_title
from tfser.text.streams import take_any_text
from tfser.trial import Hyperparameter, Value

EMOTIONS = 4
"""Number of emotions for which parameters are counted; only the last layer depends on it."""

NOT_STATED = "the paper states none"


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m tfser.models",
        description="List the models that can be trained, or describe one with all its settings.",
    )
    commands = p.add_subparsers(dest="command", required=True)
    every = commands.add_parser("list", allow_abbrev=False, help="every model with its ablations and its size")
    one = commands.add_parser(
        "describe",
        allow_abbrev=False,
        help="ablations, features, cost, and every hyperparameter with default, legal values and meaning",
    )
    one.add_argument("name", metavar="NAME", help="a name that list prints")
    for command in (every, one):
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        argv: the words after the command's name; by default those of the process.
    """
    take_any_text()
    arguments = parser().parse_args(argv)
    try:
        networks = {name: model for name, model in MODELS.items() if isinstance(model, Network)}
        if arguments.command == "describe" and arguments.name not in networks:
            raise RequestError("NAME", [unknown("NAME", arguments.name, networks)])
        if arguments.command == "list":
            models = [in_short(model) for model in networks.values()]
            print(json.dumps(models)) if arguments.json else _list(models)
        else:
            model = in_full(networks[arguments.name])
            print(json.dumps(model)) if arguments.json else _describe(model)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the pipe has left
        sys.stderr.close()
    return 0


def in_short(model: Network) -> dict[str, Any]:
    """Return what ``list`` says of a model, as JSON values."""
    return {
        "name": model.name,
        "title": model.title,
        "paper": model.paper,
        "ablations": list(model.ablations),
        "parameters": parameters(model, model.ablations[0]),
    }


def in_full(model: Network) -> dict[str, Any]:
    """Return what ``describe`` says of a model, as JSON values; a published value is null where the paper is silent."""
    first = next(iter(MODELS.values()))
    unit = first.cost.get(first.ablations[0], 1.0)
    settings = published_settings(model.name)
    epochs = Hyperparameter(default=model.epochs, low=1, high=MOST_EPOCHS, help="passes over the training segments")
    return {
        "name": model.name,
        "title": model.title,
        "paper": model.paper,
        "paper_title": published.load().papers.get(model.paper or ""),
        "features": {"name": model.features, **asdict(FrontEnd.of(settings))},
        "emotions": EMOTIONS,
        "cost_relative_to": f"{first.title} {first.ablations[0]}",
        "ablations": [
            {
                "name": ablation,
                "parameters": parameters(model, ablation),
                "cost": model.cost.get(ablation, 1.0) / unit,
                "parts": dict(model.parts.get(ablation, {})),
                "attention_maps": model.attention is not None and ablation in model.attention.ablations,
            }
            for ablation in model.ablations
        ],
        "epochs": _setting(model, "epochs", epochs, model.published_epochs),
        "hyperparameters": [
            {**_setting(model, name, h, _published(model, name, h)), "own": name in model.hyperparameters}
            for name, h in _in_order(model).items()
        ],
    }


def _in_order(model: Network) -> dict[str, Hyperparameter]:
    """Return every setting, the model's own first."""
    every = hyperparameters(model.name)
    return {name: every[name] for name in (*model.hyperparameters, *every)}


def _published(model: Network, name: str, hyperparameter: Hyperparameter) -> Value | None:
    """Return the paper's value of a setting; ``None`` where there is none."""
    if model.paper is None or name in model.ours:
        return None
    if name in model.published:
        return model.published[name]
    return hyperparameter.default if name in model.hyperparameters else None


def _setting(model: Network, name: str, hyperparameter: Hyperparameter, printed: Value | None) -> dict[str, Any]:
    silent = model.paper is not None and printed is None
    return {
        "name": name,
        "default": hyperparameter.default,
        "low": hyperparameter.low,
        "high": hyperparameter.high,
        "choices": list(hyperparameter.choices),
        "published": printed,
        "ours": model.ours.get(name, NOT_STATED) if silent else None,
        "meaning": hyperparameter.help,
    }


def parameters(model: Network, ablation: str) -> int:
    """Count the trained numbers of an ablation with published settings, without allocating them."""
    with torch.device("meta"):
        module = model.build(ablation, build_settings(model, published_settings(model.name)), EMOTIONS)
    return sum(parameter.numel() for parameter in module.parameters())


def _list(models: list[dict[str, Any]]) -> None:
    console, table = _console(), Table(box=None, pad_edge=False)
    for title in ("name", "title", "paper", "ablations"):
        table.add_column(title, overflow="fold", no_wrap=title == "name")
    table.add_column("parameters", justify="right")
    for model in models:
        ablations = ", ".join(model["ablations"])
        table.add_row(model["name"], model["title"], model["paper"] or "", ablations, f"{model['parameters']:,}")
    console.print(table)
    console.print(
        f"\nParameters are those of the full model (named first) with published settings, {EMOTIONS} emotions."
    )
    console.print("describe NAME gives every hyperparameter, the features and the cost.")


def _describe(model: Mapping[str, Any]) -> None:
    console = _console()
    head = Table.grid(padding=(0, 2))
    head.add_column(no_wrap=True)
    head.add_column(overflow="fold")
    for key, value in _head(model).items():
        head.add_row(key, value)
    console.print(head)
    console.print()
    console.print(_ablations(model))
    console.print(f"\nParameters: with published settings, {model['emotions']} emotions.")
    console.print(f"Cost: of training per frame, a guess; {model['cost_relative_to']} is 1.")
    rows = model["hyperparameters"]
    console.print("\nSettings of the model (--set KEY=VALUE)\n")
    console.print(_settings([row for row in rows if row["own"]]))
    console.print("\nSettings of front end and training\n")
    console.print(_settings([row for row in rows if not row["own"]]))
    ours = [row for row in (model["epochs"], *rows) if row["ours"]]
    if ours:
        console.print("\nOurs, because the paper is silent")
    for why in dict.fromkeys(row["ours"] for row in ours):
        console.print(f"  {', '.join(row['name'] for row in ours if row['ours'] == why)}: {why}")


def _head(model: Mapping[str, Any]) -> dict[str, str]:
    read, epochs = model["features"], model["epochs"]
    window, hop = (1000 * read[name] / read["rate_hz"] for name in ("window", "hop"))
    features = (
        f"{read['name']}: {read['rate_hz']} Hz, window {window:g} ms, hop {hop:g} ms, FFT of {read['n_fft']}, "
        f"{read['n_mels']} mel bands, pre-emphasis {read['preemphasis']:g}"
    )
    seen = [ablation["name"] for ablation in model["ablations"] if ablation["attention_maps"]]
    return {
        "name": model["name"],
        "title": model["title"],
        "paper": f"{model['paper']}: {model['paper_title'] or 'not in published.yaml'}" if model["paper"] else "none",
        "features": features,
        "epochs": f"{epochs['default']}" + (f" (ours: {epochs['ours']})" if epochs["ours"] else ""),
        "attention maps": f"of {', '.join(seen)}" if seen else "none",
    }


def _ablations(model: Mapping[str, Any]) -> Table:
    parts = dict.fromkeys(part for ablation in model["ablations"] for part in ablation["parts"])
    table = Table("ablation", *map(part_title, parts), box=None, pad_edge=False)
    for title in ("parameters", "cost"):
        table.add_column(title, justify="right")
    for ablation in model["ablations"]:
        has = ("yes" if ablation["parts"].get(part) else "no" for part in parts)
        table.add_row(ablation["name"], *has, f"{ablation['parameters']:,}", f"{ablation['cost']:g}")
    return table


def _settings(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("legal", overflow="fold", min_width=10)
    table.add_column("paper", overflow="fold", min_width=5)
    table.add_column("meaning", overflow="fold", min_width=20)
    for row in rows:
        paper = "silent" if row["ours"] else "" if row["published"] in (None, row["default"]) else row["published"]
        table.add_row(row["name"], str(row["default"]), _legal(row), str(paper), row["meaning"])
    return table


def _legal(row: Mapping[str, Any]) -> str:
    if row["choices"]:
        return ", ".join(row["choices"])
    if isinstance(row["default"], bool):
        return "true, false"
    return " to ".join("any" if row[end] is None else f"{row[end]:g}" for end in ("low", "high"))


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
