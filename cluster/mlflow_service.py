"""MLflow on the head of a cluster: a server on loopback, its database copied to durable storage.

    python cluster/mlflow_service.py start      in the background; does nothing if it runs already
    python cluster/mlflow_service.py run        in the foreground, for a container; ends with MLflow
    python cluster/mlflow_service.py status
    python cluster/mlflow_service.py stop

SQLite needs a local disk, and a head's local disk does not outlive the head. So the database is in a local folder, is
copied to the storage every minute and at SIGTERM, and is restored from there on a new head. Artifacts go to the storage
directly. With --database postgresql://... nothing is copied. Words after a lone ``--`` go to ``mlflow server``.

Others start it again after a failure: systemd (a user unit) if your units outlive your login, the container runtime,
and ``restart.sh`` elsewhere. The service knows nothing of sweeps and trials: training does not wait for MLflow, and a
sweep's next start writes what MLflow missed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from tfser.errors import RequestError, in_a_line
from tfser.execution.on_ray.open_doors import is_loopback
from tfser.storage.passwords import redacted
from tfser.storage.places import Place, absolute, commit, commit_text, make_folder, move, place, read_bytes
from tfser.text.streams import take_any_text
from tfser.tracking.uri import sqlite_uri

SCRIPT = Path(__file__).resolve()

PATIENCE_S = 60.0
"""Seconds that ``stop`` waits for the last copy and the end of the server."""

MARK = "TFSER_MLFLOW_SERVICE"
"""Variable in the environment of every process of a service; it holds the service's folder."""

UNIT = {
    "Restart": "on-failure",
    "RestartSec": "1",
    "RestartSteps": "6",
    "RestartMaxDelaySec": "60",
    "StartLimitIntervalSec": "0",
}
"""Lets systemd 254 or newer restart the service, with growing pauses and without end; an older one refuses these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """One service's options, checked."""

    folder: Path
    """Local folder of the SQLite database, the logs, and the lock that allows one service here."""
    storage: Place
    """Durable place for the copy of the database, and for the artifacts."""
    database: str | None
    """A database server's URI; ``None`` is SQLite in ``folder``."""
    host: str
    port: int
    every_s: float
    """Seconds between two copies of the database."""
    more: tuple[str, ...]
    """Words for ``mlflow server``, as typed."""

    @property
    def url(self) -> str:
        """The server's address for a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def sqlite(self) -> Path:
        """The local database."""
        return self.folder / "mlflow.db"

    @property
    def backup(self) -> Place:
        """The copy of the local database."""
        return self.storage / "mlflow.db"

    @property
    def unit(self) -> str:
        """The name of the service's systemd unit."""
        return f"tfser-mlflow-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}.service"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="mlflow_service.py", description=(__doc__ or "").splitlines()[0])
    p.add_argument("action", choices=("start", "run", "status", "stop"))
    p.add_argument(
        "--storage",
        help="folder or URI for the copy of the database and for artifacts; default: mlflow/ under TFSER_HOME",
    )
    p.add_argument(
        "--folder", help="local folder of the database and the logs; default: TFSER_MLFLOW_FOLDER, else ~/.tfser-mlflow"
    )
    p.add_argument(
        "--database",
        help="postgresql://... instead of SQLite; better in TFSER_MLFLOW_DATABASE, where ps does not show it",
    )
    p.add_argument("--host", default="127.0.0.1", help="interface to listen on; default: 127.0.0.1")
    p.add_argument(
        "--beyond-loopback",
        action="store_true",
        help="allow a --host that others reach; MLflow asks for no password",
    )
    p.add_argument("--port", type=int, default=5000, help="default: 5000")
    p.add_argument(
        "--every", type=float, default=60.0, metavar="SECONDS", help="between two copies of the database; default: 60"
    )
    return p


