"""What MLflow's runs of trials cost the driver, in a local SQLite database: CPU time, runs a second, bytes.

The trials are made up; everything from the record to the rows and files is the project's own and MLflow's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tfser.benchmark import far, made_up
from tfser.benchmark.figures import Figure, Scale, figure
from tfser.planning.configuration import Configuration
from tfser.record import Record
from tfser.storage import temporary
from tfser.tracking import content
from tfser.tracking.connection import default_uri
from tfser.tracking.runs import Tracker


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of a run, on average."""

    cpu_ms: float
    wall_ms: float
    database_kb: float
    files_kb: float


def measure(scale: Scale) -> list[Figure]:
    """Measure runs of final trials through the project's calls, and beside them through MLflow's own store."""
    runs, repeats = (4, 1) if scale.quick else (300, 3)
    found = []
    for epochs in (20, 300):
        trials = _trials(runs + 1, epochs)
        ours, theirs, whole = [], [], []
        for _ in range(repeats):
            ours.append(_cost(trials))
            theirs.append(_cost(trials, own_store=True))
            with mock.patch.object(content, "POINTS", epochs):
                whole.append(_cost(trials[: max(2, runs // 5)]))
        what = f"MLflow's run of a trial of {epochs} epochs"
        own, every = "(to MLflow's own store)", "(to every epoch of its curves)"
        found += [
            figure(f"{what}, CPU {own}", "ms", [c.cpu_ms for c in ours], [c.cpu_ms for c in theirs]),
            figure(f"{what}, rate {own}", "1/s", [1e3 / c.wall_ms for c in ours], [1e3 / c.wall_ms for c in theirs]),
            figure(f"{what}, SQLite {every}", "kB", [c.database_kb for c in ours], [c.database_kb for c in whole]),
            figure(f"{what}, files {every}", "kB", [c.files_kb for c in ours], [c.files_kb for c in whole]),
        ]
    return found


def _trials(number: int, epochs: int) -> list[tuple[Configuration, Record]]:
    made = far.finals(number, epochs)
    specs = [(s.configuration, one) for s in made.studies for one in s.final_specs(s.base, s.epochs).values()]
    return [(c, made_up.record(spec, far.EMOTIONS, 40)) for c, spec in specs[:number]]


def _cost(trials: list[tuple[Configuration, Record]], *, own_store: bool = False) -> _Cost:
    """Log trials to a new database; the first, with which tables and experiment are made, is not counted.

    Args:
        trials: at least two, each with its row.
        own_store: whether every call goes through MLflow's own store.
    """
    with temporary.Folder("benchmark") as folder:
        uri = default_uri(folder)
        tracker = Tracker(uri, "benchmark", folder / "mlartifacts")
        if own_store:
            from mlflow.tracking._tracking_service.client import TrackingServiceClient

            tracker._client._client._tracking_client = TrackingServiceClient(uri)
        tracker.trial(*trials[0])
        before, cpu, wall = _sizes(folder), time.process_time(), time.perf_counter()
        for configuration, record in trials[1:]:
            tracker.trial(configuration, record)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        count = len(trials) - 1
        database, files = ((now - then) / 1e3 / count for now, then in zip(_sizes(folder), before, strict=True))
    return _Cost(1e3 * cpu / count, 1e3 * wall / count, database, files)


def _sizes(folder: Path) -> tuple[int, int]:
    """Return the bytes of the database and of the files of its runs."""
    files = sum(path.stat().st_size for path in (folder / "mlartifacts").rglob("*") if path.is_file())
    return (folder / "mlflow.db").stat().st_size, files
