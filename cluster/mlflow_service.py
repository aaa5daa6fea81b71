"""MLflow on the head of a cluster: a server on loopback, started again when it dies, its database copied to durable storage.

    python cluster/mlflow_service.py start      in the background; does nothing where it runs already
    python cluster/mlflow_service.py run        in the foreground, for a container or systemd
    python cluster/mlflow_service.py status
    python cluster/mlflow_service.py stop

SQLite needs a local disk, and a head's local disk does not outlive the head. So the database lies in a local folder, is copied
to the storage every minute and at SIGTERM, and comes back from there on a new head. Artifacts go to the storage directly. With
--database postgresql://... nothing is copied. Everything after a lone ``--`` is passed on to ``mlflow server``.

Knows nothing of sweeps and trials: training does not wait for MLflow, and a sweep writes what MLflow missed at its next start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import ipaddress
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfser.errors import RequestError
from tfser.files import Place, commit, commit_text, place
from tfser.tracking_uri import sqlite_uri

LONGEST_DELAY_S = 60.0
"""Most seconds between two starts of a server that keeps dying; a server that lived that long starts again at once."""

LOG_BYTES = 10_000_000
"""A server's log that has grown past this is set aside at the next start."""

MARK = "TFSER_MLFLOW_SERVICE"
"""In the environment of every server process: how a service finds the processes that one before it left behind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """One service, checked."""

    folder: Path
    """Local: the SQLite database, logs and the lock that lets one service run here."""
    storage: Place
    """Durable: the copy of the database, and the artifacts."""
    database: str | None
    """A database server's URI; ``None`` is SQLite in ``folder``."""
    host: str
    port: int
    workers: int
    every_s: float
    """Seconds between two copies of the database."""
    more: tuple[str, ...]
    """For ``mlflow server``, as typed."""

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the server."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def sqlite(self) -> Path:
        """The local database."""
        return self.folder / "mlflow.db"

    @property
    def backup(self) -> Place:
        """Its copy."""
        return self.storage / "mlflow.db"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="mlflow_service.py", description=(__doc__ or "").splitlines()[0])
    p.add_argument("action", choices=("start", "run", "status", "stop"))
    p.add_argument("--storage", help="folder or URI for the copy of the database and for artifacts; default: mlflow/ under TFSER_HOME")
    p.add_argument("--folder", help="local folder of the database and the logs; default: TFSER_MLFLOW_FOLDER, else ~/.tfser-mlflow")
    p.add_argument("--database", help="postgresql://... instead of SQLite; better in TFSER_MLFLOW_DATABASE, where ps does not show it")
    p.add_argument("--host", default="127.0.0.1", help="interface to listen on; default: 127.0.0.1")
    p.add_argument("--beyond-loopback", action="store_true", help="allow a --host that others reach; MLflow asks nobody for a password")
    p.add_argument("--port", type=int, default=5000, help="default: 5000")
    p.add_argument("--workers", type=int, default=2, help="server processes; default: 2")
    p.add_argument("--every", type=float, default=60.0, metavar="SECONDS", help="between two copies of the database; default: 60")
    return p