def check(typed: Sequence[str]) -> tuple[str, Options]:
    """Return the action and its options.

    Raises:
        RequestError: with all their problems.
    """
    words = list(typed)
    more = words[words.index("--") + 1 :] if "--" in words else []
    a = parser().parse_args(words[: words.index("--")] if "--" in words else words)
    problems = []
    folder = a.folder or os.environ.get("TFSER_MLFLOW_FOLDER") or "~/.tfser-mlflow"
    if "://" in folder:
        problems.append(f"--folder {folder}: SQLite needs a local folder; the URI belongs into --storage")
    folder_place: Place = Path()
    try:
        folder_place = place(folder)
    except ValueError as error:
        problems.append(f"--folder {error}")
    home = os.environ.get("TFSER_HOME")
    storage: Place = Path()
    if a.storage or home:
        try:
            storage = absolute(place(a.storage or f"{str(home).rstrip('/')}/mlflow"))
        except ValueError as error:
            problems.append(str(error))
    elif a.action in ("start", "run"):
        problems.append(
            "no storage; name one with --storage, or set TFSER_HOME (a folder or a URI such as s3://bucket/tfser)"
        )
    database = a.database or os.environ.get("TFSER_MLFLOW_DATABASE") or None
    if database and not re.match(r"(postgresql|mysql|mssql)(\+\w+)?://", database):
        problems.append(
            f"--database {redacted(database)}: a database server is meant (postgresql://...); SQLite needs no option"
        )
    tunnel = f"Leave it at 127.0.0.1 and tunnel (ssh -L {a.port}:127.0.0.1:{a.port} HEAD), or say --beyond-loopback"
    if not is_loopback(a.host) and not a.beyond_loopback:
        problems.append(f"--host {a.host}: MLflow would answer others, and it asks for no password. {tunnel}")
    for given in (
        re.findall(r"(?:^|(?<=[\s='\"]))(?:-[hb]|--(?:host|bind|listen)\b)", " ".join(more))
        if not a.beyond_loopback
        else ()
    ):
        problems.append(f"{given} behind --: MLflow could answer others, and it asks for no password. {tunnel}")
    if not 0 < a.port < 65536:
        problems.append(f"--port {a.port}: from 1 to 65535")
    if not a.every > 0:
        problems.append(f"--every {a.every:g}: more than 0 seconds")
    if problems:
        raise RequestError("mlflow_service.py " + redacted(" ".join(words)), problems)
    return a.action, Options(
        folder=Path(str(folder_place)).resolve(),
        storage=storage,
        database=database,
        host=a.host,
        port=a.port,
        every_s=a.every,
        more=tuple(more),
    )


def restore(options: Options) -> bool:
    """Restore the database from the storage if this machine has none; return whether it did.

    A damaged copy is set aside in the storage and counts as missing: MLflow is a view, which the sweeps write again.

    Raises:
        OSError: the storage does not answer. No server may start then: its empty database would replace the copy.
    """
    if options.sqlite.exists():
        return False
    found = options.folder / "restoring.db"
    try:
        found.write_bytes(read_bytes(options.backup))
    except FileNotFoundError:
        return False
    if not _is_sound(found):
        aside = options.storage / "mlflow.damaged.db"
        move(options.backup, aside)
        found.unlink()
        say(f"the copy {options.backup} is damaged; it is kept as {aside}, and an empty database takes its place")
        return False
    found.replace(options.sqlite)
    return True


def back_up(options: Options) -> None:
    """Copy the database between two transactions, even while a server writes.

    Raises:
        OSError: the storage cannot be written; the copy in it has not changed.
        sqlite3.Error: the database cannot be read.
    """
    copy = options.folder / "copying.db"
    copy.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"{options.sqlite.as_uri()}?mode=rw", uri=True, timeout=20)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target, sleep=0.02)  # the pause between attempts while a writer holds it
    if not _is_sound(copy):
        raise sqlite3.DatabaseError(f"{options.sqlite} is damaged; the copy in the storage is left as it was")
    with open(copy, "rb") as whole:
        commit(options.backup, lambda file: shutil.copyfileobj(whole, file))
    copy.unlink()


