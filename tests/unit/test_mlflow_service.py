"""The MLflow service of ``cluster/``: kept alive, kept to loopback, its database copied and brought back.

A stand-in serves instead of MLflow, except in the last test.
"""

import contextlib
import http.server
import importlib.util
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.helpers.ports import free_port
from tfser.errors import RequestError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "mlflow_service.py"
_spec = importlib.util.spec_from_file_location("mlflow_service", SCRIPT)
service = importlib.util.module_from_spec(_spec)
sys.modules["mlflow_service"] = service
_spec.loader.exec_module(service)

MLFLOW = """
import http.server, json, os, signal, socketserver, sqlite3, subprocess, sys
words = sys.argv[1:]
with open(os.environ["FAKE_NOTES"], "a") as file:
    file.write(json.dumps({"words": words, "pid": os.getpid(), "environment": dict(os.environ)}) + "\\n")
if os.path.exists(os.environ["FAKE_NOTES"] + ".broken"):
    sys.exit("the schema is out of date")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # a worker, as MLflow has some
if os.path.exists(os.environ["FAKE_NOTES"] + ".stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
if uri.startswith("sqlite:///"):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute("CREATE TABLE IF NOT EXISTS starts (pid)")
        database.execute("INSERT INTO starts VALUES (?)", (os.getpid(),))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
socketserver.TCPServer.allow_reuse_address = True
host, port = (words[words.index(option) + 1] for option in ("--host", "--port"))
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


def wait_for(true, seconds=60):
    until = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return value


def group_of(pid):
    """The processes of a server that are still there."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def ran_by(said):
    """The process that `start` names."""
    return psutil.Process(int(re.search(r"process (\d+)", said)[1]))


SYSTEMD = f"""#!{sys.executable} -S
import json, os, sys
what, notes = os.path.basename(sys.argv[0]), os.environ["FAKE_NOTES"] + ".systemd"
with open(notes, "a") as file:
    file.write(json.dumps([what, sys.argv[1:], os.environ.get("TFSER_MLFLOW_DATABASE")]) + "\\n")
if what == "loginctl":
    print(os.environ.get("FAKE_LINGER", "no"))
if what == "systemd-run":
    sys.exit("Unknown assignment: RestartSteps=6" if os.environ.get("FAKE_OLD") else 0)
if what == "systemctl" and "show" in sys.argv:
    print("activating" if "systemd-run" in open(notes).read() and not os.environ.get("FAKE_OLD") else "inactive")
"""


class Head:
    """A machine with a local folder, a storage and stand-ins for MLflow and systemd."""

    def __init__(self, folder):
        self.local, self.storage, self.notes = folder / "local", folder / "storage", folder / "notes"
        (folder / "fakes" / "mlflow").mkdir(parents=True)
        (folder / "fakes" / "mlflow" / "__init__.py").touch()
        (folder / "fakes" / "mlflow" / "__main__.py").write_text(MLFLOW)
        self.notes.touch()
        for name in ("loginctl", "systemctl", "systemd-run"):
            (folder / "fakes" / name).write_text(SYSTEMD)
            (folder / "fakes" / name).chmod(0o755)
        self.port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TFSER_", "MLFLOW_", "SLURM_"))}
        self.environment = environment | {"PYTHONPATH": f"{folder / 'fakes'}:{ROOT}", "FAKE_NOTES": str(self.notes)}
        self.environment["PATH"] = f"{folder / 'fakes'}:{environment['PATH']}"

    def words(self, *more):
        return [
            *more,
            "--folder",
            str(self.local),
            "--storage",
            str(self.storage),
            "--port",
            str(self.port),
            "--every",
            "0.2",
        ]

    def __call__(self, *words, **environment):
        given = {**self.environment, **environment}
        return subprocess.run(
            [sys.executable, SCRIPT, *self.words(*words)], env=given, capture_output=True, text=True, timeout=120
        )

    def servers(self):
        return [json.loads(line) for line in self.notes.read_text().splitlines()]

    def asked_of_systemd(self):
        return [json.loads(line) for line in Path(f"{self.notes}.systemd").read_text().splitlines()]

    def answers(self):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer,
        ):
            return answer.status == 200
        return False

    def rows(self, database):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return [pid for (pid,) in connection.execute("SELECT pid FROM starts")]


