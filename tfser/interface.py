"""Functions for notebooks and scripts, with the options and the checks of ``python -m tfser.sweep``.

Keywords are the command's options: ``--validation-folds 2`` is ``validation_folds=2``, ``--in-process`` is
``in_process=True``, ``--fold a b`` is ``fold=["a", "b"]`` and ``--set channels=8`` is ``set={"channels": 8}``. The
command and these functions share everything else, so either resumes what the other began.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, Unpack, get_type_hints

from tfser.databases import load
from tfser.databases.base import Database
from tfser.errors import RequestError, counted, unknown
from tfser.storage.places import Place, exists, place, read_text
from tfser.text.typed import clipped

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from tfser.sweep.options import Options


class SweepOptions(TypedDict, total=False):
    """Options of a sweep; ``python -m tfser.sweep --help`` explains each and gives its default."""

    data: str | PathLike[str] | None
    allow_incomplete: bool
    model: str | Sequence[str]
    ablation: str | Sequence[str]
    protocol: str
    emotions: str | PathLike[str] | None
    fold: str | Sequence[str]
    purpose: str
    seeds: int
    epochs: int | None
    set: Mapping[str, str | int | float | bool]
    trials: int | None
    space: str | PathLike[str] | Sequence[str | PathLike[str]]
    selection: str
    validation_folds: int
    sampler: str
    search_seed: int
    no_pruning: bool
    optuna_storage: str | None
    deterministic: bool
    name: str | None
    out: str | PathLike[str] | None
    storage: str | PathLike[str] | None
    tracking_uri: str | None
    log_models: bool
    published: str | PathLike[str] | Sequence[str | PathLike[str]]
    averaging: str
    address: str | None
    in_process: bool
    trial_cpus: float | None
    trial_gpus: float | str | None
    together: int
    captured: bool
    checkpoint: float
    trial_timeout: float | None
    retry_failed: bool
    fast: bool
    save: str | PathLike[str] | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Description:
    """What a sweep would train; printed, it is what the command prints before it begins."""

    name: str
    """The sweep's name."""
    search_trials: int
    final_trials: int
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__  # a notebook shows the value of a cell's last line so


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """Tables of a sweep as pandas frames.

    Names, ids, folds, speakers and emotions are text. Recalls are fractions, and NaN where there is none.
    """

    folder: Place
    """Folder of the tables; its ``report.html`` shows everything."""
    summary: pd.DataFrame
    """A row per configuration, with its recalls over all folds and the number of folds that are done."""
    folds: pd.DataFrame
    """A row per finished final trial, with its recalls on the test fold."""
    predictions: pd.DataFrame
    """A row per test utterance of each final trial, with truth, prediction and probabilities."""

    def __repr__(self) -> str:
        rows, trials = counted(len(self.summary), "row"), counted(len(self.folds), "final trial")
        return f"<results in {self.folder}: {rows}, {trials}>"


def load_database(
    database: str | PathLike[str], data: str | PathLike[str] | None = None, *, allow_incomplete: bool = False
) -> Database:
    """Load the utterances of a database with their labels.

    Args:
        database: a known name, the path of a manifest CSV, or ``audformat:PATH``.
        data: the folder or URI that holds the corpora; by default ``TFSER_DATA``.
        allow_incomplete: go on with a database that is not as published.

    Raises:
        RequestError: with every problem of the database.
    """
    arguments = _arguments("tfser.load_database", [database], {"data": data, "allow_incomplete": allow_incomplete})
    return load(arguments.databases[0], arguments.data, allow_incomplete=allow_incomplete, decode=True)


def describe(*databases: str | PathLike[str], **options: Unpack[SweepOptions]) -> Description:
    """Check a sweep and say what it would train. Nothing is trained, and nothing but the file of ``save`` is written.

    Args:
        databases: as for ``load_database``; or one sweep file, which holds the whole request.
        options: those of ``SweepOptions``.

    Raises:
        RequestError: with every problem of the request.
    """
    from tfser.sweep import saved
    from tfser.sweep.request import check

    sweep = check(_arguments("tfser.describe", databases, options))
    saved.write(sweep.options)
    return _described(sweep)


def run(*databases: str | PathLike[str], **options: Unpack[SweepOptions]) -> Tables:
    """Run a sweep, or what is missing of it, and read its tables.

    Interrupt it anywhere and run the same line again; finished trials are never repeated. A trial that fails is
    reported, and its fold is missing in the tables. With ``purpose="deploy"`` it trains one model on every speaker,
    which no table shows; the frames are then empty unless the folds were trained before.

    Args:
        databases: as for ``load_database``; or one sweep file, which holds the whole request.
        options: those of ``SweepOptions``.

    Raises:
        RequestError: with every problem of the request; nothing was started.
        TfserError: the sweep cannot go on; what was trained is kept.
    """
    from rich.console import Console

    from tfser.storage.sweep_lock import lease
    from tfser.sweep import saved
    from tfser.sweep.printer import Printer
    from tfser.sweep.request import check
    from tfser.sweep.run import Run

    printer = Printer(Console(force_jupyter=False))  # plain lines: a notebook would need a package for a live table
    with printer.live:
        sweep = check(_arguments("tfser.run", databases, options), printer.live.doing)
        saved.write(sweep.options)
        printer.say(_described(sweep).text)
        with lease(sweep.storage, sweep.name, lambda text: print(text, file=sys.stderr, flush=True)):
            try:
                Run(sweep, printer)()
            except KeyboardInterrupt:
                printer.say_interrupted(sweep.name)
                raise
    folder = sweep.out / sweep.name
    if sweep.request.purpose == "deploy" and not exists(folder / "summary.csv"):
        import pandas as pd

        return Tables(folder=folder, summary=pd.DataFrame(), folds=pd.DataFrame(), predictions=pd.DataFrame())
    return results(folder)