def _is_sound(database: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


class Service:
    """A server and the copies of its database, until the service is stopped or the server ends."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stopping = threading.Event()
        self._copying = threading.Lock()
        self._copied: object = None
        self._state: dict[str, Any] = {
            "url": options.url,
            "copied_unix": None,
            "copy_problem": None,
            "storage": redacted(str(options.storage)),
            "database": redacted(options.database or str(options.sqlite)),
        }

    def __call__(self) -> int:
        """Run and return the exit code, which is 0 after a stop.

        Raises:
            RequestError: the storage cannot be written, or the port is taken.
        """
        end_leftovers(self.options)
        probe(self.options)
        if self.options.database is None and restore(self.options):
            say(f"the database came back from {self.options.backup}")
            self._copied = self._stamp()
        self._note()
        server, log = self._server()
        say(f"MLflow starts on {self.options.url}; its log is {log}")
        threading.Thread(target=self._copy_now_and_then, name="copies", daemon=True).start()
        while server.poll() is None and not self.stopping.wait(0.2):
            pass
        code = server.poll()
        self.copy()  # the process that stops us may not wait for the server to end
        # The signals go to the whole group, which includes what a dead first process left behind.
        for sign, grace_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(server.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(grace_s)
        self.copy()
        say("stopped" if self.stopping.is_set() else f"MLflow ended with {code}; see {log}")
        return 0 if self.stopping.is_set() else 1

    def _server(self) -> tuple[subprocess.Popen[bytes], Path]:
        """Start ``mlflow server`` as the first process of a group; return it and its log."""
        o, log = self.options, self.options.folder / "server.log"
        command = [sys.executable, "-m", "mlflow", "server", "--host", o.host, "--port", str(o.port), "--workers", "2"]
        command += ["--serve-artifacts", "--artifacts-destination", str(o.storage / "mlartifacts"), *o.more]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
        environment |= {
            # Not in the command line, which every user of the machine can read.
            "MLFLOW_BACKEND_STORE_URI": o.database or sqlite_uri(o.sqlite),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with open(log, "ab") as file:
            return subprocess.Popen(
                command,
                cwd=o.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            ), log

    def copy(self) -> None:
        """Copy the database if it changed; report a failure and try again the next time."""
        if self.options.database is not None or not self.options.sqlite.exists():
            return
        with self._copying:
            stamp = self._stamp()
            if stamp == self._copied:
                return
            try:
                back_up(self.options)
            except Exception as error:  # whatever a store raises: the server must go on
                problem = in_a_line(error)
                if problem != self._state["copy_problem"]:
                    say(f"the database could not be copied to {self.options.backup} ({problem}); it is tried again")
                self._note(copy_problem=problem)
                return
            self._copied = stamp
            self._note(copied_unix=time.time(), copy_problem=None)

    def _copy_now_and_then(self) -> None:
        while not self.stopping.wait(self.options.every_s):
            self.copy()

    def _stamp(self) -> object:
        """Return a value that changes whenever the database does."""
        files = (self.options.sqlite, self.options.sqlite.with_name("mlflow.db-wal"))
        return [(f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.exists()]

    def _note(self, **changed: Any) -> None:
        self._state |= changed
        commit_text(self.options.folder / "service.json", json.dumps(self._state, indent=1) + "\n")


def probe(options: Options) -> None:
    """Refuse storage that cannot be written, and a port in use, before anything starts.

    Raises:
        RequestError: with all problems.
    """
    problems = []
    for pause_s in (1, 3, None):  # a new machine's credentials and names can come seconds late
        try:
            make_folder(options.storage)
            commit_text(options.storage / "service.json", json.dumps({"host": socket.gethostname()}) + "\n")
            break
        except Exception as error:
            if pause_s is None:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                problems.append(
                    f"{redacted(str(options.storage))} cannot be written: {reason}; name another with --storage"
                )
            else:
                time.sleep(pause_s)
    with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as error:
            problems.append(
                f"{options.host}:{options.port} cannot be had: {error.strerror or error}; name another with --port"
            )
    if problems:
        raise RequestError("mlflow_service.py", problems)


def marked(options: Options) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Return the other processes of this folder's service: those that run or restart it, and its servers."""
    service: list[psutil.Process] = []
    servers: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(options.folder) and process.pid != os.getpid():
                (service if str(SCRIPT) in process.cmdline() else servers).append(process)
    return service, servers


def end_leftovers(options: Options) -> None:
    """End servers whose service was killed, because they hold the port and the database. Call it if no service runs."""
    _, servers = marked(options)
    for process in servers:
        with contextlib.suppress(psutil.Error):
            process.kill()
            say(f"ended process {process.pid}, a server whose service is gone")
    psutil.wait_procs(servers, timeout=10)


def running(options: Options) -> str | None:
    """Name the unit or process that runs or restarts this folder's service; ``None`` if there is none."""
    if _said("systemctl", "--user", "show", "--property=ActiveState", "--value", options.unit) in (
        "active",
        "activating",
        "deactivating",
    ):
        return f"unit {options.unit}"
    service, _ = marked(options)
    return f"process {service[0].pid}" if service else None


def _said(*command: str, timeout_s: float = 10.0) -> str | None:
    """Return what a command prints; ``None`` if it fails or does not exist."""
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=timeout_s).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def say(text: str) -> None:
    """Print one line of the service's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


def run(options: Options, typed: Sequence[str]) -> int:
    """Run in the foreground until SIGTERM, Ctrl-C or MLflow's end; return the exit code."""
    # Others read the mark in the environment that a process begins with, so this one begins again with it.
    if os.environ.get(MARK) != str(options.folder):
        os.execve(sys.executable, [sys.executable, str(SCRIPT), *typed], {**os.environ, MARK: str(options.folder)})
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with FileLock(options.folder / "service.lock", blocking=False):
            service = Service(options)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: service.stopping.set())
            return service()
    except Timeout:
        print(f"The MLflow service runs already; its folder is {options.folder}")
        return 0


