"""Tables from MLflow: 1,200 fold runs in a local database, read back and reduced, beside only parsing their records."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tfser.benchmark import made_up
from tfser.benchmark.figures import Figure, Scale, figure, seconds
from tfser.models import PROPOSED
from tfser.planning.configuration import Configuration
from tfser.record import Record, to_dict
from tfser.report import write
from tfser.storage import temporary
from tfser.tracking import connection as tracking_connection
from tfser.tracking import runs as tracking_runs
from tfser.tracking.reading import from_mlflow
from tfser.trial import TrialSpec

EMOTIONS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
FOLDS = tuple(f"speaker{number:02d}" for number in range(10))
UTTERANCES = 54
"""Utterances per fold; with ten folds and seven emotions, a corpus of EmoDB's size."""
EPOCHS = 100
SEEDS = 15
"""Seeds: with two models of four ablations and ten folds, 1,200 runs."""


def measure(scale: Scale) -> list[Figure]:
    """Measure both models' ablations over ten folds: from MLflow's runs to records, and to all tables without pictures.

    The baseline of both parses the same records from files and does nothing else.
    """
    rows = _rows(seeds=1 if scale.quick else SEEDS, folds=1 if scale.quick else len(FOLDS))
    runs = sum(len(row.folds) * len(row.seeds) for row in rows)
    collected: list[float] = []
    written: list[float] = []
    bare: list[float] = []
    with temporary.Folder("benchmark") as name:
        folder = Path(name)
        uri = tracking_connection.default_uri(folder)
        _log(uri, folder, rows)
        for repeat in range(scale.repeats + 1):  # the first round warms caches and is not counted
            loop = seconds(lambda: _bare_loop(folder / "records"))
            both = (seconds(lambda: _collect(uri, runs)), seconds(lambda: _tables(uri, folder / "tables")))
            if repeat:
                bare.append(loop)
                collected.append(both[0])
                written.append(both[1])
    what = f"{runs} fold runs from MLflow"
    return [
        figure(f"{what}, to records", "s", collected, bare),
        figure(f"{what}, to tables without pictures", "s", written, bare),
    ]


def _rows(*, seeds: int, folds: int) -> list[Configuration]:
    """Plan every ablation of every model on one corpus."""
    return [
        Configuration(
            database="benchmark",
            protocol="speaker",
            model=model,
            ablation=ablation,
            selection="fixed",
            emotions=EMOTIONS,
            folds=FOLDS[:folds],
            folds_total=folds,
            seeds=tuple(range(seeds)),
        )
        for model, entry in PROPOSED.items()
        for ablation in entry.ablations
    ]


def _log(uri: str, folder: Path, rows: list[Configuration]) -> None:
    """Log every row with its runs as a sweep does, and write each record into a file too."""
    (folder / "records").mkdir()
    with _unsynchronised():
        tracker = tracking_runs.Tracker(uri, "benchmark", folder / "mlartifacts")
        for row in rows:
            finals: dict[str, dict[str, str]] = {fold: {} for fold in row.folds}
            for fold in row.folds:
                for seed in row.seeds:
                    record = _record(row, fold, seed)
                    finals[fold][str(seed)] = record.trial_id
                    tracker.trial(row, record)
                    (folder / "records" / f"{record.trial_id}.json").write_text(
                        json.dumps(to_dict(record)), encoding="utf-8"
                    )
            tracker.configuration(row, finals, {}, 0)


@contextlib.contextmanager
def _unsynchronised() -> Iterator[None]:
    """Let SQLite not wait for the disk: thousands of runs are written, and none needs to survive a power cut."""

    def relax(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _record(row: Configuration, fold: str, seed: int) -> Record:
    """Make a complete ledger entry with made-up scores."""
    spec = TrialSpec(
        database=row.database,
        database_digest="0123456789abcdef",
        protocol=row.protocol,
        fold=fold,
        purpose="final",
        validation=(),
        model=row.model,
        ablation=row.ablation,
        seed=seed,
        epochs=EPOCHS,
        hyperparameters=(("batch_size", 32), ("channels", 16), ("learning_rate", 0.001)),
    )
    return made_up.record(spec, row.emotions, UTTERANCES)


def _bare_loop(folder: Path) -> int:
    """Read and parse every record of the folder, and count their utterances."""
    entries: Iterator[Mapping[str, Any]] = (json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir())
    return sum(len(entry["utterances"]) for entry in entries)


def _collect(uri: str, runs: int) -> None:
    (results,) = from_mlflow(uri)
    assert len(results.entries) == runs


def _tables(uri: str, folder: Path) -> None:
    """Do what ``tfser collect`` does, except for the pictures, one per row."""
    (results,) = from_mlflow(uri)
    write.write(results, folder, pictures=False)