def results(folder: str | PathLike[str] | Place) -> Tables:
    """Read the tables that a sweep or ``python -m tfser.collect`` wrote.

    Args:
        folder: of one sweep, such as ``results/synthetic``.

    Raises:
        RequestError: the tables are not there, or cannot be read.
    """
    try:
        where = place(folder)
    except ValueError as error:
        raise RequestError("tfser.results", [str(error)]) from None
    frames: dict[str, Any] = {}
    missing, problems = [], []
    for name in ("summary", "folds", "predictions"):
        try:
            frames[name] = _frame(read_text(where / f"{name}.csv"))
        except (FileNotFoundError, NotADirectoryError):
            missing.append(f"{name}.csv")
        except (OSError, ValueError) as error:
            problems.append(f"{name}.csv cannot be read: {error}")
    if missing:
        near = [where, where.parent] if isinstance(where, Path) else []
        others = [found.parent for folder in near for found in sorted(folder.glob("*/summary.csv"))]
        there = f"; there are {', '.join(map(str, others[:10]))}" if others else ""
        problems.append(f"it holds no {', '.join(missing)}; name the folder of one sweep{there}")
    if problems:
        raise RequestError(f"results {where}", problems)
    return Tables(folder=where, **frames)


_WHOLE = frozenset({"folds_done", "folds_total", "seeds", "seed", "utterances", "epochs"})
"""Columns of whole numbers. An estimator has no epochs; a table that holds one has pandas' ``Int64`` there."""
_FRACTIONS = frozenset({"war", "uar"} | {f"{m}_{kind}" for m in ("war", "uar") for kind in ("pooled", "mean", "sd")})


def _frame(text: str) -> pd.DataFrame:
    """Read one table. Columns are text unless known to be numbers: an emotion may be called ``NA``, a fold ``03``."""
    import pandas as pd

    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    for column in frame.columns:
        if column in _WHOLE:
            empty = frame[column] == ""
            frame[column] = frame[column].mask(empty).astype("Int64" if empty.any() else "int64")
        elif column in _FRACTIONS or column.startswith(("recall_", "p_")):
            frame[column] = frame[column].replace("", "nan").astype("float64")
    return frame


def _described(sweep: Any) -> Description:
    from tfser.sweep.command import describe as in_words

    return Description(
        name=sweep.name,
        search_trials=sweep.plan.search_trials,
        final_trials=sweep.plan.final_trials,
        text="\n  ".join([f"Sweep {sweep.name}", *in_words(sweep)]),
    )


def _arguments(source: str, databases: Sequence[object], options: Mapping[str, object]) -> Options:
    """Return what the command's own parser makes of databases and options.

    Raises:
        RequestError: with every one that has not the form that is meant.
    """
    from tfser.sweep.options import parse, parser

    p = parser()
    p.error = _refuse  # type: ignore[method-assign]
    problems: list[str] = []

    def left_over(words: Sequence[str]) -> list[str]:
        try:
            return p.parse_known_args(words)[1]
        except RequestError as error:
            problems.extend(error.problems)
            return []

    def names_nothing(name: str, value: object) -> bool:
        if value is False:
            return get_type_hints(SweepOptions)[name] is not bool
        return isinstance(value, Collection) and not isinstance(value, (str, Mapping)) and not value

    typed = [_database(database, problems) for database in databases]
    left_over(typed)
    for name, value in options.items():
        if name not in SweepOptions.__annotations__:
            problems.append(unknown("option", name, SweepOptions.__annotations__))
            continue
        if names_nothing(name, value):
            problems.append(f"{name}: {clipped(value)} names nothing; give a value, or leave {name} out")
            continue
        words = _words(f"--{name.replace('_', '-')}", value)
        if left_over([".", *words]):
            detail = "it takes one value, or True or False where it is a switch"
            problems.append(f"{name}: {clipped(value)} is too much; {detail}")
        typed += words
    left_over(typed)
    if problems:
        raise RequestError(source, list(dict.fromkeys(problems)))
    return parse(typed)


def _refuse(message: str) -> NoReturn:
    raise RequestError("tfser sweep", [message.removeprefix("argument ")])


def _database(database: object, problems: list[str]) -> str:
    if not isinstance(database, (str, PathLike)):
        problems.append(f"DATABASE: {clipped(database)} is no text; give a known name, a path, or audformat:PATH")
        return "."
    if str(database).startswith("-"):
        problems.append(
            f"DATABASE: {str(database)!r} begins with '-'; options are keywords, and a path can begin with ./"
        )
        return "."
    return str(database)


def _words(flag: str, value: object) -> list[str]:
    """Return what a person types for an option."""
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        value = [f"{key}={each}" for key, each in value.items()]
    values = value if isinstance(value, Iterable) and not isinstance(value, (str, PathLike)) else [value]
    words = [str(each) for each in values]
    if any(word.startswith("-") for word in words):  # a name, not the next option
        return [f"{flag}={word}" for word in words]
    return [flag, *words] if words else []
