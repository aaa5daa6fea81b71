"""Rows and records read back: from the ledger where it is at hand, else from MLflow."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfser.errors import RequestError, TfserError, in_a_line, unknown
from tfser.execution import rows
from tfser.execution.results import Results
from tfser.execution.rows import Row
from tfser.planning import configuration as planning_configuration
from tfser.record import Entry, Failure, Record, from_dict
from tfser.search import history
from tfser.storage import passwords
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place
from tfser.tracking import connection
from tfser.tracking import runs as tracking_runs
from tfser.tracking import uri as tracking_uri

READERS = 8
"""Records that are fetched side by side: through a server each takes a request."""


def from_mlflow(uri: str, wanted: Sequence[str] = ()) -> list[Results]:
    """What MLflow alone holds, one value per sweep or database asked for (see ``gather``).

    Args:
        uri: the tracking URI.
        wanted: names of sweeps or databases; empty is every sweep.

    Raises:
        RequestError: a name that no run has, or an MLflow that cannot be read.
        TfserError: artifacts of what was asked for are missing, or MLflow contradicts itself.
    """
    found, missing = gather(None, uri, wanted)
    if missing:
        raise TfserError("\n".join(missing))
    return found


def gather(
    storage: Place | None, uri: str | None, wanted: Sequence[str] = (), warn: Callable[[str], None] = lambda text: None
) -> tuple[list[Results], list[str]]:
    """What is there of sweeps and databases: from the ledger, and from MLflow what no ledger at hand holds.

    Args:
        storage: holds the ledger and what is kept beside it; ``None`` where there is none at hand.
        uri: MLflow's; ``None`` where there is none.
        wanted: names of sweeps or databases; empty is every sweep.
        warn: told when the ledger's rows have to do without MLflow.

    Returns:
        A value per name, and per state of a database where it has several; and for each name whose tables would lack finished
        trials, why: it is not among the values then.

    Raises:
        RequestError: a name that nothing has, or an MLflow that cannot be read where the ledger does not hold what was asked for.
    """
    kept = rows.every(storage) if storage is not None else []
    names = {name for row in kept for name in (row.sweep, row.configuration.database)}
    held = None
    try:
        held = _Held(uri, storage) if uri is not None else None
        return _gathered(storage, held, kept, wanted)
    except RequestError as error:
        if held is not None or not kept or not set(wanted) <= names:
            raise
        warn(f"The tables are made from the ledger, because MLflow cannot be read: {'; '.join(error.problems)}")
        return _gathered(storage, None, kept, wanted)


def _gathered(
    storage: Place | None, held: _Held | None, kept: Sequence[Row], wanted: Sequence[str]
) -> tuple[list[Results], list[str]]:
    parents = held.parents if held is not None else []
    sweeps = {row.sweep for row in kept} | {run.data.tags["tfser.sweep"] for run in parents}
    databases = {row.configuration.database for row in kept} | {run.data.tags["tfser.database"] for run in parents}
    problems = [
        unknown("SWEEP or DATABASE", name, sweeps | databases) for name in wanted if name not in sweeps | databases
    ]
    if not sweeps:
        problems = ["it holds no tfser run; run a sweep first, or name another store with --tracking-uri"]
    if problems:
        raise RequestError(held.place if held is not None else f"storage {storage}", problems)
    ledger = Ledger(storage / "ledger") if storage is not None else None
    found: list[Results] = []
    missing: list[str] = []
    for name in wanted or sorted(sweeps):
        chosen = [row for row in kept if name == (row.sweep if name in sweeps else row.configuration.database)]
        tag = "tfser.sweep" if name in sweeps else "tfser.database"
        theirs = [run for run in parents if run.data.tags[tag] == name]
        try:
            made = rows.assembled(name, *_found(chosen, theirs, ledger, held))
            found += made
            if not made and wanted:
                missing.append(f"{name}: it was stopped before it had a trial; the command of its sweep goes on")
        except _MissingError as error:
            missing.append(
                f"{name}: its tables are left as they are, because finished trials cannot be read:\n  - {error}"
            )
    return found, missing if found or missing else ["nothing has been trained yet; the command of a sweep goes on"]


class _MissingError(TfserError):
    """What is known to be finished cannot be read; the text says what, and where it was looked for."""


def older_rows(storage: Place, uri: str, sweep: str) -> list[Row]:
    """What a sweep's runs in MLflow say of rows that were not kept beside the ledger: those of an earlier version.

    Raises:
        RequestError: MLflow cannot be read.
        TfserError: it knows of finished trials that neither it nor the ledger holds.
    """
    held = _Held(uri, storage)
    theirs = [run for run in held.parents if run.data.tags["tfser.sweep"] == sweep]
    return _found([], theirs, Ledger(storage / "ledger"), held)[0] if theirs else []


def with_runs(results: Results, storage: Place, uri: str) -> Results:
    """The same with the ids of MLflow's runs.

    Args:
        results: of one sweep.
        storage: where its ledger is.
        uri: MLflow's.

    Raises:
        RequestError: MLflow cannot be read.
    """
    held = _Held(uri, storage)
    parents = {run.data.tags["tfser.key"]: run for run in held.parents if run.data.tags["tfser.sweep"] == results.sweep}
    with held.reading():
        children = held.children({results.sweep})
    runs = {
        key: children[entry.trial_id].info.run_id
        for key, entry in results.entries.items()
        if entry.trial_id in children
    }
    of_rows = {
        c: parents[key].info.run_id
        for c in results.configurations
        for key in tracking_runs.every_key(c)[::-1]
        if key in parents
    }
    return replace(results, runs=runs, row_runs=of_rows)


def _found(
    kept: Sequence[Row], parents: Sequence[Any], ledger: Ledger | None, held: _Held | None
) -> tuple[list[Row], dict[str, Entry], dict[str, str]]:
    """Rows, their trials' ledger entries by id, and their trials' runs.

    Args:
        kept: the rows beside the ledger that it means.
        parents: the runs of rows in MLflow that it means.
        ledger: where trials are read from first.
        held: MLflow, for rows and trials that are not there, and for the ids of runs.
    """
    missing: dict[str, list[str]] = defaultdict(list)
    made, digests = list(kept), dict[str, str]()
    if held is not None:
        runs = {(run.data.tags["tfser.sweep"], run.data.tags["tfser.key"]): run for run in parents}
        made = []
        for row in kept:
            theirs = [
                runs.pop((row.sweep, key))
                for key in tracking_runs.every_key(row.configuration)
                if (row.sweep, key) in runs
            ]
            made.append(replace(row, run=theirs[0].info.run_id if theirs else ""))
        with held.reading():
            for run in runs.values():
                digests[run.info.run_id] = run.data.params.get("database_digest", "")
                if (row_ := held.row(run, missing)) is not None:
                    made.append(row_)
    trials = sorted({trial for row in made for seeds in row.finals.values() for trial in seeds.values()})
    entries: dict[str, Entry] = {}
    run_ids: dict[str, str] = {}
    with ThreadPoolExecutor(READERS) as readers:
        if ledger is not None:
            entries = {
                trial: entry
                for trial, entry in zip(trials, readers.map(ledger.get, trials), strict=True)
                if entry is not None
            }
        if held is not None:
            with held.reading():
                children = held.children({row.sweep for row in made})
                run_ids = {trial: children[trial].info.run_id for trial in trials if trial in children}
                rest = [trial for trial in run_ids if trial not in entries]
                read = readers.map(lambda trial: held.entry(children[trial], missing), rest)
                entries |= {trial: entry for trial, entry in zip(rest, read, strict=True) if entry is not None}
    if missing:
        at_hand = f"; the ledger {ledger.root} does not hold them either" if ledger is not None else ""
        raise _MissingError(
            "\n  - ".join(
                f"{len(which)} x {what}, such as {which[0]}{at_hand}" for what, which in sorted(missing.items())
            )
        )
    return [rows.identified(row, entries, digests.get(row.run, "")) for row in made], entries, run_ids


class _Held:
    """What MLflow holds of tfser's.

    Args:
        uri: the tracking URI.
        storage: beside whose ledger artifacts may lie, whatever MLflow says of them.

    Raises:
        RequestError: it cannot be read.
    """

    def __init__(self, uri: str, storage: Place | None) -> None:
        connection.quiet_environment()
        from mlflow import MlflowClient

        self.uri, self.place = uri, f"MLflow at {passwords.redacted(uri)}"
        database = tracking_uri.sqlite_path(uri)
        if database is not None and not database.exists():
            raise RequestError(
                self.place, ["there is no such database; run a sweep first, or name another with --tracking-uri"]
            )
        folders = [storage if isinstance(storage, Path) else None, database.parent if database is not None else None]
        self._beside = [folder.absolute() / "mlartifacts" for folder in folders if folder is not None]
        with self.reading():
            self._client = MlflowClient(tracking_uri=uri)
            self._experiments = [
                e.experiment_id for e in self._client.search_experiments(filter_string="name LIKE 'tfser/%'")
            ]
            self.parents = list(self._runs("tags.`tfser.kind` = 'configuration'"))
            """The runs of rows, in the order in which they began."""
            self.parents.sort(key=lambda run: (run.info.start_time, run.info.run_id))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever MLflow raises meanwhile becomes a ``RequestError``."""
        try:
            yield
        except (TfserError, KeyboardInterrupt):
            raise
        except Exception as error:  # MLflow passes on whatever its stores raise
            reason = in_a_line(error, 500)
            raise RequestError(self.place, [passwords.redacted(reason)]) from None

    def _runs(self, filter_string: str) -> Iterator[Any]:
        return connection.search_runs(self._client, self._experiments, filter_string) if self._experiments else iter(())

    def children(self, sweeps: Collection[str]) -> dict[str, Any]:
        """Trial id to its run, of the final trials of some sweeps; one that has ended where there are several."""
        found: dict[str, Any] = {}
        for sweep in sorted(sweeps):
            for run in self._runs(f"tags.`tfser.sweep` = '{sweep}' and tags.`tfser.kind` = 'fold'"):
                trial = run.data.tags["tfser.trial_id"]
                if trial not in found or found[trial].info.status != "FINISHED":
                    found[trial] = run
        return found

    def row(self, run: Any, missing: Mapping[str, list[str]]) -> Row | None:
        """A row from its run; ``None`` for one that was stopped before it had a trial."""
        text = connection.artifact_text(self.uri, run, "configuration.json", self._beside)
        if text is None:
            if run.info.status == "FINISHED":
                missing["configuration.json of a row"].append(self._where(run, "configuration.json"))
            return None
        try:
            value = json.loads(text)
            configuration = planning_configuration.from_dict(value["configuration"])
            searched = connection.artifact_text(self.uri, run, "search.json", self._beside)
            histories = (
                tuple(replace(h, configuration=configuration) for h in history.from_json(searched)) if searched else ()
            )
        except (ValueError, KeyError, TypeError):
            missing["configuration.json or search.json that is damaged"].append(self._where(run, "configuration.json"))
            return None
        return Row(
            sweep=run.data.tags["tfser.sweep"],
            configuration=configuration,
            finals=value["finals"],
            histories=histories,
            command=run.data.tags.get("tfser.command", ""),
            written_unix=run.info.start_time / 1000,
            run=run.info.run_id,
        )

    def entry(self, run: Any, missing: Mapping[str, list[str]]) -> Entry | None:
        """The ledger entry that a fold's run carries, checked against the recalls that its metrics show."""
        if run.info.status == "FAILED":
            reason = run.data.tags.get("tfser.reason", "unknown")
            return Failure(trial_id=run.data.tags["tfser.trial_id"], reason=reason)
        if run.info.status != "FINISHED":
            return None
        text = connection.artifact_text(self.uri, run, "trial.json", self._beside)
        if text is None:
            missing["trial.json of a final trial"].append(self._where(run, "trial.json"))
            return None
        try:
            entry = from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TfserError(
                f"the trial.json of run {run.info.run_id} is damaged; delete that run, and run the sweep again to write it anew"
            ) from None
        if not isinstance(entry, Record):
            return entry
        for name in ("war", "uar"):
            recorded = getattr(entry.scores, name)
            if abs(run.data.metrics[f"test/{name}"] - recorded) > 1e-12:
                raise TfserError(
                    f"run {run.info.run_id} says test/{name} {run.data.metrics[f'test/{name}']}, its trial.json {recorded}"
                )
        return entry

    def _where(self, run: Any, name: str) -> str:
        """The run, and where its artifact was looked for."""
        uri = run.info.artifact_uri
        places = connection.local_places(uri, name, self._beside) if uri.startswith("file://") else [f"{uri}/{name}"]
        return f"that of run {run.info.run_id}: there is no {' and no '.join(map(str, places))}"
