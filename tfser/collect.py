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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from tfser import tracking, tracking_uri
from tfser.errors import RequestError, TfserError, unknown
from tfser.files import Place, place, typed_place
from tfser.report import searches, tables, terminal, trace
from tfser.report.provenance import Provenance
from tfser.report.result import Configuration, Results
from tfser.report.searches import History
from tfser.streams import take_any_text
from tfser.typed import typed_words

READERS = 8
"""Records that are fetched side by side: through a server each takes a request."""


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
    database = tracking_uri.sqlite_path(uri)
    if database is not None and not database.exists():
        raise RequestError(place, ["there is no such database; run a sweep first, or name another with --tracking-uri"])
    try:
        return _collected(MlflowClient(tracking_uri=uri), uri, wanted, place)
    except (TfserError, KeyboardInterrupt):
        raise
    except Exception as error:  # MLflow passes on whatever its stores raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        raise RequestError(place, [tracking.redacted(reason)]) from None


def _collected(client: Any, uri: str, wanted: Sequence[str], place: str) -> list[Results]:
    experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'tfser/%'")]
    parents = list(tracking.search_runs(client, experiments, "tags.`tfser.kind` = 'configuration'")) if experiments else []
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
        collected.append(_results(client, uri, name, chosen))
    return collected


def _results(client: Any, uri: str, name: str, parents: Sequence[Any]) -> Results:
    """One table's rows: of runs that are the same row, the last one counts."""
    records: dict[tuple[Configuration, str, int], Mapping[str, Any]] = {}
    runs: dict[tuple[Configuration, str, int], str] = {}
    histories: list[History] = []
    commands: set[str] = set()
    rows: dict[tuple[str, ...], tuple[Configuration, Any, Mapping[str, Mapping[str, str]]]] = {}
    for run in sorted(parents, key=lambda run: (run.info.start_time, run.info.run_id)):
        text = tracking.artifact_text(uri, run, "configuration.json")
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
        searched = tracking.artifact_text(uri, run, "search.json")
        histories += searches.from_json(searched) if searched else []
        commands.add(run.data.tags.get("tfser.command", ""))
        found: dict[str, Any] = {}
        for child in children:
            trial = child.data.tags["tfser.trial_id"]
            if trial in wanted:
                if trial in found:
                    other = found[trial].info.run_id
                    raise TfserError(f"MLflow holds trial {trial} of sweep {sweep} twice: runs {other} and {child.info.run_id}")
                found[trial] = child
                runs[configuration, *wanted[trial]] = child.info.run_id
        with ThreadPoolExecutor(READERS) as readers:
            for trial, record in zip(found, readers.map(lambda child: _record(uri, child), found.values()), strict=True):
                if record is not None:
                    records[(configuration, *wanted[trial])] = record
    return Results(
        sweep=name,
        configurations=tuple(sorted((c for c, *_ in rows.values()), key=lambda c: c.key)),
        records=records,
        runs=runs,
        row_runs={configuration: run.info.run_id for configuration, run, _ in rows.values()},
        histories=tuple(histories),
        command=commands.pop() if len(commands) == 1 else "",
    )


