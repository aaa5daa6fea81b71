"""Reads rows and entries from MLflow's runs; the counterpart of ``runs``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfser.errors import RequestError, TfserError, in_a_line
from tfser.execution.rows import Row
from tfser.planning import configuration as planning_configuration
from tfser.record import Entry, Failure, Record, from_dict
from tfser.search import history
from tfser.storage import passwords
from tfser.storage.places import Place
from tfser.tracking import connection
from tfser.tracking import uri as tracking_uri

Missing = Mapping[str, list[str]]
"""A kind of artifact to where each missing one was looked for; reading adds to it."""


class RunReader:
    """Reads what MLflow holds of tfser's.

    Args:
        uri: the tracking URI.
        storage: beside whose ledger artifacts may lie, whatever MLflow says of them.

    Raises:
        RequestError: MLflow cannot be read; every method may raise it.
    """

    def __init__(self, uri: str, storage: Place | None) -> None:
        connection.quiet_environment()
        from mlflow import MlflowClient

        self.uri, self.source = uri, f"MLflow at {passwords.redacted(uri)}"
        database = tracking_uri.sqlite_path(uri)
        if database is not None and not database.exists():
            what_to_do = "run a sweep first, or name another with --tracking-uri"
            raise RequestError(self.source, [f"there is no such database; {what_to_do}"])
        folders = [storage if isinstance(storage, Path) else None, database.parent if database is not None else None]
        self._beside = [folder.absolute() / "mlartifacts" for folder in folders if folder is not None]
        with self._reading():
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.search_experiments(filter_string="name LIKE 'tfser/%'")
            self._experiments = [experiment.experiment_id for experiment in found]
            self.parents = list(self._runs("tags.`tfser.kind` = 'configuration'"))
            """Runs of rows, in the order in which they began."""
            self.parents.sort(key=lambda run: (run.info.start_time, run.info.run_id))

    def of_sweep(self, sweep: str) -> list[Any]:
        """Return the runs of a sweep's rows."""
        return [run for run in self.parents if run.data.tags["tfser.sweep"] == sweep]

    def children(self, sweeps: Collection[str]) -> dict[str, Any]:
        """Return the runs of the final trials of some sweeps, by trial id; of several runs one that has ended."""
        found: dict[str, Any] = {}
        with self._reading():
            for sweep in sorted(sweeps):
                for run in self._runs(f"tags.`tfser.sweep` = '{sweep}' and tags.`tfser.kind` = 'fold'"):
                    trial = run.data.tags["tfser.trial_id"]
                    if trial not in found or found[trial].info.status != "FINISHED":
                        found[trial] = run
        return found

    def row(self, run: Any, missing: Missing) -> Row | None:
        """Read a row from its run; return ``None`` for one that was stopped before it had a trial."""
        text, searched = (self._artifact(run, name) for name in ("configuration.json", "search.json"))
        if text is None:
            if run.info.status == "FINISHED":
                missing["configuration.json of a row"].append(self._where(run, "configuration.json"))
            return None
        try:
            value = json.loads(text)
            configuration = planning_configuration.from_dict(value["configuration"])
            histories = history.from_json(searched) if searched else ()
            finals = {fold: dict(seeds) for fold, seeds in value["finals"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            missing["configuration.json or search.json that is damaged"].append(self._where(run, "configuration.json"))
            return None
        return Row(
            sweep=run.data.tags["tfser.sweep"],
            configuration=configuration,
            finals=finals,
            histories=tuple(replace(each, configuration=configuration) for each in histories),
            command=run.data.tags.get("tfser.command", ""),
            written_unix=float(run.data.tags.get("tfser.written_unix", run.info.start_time / 1000)),
            run=run.info.run_id,
        )

    def entry(self, run: Any, missing: Missing) -> Entry | None:
        """Read the entry of a final trial from its run; check it against the recalls that the run's metrics show."""
        if run.info.status == "FAILED":
            reason = run.data.tags.get("tfser.reason", "unknown")
            return Failure(trial_id=run.data.tags["tfser.trial_id"], reason=reason)
        if run.info.status != "FINISHED":
            return None
        text, run_id = self._artifact(run, "trial.json"), run.info.run_id
        if text is None:
            missing["trial.json of a final trial"].append(self._where(run, "trial.json"))
            return None
        try:
            entry = from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            what_to_do = "delete that run, and run the sweep again to write it anew"
            raise TfserError(f"the trial.json of run {run_id} is damaged; {what_to_do}") from None
        if isinstance(entry, Record):
            for name, recorded in (("test/war", entry.scores.war), ("test/uar", entry.scores.uar)):
                shown = run.data.metrics.get(name)
                if shown is None or abs(shown - recorded) > 1e-12:
                    raise TfserError(f"run {run_id} says {name} {shown}, its trial.json {recorded}")
        return entry

    def _artifact(self, run: Any, name: str) -> str | None:
        with self._reading():
            return connection.artifact_text(self.uri, run, name, self._beside)

    def _where(self, run: Any, name: str) -> str:
        """Return a run, and where its artifact was looked for."""
        uri = run.info.artifact_uri
        places = connection.local_places(uri, name, self._beside) if uri.startswith("file://") else [f"{uri}/{name}"]
        return f"that of run {run.info.run_id}: there is no {' and no '.join(map(str, places))}"

    def _runs(self, filter_string: str) -> Iterator[Any]:
        return connection.search_runs(self._client, self._experiments, filter_string) if self._experiments else iter(())

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn whatever MLflow raises meanwhile into a ``RequestError``."""
        try:
            yield
        except Exception as error:  # MLflow passes on whatever its stores raise
            raise RequestError(self.source, [passwords.redacted(in_a_line(error, 500))]) from None