@pytest.fixture
def head(tmp_path):
    head = Head(tmp_path)
    yield head
    head("stop")
    for server in head.servers():
        for pid in group_of(server["pid"]):
            os.kill(pid, signal.SIGKILL)


def options(folder, storage, **more):
    given = [
        "run",
        "--folder",
        str(folder),
        "--storage",
        str(storage),
        *(w for k, v in more.items() for w in (f"--{k}", str(v))),
    ]
    for path in (folder, storage):
        if isinstance(path, Path):
            path.mkdir(exist_ok=True)
    return service.check(given)[1]


def fill(database, rows=range(3)):
    database.parent.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS runs (id)")
        connection.executemany("INSERT INTO runs VALUES (?)", [(row,) for row in rows])
        connection.commit()


def rows_of(database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return [row for (row,) in connection.execute("SELECT id FROM runs")]


# The server


def test_the_server_listens_on_loopback_and_phones_nobody_and_its_database_is_in_no_command_line(head):
    started = head(
        "start", MLFLOW_TRACKING_URI="http://127.0.0.1:5000", TFSER_MLFLOW_DATABASE="postgresql://anna:hush@db/mlflow"
    )
    assert started.returncode == 0, started.stderr
    wait_for(head.answers)
    (server,) = head.servers()
    destination = str(head.storage / "mlartifacts")
    asked = [
        "--host",
        "127.0.0.1",
        "--port",
        str(head.port),
        "--workers",
        "2",
        "--serve-artifacts",
        "--artifacts-destination",
        destination,
    ]
    assert server["words"] == ["server", *asked]
    environment = server["environment"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://anna:hush@db/mlflow"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "MLFLOW_TRACKING_URI" not in environment, "the server would be a client of itself"
    said = head("status").stdout
    assert "answers" in said
    assert "hush" not in said + (head.local / "service.json").read_text() + (head.local / "service.log").read_text()
    assert not (head.storage / "mlflow.db").exists(), "a database server is not copied"


def test_a_second_start_does_nothing_and_says_so(head):
    first, second = head("start"), head("start")
    assert (first.returncode, second.returncode) == (0, 0)
    pid = re.search(r"process (\d+)", first.stdout)[1]
    assert second.stdout == f"The MLflow service runs already (process {pid}): http://127.0.0.1:{head.port}\n"
    wait_for(head.answers)
    in_front = head("run")
    assert (in_front.returncode, in_front.stdout) == (
        0,
        f"The MLflow service runs already; its folder is {head.local}\n",
    )
    assert len(head.servers()) == 1


def test_a_server_that_dies_is_started_again_and_leaves_no_process_behind(head):
    assert head("start").returncode == 0
    wait_for(head.answers)
    first = head.servers()[0]["pid"]
    assert len(group_of(first)) == 2
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(head.servers()) == 2 and head.answers())
    assert group_of(first) == [], "its worker still holds the port"
    assert "MLflow ended with -9" in (head.local / "service.log").read_text()
    assert head("status").returncode == 0


@pytest.mark.full
def test_a_server_that_keeps_dying_is_started_ever_more_seldom(head):
    Path(f"{head.notes}.broken").touch()
    assert head("start").returncode == 0
    wait_for(lambda: len(head.servers()) >= 3)
    delays = re.findall(r"starts again in (\d+) s", (head.local / "service.log").read_text())
    assert delays[:2] == ["1", "2"]
    assert "out of date" in (head.local / "server.log").read_text()
    assert head("status").returncode == 1
    assert head("stop").returncode == 0


@pytest.mark.full
@pytest.mark.parametrize("all_of_it", [True, False])
def test_a_service_that_was_killed_leaves_nothing_in_the_way_of_the_next(head, all_of_it):
    loop = ran_by(head("start").stdout)
    wait_for(head.answers)
    first = head.servers()[0]["pid"]
    (service_,) = loop.children()
    for process in [loop, service_] if all_of_it else [service_]:
        process.kill()
    assert group_of(first), "this test needs a server that outlived its service"
    if all_of_it:
        wait_for(lambda: head("status").returncode == 1)
        assert head("start").returncode == 0
    wait_for(lambda: len(head.servers()) == 2 and head.answers())
    assert group_of(first) == []


def test_systemd_starts_it_again_where_units_outlive_the_login_and_no_secret_is_in_its_command_line(head):
    secret = {"TFSER_MLFLOW_DATABASE": "postgresql://anna:hush@db/mlflow", "FAKE_LINGER": "yes"}
    started = head("start", **secret)
    unit = re.search(r"starts \(unit (tfser-mlflow-[0-9a-f]{8}\.service)\)", started.stdout)[1]
    asked = head.asked_of_systemd()
    ((_, words, database),) = [call for call in asked if call[0] == "systemd-run"]
    assert {"--user", f"--unit={unit}", "--property=Restart=on-failure", "--property=RestartMaxDelaySec=60"} <= set(
        words
    )
    assert {"--setenv=TFSER_MLFLOW_DATABASE", "--setenv=TFSER_MLFLOW_SERVICE", "--setenv=PATH"} <= set(words)
    assert words[words.index("--") + 1 :] == [sys.executable, str(SCRIPT), *head.words("run")]
    assert database == secret["TFSER_MLFLOW_DATABASE"]
    assert "hush" not in json.dumps([call[1] for call in asked])
    assert head.servers() == [], "a loop was started too"
    assert f"runs already (unit {unit})" in head("start", **secret).stdout, "systemd waits to start it again"
    assert head("stop", **secret).returncode == 0
    assert ["systemctl", ["--user", "stop", unit]] in [call[:2] for call in head.asked_of_systemd()]


@pytest.mark.parametrize(
    "environment", [{}, {"FAKE_LINGER": "yes", "SLURM_JOB_ID": "7"}, {"FAKE_LINGER": "yes", "FAKE_OLD": "1"}]
)
def test_a_loop_starts_it_again_where_systemd_cannot_and_in_a_slurm_job_which_a_unit_would_outlive(head, environment):
    assert ran_by(head("start", **environment).stdout).name() == "bash"
    wait_for(head.answers)


@pytest.mark.full
def test_sigterm_copies_what_was_written_last_before_the_server_ends_and_then_ends_every_process(head):
    Path(f"{head.notes}.stubborn").touch()
    words = [sys.executable, SCRIPT, *head.words("run"), "--every", "3600"]
    running = subprocess.Popen(words, env=head.environment, stdout=subprocess.DEVNULL)
    wait_for(head.answers)
    fill(head.local / "mlflow.db", [42])
    running.terminate()
    wait_for((head.storage / "mlflow.db").exists)
    assert head.answers(), "whoever stops the service may kill it before such a server has ended"
    assert running.wait(60) == 0
    assert rows_of(head.storage / "mlflow.db") == [42]
    assert group_of(head.servers()[0]["pid"]) == []


@pytest.mark.full
def test_a_new_head_goes_on_with_the_database_of_the_one_before(head, tmp_path):
    assert head("start").returncode == 0
    wait_for(head.answers)
    wait_for(lambda: (head.storage / "mlflow.db").exists() and head.rows(head.storage / "mlflow.db"))
    assert head("stop").returncode == 0
    first = head.servers()[0]["pid"]
    head.local = tmp_path / "of the new head"
    assert head("start").returncode == 0
    wait_for(head.answers)
    assert head.rows(head.local / "mlflow.db") == [first, head.servers()[1]["pid"]]


# The copy


def test_a_copy_made_while_others_write_is_whole(tmp_path):
    made = options(tmp_path / "local", tmp_path / "storage")
    with contextlib.closing(sqlite3.connect(made.sqlite)) as connection:
        connection.execute("CREATE TABLE pairs (a, b)")
        connection.commit()
    done = threading.Event()

    def write():
        with contextlib.closing(sqlite3.connect(made.sqlite, timeout=30)) as connection:
            number = 0
            while not done.is_set():
                number += 1
                with connection:  # two rows or none
                    connection.executemany(
                        "INSERT INTO pairs VALUES (?, ?)", [(number, "x" * 500), (number, "y" * 500)]
                    )
                time.sleep(0.002)

    def pairs(database):
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            counts = [count for (count,) in connection.execute("SELECT count(*) FROM pairs GROUP BY a")]
            assert set(counts) <= {2}, "half of a transaction was copied"
            return len(counts)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copied = []
        while len(set(copied)) < 5:
            service.back_up(made)
            copied.append(pairs(tmp_path / "storage" / "mlflow.db"))
        assert copied == sorted(copied)
    finally:
        done.set()
        writer.join()


def test_a_database_that_did_not_change_is_not_copied_again(tmp_path):
    made = options(tmp_path / "local", tmp_path / "storage")
    fill(made.sqlite)
    running = service.Service(made)
    running.copy()
    before = (tmp_path / "storage" / "mlflow.db").stat().st_mtime_ns
    running.copy()
    assert (tmp_path / "storage" / "mlflow.db").stat().st_mtime_ns == before
    fill(made.sqlite, [9])
    running.copy()
    assert rows_of(tmp_path / "storage" / "mlflow.db") == [0, 1, 2, 9]


def test_a_storage_that_fails_keeps_the_copy_before_and_is_said_once_and_tried_again(tmp_path, capsys, monkeypatch):
    made = options(tmp_path / "local", tmp_path / "storage")
    fill(made.sqlite)
    running = service.Service(made)
    running.copy()
    fill(made.sqlite, [9])
    whole = service.commit

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service, "commit", full)
    running.copy()
    running.copy()
    assert rows_of(tmp_path / "storage" / "mlflow.db") == [0, 1, 2]
    assert capsys.readouterr().out.count("No space left on device") == 1
    assert "No space left" in json.loads((made.folder / "service.json").read_text())["copy_problem"]
    monkeypatch.setattr(service, "commit", whole)
    running.copy()
    assert rows_of(tmp_path / "storage" / "mlflow.db") == [0, 1, 2, 9]
    assert json.loads((made.folder / "service.json").read_text())["copy_problem"] is None