def check(typed: Sequence[str]) -> tuple[str, Options]:
    """The action and its options.

    Raises:
        RequestError: with everything that is wrong with them.
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
            storage = place(a.storage or f"{str(home).rstrip('/')}/mlflow")
        except ValueError as error:
            problems.append(str(error))
    elif a.action in ("start", "run"):
        problems.append("no storage; name one with --storage, or set TFSER_HOME (a folder or a URI such as s3://bucket/tfser)")
    database = a.database or os.environ.get("TFSER_MLFLOW_DATABASE") or None
    if database and not re.match(r"(postgresql|mysql|mssql)(\+\w+)?://", database):
        problems.append(f"--database {redacted(database)}: a database server is meant (postgresql://...); SQLite needs no option")
    if not _is_loopback(a.host) and not a.beyond_loopback:
        problems.append(
            f"--host {a.host}: MLflow would answer others, and it asks nobody for a password. Leave it at 127.0.0.1 and tunnel "
            f"(ssh -L {a.port}:127.0.0.1:{a.port} HEAD), or say --beyond-loopback"
        )
    if not 0 < a.port < 65536:
        problems.append(f"--port {a.port}: from 1 to 65535")
    if a.workers < 1:
        problems.append(f"--workers {a.workers}: 1 or more")
    if not a.every > 0:
        problems.append(f"--every {a.every:g}: more than 0 seconds")
    if problems:
        raise RequestError("mlflow_service.py " + redacted(" ".join(words)), problems)
    storage = storage.resolve() if isinstance(storage, Path) else storage
    return a.action, Options(
        folder=Path(str(folder_place)).resolve(),
        storage=storage,
        database=database,
        host=a.host,
        port=a.port,
        workers=a.workers,
        every_s=a.every,
        more=tuple(more),
    )


def redacted(text: str) -> str:
    """The text with every password in a URI hidden.

    >>> redacted("--database postgresql://anna:secret@db/mlflow")
    '--database postgresql://anna:***@db/mlflow'
    """
    text = re.sub(r"(://[^:/@\s]*):[^/\s]+@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def restore(options: Options) -> bool:
    """Bring the database back from the storage where this machine has none; whether it did.

    A damaged copy is set aside in the storage and counts as none: MLflow is a view, and the sweeps write it anew.

    Raises:
        OSError: the storage does not answer. A server must not start then: its empty database would replace the copy.
    """
    if options.sqlite.exists():
        return False
    try:
        with options.backup.open("rb") as source, open(options.folder / "restoring.db", "wb") as target:
            shutil.copyfileobj(source, target)
    except FileNotFoundError:
        return False
    except OSError:
        raise
    except Exception as error:  # a store's own kinds
        raise OSError(f"{options.backup} cannot be read: {error}") from error
    found = options.folder / "restoring.db"
    if not _is_sound(found):
        aside = options.storage / "mlflow.damaged.db"
        with open(found, "rb") as damaged:
            commit(aside, lambda file: shutil.copyfileobj(damaged, file))
        found.unlink()
        say(f"the copy {options.backup} is damaged; it is kept as {aside}, and an empty database takes its place")
        return False
    os.replace(found, options.sqlite)
    return True


def back_up(options: Options) -> None:
    """Copy the database to the storage as it is at one moment, while the server writes; the copy is whole or the one before.

    Raises:
        OSError: the storage does not answer, or a disk is full.
        sqlite3.Error: the database cannot be read.
    """
    copy = options.folder / "copying.db"
    copy.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"{options.sqlite.as_uri()}?mode=rw", uri=True, timeout=20)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target, sleep=0.02)  # between two attempts while a writer holds it
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


class Server:
    """``mlflow server`` and its processes, as one group."""

    def __init__(self, options: Options) -> None:
        self.log = options.folder / "server.log"
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        command = [sys.executable, "-m", "mlflow", "server", "--host", options.host, "--port", str(options.port)]
        command += ["--workers", str(options.workers), "--serve-artifacts"]
        command += ["--artifacts-destination", str(options.storage / "mlartifacts"), *options.more]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
        environment |= {
            # Not in the command line, which every user of the machine can read.
            "MLFLOW_BACKEND_STORE_URI": options.database or sqlite_uri(options.sqlite),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            MARK: str(options.folder),
        }
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=options.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.started = time.monotonic()

    @property
    def ended(self) -> int | None:
        """The exit code of the first process; ``None`` while it runs."""
        return self._process.poll()

    def end(self, grace_s: float = 5.0) -> None:
        """End every process of the group; those that a dead first process left behind, too (they would hold the port)."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Service:
    """Keeps a server alive and its database copied until it is told to stop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stopping = threading.Event()
        self._copying = threading.Lock()
        self._copied: object = None
        self._state: dict[str, Any] = {
            "pid": os.getpid(),
            "url": options.url,
            "starts": 0,
            "copied_unix": None,
            "copy_problem": None,
            "storage": redacted(str(options.storage)),
            "database": redacted(options.database or str(options.sqlite)),
        }

    def __call__(self) -> int:
        """Run until ``stopping`` is set; returns the exit code.

        Raises:
            RequestError: the storage cannot be written, or the port is taken.
        """
        ended = _end_leftovers(self.options)
        self._probe(port_patience_s=10.0 if ended else 0.0)
        if self.options.database is None and restore(self.options):
            say(f"the database came back from {self.options.backup}")
            self._copied = self._stamp()
        copier = threading.Thread(target=self._copy_now_and_then, name="copies", daemon=True)
        copier.start()
        delay_s = 1.0
        while not self.stopping.is_set():
            server = Server(self.options)
            self._note(starts=self._state["starts"] + 1)
            say(f"MLflow starts on {self.options.url}; its log is {server.log}")
            while server.ended is None and not self.stopping.wait(0.2):
                pass
            code, lived_s = server.ended, time.monotonic() - server.started
            if self.stopping.is_set():
                self.copy()  # whoever stops us may not wait for the server to end
                server.end()
                break
            server.end()
            delay_s = 1.0 if lived_s > LONGEST_DELAY_S else delay_s
            say(f"MLflow ended with {code} after {lived_s:.0f} s (see {server.log}); it starts again in {delay_s:g} s")
            self.stopping.wait(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        self.copy()
        say("stopped")
        return 0

    def copy(self) -> None:
        """Copy the database if it changed; a failure is said and tried again the next time."""
        if self.options.database is not None or not self.options.sqlite.exists():
            return
        with self._copying:
            stamp = self._stamp()
            if stamp == self._copied:
                return
            try:
                back_up(self.options)
            except Exception as error:  # whatever a store raises: the server must go on
                problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
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
        """Differs whenever the database does."""
        files = (self.options.sqlite, self.options.sqlite.with_name("mlflow.db-wal"))
        return tuple((s.st_mtime_ns, s.st_size) if (s := _stat(f)) else None for f in files)

    def _note(self, **changed: Any) -> None:
        self._state |= changed
        commit_text(self.options.folder / "service.json", json.dumps(self._state, indent=1) + "\n")

    def _probe(self, port_patience_s: float) -> None:
        """Storage that cannot be written, and a port that is taken, show before anything starts."""
        problems = []
        for pause_s in (1, 3, None):  # a new machine's credentials and names can be seconds late
            try:
                if isinstance(self.options.storage, Path):
                    self.options.storage.mkdir(parents=True, exist_ok=True)
                commit_text(self.options.storage / "service.json", json.dumps({"host": socket.gethostname()}) + "\n")
                break
            except Exception as error:
                if pause_s is None:
                    reason = " ".join(str(error).split())[:300] or type(error).__name__
                    problems.append(f"{redacted(str(self.options.storage))} cannot be written: {reason}; name another with --storage")
                else:
                    time.sleep(pause_s)
        until = time.monotonic() + port_patience_s
        while (taken := _port_problem(self.options)) is not None and time.monotonic() < until:
            time.sleep(0.1)
        if taken is not None:
            problems.append(f"{self.options.host}:{self.options.port} cannot be had: {taken}; name another with --port")
        if problems:
            raise RequestError("mlflow_service.py", problems)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _port_problem(options: Options) -> str | None:
    """Why the server could not listen there; ``None`` where it could."""
    with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _end_leftovers(options: Options) -> int:
    """End server processes whose service was killed: they hold the port and the database. Needs Linux's /proc.

    Returns:
        how many there were.
    """
    count = 0
    mark = f"{MARK}={options.folder}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environment.read_bytes().split(b"\0") and int(environment.parent.name) != os.getpid():
                os.kill(int(environment.parent.name), signal.SIGKILL)
                say(f"ended process {environment.parent.name}, a server whose service is gone")
                count += 1
    return count


@contextlib.contextmanager
def locked(options: Options) -> Iterator[None]:
    """Hold the folder for this process.

    Raises:
        BlockingIOError: another service holds it.
    """
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(options.folder / "service.lock", "a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def holder(options: Options) -> int | None:
    """The process id of the service that holds the folder."""
    try:
        with open(options.folder / "service.lock", "r+", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int((options.folder / "service.lock").read_text() or 0)


def _state(options: Options) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((options.folder / "service.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state


def say(text: str) -> None:
    """One line of the service's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


