"""Ray clusters of several nodes on this one machine: started, disturbed and ended by tests.

Every process of a cluster inherits a mark in its environment, and only marked processes are ended, because the machine
may run other Ray clusters. Knows Ray's command line; knows nothing of sweeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.util import get_node_ip_address

from tests.helpers.ports import free_port

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
MARK, NODE_MARK = "TFSER_TEST_CLUSTER", "TFSER_TEST_NODE"

SHUT = {
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""As the launch files have it: no metrics endpoint, which would ask for no token."""

PATIENT = {
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "240",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "240",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_raylet_start_wait_time_s": "240",
    "RAY_worker_register_timeout_seconds": "240",
}
"""Ray gives its own processes 30 to 100 s to start, and a busy machine of two cores may need longer for the imports."""


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without the variables that lead to another cluster, with ``more``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_TRACKING", "TFSER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", **more}


def wait_until(holds: Callable[[], Any], what: str, limit_s: float = 60.0, every_s: float = 0.1) -> Any:
    """Wait for a true value of ``holds`` and return it.

    Raises:
        TimeoutError: there was none; the text names ``what``.
    """
    end = time.monotonic() + limit_s
    while not (value := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(every_s)
    return value


def ends_with_its_parent() -> None:
    """Called in a new process, so that a killed test run leaves nothing behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def marked(mark: str, name: str = MARK) -> list[psutil.Process]:
    """The processes, zombies left out, that inherited that mark, and all of their descendants.

    Ray's workers and agents write their title over their environment, so they are found through their parents.
    """
    below: dict[int, list[psutil.Process]] = {}
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                below.setdefault(process.ppid(), []).append(process)
                if process.environ().get(name) == mark:
                    found.append(process)
    known = {process.pid for process in found}
    for process in found:  # grows meanwhile
        children = [child for child in below.get(process.pid, []) if child.pid not in known]
        known.update(child.pid for child in children)
        found.extend(children)
    return found


def kill(processes: Sequence[psutil.Process]) -> None:
    """Stop all of them, then SIGKILL them, so that none reacts to the end of another."""
    for sign in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(sign)
    psutil.wait_procs(processes, timeout=20)


class Node:
    """One node: ``ray start --block`` in a session of its own and everything below it."""

    def __init__(self, number: int, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.number, self.log, self._mark = number, log, f"{env[MARK]}-{number}"
        env = {**env, NODE_MARK: self._mark}
        with log.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                command, env=env, stdout=file, stderr=file, start_new_session=True, preexec_fn=ends_with_its_parent
            )

    def wait(self, limit_s: float = 300.0) -> None:
        """Wait until the node is up.

        Raises:
            TimeoutError, RuntimeError: it did not start; the text is what it printed.
        """

        def up() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"node {self.number} ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}"
                )
            return "--block" in self.log.read_text() and bool(self._raylets())

        wait_until(up, f"node {self.number} is up ({self.log})", limit_s)

    def processes(self) -> list[psutil.Process]:
        """The live processes of this node."""
        return marked(self._mark, NODE_MARK)

    def _raylets(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [p for p in psutil.Process(self.process.pid).children() if p.name() == "raylet"]
        return []

    @property
    def id(self) -> str:
        """Ray's name of the node: hexadecimal."""
        (raylet,) = self._raylets()
        (word,) = (word for word in raylet.cmdline() if word.startswith("--node_id="))
        return word.partition("=")[2]

    def workers(self, title: str = "ray::") -> list[psutil.Process]:
        """Worker processes whose title begins with that, without Ray's own agents."""
        found = []
        for process in (child for raylet in self._raylets() for child in raylet.children()):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if words and words[0].startswith(title) and "Agent" not in words[0]:
                    found.append(process)
        return found

    @property
    def alive(self) -> bool:
        """Whether its raylet runs."""
        return bool(self._raylets())

    def kill(self) -> None:
        """Kill every process of the node at once, as when a machine loses power."""
        kill(self.processes())
        self.process.wait(timeout=20)


class Cluster:
    """A head without CPUs for trials, and the worker nodes that are added. Used as a context, it ends everything.

    Args:
        dashboard: start the dashboard with the job interface on loopback.
        autoscaling: an autoscaler's configuration with Ray's provider of fake nodes; the cluster's address is added.
        more: further environment variables of every process of the cluster.
    """

    def __init__(self, *, dashboard: bool = False, autoscaling: Mapping[str, Any] | None = None, **more: str) -> None:
        self.mark, self.token = secrets.token_hex(8), secrets.token_hex(32)
        # Short: Ray keeps Unix sockets below, and their paths end at 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="tfr", dir="/tmp"))
        self.gcs_port, self.dashboard_port, self.client_port = free_port(), free_port(), free_port()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        self.env = environment(**{**SHUT, **PATIENT, **more, **token, "RAY_TMPDIR": str(self.folder), MARK: self.mark})
        self._numbers = itertools.count()
        self.nodes: list[Node] = []
        try:
            ports = [
                f"--port={self.gcs_port}",
                f"--dashboard-port={self.dashboard_port}",
                f"--ray-client-server-port={self.client_port}",
            ]
            if autoscaling is not None:
                file = self.folder / "autoscaling.yaml"
                address = f"{get_node_ip_address()}:{self.gcs_port}"
                file.write_text(
                    yaml.safe_dump({**autoscaling, "provider": {**autoscaling["provider"], "gcs_address": address}})
                )
                ports.append(f"--autoscaling-config={file}")
            self.head = self._start(
                "--head", *ports, "--num-cpus=0", "--num-gpus=0", f"--include-dashboard={str(dashboard).lower()}"
            )
            self.head.wait()
            # `ray start` does not wait for the dashboard.
            wait_until(lambda: self._listens(self.client_port), f"Ray's client server listens ({self.folder})", 300)
        except BaseException:
            self.stop()
            raise

    @property
    def host(self) -> str:
        """The address that Ray chose for this machine."""
        (raylet,) = (p for p in psutil.Process(self.head.process.pid).children() if p.name() == "raylet")
        (word,) = (word for word in raylet.cmdline() if word.startswith("--node_ip_address="))
        return word.partition("=")[2]

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, port), timeout=5):
            return True
        return False

    @property
    def address(self) -> str:
        """For ``--address``."""
        return f"{self.host}:{self.gcs_port}"

    def _start(self, *words: str) -> Node:
        number = next(self._numbers)
        # Agents of several nodes of one machine would otherwise want one port, and all but one take no job.
        agent = f"--dashboard-agent-listen-port={free_port()}"
        fixed = [
            "--block",
            "--disable-usage-stats",
            agent,
            "--object-store-memory=90000000",
            f"--temp-dir={self.folder}/{number}",
        ]
        (self.folder / str(number)).mkdir()
        node = Node(number, [*RAY, "start", *words, *fixed], self.env, self.folder / f"node{number}.log")
        self.nodes.append(node)
        return node

    def add(self, count: int = 1, cpus: float = 1) -> list[Node]:
        """Start worker nodes at the same time and wait for them."""
        added = [self._start(f"--address={self.address}", f"--num-cpus={cpus:g}", "--num-gpus=0") for _ in range(count)]
        for node in added:
            node.wait()
        return added

    @property
    def workers(self) -> list[Node]:
        """The worker nodes that live."""
        return [node for node in self.nodes if node is not self.head and node.alive]

    def driver_environment(self, **more: str) -> dict[str, str]:
        """The environment of a driver of this cluster, or of a job submitted to it."""
        return {**environment(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, **more}

    def stop(self) -> None:
        """End every process of the cluster and remove its folder."""
        while left := marked(self.mark):  # again, for what was being started meanwhile
            kill(left)
        for node in self.nodes:
            node.process.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class MlflowServer:
    """``mlflow server`` with one worker on a free loopback port. It can be stopped and started again.

    Args:
        folder: for its database, artifacts and log.
        words: words of its command line instead of the usual ones; port and database stay the usual ones.
    """

    def __init__(self, folder: Path, words: Sequence[str] = ("--workers", "1", "--host", "127.0.0.1")) -> None:
        self.folder, self.port, self.mark = folder, free_port(), secrets.token_hex(8)
        folder.mkdir(parents=True, exist_ok=True)
        own = ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        own += ["--artifacts-destination", str(folder / "artifacts")]
        self._call = [sys.executable, "-m", "mlflow", "server", *words, *own]  # the last of two equal options holds
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        """For ``--tracking-uri``."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "server.log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                self._call,
                env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **{MARK: self.mark}),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=ends_with_its_parent,
            )
        wait_until(self.answers, f"MLflow answers ({self.folder / 'server.log'})", 240)

    def answers(self) -> bool:
        """Whether it is there."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        """Kill it at once."""
        kill(marked(self.mark))
        if self.process:
            self.process.wait(timeout=20)

    def freeze(self) -> None:
        """Let it listen and answer nothing."""
        for process in marked(self.mark):
            process.suspend()

    def thaw(self) -> None:
        """After ``freeze``."""
        for process in marked(self.mark):
            process.resume()

    def __enter__(self) -> MlflowServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()


def listening(processes: Sequence[psutil.Process]) -> Iterator[tuple[psutil.Process, str, int]]:
    """Every TCP socket that they listen on: process, address, port."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    yield process, connection.laddr.ip, connection.laddr.port


def http_status(url: str, token: str | None = None) -> int | None:
    """The status of a plain GET; ``None`` where no HTTP came back."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, urllib.error.URLError):
        return None
    except Exception:  # http.client raises its own where the answer is not HTTP
        return None
