"""Who can get in: the token, the sockets that listen beyond this machine, and what a ``ray start`` here would open.

psutil lists the sockets. Those of Ray and MLflow are asked, without a token, a question that changes nothing. The other
functions turn facts into findings.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tfser.doctor.findings import Finding, note, ok, problem, warning
from tfser.execution.on_ray import open_doors

METRICS_SHUT = "export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1"
"""Keeps Ray's metrics endpoints shut; type it before ``ray start``, on every node."""

NEW_TOKEN = "(umask 077; ray get-auth-token --generate > /dev/null); export RAY_AUTH_MODE=token"

_ASK = (
    "NodeInfoGcsService/CheckAlive",
    "NodeManagerService/GetNodeStats",
    "CoreWorkerService/GetCoreWorkerStats",
    "ReporterService/HealthCheck",
    "RayletDriver/ClusterInfo",
)
"""One read-only call for each kind of Ray's gRPC servers: control service, node, worker, agent, client server."""


def token_facts() -> dict[str, Any]:
    """Return where the token would come from and who may read its file, but never the token itself."""
    path = open_doors.token_path()
    facts: dict[str, Any] = {
        "mode": os.environ.get("RAY_AUTH_MODE"),
        "there": open_doors.own_token() is not None,
        "path": None if os.environ.get("RAY_AUTH_TOKEN") else str(path),
        "permissions": None,
    }
    with contextlib.suppress(OSError):
        facts["permissions"] = stat.S_IMODE(path.stat().st_mode)
    return facts


def token(facts: Mapping[str, Any]) -> list[Finding]:
    """List what is wrong with the token.

    Args:
        facts: the result of ``token_facts``.
    """
    topic, path, mode = "token", facts["path"], facts["mode"]
    found = []
    if not facts["there"]:
        where = f"neither RAY_AUTH_TOKEN nor {path or open_doors.token_path()}"
        found.append(
            warning(topic, f"there is no token ({where}): `ray start` here would obey anyone who reaches it", NEW_TOKEN)
        )
    elif mode != "token":
        then = (
            "`ray start` here would obey anyone who reaches it"
            if mode
            else "worker nodes and `ray job submit` would not use it"
        )
        said = f"RAY_AUTH_MODE is {mode}" if mode else "RAY_AUTH_MODE is not set"
        found.append(warning(topic, f"there is a token, and {said}: {then}", "export RAY_AUTH_MODE=token"))
    else:
        found.append(ok(topic, f"there is a token ({path or 'RAY_AUTH_TOKEN'}), and RAY_AUTH_MODE is token"))
    if path and facts["there"] and facts["permissions"] & 0o077:
        text = (
            f"{path} has mode {facts['permissions']:03o}: others on this machine can read the token, or write another"
        )
        found.append(warning(topic, text, f"chmod 600 {path}"))
    return found


def ray_start(environment: Mapping[str, str], guarded: bool) -> list[Finding]:
    """Say what a ``ray start --head`` with this environment would open beyond loopback.

    Args:
        environment: the process's environment.
        guarded: whether there is a token and it would be used.
    """
    topic, open_ = "sockets", []
    for name, what, usual in (
        ("AUTOSCALER_METRIC_PORT", "autoscaler", 44217),
        ("DASHBOARD_METRIC_PORT", "dashboard", 44227),
    ):
        port = environment.get(name, str(usual))
        if not port.startswith("-"):
            open_.append(f"the {what}'s on {port}")
    if environment.get("RAY_enable_metrics_collection", "1").lower() not in ("0", "false"):
        open_.append("every agent's on a port of its own")
    found = []
    if open_:
        text = f"`ray start` here would serve metrics on every interface to anyone: {', '.join(open_)}"
        found.append(warning(topic, text, METRICS_SHUT))
    ports = "6379, 10001, one per worker process from 10002 on, and others that Ray chooses"
    guard = (
        "the token guards them, and on a network that is not yours a firewall should too"
        if guarded
        else "without a token nothing guards them"
    )
    found.append(note(topic, f"`ray start` here would listen on every interface with gRPC ports ({ports}): {guard}"))
    return found