def _record(uri: str, run: Any) -> Mapping[str, Any] | None:
    """The ledger entry that a fold's run carries, checked against the recalls that its metrics show."""
    if run.info.status == "FAILED":
        return {"status": "failed", "trial_id": run.data.tags["tfser.trial_id"], "reason": run.data.tags.get("tfser.reason", "unknown")}
    if run.info.status != "FINISHED":
        return None
    text = tracking.artifact_text(uri, run, "trial.json")
    if text is None:
        raise TfserError(f"run {run.info.run_id} has lost its trial.json; run the sweep again to write it anew")
    try:
        record: dict[str, Any] = json.loads(text)
    except ValueError:
        raise TfserError(
            f"the trial.json of run {run.info.run_id} is damaged; delete that run, and run the sweep again to write it anew"
        ) from None
    for name in ("war", "uar"):
        if abs(run.data.metrics[f"test/{name}"] - record[name]) > 1e-12:
            raise TfserError(f"run {run.info.run_id} says test/{name} {run.data.metrics[f'test/{name}']}, its trial.json {record[name]}")
    return record


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    take_any_text()
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="tfser collect", description="MLflow runs -> tables and figures under results/."
    )
    parser.add_argument("names", nargs="*", metavar="SWEEP or DATABASE", help="default: every sweep")
    parser.add_argument("--out", type=typed_place, default=None, help="where tables go, in a folder per name (default: ./results)")
    parser.add_argument("--storage", type=typed_place, default=None, help="the sweep's storage folder (default: OUT/.tfser)")
    parser.add_argument(
        "--tracking-uri", type=typed_words, default=None, help="default: MLFLOW_TRACKING_URI, else SQLite in the storage folder"
    )
    ask = parser.add_mutually_exclusive_group()
    behind = "print the trials and runs behind a printed number, and write nothing"
    ask.add_argument("--trace", nargs="+", action="extend", metavar="WORD", help=behind)
    ask.add_argument("--repeat", metavar="TRIAL", help="print the command that trains a final trial again, by its id or run; write nothing")
    parser.add_argument("--json", action="store_true", help="with --trace: as JSON")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        if arguments.json and arguments.trace is None:
            raise RequestError("--json", ["it prints what --trace finds; add --trace WORD, or leave it out"])
        out = default_out() if arguments.out is None else arguments.out
        storage = out / ".tfser" if arguments.storage is None else arguments.storage
        problems: list[str] = []
        uri = tracking_uri.given(arguments.tracking_uri, problems)
        if problems:
            raise RequestError("tfser collect", problems)
        if uri is None and not (isinstance(storage, Path) and (storage / "mlflow.db").exists()):
            raise RequestError(f"storage {storage}", ["it holds no mlflow.db; run a sweep first, or name --storage or --tracking-uri"])
        uri = uri or tracking.default_uri(Path(str(storage)))
        collected = from_mlflow(uri, list(dict.fromkeys(arguments.names)))
        if arguments.trace is not None or arguments.repeat is not None:
            print(_traced(collected, arguments) if arguments.trace is not None else _repeated(collected, arguments.repeat), end="")
            return 0
        for results in collected:
            folder = out / results.sweep  # a sweep's name and a database's are fit for a folder
            tables.write(results, folder, made=Provenance(tracking_uri=tracking.redacted(uri)))
            terminal.show(results, console)
            console.print(f"Tables and figures: {folder}", soft_wrap=True, markup=False, highlight=False)
    except TfserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except OSError as error:
        print(f"{error}: the tables could not be written; name another folder with --out", file=sys.stderr)
        return 1
    return 0


def _traced(collected: Sequence[Results], arguments: argparse.Namespace) -> str:
    """What is behind the numbers that were asked for, in every sweep that has such a number."""
    texts, refused = [], []
    for results in collected:
        try:
            found = trace.trace(results, arguments.trace)
            texts.append(trace.to_json(found) if arguments.json else f"{results.sweep}\n{trace.to_text(found, results)}")
        except RequestError as error:
            refused.append(error)
    if refused and not texts:
        raise refused[0]
    return "".join(texts)


def _repeated(collected: Sequence[Results], word: str) -> str:
    """The command that repeats a trial, whichever sweep has it; ``word`` is its id or that of its MLflow run."""
    places = [(results, key, record) for results in collected for key, record in results.records.items()]
    found = next((p for p in places if word in (p[2]["trial_id"], p[0].runs.get(p[1]))), None)
    if found is None:
        reason = (
            f"no final trial or run {word or 'without a name'}; the column trial_id of folds.csv has the trials, --trace prints their runs"
        )
        raise RequestError("--repeat", [reason])
    results, (configuration, *_), record = found
    if "spec" not in record:
        reason = "it failed, and its run holds no settings; --retry-failed after its sweep's command trains it again"
        raise RequestError(f"trial {record['trial_id']}", [reason])
    return trace.repeat(record, command=results.command, incomplete=not configuration.complete) + "\n"


def default_out() -> Place:
    """Where tables go when nobody says: ./results, but durable where Ray runs this in a throw-away copy.

    Raises:
        RequestError: TFSER_HOME is needed and names no place.
    """
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return Path("results")
    try:
        return place(os.environ.get("TFSER_HOME") or "~/tfser-results")
    except ValueError as error:
        raise RequestError("TFSER_HOME", [str(error)]) from None


if __name__ == "__main__":
    sys.exit(main())
