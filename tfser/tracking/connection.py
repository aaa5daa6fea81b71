"""MLflow's database and artifacts: made where there are none, opened without noise, and read. Knows no trial."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from filelock import FileLock

from tfser.storage import temporary
from tfser.storage.places import Place
from tfser.tracking.uri import sqlite_path, sqlite_uri

_MIGRATION = threading.Lock()
"""Alembic, which makes MLflow's tables, keeps the database at hand in module globals: one thread at a time."""


def quiet_environment() -> None:
    """Turn off MLflow's telemetry and chatter. Call this before MLflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # By default MLflow tries one request for four minutes, and so may make one run twice. The mirror tries again
    # itself, and first looks at what has arrived.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    # It prints a traceback for a database that is locked for a moment, and then raises the same.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def default_uri(storage: Path) -> str:
    """Return the URI of an SQLite file in the storage folder, which needs no setting up."""
    return sqlite_uri(storage.resolve() / "mlflow.db")


def prepare(uri: str) -> None:
    """Make a local database with all its tables, where there is none; leave anything else to MLflow.

    MLflow makes the tables in many steps. Two processes that begin together would disturb each other, and one that is
    killed meanwhile would leave a broken database. So one process at a time makes the tables under another name, and
    the database appears when it is whole.
    """
    path = sqlite_path(uri)
    if path is None or "?" in uri or has_content(path):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")), _MIGRATION:
        if has_content(path):
            return
        partial = path.with_name(f".{path.name}.partial")
        for left in (partial, partial.with_name(f"{partial.name}-journal")):
            left.unlink(missing_ok=True)
        store = SqlAlchemyStore(sqlite_uri(partial), (path.parent.resolve() / "mlartifacts").as_uri())
        store.engine.dispose()
        partial.replace(path)


def follow_artifacts(uri: str, artifacts: Place) -> None:
    """Point a local database at the artifacts beside it, after its folder was renamed or copied.

    MLflow keeps absolute paths: the next run in a renamed folder would make the old folder again, and in a copy it
    would write into the original. MLflow has no call for this.
    """
    path = sqlite_path(uri)
    if path is None or "?" in uri or not path.is_file():
        return
    if path.resolve().parent != Path(str(artifacts)).resolve().parent:
        return
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        found = connection.execute(
            "SELECT experiment_id, name, artifact_location FROM experiments WHERE name LIKE 'tfser/%'"
        ).fetchall()
        for experiment, name, before in found:
            folder = artifacts / name
            if before and before != folder.as_uri() and before.endswith(f"/mlartifacts/{name}") and folder.is_dir():
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                    (folder.as_uri(), experiment),
                )
                for table, column in (("runs", "artifact_uri"), ("logged_models", "artifact_location")):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE experiment_id = ? AND substr({column}, 1, ?) = ?",
                        (folder.as_uri(), len(before) + 1, experiment, len(before) + 1, f"{before}/"),
                    )


def has_content(path: Path) -> bool:
    """Return whether a file is there and not empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def search_runs(client: Any, experiments: list[str], filter_string: str) -> Iterator[Any]:
    """Yield every active run that matches, page by page."""
    token = None
    while True:
        with _no_garbage():
            page = client.search_runs(experiments, filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect no garbage meanwhile: it doubles the time, because MLflow makes tens of thousands of lasting objects."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def artifact_text(uri: str, run: Any, name: str, beside: Sequence[Path] = ()) -> str | None:
    """Return a text artifact of a run, or ``None`` where it has none; several threads may call this.

    Args:
        uri: the tracking URI.
        run: MLflow's own object.
        name: the artifact's.
        beside: folders that are searched first, in case the database was renamed or copied with its artifacts.

    Raises:
        Exception: whatever MLflow or its artifact store raises where they cannot be reached.
    """
    if run.info.artifact_uri.startswith("file://"):
        for path in local_places(run.info.artifact_uri, name, beside):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return path.read_text(encoding="utf-8")
        return None
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with temporary.Folder("mlflow") as folder:
        path = Path(folder, name)
        try:
            # MLflow's own download first asks for the run and what it holds: three requests for one file.
            get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)._download_file(name, str(path))
        except Exception as error:
            if getattr(getattr(error, "response", None), "status_code", None) == 404:
                return None
            raise
        return path.read_text(encoding="utf-8")


def local_places(uri: str, name: str, beside: Sequence[Path]) -> list[Path]:
    """Return where a local artifact may lie: in the folders beside the database, then where MLflow says."""
    recorded = local_file(uri, name)
    below = Path(*recorded.parts[-6:])  # tfser/<database>/<protocol>/<run>/artifacts/<name>
    places = [folder / below for folder in beside] if below.parts[0] == "tfser" else []
    return list(dict.fromkeys([*places, recorded]))


def local_file(uri: str, name: str) -> Path:
    """Return the file of a local artifact."""
    return Path(unquote(urlparse(uri).path)) / name