def sockets() -> list[dict[str, Any]] | None:
    """Return every TCP socket that listens beyond loopback, with its owner as far as this user may see it.

    Returns:
        ``address``, ``port``, ``pid`` and ``program`` (``None`` if unknown), ``owner`` (``ray``, ``mlflow``, ``tfser``
        or ``None``); ``None`` if the system does not tell.
    """
    try:
        import psutil
    except ImportError:  # the doctor also runs before everything is installed
        return None
    try:
        connections: list[Any] = psutil.net_connections("tcp")
    except (OSError, psutil.Error):  # on macOS for all but root
        return None
    # A server's workers hold its socket too; the first process with a known name counts as its owner.
    named: dict[Any, int] = {}
    words: dict[int | None, list[str]] = {None: []}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended, or belongs to another user
            words[process.pid] = [word for word in process.cmdline() if word]
            for held in process.net_connections("tcp") if owner(words[process.pid]) else ():
                if held.status == psutil.CONN_LISTEN:
                    named.setdefault(held.laddr, process.pid)
    found = []
    for socket in connections:
        if socket.status == psutil.CONN_LISTEN and socket.laddr and not open_doors.is_loopback_ip(socket.laddr.ip):
            pid = named.get(socket.laddr, socket.pid)
            said = words.get(pid, [])
            # An IPv4 address that is mapped into IPv6 is shown as IPv4.
            place = {"address": socket.laddr.ip.removeprefix("::ffff:"), "port": socket.laddr.port}
            found.append({**place, "pid": pid, "program": program(said) if pid else None, "owner": owner(said)})
    return sorted(found, key=lambda s: (s["port"], s["address"]))


def owner(words: Sequence[str]) -> str | None:
    """Return the owner of a command line.

    >>> gcs = ["/x/ray/core/src/ray/gcs/gcs_server", "--port=1"]
    >>> owner(["python", "-m", "mlflow", "server"]), owner(gcs), owner(["bash"])
    ('mlflow', 'ray', None)
    """
    text = " ".join(words)
    if re.match(r"ray::", text) or re.search(
        r"/ray/(core|dashboard|autoscaler|_private|workers|util)/|\bray\.util\.client\.server\b", text
    ):
        return "ray"
    if any(Path(word).name == "mlflow" or word.startswith("mlflow.server") for word in words):
        return "mlflow"
    if any(Path(word).name == "tfser" or re.match(r"tfser\.\w+$", word) for word in words):
        return "tfser"
    return None


def program(words: Sequence[str]) -> str:
    """Return a short name for a command line.

    >>> program(["/usr/bin/python3", "-u", "/x/ray/dashboard/dashboard.py", "--port=1"])
    'dashboard.py'
    """
    if not words:
        return "?"
    if Path(words[0]).name.startswith("python"):
        for option, word in zip(["", *words[1:]], words[1:], strict=False):
            if option == "-m" or (not word.startswith("-") and option != "-c"):
                return Path(word).name
    return Path(words[0].split(" ")[0]).name if not words[0].startswith("ray::") else words[0].split(" ")[0]


