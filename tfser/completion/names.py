"""The names that can follow what is typed: of models, ablations, folds, settings, databases and runs.

Imports neither torch nor Ray nor MLflow; folds of corpora on disk come from their labels alone.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from argcomplete.completers import FilesCompleter


class Names(Protocol):
    """Returns the words that can stand in a place, each with what it is, or without.

    Args:
        known: the catalogue.
        prefix: what is typed of the word.
        typed: the words before it, by option.
    """

    def __call__(self, known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> Iterable[str]: ...


def of(command: str, dest: str) -> Names | None:
    """Return the names of one option or positional word of a command; ``None`` where it takes none of ours."""
    if command in ("predict", "attention"):
        of_run = partial(_of_run, dest) if dest in _COLUMNS else None
        return {"run": _runs, "files": _audio}.get(dest, of_run)
    named = {"databases": _databases, "model": _models, "ablation": _ablations, "fold": _folds, "fixed": _settings}
    if command in ("models describe", "models check"):
        named["name"] = _models
    elif command in ("databases describe", "databases check"):
        named["name"] = _databases
    elif command == "collect":
        named["names"] = _runs
    elif command == "benchmark":
        named["database"] = _databases
    return named.get(dest)


_COLUMNS = ("database", "model", "ablation", "fold", "seed")
"""Options of predict and attention that pick one of the trials of a run, by the column of its table."""


def _databases(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> list[str]:
    """Return the databases that tfser knows, manifests and sweep files."""
    return [*known["databases"], "audformat:", *_files(prefix, "csv", "yaml", "yml")]


def _files(prefix: str, *endings: str) -> list[str]:
    """Return the files with these endings, and folders once something is typed."""
    found = FilesCompleter(endings)(prefix)
    return [path for path in found if prefix or not path.endswith("/")]


def _models(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> dict[str, str]:
    """Return the models that are built in or installed, and those of a person's files."""
    file, colon, _ = prefix.rpartition(":")
    if colon:
        return {f"{file}:{name}": "" for name in _declared(file)}
    found = {name: told["title"] for name, told in known["models"].items()}
    found |= {point.name: f"of {point.module.partition('.')[0]}" for point in entry_points(group="tfser.models")}
    if hasattr(typed, "selection"):  # a sweep
        found[known["every_model"]] = "every built-in model that can run here"
    return {**found, **{path if path.endswith("/") else f"{path}:": "" for path in _files(prefix, "py")}}


def _declared(file: str) -> list[str]:
    """Return the models that a file declares at its top, without running it."""
    body = ast.parse(Path(file).expanduser().read_text(encoding="utf-8")).body
    found = []
    for line in body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Call):
            called = ast.unparse(line.value.func).rpartition(".")[2]
            if called in ("Network", "Estimator"):
                found += [target.id for target in line.targets if isinstance(target, ast.Name)]
    return found


def _typed_models(known: Mapping[str, Any], typed: argparse.Namespace) -> list[str]:
    """Return the built-in models that a command line asks for."""
    asked = getattr(typed, "model", None) or [getattr(typed, "name", None)]
    if known["every_model"] in asked:
        return list(known["models"])
    return [name for name in asked if name in known["models"]] or list(known["default_models"])


def _ablations(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> list[str]:
    """Return the ablations of the models that are typed."""
    models = _typed_models(known, typed)
    return [*dict.fromkeys(name for model in models for name in known["models"][model]["ablations"]), "all"]


def _settings(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> dict[str, str]:
    """Return the hyperparameters of the models that are typed, or the words that one of them takes."""
    models = _typed_models(known, typed)
    key, has_value, _ = prefix.partition("=")
    model, dot, name = key.rpartition(".")
    if has_value:
        of_models = [model] if dot else models
        told = [known["models"][each]["settings"].get(name) for each in of_models if each in known["models"]]
        return {f"{key}={value}": "" for one in told if one for value in one["values"]}
    found: dict[str, str] = {}
    for each in models:
        before = f"{each}." if dot else ""
        for setting, told in known["models"][each]["settings"].items():
            found.setdefault(f"{before}{setting}=", told["help"])
    if not dot and len(models) > 1:
        found |= {f"{each}.": f"a setting of {each} alone" for each in models}
    return found


def _folds(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> list[str]:
    """Return the folds of the databases that are typed: from their labels, else as published."""
    protocol = getattr(typed, "protocol", None) or "speaker"
    found: dict[str, None] = {}
    for asked in typed.databases or ():
        published = known["folds"].get(asked, {}).get(protocol, [])
        told = published if asked == "synthetic" else _read_folds(asked, typed, protocol) or published
        found |= dict.fromkeys(told)
    return list(found)


def _read_folds(asked: str, typed: argparse.Namespace, protocol: Any) -> list[str]:
    """Return the folds of a database on this machine; none where it cannot be read."""
    from tfser.databases import examine
    from tfser.errors import RequestError
    from tfser.evaluation.folds import folds
    from tfser.storage.places import place

    data = getattr(typed, "data", None) or os.environ.get("TFSER_DATA") or ""
    if "://" in f"{asked} {data}":  # nobody waits for a bucket
        return []
    try:
        database, _ = examine(asked, place(data) if data else None)
        return list(folds(database.utterances, protocol, database.name))
    except (RequestError, OSError, ValueError):
        return []


def _runs(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> list[str]:
    """Return the sweeps that have tables or rows, and the databases in those tables."""
    out = Path(getattr(typed, "results", None) or getattr(typed, "out", None) or "results").expanduser()
    storage = Path(getattr(typed, "storage", None) or out / ".tfser").expanduser()
    tables = sorted(out.glob("*/folds.csv"))
    found = [*(path.parent.name for path in tables), *sorted(path.stem for path in storage.glob("rows/*.json"))]
    if hasattr(typed, "names"):  # only a collection takes databases
        found += sorted({row["database"] for path in tables for row in _rows(path)[:1]})
    return list(dict.fromkeys(found))


def _of_run(column: str, known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> list[str]:
    """Return every value of a column in the table of the run that is typed."""
    out = Path(typed.results or "results").expanduser()
    return list(dict.fromkeys(row[column] for row in _rows(out / typed.run / "folds.csv")))


def _rows(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _audio(known: Mapping[str, Any], prefix: str, typed: argparse.Namespace) -> list[str]:
    return _files(prefix, "wav", "flac", "aiff", "aif", "ogg", "mp3")
