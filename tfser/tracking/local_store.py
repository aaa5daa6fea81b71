"""MLflow's store of a local SQLite database, with the calls that a trial's run takes as a few statements each.

MLflow's own store reads the run again in every call, makes an object of each row and ends several transactions for one
batch: a trial's run costs it 100 ms of a core. Here each call is one transaction of plain SQL, with the same rows.
Whatever is not the plain case (a parameter that is there, a value that is no number, tables of another version) is left
to MLflow's own store. Knows MLflow's tables; knows nothing of trials.
"""

from __future__ import annotations

import contextlib
import math
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import sqlalchemy
from mlflow.entities import LifecycleStage, Run, RunData, RunInfo, RunInputs, RunStatus, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_dataset_inputs,
    _validate_param_keys_unique,
)

_COLUMNS = {
    "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time end_time deleted_time "
    "source_version lifecycle_stage artifact_uri experiment_id",
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
    "datasets": "dataset_uuid experiment_id name digest dataset_source_type dataset_source dataset_schema "
    "dataset_profile",
    "inputs": "input_uuid source_type source_id destination_type destination_id step",
    "input_tags": "input_uuid name value",
}
"""The tables that are written here, with all their columns."""


class _NotPlainError(Exception):
    """What is left to MLflow's own store."""


class LocalStore(SqlAlchemyStore):  # type: ignore[misc]  # MLflow is not typed
    """The store; its answers and the rows that it leaves are those of MLflow's own.

    Args:
        uri: of the database.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        tables = sqlalchemy.inspect(self.engine)
        self._known = all(
            {column["name"] for column in tables.get_columns(table)} == set(columns.split())
            for table, columns in _COLUMNS.items()
        )
        """Whether the tables are those that are known here; a later version of MLflow may have others."""
        self._open = threading.local()
        """``connection``: of the transaction that several calls of this thread share; ``calls``: those made in it."""

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Any:
        """Make a run."""
        named = [] if any(tag.key == MLFLOW_RUN_NAME for tag in tags or ()) or not run_name else [*(tags or ())]
        run_id = uuid.uuid4().hex

        def make(connection: Any) -> Any:
            asked = "SELECT artifact_location, lifecycle_stage FROM experiments WHERE experiment_id = ?"
            found = connection.exec_driver_sql(asked, (int(experiment_id),)).fetchone()
            if not named or found is None or found[1] != LifecycleStage.ACTIVE:
                raise _NotPlainError
            artifacts = append_to_uri_path(found[0], run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
            began = (run_id, run_name, "UNKNOWN", "", "", user_id, "RUNNING", start_time, None, None, "")
            _insert(connection, "runs", [(*began, LifecycleStage.ACTIVE, artifacts, int(experiment_id))])
            every = [*named, RunTag(MLFLOW_RUN_NAME, run_name)]
            _insert(connection, "tags", [(tag.key, tag.value, run_id) for tag in every])
            about = (run_id, str(experiment_id), user_id, "RUNNING", start_time, None)
            info = RunInfo(*about, LifecycleStage.ACTIVE, artifact_uri=artifacts, run_name=run_name)
            return Run(info, RunData(tags=every), RunInputs(dataset_inputs=[]))

        return self._plainly(make, super().create_run, experiment_id, user_id, start_time, tags, run_name)

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Log metrics, parameters and tags."""

        def log(connection: Any) -> None:
            points, each = metrics, [*{point.key: point for point in metrics}.values()]  # a name is checked once
            _, given, named = _validate_batch_log_data(each, params, tags)
            _validate_batch_log_limits(points, given, named)
            _validate_param_keys_unique(given)
            self._experiment_of(connection, run_id)
            odd = any(point.model_id is not None or not math.isfinite(point.value) for point in points)
            if odd or any(tag.key == MLFLOW_RUN_NAME for tag in named):
                raise _NotPlainError
            _insert(connection, "params", [(param.key, param.value, run_id) for param in given])
            rows = [(p.key, float(p.value), p.timestamp, run_id, p.step, False) for p in points]
            _insert(connection, "metrics", rows)
            latest: dict[str, Any] = {}
            for p in sorted(points, key=lambda p: (p.step, p.timestamp, p.value)):
                latest[p.key] = (p.key, float(p.value), p.timestamp, p.step, False, run_id)
            _insert(connection, "latest_metrics", [*latest.values()])
            _insert(connection, "tags", [(tag.key, tag.value, run_id) for tag in named], replace=True)

        self._plainly(log, super().log_batch, run_id, metrics, params, tags)

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Log which datasets a run used."""

        def log(connection: Any) -> None:
            if models or not datasets:
                raise _NotPlainError
            _validate_dataset_inputs(datasets)
            experiment = self._experiment_of(connection, run_id)
            asked = "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
            for each in datasets:
                data, made = each.dataset, uuid.uuid4().hex
                found = connection.exec_driver_sql(asked, (experiment, data.name, data.digest)).fetchone()
                dataset = found[0] if found else uuid.uuid4().hex
                if not found:
                    about = (data.source_type, data.source, data.schema, data.profile)
                    _insert(connection, "datasets", [(dataset, experiment, data.name, data.digest, *about)])
                _insert(connection, "inputs", [(made, "DATASET", dataset, "RUN", run_id, 0)])
                _insert(connection, "input_tags", [(made, tag.key, tag.value) for tag in each.tags])

        self._plainly(log, super().log_inputs, run_id, datasets, models)

    def update_run_info(self, run_id: str, run_status: int, end_time: int | None, run_name: str | None) -> Any:
        """Change a run's status and end."""

        def update(connection: Any) -> Any:
            self._experiment_of(connection, run_id)
            if run_name or run_status is None or end_time is None:
                raise _NotPlainError
            change = "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?"
            connection.exec_driver_sql(change, (RunStatus.to_string(run_status), end_time, run_id))
            asked = (
                "SELECT run_uuid, experiment_id, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, "
                "name FROM runs WHERE run_uuid = ?"
            )
            run, experiment, *rest = connection.exec_driver_sql(asked, (run_id,)).fetchone()
            return RunInfo(run, str(experiment), *rest)

        return self._plainly(update, super().update_run_info, run_id, run_status, end_time, run_name)

    def artifacts_of(self, run_id: str) -> str | None:
        """Return where a run's artifacts are, as a URI."""
        with self.engine.connect() as connection:
            asked = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"
            found = connection.exec_driver_sql(asked, (run_id,)).fetchone()
        return str(found[0]) if found else None

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write what this thread asks meanwhile in one transaction: every end of one waits for the disk."""
        if not self._known:
            yield
            return
        with self.engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
            self._open.connection, self._open.calls = connection, []
            try:
                yield
            finally:
                self._open.connection = None

    def _plainly(self, plain: Callable[[Any], Any], own: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a transaction answers; where it is not the plain case, what MLflow's own call answers.

        Args:
            plain: given the connection; what it wrote is undone where it raises.
            own: MLflow's own call.
            arguments: of the latter.
        """
        shared = getattr(self._open, "connection", None)
        try:
            if shared is not None:
                answer = plain(shared)
                self._open.calls.append(partial(own, *arguments))
                return answer
            if self._known:
                with self.engine.begin() as connection:
                    connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
                    return plain(connection)
        except (_NotPlainError, sqlalchemy.exc.SQLAlchemyError):
            if shared is not None:  # nor can what was written beside it stay
                shared.rollback()
                self._open.connection = None
                for call in self._open.calls:
                    call()
        # What is wrong with it MLflow says in its own words.
        return own(*arguments)

    def _experiment_of(self, connection: Any, run_id: str) -> int:
        """Return the experiment of a run that is there and not deleted."""
        asked = "SELECT experiment_id, lifecycle_stage FROM runs WHERE run_uuid = ?"
        found = connection.exec_driver_sql(asked, (run_id,)).fetchone()
        if found is None or found[1] != LifecycleStage.ACTIVE:
            raise _NotPlainError
        return int(found[0])