def test_a_damaged_database_does_not_replace_a_sound_copy(tmp_path):
    made = options(tmp_path / "local", tmp_path / "storage")
    fill(made.sqlite, range(5000))
    service.back_up(made)
    torn = bytearray(made.sqlite.read_bytes())
    torn[4096:12288] = os.urandom(8192)
    made.sqlite.write_bytes(torn)
    with pytest.raises(sqlite3.DatabaseError):
        service.back_up(made)
    assert rows_of(tmp_path / "storage" / "mlflow.db") == list(range(5000))


def test_a_copy_comes_back_only_where_there_is_no_database(tmp_path):
    made = options(tmp_path / "local", tmp_path / "storage")
    assert not service.restore(made), "there is no copy yet"
    fill(made.sqlite)
    service.back_up(made)
    fill(made.sqlite, [9])
    assert not service.restore(made)
    assert rows_of(made.sqlite) == [0, 1, 2, 9]
    made.sqlite.unlink()
    assert service.restore(made)
    assert rows_of(made.sqlite) == [0, 1, 2]


def test_a_damaged_copy_is_kept_aside_and_counts_as_none(tmp_path, capsys):
    made = options(tmp_path / "local", tmp_path / "storage")
    (tmp_path / "storage" / "mlflow.db").write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    assert not service.restore(made)
    assert not made.sqlite.exists()
    assert (tmp_path / "storage" / "mlflow.damaged.db").stat().st_size == 9016
    assert "is damaged" in capsys.readouterr().out


