"""An MLflow server that a test starts, stops, holds up and kills."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from tests.helpers.ports import free_port
from tests.helpers.runs import Held


class Server:
    """An MLflow server on a free port of this machine.

    Args:
        folder: gets its log and the artifacts that it is sent.
        store: URI of what it shows; by default SQLite below the folder.
    """

    def __init__(self, folder, store=None):
        self.folder, self.store = folder, store or f"sqlite:///{folder}/server.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        command += [
            "--backend-store-uri",
            self.store,
            "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.folder / "server.log", "ab") as log_file:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log_file, stderr=log_file, start_new_session=True
            )
        until = time.monotonic() + 240
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def signal(self, number):
        """Send a signal to the started process and its children."""
        os.killpg(self.process.pid, number)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    @contextmanager
    def stopped(self):
        """Accept connections and answer nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def held(self):
        return Held(self.folder / "server.db")

    def content(self, held):
        """Return a reader of artifacts that the server keeps."""
        return lambda run, name: (
            self.folder / "artifacts" / held.runs[run][2].removeprefix("mlflow-artifacts:/") / name
        ).read_text()