def start(options: Options, typed: Sequence[str]) -> int:
    """Start the service in the background, detached from this terminal; return the exit code.

    Raises:
        RequestError: see ``probe``.
    """
    if (there := running(options)) is not None:
        print(f"The MLflow service runs already ({there}): {options.url}")
        return 0
    end_leftovers(options)
    probe(options)
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (options.folder / "service.json").unlink(missing_ok=True)
    log = options.folder / "service.log"
    words = [sys.executable, str(SCRIPT), *typed]
    words[words.index("start")] = "run"
    environment = {**os.environ, MARK: str(options.folder)}
    # A unit ends with your login unless you let it linger; one that outlives its Slurm job would run unattended.
    lingers = (
        "SLURM_JOB_ID" not in os.environ
        and _said("loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value") == "yes"
    )
    if lingers and _unit(options, words, environment, log):
        by = f"unit {options.unit}"
    else:
        with open(log, "ab") as file:
            loop = ["bash", str(SCRIPT.with_name("restart.sh")), *words]
            made = subprocess.Popen(
                loop, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        by = f"process {made.pid}"
    print(f"The MLflow service starts ({by}): {options.url}, in half a minute or so; its log is {log}")
    return 0


def _unit(options: Options, words: Sequence[str], environment: dict[str, str], log: Path) -> bool:
    """Let systemd run a command as a unit of this user; return whether it does."""
    kept = {**UNIT, "StandardOutput": f"append:{log}", "StandardError": f"append:{log}"}
    asked = ["systemd-run", "--user", "--collect", "--same-dir", f"--unit={options.unit}"]
    asked += [f"--property={name}={value}" for name, value in kept.items()]
    asked += [f"--setenv={name}" for name in environment if name.isidentifier()]  # without values: some are secret
    return subprocess.run([*asked, "--", *words], env=environment, capture_output=True).returncode == 0


def status(options: Options) -> int:
    """Print whether the service runs, answers and is copied; return 0 if all is well."""
    there = running(options)
    if there is None:
        print(
            f"No MLflow service runs here ({options.folder}); start it with: python {os.path.relpath(__file__)} start"
        )
        return 1
    state: dict[str, Any] = {"url": options.url, "database": "not known yet"}
    with contextlib.suppress(FileNotFoundError):
        state = json.loads((options.folder / "service.json").read_text(encoding="utf-8"))
    try:
        with urllib.request.urlopen(f"{state['url']}/health", timeout=10) as answer:
            answers = "answers" if answer.status == 200 else f"answers with {answer.status}"
    except OSError as error:
        answers = f"does not answer ({error}); see {options.folder / 'server.log'}"
    print(f"{there}: {state['url']} {answers}; database {state['database']}")
    copied, problem = state.get("copied_unix"), state.get("copy_problem")
    if "storage" in state and "://" not in state["database"]:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(copied)) if copied else "not yet"
        print(f"copied to {state['storage']}: {stamp}" + (f"; now it fails: {problem}" if problem else ""))
    return 0 if answers == "answers" and not problem else 1


def stop(options: Options) -> int:
    """End the service and its server, after a last copy; return the exit code."""
    if running(options) is None:
        print(f"No MLflow service runs here ({options.folder})")
        return 0
    _said("systemctl", "--user", "stop", options.unit, timeout_s=PATIENCE_S)  # fails if systemd does not know it
    until = time.monotonic() + PATIENCE_S
    while left := marked(options)[0]:  # repeated, because one may have been starting another
        if time.monotonic() > until:
            log = options.folder / "service.log"
            print(
                f"The MLflow service (process {left[0].pid}) still runs after {PATIENCE_S:g} s; see {log}",
                file=sys.stderr,
            )
            return 1
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(left, timeout=1.0)
    print("The MLflow service has stopped")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    take_any_text()
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        action, options = check(typed)
        if action in ("start", "run"):
            return (start if action == "start" else run)(options, typed)
        return status(options) if action == "status" else stop(options)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"mlflow_service.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