def test_a_storage_that_does_not_answer_is_no_reason_to_begin_with_an_empty_database(tmp_path):
    made = options(tmp_path / "local", tmp_path / "storage")
    (tmp_path / "storage" / "mlflow.db").mkdir()  # cannot be read as a file
    with pytest.raises(OSError, match="directory"):
        service.restore(made)
    assert not made.sqlite.exists()


def test_a_copy_in_a_bucket_comes_back_on_a_new_machine(bucket, tmp_path):
    made = options(tmp_path / "local", f"{bucket}/mlflow")
    assert not service.restore(made)
    fill(made.sqlite)
    service.back_up(made)
    new = options(tmp_path / "new", f"{bucket}/mlflow")
    assert service.restore(new)
    assert rows_of(new.sqlite) == [0, 1, 2]


# Requests


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--storage", "x", "--host", "0.0.0.0"], "asks for no password"),
        (["--storage", "x", "--host", "head.example"], "asks for no password"),
        (["--storage", "x", "--database", "mysqlite://x"], "a database server is meant"),
        (["--storage", "x", "--port", "70000"], "from 1 to 65535"),
        (["--storage", "x", "--every", "0"], "more than 0 seconds"),
        (["--storage", "x", "--", "--host", "0.0.0.0"], "--host behind --"),
        (["--storage", "x", "--", "-h0.0.0.0"], "-h behind --"),
        (["--storage", "x", "--", "--uvicorn-opts=--host 0.0.0.0"], "--host behind --"),
        (["--storage", "x", "--", "--gunicorn-opts", "-b :5000"], "-b behind --"),
        (["--storage", "x", "--folder", "s3://b/x"], "needs a local folder"),
        (["--storage", "nosuch://b/x"], "nosuch"),
        ([], "TFSER_HOME"),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(words, reason, monkeypatch, capsys):
    monkeypatch.delenv("TFSER_HOME", raising=False)
    assert service.main(["run", *words]) == 2
    assert reason in capsys.readouterr().err