def ask(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add ``answer``, as a caller without a token gets it, to the sockets of Ray, MLflow and tfser.

    It is ``guarded``, ``metrics`` (which Ray serves to anyone), ``open`` or ``unknown``. Closed sockets are left out.
    """
    sockets = [dict(s) for s in found]
    with ThreadPoolExecutor(16) as pool:  # in parallel, because some may hang
        answers = list(pool.map(lambda s: _answer(_target(s), s["owner"]) if s["owner"] else None, sockets))
    asked = [{**s, "answer": answer} for s, answer in zip(sockets, answers, strict=True) if answer != "gone"]
    for socket in asked:  # one process guards all its ports, or none
        same = {s["answer"] for s in asked if s["pid"] == socket["pid"]} & {"guarded", "open"}
        if socket["answer"] == "unknown" and len(same) == 1:
            socket["answer"] = same.pop()
    return asked


def _target(socket: Mapping[str, Any]) -> str:
    ip = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(socket["address"], socket["address"])
    return f"[{ip}]:{socket['port']}" if ":" in ip else f"{ip}:{socket['port']}"


def _answer(target: str, owner: str) -> str:
    if open_doors.reachable(target, 2):
        return "gone"  # it ended meanwhile
    path = "/api/2.0/mlflow/experiments/search?max_results=1" if owner == "mlflow" else "/metrics"
    said = open_doors.http_status(f"http://{target}{path}", timeout_s=2)
    if said is not None:
        if said[0] == 401:
            return "guarded"
        return "metrics" if said[0] == 200 and owner != "mlflow" else "open"
    for method in _ASK if owner != "mlflow" else ():
        try:
            status = open_doors.rpc_status(target, f"/ray.rpc.{method}", timeout_s=2)
        except ImportError:
            return "unknown"
        if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return "guarded"
        if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            return "unknown"
        if status != "UNIMPLEMENTED":
            return "open"
    return "unknown"


def doors(found: Sequence[Mapping[str, Any]] | None) -> list[Finding]:
    """Report what listens beyond loopback on this machine.

    Args:
        found: the result of ``ask``; ``None`` if the system does not tell.
    """
    topic = "sockets"
    if found is None:
        return [
            note(topic, "this system does not tell which sockets listen beyond loopback", "lsof -nP -iTCP -sTCP:LISTEN")
        ]
    by: dict[tuple[str, str | None], dict[str, list[str]]] = {}
    for s in found:
        kind = "mlflow" if s["owner"] == "mlflow" else "ray" if s["owner"] else "other"
        ports = by.setdefault((kind, s["answer"]), {}).setdefault(s["program"] or "an unknown program", [])
        ports += [str(s["port"])] if str(s["port"]) not in ports else []
    lines = {
        key: "; ".join(f"{name} on port {', '.join(ports)}" for name, ports in programs.items())
        for key, programs in by.items()
    }
    findings = []
    if text := lines.get(("ray", "open")):
        findings.append(problem(topic, f"Ray answers anyone beyond loopback: {text}", open_doors.ADVICE))
    if text := lines.get(("ray", "metrics")):
        findings.append(
            warning(
                topic, f"Ray serves metrics beyond loopback to anyone: {text}", f"{METRICS_SHUT}, and start Ray again"
            )
        )
    if text := lines.get(("ray", "guarded")):
        findings.append(note(topic, f"Ray listens beyond loopback and asks for the token: {text}"))
    if text := lines.get(("ray", "unknown")):
        findings.append(
            note(topic, f"Ray listens beyond loopback, and it could not be told whether it asks for the token: {text}")
        )
    for answer, words in (
        ("open", "anyone who reaches it can read, change and delete runs"),
        ("unknown", "it answered nothing in HTTP"),
    ):
        if text := lines.get(("mlflow", answer)):
            tunnel = "mlflow server --host 127.0.0.1 ..., and from elsewhere: ssh -L 5000:127.0.0.1:5000 THIS_MACHINE"
            findings.append(problem(topic, f"MLflow listens beyond loopback, and {words}: {text}", tunnel))
    if text := lines.get(("mlflow", "guarded")):
        findings.append(note(topic, f"MLflow listens beyond loopback and asks who calls: {text}"))
    if not any(kind != "other" for kind, _ in lines):
        findings.append(ok(topic, "no Ray or MLflow of this user listens beyond loopback"))
    if text := lines.get(("other", None)):
        findings.append(note(topic, f"other programs that listen beyond loopback: {text}"))
    return findings
