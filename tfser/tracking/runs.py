"""Writes the ledger to MLflow, for people.

One experiment per database and protocol, one run per configuration, one child per final or search trial.

MLflow is a view. One thread of the driver writes it, it can be rebuilt from the ledger at any time, and an outage never
reaches training. Runs are found by tag before they are made, so that a trial never has two in one sweep; metrics carry
the trial's own time, so that logging again changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfser.planning.configuration import Configuration
from tfser.record import Entry, Record, Status, refuse_leaks
from tfser.storage.ledger import MODEL_CARD
from tfser.storage.places import Place, absolute
from tfser.tracking import content, names
from tfser.tracking.client import Client
from tfser.tracking.connection import follow_artifacts, has_content, local_file, prepare, quiet_environment
from tfser.tracking.run_index import Run, RunIndex
from tfser.tracking.uri import sqlite_path
from tfser.trial import TrialSpec


class Tracker:
    """Writes the runs of one sweep; every call may raise what MLflow raises.

    Args:
        uri: the tracking URI.
        sweep: the sweep's name, in the tags of every run.
        artifacts: where artifacts go when the tracking store is a local database; a server decides itself.
        command: what a person types to get these runs again; a tag of every configuration's run.
        log_model: logs the model of a final trial, given MLflow's client, the id of the trial's run and its record;
            ``None`` logs none.
    """

    def __init__(
        self,
        uri: str,
        sweep: str,
        artifacts: Place,
        command: str = "",
        log_model: Callable[[Any, str, Record], None] | None = None,
    ) -> None:
        quiet_environment()
        prepare(uri)
        self._local = sqlite_path(uri) is not None
        """Whether the artifacts are files of this machine."""
        folder = absolute(artifacts) if self._local else None
        if folder is not None:
            follow_artifacts(uri, folder)
        self._sweep, self._command, self._log_model = sweep, command, log_model
        self._client = Client(uri)
        self._index = RunIndex(self._client, sweep, folder)

    @property
    def answered(self) -> float:
        """When MLflow last answered, by ``time.monotonic``."""
        return self._client.answered

    def remove_doubles(self) -> None:
        """Delete duplicate runs, so that each configuration and trial of this sweep has exactly one."""
        self._index.remove_doubles()

    def experiment(self, configuration: Configuration) -> str:
        """Return the id of the experiment that holds a configuration's run; make it where there is none."""
        return self._index.experiment(configuration)

    def configuration(
        self,
        configuration: Configuration,
        finals: Mapping[str, Mapping[str, str]],
        numbers: Mapping[str, float],
        time_ms: int,
        *,
        confusion: Sequence[Sequence[int]] | None = None,
        settings: Mapping[str, Any] | None = None,
        digest: str = "",
        histories: str = "",
    ) -> str:
        """Bring the run of a configuration up to date, and return its id.

        Args:
            configuration: the configuration.
            finals: fold to seed to the id of the final trial, where known.
            numbers: recalls over the folds that are done, as fractions.
            time_ms: when the last of those folds ended, milliseconds since 1970; 0 without such a fold.
            confusion: counts over those folds, rows are the truth; drawn as an artifact.
            settings: the hyperparameters and epochs that all final trials share.
            digest: the database's; by default the configuration's.
            histories: what its studies tried, as ``tfser.search.history.to_json`` writes it.
        """
        c, client = configuration, self._client
        run = self._index.of_configuration(c)
        done = numbers.get("folds_done", 0)
        client.log_files(run.id, content.configuration_artifacts(c, finals, done, confusion, histories))
        params = {**content.configuration_params(c), **content.choice_params(c), **(settings or {})}
        if digest := digest or c.database_digest:
            params["database_digest"] = digest
            client.log_parts(run.id, c, digest, {c.protocol_name: c.database})
        # A parameter cannot change, so one that an older version logged stays.
        params = {name: value for name, value in params.items() if name not in run.params}
        tags = {"tfser.seeds": " ".join(map(str, c.seeds)), "tfser.folds": " ".join(c.folds)}
        if self._command:
            tags["tfser.command"] = self._command
        if c.source:  # tells which source of an edited model is the one in use
            tags["tfser.written_unix"] = repr(time.time())
        # Only what changed, at the time when it did: of two values with one time MLflow shows the larger one.
        changed = [(name, value, 0) for name, value in numbers.items() if run.metrics.get(name) != value]
        client.log(run.id, params, changed, tags, int(1000 * time.time()))
        run.metrics = {**run.metrics, **numbers}
        run.params = {**run.params, **{name: str(value) for name, value in params.items()}}
        # Trials can be older than the sweep that they are a part of; its run did not end before it began.
        client.set_terminated(run.id, "FINISHED", end_time=max(time_ms, run.started_ms))
        return run.id

    def holds(self, configuration: Configuration, trial_id: str, status: Status) -> bool:
        """Return whether nothing is left to write of a trial that ended with this status.

        Where models are asked for, one may be missing: a look would cost a request per trial.
        """
        run = self._index.of_trial(configuration, trial_id)
        return run is not None and run.current and not self._log_model and self._is_whole(run, _ended(status))

    def trial(self, configuration: Configuration, entry: Entry) -> None:
        """Write a trial as a child of its configuration's run, unless it is there and whole.

        The run that an earlier version made keeps what it has, and gets the parameters and the name that it lacks.

        Raises:
            TfserError: the trial leaks on purpose, and has no place among runs that tables are made from.
        """
        refuse_leaks(entry)
        spec, status, index = entry.spec, _ended(entry.status), self._index
        run = index.of_trial(configuration, entry.trial_id)
        if spec is None:
            return  # a failure that was read from MLflow
        if run is not None and self._is_whole(run, status):
            if not run.current:
                self._client.log(run.id, self._lacking(run, configuration, spec), [], {}, 0)
                run.current = True
            if isinstance(entry, Record):
                self._model(run, entry)
            return
        if run is None:
            run = index.make_trial(configuration, spec, int(1000 * entry.started_unix))
            params: Mapping[str, Any] = content.trial_params(configuration, spec)
        else:
            params = self._lacking(run, configuration, spec)
            if not index.has_parent(run):  # it was deleted in MLflow's page
                index.set_parent(run, index.of_configuration(configuration).id)
        if status == "FINISHED" and "tfser.reason" in run.tags:
            self._client.delete_tag(run.id, "tfser.reason")
        points: list[content.Point] = []
        if isinstance(entry, Record):
            points = content.trial_points(entry)
            tags = {"tfser.versions": json.dumps(dict(entry.versions), sort_keys=True)}
            if entry.fitted and entry.fitted.notes:
                tags["tfser.notes"] = "; ".join(entry.fitted.notes)[: content.TAG]
            self._client.log_files(run.id, content.trial_artifacts(configuration, entry))
            self._model(run, entry)
        else:
            tags = {"tfser.reason": entry.reason}
        end_ms = int(1000 * (entry.started_unix + entry.seconds))
        with self._client.together():
            if isinstance(entry, Record):
                self._client.log_parts(run.id, configuration, spec.database_digest, content.trial_parts(spec))
            self._client.log(run.id, params, points, tags, end_ms)
            self._client.set_terminated(run.id, status, end_time=end_ms)
        run.status, run.current = status, True

    def card(self, configuration: Configuration, trial_id: str, text: str) -> None:
        """Log a model card to the run of its trial, in place of an earlier one; nothing where there is no such run."""
        if (run := self._index.of_trial(configuration, trial_id)) is not None:
            self._client.log_files(run.id, {MODEL_CARD: text})

    def _lacking(self, run: Run, configuration: Configuration, spec: TrialSpec) -> dict[str, Any]:
        """Return the parameters that a trial's run lacks: one that is there cannot change. Renew an earlier name."""
        found = self._client.get_run(run.id)
        if found.info.run_name in names.earlier_runs(configuration, spec, self._sweep):
            self._client.update_run(run.id, name=names.trial_run(configuration, spec, self._sweep))
        wanted = content.trial_params(configuration, spec)
        return {name: value for name, value in wanted.items() if name not in found.data.params}

    def _is_whole(self, run: Run, status: str) -> bool:
        """Return whether a trial's run ended with this status of MLflow's and lacks neither its parent nor its record.

        A record on a server is taken to be there: a look would cost a request per trial.
        """
        if run.status != status or not self._index.has_parent(run):
            return False
        looked_for = self._local and status == "FINISHED" and run.artifacts.startswith("file://")
        return not looked_for or has_content(local_file(run.artifacts, "trial.json"))

    def _model(self, run: Run, record: Record) -> None:
        """Log a final trial's model, so that ``mlflow models serve`` can serve it; none of a person's own code."""
        if self._log_model is None or record.spec.purpose == "search" or record.spec.source:
            return
        from mlflow.exceptions import MlflowException

        try:
            self._log_model(self._client, run.id, record)
        except MlflowException as error:
            if error.error_code != "ENDPOINT_NOT_FOUND":  # an older server knows no logged models, and everything else
                raise


def _ended(status: Status) -> str:
    """Return MLflow's word for the status of an entry."""
    return "FINISHED" if status == "done" else "FAILED"