def test_every_reason_is_given_at_once_and_no_password_with_them(monkeypatch):
    monkeypatch.delenv("TFSER_HOME", raising=False)
    with pytest.raises(RequestError) as refused:
        service.check(["run", "--port", "0", "--database", "redis://anna:hush@db/x"])
    assert len(refused.value.problems) == 3
    assert "hush" not in str(refused.value)


def test_other_interfaces_can_be_asked_for_and_what_follows_two_dashes_is_mlflows():
    words = ["run", "--storage", "x", "--host", "0.0.0.0", "--beyond-loopback", "--", "--app-name", "basic-auth"]
    action, made = service.check(words)
    assert (action, made.host, made.more) == ("run", "0.0.0.0", ("--app-name", "basic-auth"))
    assert made.url == "http://127.0.0.1:5000"


def test_the_home_of_tfser_is_the_default_storage(monkeypatch):
    monkeypatch.setenv("TFSER_HOME", "/shared/tfser/")
    assert str(service.check(["run"])[1].backup) == "/shared/tfser/mlflow/mlflow.db"


def test_a_port_that_is_taken_and_a_storage_that_cannot_be_written_are_said_by_start(head):
    with http.server.HTTPServer(("127.0.0.1", head.port), http.server.BaseHTTPRequestHandler):
        head.storage.write_text("a file, not a folder")
        refused = head("start")
    assert refused.returncode == 2
    assert f"127.0.0.1:{head.port} cannot be had" in refused.stderr
    assert f"{head.storage} cannot be written" in refused.stderr
    assert head.servers() == []


def test_status_and_stop_of_a_service_that_does_not_run_say_so(head):
    assert head("status").returncode == 1
    assert "start it with" in head("status").stdout
    assert head("stop").returncode == 0


@pytest.mark.full
def test_mlflow_itself_is_killed_and_comes_back_and_so_do_its_runs_on_a_new_head(head, tmp_path):
    from mlflow import MlflowClient

    del head.environment["PYTHONPATH"]  # the real one
    head.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    assert head("start").returncode == 0
    wait_for(head.answers, 120)
    uri = f"http://127.0.0.1:{head.port}"
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("tfser/synthetic/speaker")).info.run_id
    client.log_metric(run, "test/uar", 0.25)
    client.log_text(run, "fold", "trial.json")
    (first,) = [
        p.pid
        for p in psutil.process_iter(["cmdline"])
        if {"mlflow", "server", str(head.port)} <= set(p.info["cmdline"] or ())
    ]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: group_of(first) == [])
    wait_for(head.answers, 120)
    assert client.get_run(run).data.metrics == {"test/uar": 0.25}
    assert head("stop").returncode == 0
    head.local = tmp_path / "of the new head"
    assert head("start").returncode == 0
    wait_for(head.answers, 120)
    assert client.get_run(run).data.metrics == {"test/uar": 0.25}
    assert [f.path for f in client.list_artifacts(run)] == ["trial.json"]
