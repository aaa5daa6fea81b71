"""The command line of ``sweep``, in parts that ``leaks`` shares. Checks nothing beyond the form of a value."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from tfser.models import MODELS
from tfser.planning import request as planning
from tfser.storage.passwords import redacted
from tfser.storage.places import Place, typed_place
from tfser.text.typed import number, typed_number, typed_whole, typed_words
from tfser.text.typed import option as as_option
from tfser.trial import PROTOCOLS

LEAKS_PREFIX = "leaks-"
"""Before the name of what ``tfser.leaks`` makes, which shares folders with sweeps."""


DATABASE_HELP = (
    "a known name, the path of a manifest CSV, or audformat:PATH; NAME= in front of it gives it another name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A command line that was read; names and numbers are not yet checked. ``None``: not typed."""

    typed: tuple[str, ...]
    """The words of the command line."""
    databases: list[str]
    data: Place | None
    allow_incomplete: bool
    model: list[str] | None
    ablation: list[str]
    protocol: str
    fold: list[str]
    seeds: int
    epochs: int | None
    fixed: list[str]
    """--set, as typed."""
    trials: int | None
    space: list[Place]
    selection: str
    validation_folds: int
    sampler: str
    search_seed: int
    prune: bool
    optuna_storage: str | None
    deterministic: bool
    name: str | None
    out: Place | None
    storage: Place | None
    mlflow: bool
    """Whether the command logs to MLflow."""
    tracking_uri: str | None
    address: str | None
    in_process: bool
    trial_cpus: float | None
    trial_gpus: float | None
    """``None``: the share is tried out."""
    together: int
    captured: bool
    checkpoint: float
    retry_failed: bool
    plan: bool

    def shown(self) -> dict[str, Any]:
        """Return the options as ``sweep.json`` gets them: places as text, and no password in a URI."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _shown(value) for name, value in values.items() if name not in ("typed", "mlflow")}


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else redacted(str(value))


def parse(argv: Sequence[str] | None = None) -> Options:
    """Return the options of a command line; what argparse refuses ends the process with exit code 2.

    Args:
        argv: its words; ``None`` for those of the process.
    """
    words = sys.argv[1:] if argv is None else argv
    return Options(**vars(parser().parse_args(words)), typed=tuple(words))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="tfser sweep",
        description="Leave-one-out trials of every (database, fold, model, ablation): trains what is missing, then writes the tables.",
        epilog="Exit codes: 0 all done, 1 some trials failed, 2 the request is wrong and nothing was started, 130 interrupted.",
    )
    p.add_argument("databases", nargs="+", metavar="DATABASE", help=DATABASE_HELP)
    add_training(p)
    _add_search(p)
    add_places(p)
    return p


def add_training(p: argparse.ArgumentParser) -> None:
    """The options that say what is trained."""
    what = p.add_argument_group("what to train")
    data = os.environ.get("TFSER_DATA") or None
    what.add_argument(
        "--data", type=typed_place, default=data, help="folder or URI that holds the corpora (default: TFSER_DATA)"
    )
    what.add_argument(
        "--allow-incomplete", action="store_true", help="go on with a database that is not as published; tables say so"
    )
    what.add_argument(
        "--model", nargs="+", action="extend", default=None, metavar="M", help=f"default: {' '.join(MODELS)}"
    )
    what.add_argument(
        "--ablation", nargs="+", action="extend", default=[], metavar="A", help="default: the full model; or all"
    )
    what.add_argument("--protocol", default="speaker", metavar="P", help=f"{' or '.join(PROTOCOLS)} (default: speaker)")
    what.add_argument("--fold", nargs="+", action="extend", default=[], metavar="F", help="default: all")
    what.add_argument(
        "--seeds", type=typed_whole, default=1, metavar="N", help="final trials per fold, seeds 0 to N-1 (default: 1)"
    )
    most = "default: as published; with a search, the most that are tried"
    what.add_argument("--epochs", type=typed_whole, default=None, metavar="N", help=most)
    fixes = "fixes a hyperparameter; it is not searched"
    what.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="fixed", help=fixes)


def _add_search(p: argparse.ArgumentParser) -> None:
    search = p.add_argument_group("search")
    search.add_argument(
        "--trials",
        type=typed_whole,
        default=None,
        metavar="N",
        help="Optuna trials per fold (default: 0, the published setting)",
    )
    search.add_argument(
        "--space",
        type=typed_place,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="default: search_spaces/<model>.yaml",
    )
    search.add_argument(
        "--selection", default="nested", metavar="S", help=f"{' or '.join(planning.SELECTIONS)} (default: nested)"
    )
    search.add_argument(
        "--validation-folds",
        type=typed_whole,
        default=1,
        metavar="N",
        help="validation speakers in rotation (default: 1)",
    )
    search.add_argument(
        "--sampler", default="tpe", metavar="S", help=f"{' or '.join(planning.SAMPLERS)} (default: tpe)"
    )
    search.add_argument(
        "--search-seed", type=typed_whole, default=0, metavar="N", help="another one tries other settings (default: 0)"
    )
    search.add_argument(
        "--no-pruning", action="store_false", dest="prune", help="run every search trial to its last epoch"
    )
    search.add_argument(
        "--optuna-storage",
        type=typed_words,
        default=None,
        metavar="URL",
        help="database for the studies (default: a journal in STORAGE)",
    )
    search.add_argument(
        "--deterministic", action="store_true", help="the same choices whatever the order in which trials end"
    )


def add_places(p: argparse.ArgumentParser, *, mlflow: bool = True) -> None:
    """The options that say where trials run and where everything lies, and --retry-failed and --plan."""
    where = p.add_argument_group("where")
    where.add_argument(
        "--name", default=None, help="of the sweep; its resume key (default: from the databases and options)"
    )
    where.add_argument(
        "--out", type=typed_place, default=None, help="folder or URI; tables go to OUT/<sweep>/ (default: ./results)"
    )
    where.add_argument(
        "--storage", type=typed_place, default=None, help="ledger, studies, features (default: OUT/.tfser)"
    )
    p.set_defaults(mlflow=mlflow)
    if mlflow:
        uri = "MLflow (default: MLFLOW_TRACKING_URI, else SQLite in the storage folder)"
        where.add_argument("--tracking-uri", type=typed_words, default=None, help=uri)
    address = os.environ.get("RAY_ADDRESS") or None
    where.add_argument(
        "--address", type=typed_words, default=address, help="Ray cluster (default: RAY_ADDRESS, else a local Ray)"
    )
    where.add_argument("--in-process", action="store_true", help="no Ray: one trial after another in this process")
    cpus, gpus = os.environ.get("TFSER_TRIAL_CPUS") or None, os.environ.get("TFSER_TRIAL_GPUS") or "auto"
    one = "CPUs of one trial (default: TFSER_TRIAL_CPUS, else 1)"
    where.add_argument("--trial-cpus", type=as_option(number, "TFSER_TRIAL_CPUS"), default=cpus, metavar="X", help=one)
    shared = "GPU share of one trial; auto tries the largest one on a GPU to see how many fit (default: TFSER_TRIAL_GPUS, else auto)"
    where.add_argument(
        "--trial-gpus", type=as_option(_gpu_share, "TFSER_TRIAL_GPUS"), default=gpus, metavar="X", help=shared
    )
    together = (
        "trials of one shape that a worker trains as one network, at most; equal to 1 up to rounding (default: 1)"
    )
    where.add_argument("--together", type=typed_whole, default=1, metavar="N", help=together)
    where.add_argument(
        "--captured", action="store_true", help="on GPUs: replay full batches of a trial as a CUDA graph"
    )
    where.add_argument(
        "--checkpoint",
        type=typed_number,
        default=120.0,
        metavar="S",
        help="seconds between checkpoints of a trial (default: 120)",
    )
    p.add_argument("--retry-failed", action="store_true", help="train again what failed in an earlier start")
    p.add_argument("--plan", action="store_true", help="print what would be trained; run nothing")


def _gpu_share(text: str) -> float | None:
    """``auto`` is ``None``: it is chosen where the GPUs are."""
    try:
        return None if text == "auto" else number(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor a number (0.125 lets eight trials share a GPU)") from None
