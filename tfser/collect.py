"""``python -m tfser.collect [SWEEP or DATABASE ...]``: MLflow runs to tables and figures under results/.

Reads MLflow (or, inside a sweep whose MLflow is down, what the schedule holds) and writes what
``tfser.report`` makes of it. Trains nothing and changes no run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tfser import tracking
from tfser.errors import RequestError, TfserError, unknown
from tfser.report import tables, terminal
from tfser.report.result import Configuration, Results


def from_mlflow(uri: str, wanted: Sequence[str] = ()) -> list[Results]:
    """What MLflow holds, one value per sweep or database asked for.

    Args:
        uri: the tracking URI.
        wanted: names of sweeps or databases; empty is every sweep.

    Raises:
        RequestError: a name that no run has, or an MLflow that cannot be read.
    """
    tracking.quiet_environment()
    from mlflow import MlflowClient

    place = f"MLflow at {tracking.redacted(uri)}"
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise RequestError(place, ["there is no such database; run a sweep first, or name another with --tracking-uri"])
    try:
        client = MlflowClient(tracking_uri=uri)
        experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'tfser/%'")]
        parents = list(tracking.search_runs(client, experiments, "tags.`tfser.kind` = 'configuration'")) if experiments else []
    except Exception as error:  # MLflow passes on whatever its store raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        raise RequestError(place, [tracking.redacted(reason)]) from None
    sweeps = {run.data.tags["tfser.sweep"] for run in parents}
    databases = {run.data.tags["tfser.database"] for run in parents}
    problems = [unknown("SWEEP or DATABASE", name, sweeps | databases) for name in wanted if name not in sweeps | databases]
    if not parents:
        problems = ["it holds no tfser run; run a sweep first, or name another store with --tracking-uri"]
    if problems:
        raise RequestError(place, problems)
    collected = []
    for name in wanted or sorted(sweeps):
        key = "tfser.sweep" if name in sweeps else "tfser.database"
        chosen = [run for run in parents if run.data.tags[key] == name]
        collected.append(_results(client, name, chosen, experiments))
    return collected


def _results(client: Any, name: str, parents: Sequence[Any], experiments: list[str]) -> Results:
    """One table's rows: of runs that are the same row, the last one counts."""
    records: dict[tuple[Configuration, str, int], Mapping[str, Any]] = {}
    rows: dict[tuple[str, ...], tuple[Configuration, Any, Mapping[str, Mapping[str, str]]]] = {}
    for run in sorted(parents, key=lambda run: (run.info.start_time, run.info.run_id)):
        text = _text(client, run, "configuration.json")
        if text is None:
            continue  # the sweep was stopped before this row had a trial
        value = json.loads(text)
        configuration = tracking.from_dict(value["configuration"])
        rows[configuration.key] = (configuration, run, value["finals"])
    for configuration, run, finals in rows.values():
        sweep = run.data.tags["tfser.sweep"]
        wanted = {trial: (fold, int(seed)) for fold, by_seed in finals.items() for seed, trial in by_seed.items()}
        children = tracking.search_runs(
            client, [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and tags.`tfser.kind` = 'fold'"
        )
        found: dict[str, Any] = {}
        for child in children:
            trial = child.data.tags["tfser.trial_id"]
            if trial in wanted:
                if trial in found:
                    raise TfserError(f"MLflow holds trial {trial} of sweep {sweep} twice: runs {found[trial]} and {child.info.run_id}")
                found[trial] = child.info.run_id
                record = _record(client, child)
                if record is not None:
                    records[(configuration, *wanted[trial])] = record
    return Results(sweep=name, configurations=tuple(sorted((c for c, *_ in rows.values()), key=lambda c: c.key)), records=records)


def _record(client: Any, run: Any) -> Mapping[str, Any] | None:
    """The ledger entry that a fold's run carries, checked against the recalls that its metrics show."""
    if run.info.status == "FAILED":
        return {"status": "failed", "trial_id": run.data.tags["tfser.trial_id"], "reason": run.data.tags.get("tfser.reason", "unknown")}
    if run.info.status != "FINISHED":
        return None
    text = _text(client, run, "trial.json")
    if text is None:
        raise TfserError(f"run {run.info.run_id} has lost its trial.json; run the sweep again to write it anew")
    record: dict[str, Any] = json.loads(text)
    for name in ("war", "uar"):
        if abs(run.data.metrics[f"test/{name}"] - record[name]) > 1e-12:
            raise TfserError(f"run {run.info.run_id} says test/{name} {run.data.metrics[f'test/{name}']}, its trial.json {record[name]}")
    return record


def _text(client: Any, run: Any, name: str) -> str | None:
    """A text artifact, or ``None`` where the run has none."""
    from mlflow.exceptions import MlflowException

    location = run.info.artifact_uri
    try:
        if location.startswith("file://"):
            from urllib.parse import unquote, urlparse

            return (Path(unquote(urlparse(location).path)) / name).read_text(encoding="utf-8")
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run.info.run_id, name, folder)).read_text(encoding="utf-8")
    except (FileNotFoundError, MlflowException):
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="tfser collect", description="MLflow runs -> tables and figures under results/.")
    parser.add_argument("names", nargs="*", metavar="SWEEP or DATABASE", help="default: every sweep")
    parser.add_argument("--out", type=Path, default=None, help="where tables go, in a folder per name (default: ./results)")
    parser.add_argument("--storage", type=Path, default=None, help="the sweep's storage folder (default: OUT/.tfser)")
    parser.add_argument("--tracking-uri", default=None, help="default: MLFLOW_TRACKING_URI, else SQLite in the storage folder")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        out = arguments.out or default_out()
        storage = arguments.storage or out / ".tfser"
        uri = arguments.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None and not (storage / "mlflow.db").exists():
            raise RequestError(f"storage {storage}", ["it holds no mlflow.db; run a sweep first, or name --storage or --tracking-uri"])
        for results in from_mlflow(uri or tracking.default_uri(storage), arguments.names):
            folder = out / results.sweep  # a sweep's name and a database's are fit for a folder
            tables.write(results, folder)
            terminal.show(results, console)
            console.print(f"Tables and figures: {folder}", soft_wrap=True, markup=False, highlight=False)
    except TfserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except OSError as error:
        print(f"{error}: the tables could not be written; name another folder with --out", file=sys.stderr)
        return 1
    return 0


def default_out() -> Path:
    """Where tables go when nobody says: ./results, but durable where Ray runs this in a throw-away copy."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return Path(os.environ["TFSER_HOME"]) if os.environ.get("TFSER_HOME") else Path.home() / "tfser-results"
    return Path("results")


if __name__ == "__main__":
    sys.exit(main())