class LocalService(TrackingServiceClient):  # type: ignore[misc]  # MLflow is not typed
    """What ``MlflowClient`` asks, for a local SQLite database."""

    @property
    def store(self) -> LocalStore:
        """The store, one for each database in a process."""
        return _store(self.tracking_uri)

    def _get_artifact_repo(self, resource_id: str, *, resource: str = "run") -> Any:
        """Return where artifacts are written, without a look at everything that the run holds."""
        uri = self.store.artifacts_of(resource_id) if resource == "run" else None
        if uri is None:
            return super()._get_artifact_repo(resource_id, resource=resource)
        return get_artifact_repository(uri, tracking_uri=self.tracking_uri)


@lru_cache(maxsize=100)
def _store(uri: str) -> LocalStore:
    return LocalStore(uri)


def _insert(connection: Any, table: str, rows: Iterable[Sequence[Any]], *, replace: bool = False) -> None:
    """Add rows to a table.

    Args:
        connection: SQLAlchemy's, in a transaction.
        table: a key of ``_COLUMNS``.
        rows: their values, in its order.
        replace: whether a row of the same key is replaced.
    """
    columns, values = _COLUMNS[table].split(), [*map(tuple, rows)]
    if values:
        what = f"INSERT{' OR REPLACE' if replace else ''} INTO {table} ({', '.join(columns)})"
        connection.exec_driver_sql(f"{what} VALUES ({', '.join('?' * len(columns))})", values)
