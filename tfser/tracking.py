"""The ledger in MLflow, for people.

One experiment per database and protocol, one run per configuration, one child per final or search trial.

MLflow is a view. It is written by one thread of the driver, can be rebuilt from the ledger at any time,
and an outage never reaches training. Runs are found by tag before they are made, so that the same trial
of the same sweep never has two; metrics carry the trial's own time, so that logging again changes nothing.
"""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfser.report.result import Configuration

SCHEMES = ("databricks", "http", "https", "mssql", "mysql", "postgresql", "sqlite")
"""What a tracking URI can begin with."""

ATTEMPTS = 3
"""How often a write is tried before the trial is left to the next start."""


def quiet_environment() -> None:
    """No telemetry and no chatter; before MLflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    # MLflow's own defaults try one request for four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.getLogger("alembic").setLevel(logging.ERROR)


def default_uri(storage: Path) -> str:
    """SQLite in the storage folder: nothing to set up."""
    return f"sqlite:///{storage.resolve() / 'mlflow.db'}"


def experiment_name(configuration: Configuration) -> str:
    """One experiment per database and protocol."""
    return f"tfser/{configuration.database}/{configuration.protocol}"


def configuration_key(configuration: Configuration) -> str:
    """Tells the configurations of a sweep apart."""
    return " ".join(configuration.key)


class Tracker:
    """Writes runs through one MLflow client; every call may raise what MLflow raises.

    Args:
        uri: the tracking URI.
        sweep: the sweep's name, in the tags of every run.
        artifacts: where artifacts go when the tracking store is a local database; a server decides itself.
    """

    def __init__(self, uri: str, sweep: str, artifacts: Path) -> None:
        quiet_environment()
        from mlflow import MlflowClient

        self.uri, self.sweep = uri, sweep
        self._artifacts = artifacts.resolve() if uri.startswith("sqlite:") else None
        self._client = MlflowClient(tracking_uri=uri)
        self._experiments: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._known: dict[str, dict[str, str]] = {}
        self._ended: dict[str, str] = {}
        """Trial id to the status that its run ended with."""

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            if found is None:
                location = (self._artifacts / name).as_uri() if self._artifacts else None
                self._experiments[name] = self._client.create_experiment(
                    name, artifact_location=location, tags={"mlflow.experimentKind": "custom_model_development"}
                )
            else:
                self._experiments[name] = found.experiment_id
        return self._experiments[name]

    def _runs(self, experiment: str) -> dict[str, str]:
        """Key (of a configuration, or a trial id) to run id, of the runs that this sweep already has there."""
        if experiment not in self._known:
            self._known[experiment] = {}
            for run in search_runs(self._client, [experiment], f"tags.`tfser.sweep` = '{self.sweep}'"):
                key = run.data.tags["tfser.key"]
                self._known[experiment][key] = run.info.run_id
                self._ended[key] = run.info.status
        return self._known[experiment]

    def configuration(
        self, configuration: Configuration, finals: Mapping[str, Mapping[str, str]], numbers: Mapping[str, float], time_ms: int
    ) -> str:
        """Bring the run of a configuration up to date; returns its run id.

        Args:
            configuration: the row.
            finals: fold to seed to the id of the final trial, as far as they are known.
            numbers: recalls over the folds that are done, as fractions.
            time_ms: when the last of those folds ended, so that logging again changes nothing.
        """
        run_id = self._parent(configuration)
        text = json.dumps({"configuration": to_dict(configuration), "finals": finals}, sort_keys=True, ensure_ascii=False)
        self._client.log_text(run_id, text, "configuration.json")
        self._batch(run_id, metrics=numbers, time_ms=time_ms)
        self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def _parent(self, configuration: Configuration) -> str:
        """The run id of a configuration's run, made where there is none."""
        experiment = self._experiment(experiment_name(configuration))
        key, runs, c = configuration_key(configuration), self._runs(experiment), configuration
        if key not in runs:
            note = f"{c.model} {c.ablation} on {c.database}, one {c.protocol} held out per fold. {c.remark}".strip()
            tags = {**self._tags("configuration", key, c), "mlflow.note.content": note}
            run = self._client.create_run(experiment, tags=tags, run_name=f"{c.database} · {c.ablation} · {c.selection} · {self.sweep}")
            runs[key] = run.info.run_id
            params = {"database": c.database, "protocol": c.protocol, "model": c.model, "ablation": c.ablation, "selection": c.selection}
            self._batch(runs[key], params=params)
        return runs[key]

    def _tags(self, kind: str, key: str, configuration: Configuration) -> dict[str, str]:
        c = configuration
        return {
            "tfser.sweep": self.sweep,
            "tfser.kind": kind,
            "tfser.key": key,
            "tfser.database": c.database,
            "tfser.protocol": c.protocol,
            "tfser.model": c.model,
            "tfser.ablation": c.ablation,
            "tfser.selection": c.selection,
        }

    def trial(self, configuration: Configuration, record: Mapping[str, Any]) -> None:
        """One trial as a child of its configuration's run; nothing happens when it is there and whole."""
        spec = record["spec"]
        experiment = self._experiment(experiment_name(configuration))
        runs = self._runs(experiment)
        key = record["trial_id"]
        status = "FINISHED" if record["status"] == "done" else "FAILED"
        if self._ended.get(key) == status:
            return
        start, end = (int(1000 * t) for t in (record["started_unix"], record["started_unix"] + record["seconds"]))
        if key not in runs:
            kind = "search" if spec["purpose"] == "search" else "fold"
            tags = {
                **self._tags(kind, key, configuration),
                "tfser.trial_id": key,
                "tfser.fold": spec["fold"],
                "tfser.seed": str(spec["seed"]),
                "tfser.purpose": spec["purpose"],
                "mlflow.parentRunId": self._parent(configuration),
            }
            held = f"{configuration.protocol} {spec['fold']}"
            if spec["validation"]:
                held += f", validated on {', '.join(spec['validation'])}"
            run = self._client.create_run(experiment, start_time=start, tags=tags, run_name=f"{kind} · {held} · seed {spec['seed']}")
            runs[key] = run.info.run_id
        run_id = runs[key]
        named = ("database", "protocol", "fold", "model", "ablation", "seed", "epochs", "database_digest", "numerics")
        params = {name: spec[name] for name in named}
        self._batch(run_id, params={**params, **spec["hyperparameters"]})
        if record["status"] != "done":
            self._client.set_tag(run_id, "tfser.reason", record["reason"][:5000])
            self._client.set_terminated(run_id, status, end_time=end)
            self._ended[key] = status
            return
        scored = "validation" if spec["purpose"] == "search" else "test"
        metrics = {
            f"{scored}/war": record["war"],
            f"{scored}/uar": record["uar"],
            **{f"{scored}/recall/{e}": r for e, r in record["recalls"].items() if r is not None},
            f"{scored}/segment_war": record["segments"]["war"],
            f"{scored}/segment_uar": record["segments"]["uar"],
            "seconds": record["seconds"],
            "parameters": record["parameters"],
        }
        self._batch(run_id, metrics=metrics, time_ms=end)
        curves = {name.replace("_", "/", 1): values for name, values in record["curves"].items() if values}
        self._curves(run_id, curves, end)
        self._client.set_tag(run_id, "tfser.versions", json.dumps(record["versions"], sort_keys=True))
        self._client.log_text(run_id, json.dumps(record, sort_keys=True, ensure_ascii=True), "trial.json")
        if spec["purpose"] != "search":
            self._client.log_text(run_id, _confusion_csv(record), "confusion.csv")
        self._client.set_terminated(run_id, status, end_time=end)
        self._ended[key] = status

    def _batch(
        self, run_id: str, params: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None, time_ms: int | None = None
    ) -> None:
        from mlflow.entities import Metric, Param

        stamp = time_ms if time_ms is not None else int(1000 * time.time())
        self._client.log_batch(
            run_id,
            params=[Param(k, str(v)) for k, v in (params or {}).items()],
            metrics=[Metric(_metric_name(k), float(v), stamp, 0) for k, v in (metrics or {}).items()],
        )

    def _curves(self, run_id: str, curves: Mapping[str, list[float]], time_ms: int) -> None:
        from mlflow.entities import Metric

        points = [Metric(f"{name}_curve", float(v), time_ms, step) for name, values in curves.items() for step, v in enumerate(values, 1)]
        for first in range(0, len(points), 1000):
            self._client.log_batch(run_id, metrics=points[first : first + 1000])


