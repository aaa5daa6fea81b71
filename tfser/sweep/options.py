"""The command line of ``sweep``, in parts that ``leaks`` shares. Only the form of a value is checked here."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from tfser.models import COMPARISON, DEFAULT
from tfser.planning import request as planning
from tfser.report.published_file import PUBLISHED_HELP
from tfser.report.tables.printed_notes import AVERAGING_HELP
from tfser.storage.passwords import redacted
from tfser.storage.places import Place, typed_place
from tfser.sweep import sweep_file
from tfser.sweep.sweep_file_reader import DATABASES, SweepFile
from tfser.text.parser import Parser
from tfser.text.typed import number, typed_number, typed_path, typed_whole, typed_words
from tfser.text.typed import option as as_option
from tfser.trial import PROTOCOLS

LEAKS_PREFIX = "leaks-"
"""Beginning of every name that ``tfser.leaks`` gives, because it shares folders with sweeps."""

DATABASE_HELP = (
    "a known name, the path of a manifest CSV, or audformat:PATH; NAME= in front of it gives it another name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A parsed command line; names and numbers are not yet checked. ``None``: not typed."""

    module: ClassVar[str] = "tfser.sweep"
    """What runs it: ``python -m`` this."""
    typed: tuple[str, ...]
    """The words of the command line, with those of a sweep file in its place."""
    databases: list[str]
    data: Place | None
    allow_incomplete: bool
    model: list[str] | None
    ablation: list[str]
    protocol: str
    emotions: Place | None
    """--emotions: maps the labels of several databases to common ones."""
    fold: list[str]
    purpose: str
    """Whether results of folds are asked for, or one model for use."""
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
    log_models: bool
    """Whether the models of final trials are logged to MLflow."""
    published: list[Place]
    """Files of published figures beside those that come with tfser."""
    averaging: str
    """How the printed tables average over folds."""
    address: str | None
    in_process: bool
    trial_cpus: float | None
    trial_gpus: float | None
    """Share of a GPU; ``None`` has it measured."""
    together: int
    captured: bool
    checkpoint: float
    trial_timeout: float | None
    retry_failed: bool
    plan: bool
    json: bool
    """Whether --plan prints a JSON object."""
    fast: bool = False
    """Whether the options for one GPU are asked for together; see ``tfser.sweep.fast``."""
    save: Path | None = None
    """Where the request is written as a sweep file."""
    file: SweepFile | None = None
    """The sweep file that was typed; the other fields hold what it says."""

    @property
    def command(self) -> str:
        """What a person types to run it again, without passwords."""
        return redacted(f"python -m {self.module} {shlex.join(self.typed)}")


Kind = TypeVar("Kind", bound=Options)

EXIT_CODES = "Exit codes: 0 all done, 1 some trials failed, 2 wrong request, nothing was started, 130 interrupted."
"""Last line of the help of every command that trains."""


def parse(argv: Sequence[str] | None = None) -> Options:
    """Return the options of a command line; if argparse refuses it, end the process with exit code 2.

    Args:
        argv: its words; by default those of the process. One of them may name a sweep file.

    Raises:
        RequestError: the sweep file cannot be read, or something stands beside it that cannot.
    """
    options = read(Options, parser(), argv)
    words, file = sweep_file.expand(options.typed, parser)
    if file is None:
        return options
    named = bool(words) and not words[0].startswith("--")
    made = read(Options, parser(), words if named else [DATABASES, *words])
    return replace(made, typed=tuple(words), databases=made.databases if named else [], file=file)


def read(kind: type[Kind], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> Kind:
    """Return what a parser makes of a command line; see ``parse``."""
    words = sys.argv[1:] if argv is None else argv
    return kind(**vars(parser.parse_args(words)), typed=tuple(words))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser sweep",
        description="Train every missing leave-one-out trial (database, fold, model, ablation), then write the tables.",
        epilog=EXIT_CODES,
    )
    what = f"{DATABASE_HELP}; or one sweep file (.yaml), which holds the whole request"
    p.add_argument("databases", nargs="+", metavar="DATABASE", help=what)
    add_training(p)
    deploy = "deploy trains, instead of the folds, one model on every speaker, for tfser predict; it has no test score"
    p.add_argument("--purpose", default="final", metavar="P", help=f"{' or '.join(planning.ASKED_PURPOSES)}; {deploy}")
    _add_search(p)
    add_places(p)
    fast = "for GPUs: bfloat16, compiled kernels where a model has them, --captured, and several trials on a GPU"
    p.add_argument("--fast", action="store_true", help=fast)
    save = "write what was typed as a sweep file, so that tfser sweep FILE asks for the same; then go on"
    p.add_argument("--save", type=typed_path, metavar="FILE", help=save)
    return p


