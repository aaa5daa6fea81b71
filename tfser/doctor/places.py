"""Storage, data and MLflow as a sweep's driver reaches them. Separate functions gather facts and judge them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tfser.doctor import machine, probe
from tfser.doctor.findings import Finding, note, ok, problem, warning
from tfser.errors import counted
from tfser.execution.on_ray import open_doors
from tfser.storage import passwords
from tfser.tracking.uri import install_driver, sqlite_path

CLOCK_S = 2.0
"""Seconds that two clocks may differ without a warning."""

SQLITE_S = 5.0
"""Seconds to wait for another writer."""

SET_CLOCK = "sudo timedatectl set-ntp true"


def storage(where: str, facts: Mapping[str, Any], kind: str | None) -> list[Finding]:
    """Check whether results can be kept.

    Args:
        where: the storage as given.
        facts: the result of ``probe.touch`` in it, or in the nearest existing folder above it.
        kind: the kind of its file system, if known.
    """
    topic = "storage"
    if facts["error"]:
        return [
            problem(
                topic,
                f"{where} cannot be written ({facts['error']})",
                "name another with --storage, or mend its rights",
            )
        ]
    found = [ok(topic, f"{where} can be written, read and cleared")]
    if facts["ahead"] is None:
        found.append(note(topic, f"{where} keeps no times, so its clock is not known"))
    elif abs(facts["ahead"]) > facts["within"] + CLOCK_S:
        text = f"the clock of {where} is {apart(facts['ahead'])} this machine's (within {facts['within']:.1f} s)"
        found.append(warning("clock", text, SET_CLOCK))
    else:
        found.append(
            ok(
                "clock",
                f"this machine's clock and that of {where} agree within {abs(facts['ahead']) + facts['within']:.1f} s",
            )
        )
    if kind in probe.NETWORK_FILE_SYSTEMS:
        found.append(note(topic, f"{where} is a network folder ({kind})"))
    return found


def apart(seconds: float) -> str:
    """Write how far a clock is off, in words that precede the other clock.

    >>> apart(-3.2)
    '3.2 s behind'
    """
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"


def data(where: str | None, facts: Mapping[str, Any] | None) -> list[Finding]:
    """Check whether corpora can be read.

    Args:
        where: the folder or URI; ``None`` if none is given.
        facts: the result of ``probe.listing``.
    """
    topic = "data"
    if where is None or facts is None:
        return [
            note(
                topic,
                "no folder of corpora is named; only the built-in database can be used",
                "export TFSER_DATA=/path/of/corpora",
            )
        ]
    if facts["error"]:
        return [
            problem(
                topic,
                f"{where} cannot be read ({facts['error']})",
                "name another with --data or TFSER_DATA, or mount it",
            )
        ]
    if not facts["entries"]:
        return [warning(topic, f"{where} is empty", "tfser databases list")]
    return [ok(topic, f"{where} can be read: {counted(facts['entries'], 'entry', 'entries')}")]


def mlflow_facts(uri: str) -> dict[str, Any]:
    """Find out what a tracking URI leads to, without writing there.

    Args:
        uri: the URI as MLflow takes it, from ``tfser.tracking.uri.given``.
    """
    scheme = uri.partition("://")[0].partition("+")[0]
    if (path := sqlite_path(uri)) is not None:
        return {"kind": "sqlite", **_sqlite(path)}
    if scheme in ("http", "https"):
        return {"kind": "server", **_server(uri)}
    if scheme == "databricks":
        return {"kind": "databricks"}
    return {"kind": "database", **_database(uri)}


def _sqlite(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": str(path.absolute()), "exists": path.exists(), "error": None, "busy": False}
    facts["file_system"] = probe.file_system(probe.ground(str(path)))
    if not facts["exists"]:
        folder = Path(probe.ground(str(path.parent)))
        facts["error"] = None if os.access(folder, os.W_OK) else f"{folder} cannot be written"
        return facts
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=SQLITE_S, isolation_level=None)
        ) as database:
            database.execute("BEGIN IMMEDIATE")  # takes the right to write without writing
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the upper bits only refine it
        facts.update(error=str(error), busy=code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
    return facts


def _server(uri: str) -> dict[str, Any]:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    base = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") or "" for name in ("USERNAME", "PASSWORD"))
    if parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
    own: dict[str, str] = {}
    if user:
        own = {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    elif os.environ.get("MLFLOW_TRACKING_TOKEN"):
        own = {"Authorization": f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}"}
    question = f"{base}/api/2.0/mlflow/experiments/search?max_results=1"
    answers = {
        name: open_doors.http_status(url, headers)
        for name, url, headers in (
            ("health", f"{base}/health", own),
            ("version", f"{base}/version", own),
            ("own", question, own),
            ("stranger", question, {}),
        )
    }
    # MLflow says only in its text whether a 403 is about the name under which it was called.
    health, asked = answers["health"], answers["own"] or answers["health"]
    wrong_name = bool(health and asked and 403 in (health[0], asked[0]) and "host" in asked[1].lower())
    local = open_doors.is_loopback(parts.hostname or "")
    return {"loopback": local, "host": host, "wrong_name": wrong_name, **answers}


def _database(uri: str) -> dict[str, str | None]:
    """Say why a database server cannot be used (``error``) and how to install a missing driver (``install``)."""
    parts = urlsplit(uri)
    usual = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.partition("+")[0])
    if parts.hostname and (parts.port or usual):
        silent = open_doors.reachable(f"{parts.hostname}:{parts.port or usual}")
        if silent:
            return {"error": f"nothing answers there: {silent}", "install": None}
    try:
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except ImportError as error:
        return {"error": probe.brief(error), "install": install_driver(error)}
    except Exception as error:  # every driver has errors of its own
        return {"error": passwords.redacted(probe.brief(error)), "install": None}
    return {"error": None, "install": None}


def mlflow(uri: str, facts: Mapping[str, Any]) -> list[Finding]:
    """Check whether runs can be written.

    Args:
        uri: the tracking URI.
        facts: the result of ``mlflow_facts``.
    """
    topic, shown = "MLflow", passwords.redacted(uri)
    if facts["kind"] == "databricks":
        return [note(topic, f"{shown} is not looked at")]
    if facts["kind"] == "server":
        return _server_findings(shown, facts)
    if facts["error"]:
        command = "name another with --tracking-uri or MLFLOW_TRACKING_URI"
        if facts.get("busy"):
            return [
                warning(
                    topic,
                    f"{shown} is being written by another process ({facts['error']})",
                    f"fuser -v {facts['path']}",
                )
            ]
        if facts.get("install"):
            command = str(facts["install"])
        return [
            problem(
                topic,
                f"{shown} cannot be used ({facts['error']}); a sweep would train and leave its runs out of MLflow",
                command,
            )
        ]
    found = [ok(topic, f"{shown} can be written" + ("" if facts.get("exists", True) else " (it does not exist yet)"))]
    if facts.get("file_system") in probe.NETWORK_FILE_SYSTEMS:
        text = f"{shown} lies on a network folder ({facts['file_system']}), where SQLite's locks cannot be relied on"
        found.append(warning(topic, text, "name a local file, or an MLflow server, with --tracking-uri"))
    return found


def _server_findings(shown: str, facts: Mapping[str, Any]) -> list[Finding]:
    topic, health, own, stranger = "MLflow", facts["health"], facts["own"], facts["stranger"]
    if health is None:
        command = "mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///mlflow.db"
        text = f"nothing answers at {shown}; a sweep would train and leave its runs out of MLflow until it does"
        return [problem(topic, text, command if facts["loopback"] else "start it, or name another with --tracking-uri")]
    if facts["wrong_name"]:
        text = f"{shown} answers 403: it does not take {facts['host']} for its name"
        return [
            problem(
                topic,
                text,
                f"mlflow server --allowed-hosts {facts['host']} ..., or reach it by its IP address or a tunnel",
            )
        ]
    if own is None or own[0] != 200:
        said = f"answers {own[0]}" if own else "does not answer"
        command = "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=..."
        if own is None or own[0] not in (401, 403):
            command = "name another with --tracking-uri or MLFLOW_TRACKING_URI"
        return [problem(topic, f"{shown} {said} when asked for its experiments", command)]
    version = (
        facts["version"][1].strip().strip('"')
        if facts["version"] and facts["version"][0] == 200
        else "of unknown version"
    )
    found = [ok(topic, f"MLflow {version} answers at {shown}")]
    needed = machine.requirements()
    ranges = [r for r in (needed[1] if needed else []) if machine.package(r) == "mlflow"]
    if version[:1].isdigit() and ranges and not machine.allows(ranges[0], version):
        text = f"the server at {shown} is MLflow {version}; tried out with tfser is {ranges[0]}"
        found.append(
            warning(
                topic, text, f"pip install '{ranges[0]}' on the server, and: mlflow db upgrade ITS_BACKEND_STORE_URI"
            )
        )
    if not facts["loopback"] and stranger is not None and stranger[0] == 200:
        text = f"{shown} asks for no password: anyone who reaches it can read, change and delete runs"
        tunnel = f"ssh -L 5000:127.0.0.1:5000 {facts['host'].partition(':')[0]}"
        found.append(warning(topic, text, f"mlflow server --host 127.0.0.1 ... there, and here: {tunnel}"))
    return found