class Mirror:
    """Writes ended trials to MLflow in a thread of its own, so that neither Tune nor training waits for it."""

    def __init__(self, make: Callable[[], Tracker], warn: Callable[[str], None]) -> None:
        self._make, self._warn = make, warn
        self._queue: queue.Queue[Callable[[Tracker], object] | None] = queue.Queue()
        self.lost = 0
        """Writes that were given up; the next start of the sweep makes up for them."""
        self._thread = threading.Thread(target=self._work, name="tfser-mlflow", daemon=True)
        self._thread.start()

    def put(self, write: Callable[[Tracker], object]) -> None:
        """Do ``write`` when its turn comes."""
        self._queue.put(write)

    def close(self) -> None:
        """Wait until everything has been written or given up."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        tracker: Tracker | None = None
        while (write := self._queue.get()) is not None:
            if self.lost:  # the next start makes up for it; trying each trial in turn would keep the person waiting
                self.lost += 1
                continue
            for attempt in range(ATTEMPTS):
                try:
                    tracker = tracker or self._make()
                    write(tracker)
                    break
                except Exception as error:  # whatever MLflow raises must not reach training
                    last = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                    tracker = None
                    time.sleep(attempt)
            else:
                self.lost += 1
                self._warn(f"MLflow could not be written ({redacted(last)}); training goes on, and the next start makes up for it")


def redacted(uri: str) -> str:
    """The text with every password in a URI hidden.

    >>> redacted("--tracking-uri=http://anna:secret@host:5000/x")
    '--tracking-uri=http://anna:***@host:5000/x'
    """
    return re.sub(r"(://[^:/@\s]*):[^/\s]+@", r"\1:***@", uri)


def search_runs(client: Any, experiments: list[str], filter_string: str) -> Iterator[Any]:
    """Every active run that matches, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def to_dict(configuration: Configuration) -> dict[str, Any]:
    """A configuration as JSON values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(configuration).items()}


def from_dict(values: Mapping[str, Any]) -> Configuration:
    """The inverse of ``to_dict``."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Configuration(**fields)


def _metric_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs in a metric's name; the rest becomes ``-``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "-" for c in name)


def _confusion_csv(record: Mapping[str, Any]) -> str:
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["true", *record["emotions"]])
    writer.writerows([e, *row] for e, row in zip(record["emotions"], record["confusion"], strict=True))
    return buffer.getvalue()