def run(options: Options) -> int:
    """In the foreground, until SIGTERM or Ctrl-C."""
    try:
        with locked(options):
            service = Service(options)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: service.stopping.set())
            return service()
    except BlockingIOError:
        print(f"The MLflow service runs already (process {holder(options)}); its folder is {options.folder}")
        return 0


def start(options: Options, typed: Sequence[str]) -> int:
    """In the background, detached from this terminal; returns when the server has been started or the service has given up."""
    if (pid := holder(options)) is not None:
        print(f"The MLflow service runs already (process {pid}): {_state(options).get('url', options.folder)}")
        return 0
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = list(typed)
    words[words.index("start")] = "run"
    log = options.folder / "service.log"
    at = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as file:
        service = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    while _state(options).get("pid") != service.pid:
        if (code := service.poll()) is not None:
            with open(log, encoding="utf-8", errors="replace") as file:
                file.seek(at)
                print(file.read().strip(), file=sys.stderr if code else sys.stdout)
            return code
        time.sleep(0.1)
    print(f"The MLflow service starts (process {service.pid}): {options.url}, in half a minute or so; its log is {log}")
    return 0


def status(options: Options) -> int:
    """Whether it runs, answers and is copied; 0 where all is well."""
    pid, state = holder(options), _state(options)
    if pid is None:
        print(f"No MLflow service runs here ({options.folder}); start it with: python {os.path.relpath(__file__)} start")
        return 1
    url = state.get("url", options.url)
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            answers = "answers" if answer.status == 200 else f"answers with {answer.status}"
    except OSError as error:
        answers = f"does not answer ({error}); see {options.folder / 'server.log'}"
    print(f"process {pid}: {url} {answers}; started {state.get('starts', 0)} time(s); database {state.get('database')}")
    if "://" not in str(state.get("database")):
        copied, problem = state.get("copied_unix"), state.get("copy_problem")
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(copied)) if copied else "not yet"
        print(f"copied to {state.get('storage')}: {stamp}" + (f"; now it fails: {problem}" if problem else ""))
    return 0 if answers == "answers" and not state.get("copy_problem") else 1


def stop(options: Options, patience_s: float = 60.0) -> int:
    """End the service and its server, after a last copy."""
    pid = holder(options)
    if pid is None:
        print(f"No MLflow service runs here ({options.folder})")
        return 0
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + patience_s
    while holder(options) == pid:
        if time.monotonic() > until:
            log = options.folder / "service.log"
            print(f"The MLflow service (process {pid}) still runs after {patience_s:g} s; see {log}", file=sys.stderr)
            return 1
        time.sleep(0.1)
    print("The MLflow service has stopped")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        action, options = check(typed)
        if action == "run":
            return run(options)
        if action == "start":
            return start(options, typed)
        return status(options) if action == "status" else stop(options)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"mlflow_service.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
