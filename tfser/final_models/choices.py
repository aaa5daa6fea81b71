"""The trials that a person can mean by a sweep's name, an MLflow run or the beginning of an id."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tfser.errors import RequestError, in_a_line
from tfser.execution import rows
from tfser.storage import passwords
from tfser.storage.ledger import Ledger
from tfser.storage.places import NAME, Place, listed, read_text
from tfser.tracking import connection
from tfser.trial import is_beginning

SHOWN = 12
"""Most choices that a message lists; of further ones it gives the number."""

DAMAGED = "the entry was damaged and has been set aside; the command of its sweep trains that trial again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One final trial that a request can mean."""

    trial_id: str
    database: str
    model: str
    ablation: str
    fold: str
    """Empty for a model for use, which is trained on all of them."""
    seed: str
    purpose: str = "final"

    def __str__(self) -> str:
        trained = f"fold {self.fold}" if self.fold else "the model for use, trained on everything"
        return f"{self.trial_id}  {self.database} {trained}, {self.model} {self.ablation}, seed {self.seed}"


NARROWING = ("database", "model", "ablation", "fold", "seed", "purpose")
"""Fields of ``Choice`` that have an option of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The places where finished trials are looked up."""

    storage: Place
    """Holds the ledger, the features and, by default, MLflow's database."""
    results: Place
    """Holds a folder of tables per sweep."""
    tracking_uri: str | None = None
    """MLflow's, where it was named."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of the storage."""
        return Ledger(self.storage / "ledger")

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI.

        Raises:
            RequestError: none was named, and the storage holds no database of MLflow.
        """
        if self.tracking_uri:
            return self.tracking_uri
        if not isinstance(self.storage, Path) or not (self.storage / "mlflow.db").exists():
            raise RequestError(f"storage {self.storage}", ["it holds no mlflow.db; name MLflow with --tracking-uri"])
        return connection.default_uri(self.storage)


def meant(run: str, place: Source) -> Iterable[Choice]:
    """Yield every final trial that RUN can mean."""
    word = run.lower()
    if is_beginning(word):
        yield from _by_id(word, place.ledger)
    if re.fullmatch("[0-9a-f]{32}", word):
        yield from _of_mlflow_run(word, place.mlflow_uri)
    if NAME.fullmatch(run):
        yield from _of_sweep(place.results / run / "folds.csv")
        yield from _deployed(place.storage, run)


def _by_id(word: str, ledger: Ledger) -> list[Choice]:
    try:
        ids = [word] if len(word) == 16 else sorted(i for i in ledger.ids() if i.startswith(word))
        entries = [ledger.get(i) for i in ids]
    except OSError as error:
        raise RequestError(
            f"ledger {ledger.root}", [f"{error.strerror or error}; name the sweep's storage with --storage"]
        ) from None
    if ledger.damaged:
        raise RequestError(f"ledger {ledger.root}", [f"{path}: {DAMAGED}" for path in ledger.damaged])
    specs = [entry.spec for entry in entries if entry is not None and entry.spec is not None]
    finals = [spec for spec in specs if spec.purpose != "search" and not spec.leaks]
    # Search and leaking trials only where no final trial has this prefix: the refusal then says what they are.
    return [
        Choice(trial_id=spec.trial_id, **{name: str(getattr(spec, name)) for name in NARROWING})
        for spec in finals or specs
    ]


def _of_sweep(table: Place) -> list[Choice]:
    try:
        lines = list(csv.DictReader(io.StringIO(read_text(table))))
        return [
            Choice(
                purpose="oracle" if line.get("selection") == "oracle" else "final",
                **{name: line[name] for name in ("trial_id", *NARROWING) if name != "purpose"},
            )
            for line in lines
        ]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, KeyError) as error:
        reason = f"has no column {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
        raise RequestError(str(table), [f"it {reason}; make it again with tfser collect"]) from None


def _deployed(storage: Place, sweep: str) -> list[Choice]:
    """Return the models for use of a sweep, which no table shows."""
    return [
        Choice(
            trial_id=row.deploy,
            fold="",
            seed="0",
            purpose="deploy",
            **{name: getattr(row.configuration, name) for name in ("database", "model", "ablation")},
        )
        for row in rows.read(storage, sweep)
        if row.deploy
    ]


def _of_mlflow_run(run_id: str, uri: str) -> list[Choice]:
    connection.quiet_environment()
    from mlflow import MlflowClient

    place = f"MLflow at {passwords.redacted(uri)}"
    try:
        client = MlflowClient(tracking_uri=uri)
        run = client.get_run(run_id)
        runs = [run]
        if run.data.tags.get("tfser.kind") == "configuration":
            children = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.`tfser.kind` != 'search'"
            runs = list(connection.search_runs(client, [run.info.experiment_id], children))
    except Exception as error:  # MLflow passes on whatever its store raises
        reason = in_a_line(error)
        raise RequestError(place, [f"run {run_id}: {passwords.redacted(reason)}"]) from None
    if "tfser.kind" not in run.data.tags:
        raise RequestError(place, [f"run {run_id} is not one of tfser's"])
    about = [{name.removeprefix("tfser."): value for name, value in r.data.tags.items()} for r in runs]
    return [Choice(**{n: tags[n] for n in ("trial_id", *NARROWING) if n in tags}) for tags in about]


def none_found(place: Source) -> str:
    """Return the sentence for a RUN that was not found: what was looked for, and where."""
    sweeps = [path.parent.name for path in listed(place.results, "*/folds.csv")]
    sweeps = sorted({*sweeps, *(row.sweep for row in rows.every(place.storage) if row.deploy)})
    there = f"there are {', '.join(sweeps[:SHOWN])}" if sweeps else "there is none"
    return (
        f"it is no trial in {place.ledger.root}, no MLflow run id (32 digits) and no sweep with tables in "
        f"{place.results} ({there}); name another folder with --results or --storage"
    )


def order(choice: Choice) -> tuple[str, ...]:
    return tuple(getattr(choice, name) for name in ("database", "model", "ablation", "fold", "seed", "trial_id"))
