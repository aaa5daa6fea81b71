"""MLflow's client, within MLflow's limits: long values are cut, large batches split."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tfser.planning.configuration import Configuration
from tfser.storage import temporary
from tfser.tracking.content import TAG, Artifacts, Point
from tfser.tracking.names import shortened
from tfser.tracking.uri import sqlite_path

_ENTITIES = 1000
"""Metrics, parameters and tags that MLflow takes at once."""

_PARAM, _DATASET_NAME, _DATASET_DIGEST = 6000, 500, 36
"""Characters that MLflow takes of a parameter's value, and of a dataset's name and digest."""


class Client:
    """An ``MlflowClient`` that knows when MLflow last answered; every call may raise what MLflow raises.

    Args:
        uri: the tracking URI.
    """

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self.together: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        """Begins what is one transaction in a local database."""
        if sqlite_path(uri) is not None and "?" not in uri:
            from tfser.tracking.local_store import LocalService

            self._client._tracking_client = LocalService(uri)
            self.together = self._client._tracking_client.store.together
        self.answered = time.monotonic()
        """When MLflow last answered, by ``time.monotonic``."""

    def __getattr__(self, name: str) -> Any:
        """Return a method of ``MlflowClient`` that notes the time of MLflow's answer."""
        method = getattr(self._client, name)

        def ask(*arguments: Any, **named: Any) -> Any:
            answer = method(*arguments, **named)
            self.answered = time.monotonic()
            return answer

        return ask

    def log(
        self, run_id: str, params: Mapping[str, Any], points: Sequence[Point], tags: Mapping[str, str], time_ms: int
    ) -> None:
        """Log with as few requests as MLflow allows.

        Args:
            run_id: the run.
            params: name to value.
            points: of metrics.
            tags: name to value.
            time_ms: the time of every point, milliseconds since 1970.
        """
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(name, float(value), time_ms, step) for name, value, step in points]
        given = [Param(name, str(value)[:_PARAM]) for name, value in params.items()]
        named = [RunTag(name, value[:TAG]) for name, value in tags.items()]
        first = _ENTITIES - len(given) - len(named)
        self.log_batch(run_id, metrics=metrics[:first], params=given, tags=named)
        for start in range(first, len(metrics), _ENTITIES):
            self.log_batch(run_id, metrics=metrics[start : start + _ENTITIES])

    def log_files(self, run_id: str, artifacts: Artifacts) -> None:
        """Log artifacts."""
        with temporary.Folder("mlflow") as folder:
            for name, content in artifacts.items():
                Path(folder, name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            self.log_artifacts(run_id, folder)

    def log_parts(self, run_id: str, configuration: Configuration, digest: str, parts: Mapping[str, str]) -> None:
        """Log which part of the database a run used for what.

        Args:
            run_id: the run.
            configuration: the run's own, or its trial's.
            digest: the database's: of its utterances, labels and audio.
            parts: context to the name of the part. MLflow links a run to one name and digest once, so each context
                has a name of its own.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        c = configuration
        source = json.dumps({"database": c.database, "protocol": c.protocol}, ensure_ascii=False)
        short = digest[:_DATASET_DIGEST]
        inputs = [
            DatasetInput(
                Dataset(name=shortened(name, _DATASET_NAME), digest=short, source_type="tfser", source=source),
                [InputTag("mlflow.data.context", context)],
            )
            for context, name in parts.items()
        ]
        try:
            self.log_inputs(run_id, inputs)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # Another sweep may have made the same dataset since; now it is there.
            self.log_inputs(run_id, inputs)