def add_training(p: argparse.ArgumentParser, *, models: Sequence[str] = DEFAULT) -> None:
    """Add the options that say what is trained.

    Args:
        p: gets them.
        models: what the command trains without --model; of one, it trains no more than one.
    """
    add = p.add_argument_group("what to train").add_argument
    data = os.environ.get("TFSER_DATA") or None
    add("--data", type=typed_place, default=data, help="folder or URI that holds the corpora (default: TFSER_DATA)")
    add("--allow-incomplete", action="store_true", help="accept a database that is not as published; tables say so")
    every = f", or {COMPARISON} for every built-in one that can run here" if len(models) > 1 else ""
    own = f"one of tfser models list, FILE.py:NAME, or one of an installed package{every}"
    add("--model", nargs="+", action="extend", metavar="M", help=f"{own} (default: {' '.join(models)})")
    add("--ablation", nargs="+", action="extend", default=[], metavar="A", help="default: the full model; or all")
    add("--protocol", default="speaker", metavar="P", help=f"{' or '.join(PROTOCOLS)} (default: speaker)")
    common = "with --protocol corpus: YAML of each database's labels and the common emotions that they stand for"
    common += " (default: anger, happiness, sadness and neutral)"
    add("--emotions", type=typed_place, metavar="FILE", help=common)
    add("--fold", nargs="+", action="extend", default=[], metavar="F", help="default: all")
    add("--seeds", type=typed_whole, default=1, metavar="N", help="final trials per fold, seeds 0 to N-1 (default: 1)")
    most = "default: as published, or 16 in the small search of the built-in database; in a search, the most of a trial"
    add("--epochs", type=typed_whole, metavar="N", help=most)
    fixes = "fix a hyperparameter, and leave it out of a search; MODEL.KEY=VALUE is for one model"
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="fixed", help=fixes)


def add_space(add: Callable[..., object]) -> None:
    """Add the option that names search spaces."""
    default = "default: search_spaces/<model>.yaml (on the built-in database alone demo.yaml, where that has the model)"
    default += ", or the ranges that a model of your own declares"
    add("--space", type=typed_place, nargs="+", action="extend", default=[], metavar="FILE", help=default)


def _add_search(p: argparse.ArgumentParser) -> None:
    add = p.add_argument_group("search").add_argument
    add("--trials", type=typed_whole, metavar="N", help="Optuna trials per fold (default: 0, the published setting)")
    add_space(add)
    add("--selection", default="nested", metavar="S", help=f"{' or '.join(planning.SELECTIONS)} (default: nested)")
    rotation = "validation speakers in rotation (default: 1)"
    add("--validation-folds", type=typed_whole, default=1, metavar="N", help=rotation)
    add("--sampler", default="tpe", metavar="S", help=f"{' or '.join(planning.SAMPLERS)} (default: tpe)")
    add("--search-seed", type=typed_whole, default=0, metavar="N", help="seed of the sampler (default: 0)")
    add("--no-pruning", action="store_false", dest="prune", help="train every search trial to its last epoch")
    url = "database for the studies (default: a journal in STORAGE)"
    add("--optuna-storage", type=typed_words, metavar="URL", help=url)
    add("--deterministic", action="store_true", help="make choices independent of the order in which trials end")


def add_places(p: argparse.ArgumentParser, *, mlflow: bool = True) -> None:
    """Add the options that say where trials run and where files go, and --retry-failed and --plan."""
    env = os.environ.get
    add = p.add_argument_group("where").add_argument
    add("--name", help="name of the sweep, under which it resumes (default: from the databases and options)")
    add("--out", type=typed_place, help="folder or URI; tables go to OUT/<sweep>/ (default: ./results)")
    add("--storage", type=typed_place, help="ledger, studies, features (default: OUT/.tfser)")
    p.set_defaults(mlflow=mlflow)
    if mlflow:
        uri = "MLflow (default: MLFLOW_TRACKING_URI, else SQLite in the storage folder)"
        add("--tracking-uri", type=typed_words, help=uri)
        models = (
            "log the models of final trials to MLflow, those of built-in models (default: only predict --log-model)"
        )
        add("--log-models", action="store_true", help=models)
        add(
            "--published", type=typed_place, nargs="+", action="extend", default=[], metavar="FILE", help=PUBLISHED_HELP
        )
        add("--averaging", type=typed_words, default="pooled", metavar="A", help=AVERAGING_HELP)
    cluster = "Ray cluster (default: RAY_ADDRESS, else a local Ray)"
    add("--address", type=typed_words, default=env("RAY_ADDRESS") or None, help=cluster)
    add("--in-process", action="store_true", help="train one trial after another in this process, without Ray")
    one, cpus = "CPUs of one trial (default: TFSER_TRIAL_CPUS, else 1)", as_option(number, "TFSER_TRIAL_CPUS")
    add("--trial-cpus", type=cpus, default=env("TFSER_TRIAL_CPUS") or None, metavar="X", help=one)
    share = "GPU share of one trial; auto measures how many of the largest fit (default: TFSER_TRIAL_GPUS, else auto)"
    gpus = as_option(_gpu_share, "TFSER_TRIAL_GPUS")
    add("--trial-gpus", type=gpus, default=env("TFSER_TRIAL_GPUS") or "auto", metavar="X", help=share)
    together = "most trials of one shape that a worker trains as one network; same numbers up to rounding (default: 1)"
    add("--together", type=typed_whole, default=1, metavar="N", help=together)
    add("--captured", action="store_true", help="on GPUs, replay full batches of a trial as a CUDA graph")
    pause = "seconds between checkpoints of a trial (default: 120)"
    add("--checkpoint", type=typed_number, default=120.0, metavar="S", help=pause)
    limit = "seconds after which a trial is ended as failed; with --in-process only in Python code (default: none)"
    add("--trial-timeout", type=typed_number, metavar="S", help=limit)
    p.add_argument("--retry-failed", action="store_true", help="train trials again that failed in an earlier start")
    what = "print what is done and what is left, with costs, sizes and places; train and write nothing"
    p.add_argument("--plan", action="store_true", help=what)
    p.add_argument("--json", action="store_true", help="with --plan: print one JSON object and nothing else")


def _gpu_share(text: str) -> float | None:
    """Return a share; ``None`` for ``auto``, which is measured on the GPUs."""
    try:
        return None if text == "auto" else number(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor a number (0.125 lets eight trials share a GPU)") from None
