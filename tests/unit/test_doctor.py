"""The doctor: its findings from made-up facts, and its facts from real sockets, servers, files and databases."""

import argparse
import contextlib
import http.server
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import grpc
import psutil
import pytest
import torch
from packaging.specifiers import SpecifierSet

from tfser import models
from tfser.doctor import cluster, command, doors, machine, places, probe
from tfser.doctor.findings import Finding, merged, ok, problem, warning
from tfser.errors import RequestError
from tfser.execution.on_ray import open_doors
from tfser.execution.on_ray.tune_runner import RayTuneRunner
from tfser.models import MODELS
from tfser.sweep import options

ROOT = Path(__file__).parents[2]
NEEDED = (">=3.11", ["torch>=2.11,<2.12", "torchaudio>=2.11,<2.12", "ray[default,tune]<2.61,>=2.60", "numpy>=2"])
VERSIONS = {"torch": "2.11.0", "torchaudio": "2.11.0", "ray": "2.60.0", "numpy": "2.4.6", "soundfile": "0.14.0"}
TFSER = {"version": "0.1.0", "code": "abc", "folder": "/x/tfser"}
GIB = 2**30
FINE_DEVICE = {"errors": {}, "driver": False, "cuda": "13.0", "cpu": None, "gpus": [], "said": []}
NO_MEMORY = {"total": None, "free": None}
HERE = {
    "host": "me",
    "python": "3.11.7",
    "versions": VERSIONS,
    "tfser": TFSER,
    "cpus": {"usable": 4, "quota": None},
    "memory": {"total": 16.0 * GIB, "free": 8.0 * GIB},
    "disk": {"temporary files": {"path": "/tmp", "free": 50 * GIB, "total": 100 * GIB, "file_system": "ext4"}},
    "storage": {"error": None, "sees_marker": None, "ahead": 0.0, "within": 1.0},
    "data": {"entries": 3, "digest": "d", "error": None},
    "device": FINE_DEVICE,
    "account": {"number": 1000, "name": "anna"},
    "training": None,
}


def levels(found):
    return [f.level for f in found]


def only(found, *wanted):
    """The one finding that is a warning or a problem."""
    (finding,) = (f for f in found if f.level in (wanted or ("warning", "problem")))
    return finding


# Findings


@pytest.mark.parametrize("level", ["warning", "problem"])
def test_a_warning_or_a_problem_cannot_be_made_without_what_to_type(level):
    with pytest.raises(ValueError, match="command None"):
        Finding(topic="t", level=level, found="x")


def test_what_several_nodes_have_in_common_is_said_once():
    found = merged(
        [
            ("a", warning("clock", "late", "mend")),
            ("b", warning("clock", "late", "mend")),
            ("c", problem("clock", "gone", "mend")),
        ]
    )
    assert [(f.level, f.found) for f in found] == [("warning", "2 nodes, a, b: late"), ("problem", "node c: gone")]


# Versions, devices, disk


@pytest.mark.parametrize("version", ["1.9", "2.60.0", "2.60", "2.60.3+cu128", "2.61.0", "2.7", "3", "3.17.2", "3.17.1"])
@pytest.mark.parametrize("ranges", [">=2.60,<2.61", ">=2", "==2.60.0", "!=2.61.0", ">=3.17.2,<3.18", "<=2.60"])
def test_ranges_are_read_as_packaging_reads_them(version, ranges):
    assert machine.allows(f"name{ranges}", version) == SpecifierSet(ranges).contains(version.partition("+")[0])


def test_versions_in_their_ranges_are_fine():
    assert levels(machine.versions(HERE, NEEDED)) == ["ok", "ok"]


def test_missing_packages_are_named_together_with_what_installs_them():
    finding = only(machine.versions({**HERE, "versions": {**VERSIONS, "ray": None, "numpy": None}}, NEEDED))
    assert finding.found == "missing: ray, numpy"
    assert finding.command.startswith("pip install ")
    assert "tfser" in finding.command or str(ROOT) in finding.command


def test_a_version_out_of_its_range_is_a_problem_with_the_range_to_install():
    finding = only(machine.versions({**HERE, "versions": {**VERSIONS, "ray": "2.59.1"}}, NEEDED))
    assert finding.level == "problem"
    assert "ray 2.59.1 is installed" in finding.found
    assert finding.command == "pip install 'ray[default,tune]<2.61,>=2.60'"


def test_torch_and_torchaudio_of_different_releases_are_no_pair():
    facts = {**HERE, "versions": {**VERSIONS, "torchaudio": "2.10.0"}}
    assert any(
        "are no pair" in f.found and f.level == "problem"
        for f in machine.versions(facts, (">=3.11", ["torch>=2", "torchaudio>=2"]))
    )


def test_an_old_python_is_a_problem():
    assert "supported is Python >=3.11" in only(machine.versions({**HERE, "python": "3.10.2"}, NEEDED)).found


def test_without_metadata_and_checkout_the_ranges_are_not_known():
    assert "not known" in only(machine.versions(HERE, None)).found


def test_the_requirements_are_those_of_pyproject_also_when_tfser_is_not_installed(monkeypatch):
    installed = machine.requirements()

    def missing(name):
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "metadata", missing)
    python, packages = machine.requirements()
    assert python == ">=3.11"
    assert {"torch", "torchaudio", "ray", "optuna", "mlflow"} <= {machine.package(r) for r in packages}
    assert installed is not None
    monkeypatch.setattr(machine, "ROOT", Path("/nowhere"))
    assert machine.requirements() is None
    assert machine.install_command() == "pip install 'tfser'"


@pytest.mark.parametrize(
    ("facts", "level", "text", "typed"),
    [
        (
            {"cpus": {"usable": 64, "quota": 2.0}, "memory": {"total": None, "free": None}},
            "warning",
            "2 of these 64 CPUs",
            "--trial-cpus 32",
        ),
        (
            {"memory": {"total": 2.0 * GIB, "free": 1.0 * GIB}},
            "warning",
            "1.0 GiB of memory are free for 4 trials",
            "--trial-cpus 2",
        ),
        (
            {"device": {**FINE_DEVICE, "errors": {"torch": "OSError: libcudart"}}},
            "problem",
            "torch cannot be imported (OSError",
            "torchaudio",
        ),
        (
            {"device": {**FINE_DEVICE, "errors": {"soundfile": "OSError: x"}}},
            "problem",
            "soundfile cannot be",
            "pip install soundfile",
        ),
        ({"device": {**FINE_DEVICE, "cpu": "RuntimeError: y"}}, "problem", "does not work on the CPU", "pip install"),
        (
            {"device": {**FINE_DEVICE, "driver": True, "cuda": None}},
            "warning",
            "built without CUDA",
            "--force-reinstall",
        ),
        (
            {"device": {**FINE_DEVICE, "driver": True, "said": ["CUDA driver too old"]}},
            "warning",
            "CUDA driver too old",
            "nvidia-smi",
        ),
        (
            {
                "device": {
                    **FINE_DEVICE,
                    "gpus": [{"name": "H", "free": None, "total": None, "error": "came out wrong"}],
                }
            },
            "problem",
            "GPU 0, H, does not work (came out wrong)",
            "nvidia-smi",
        ),
    ],
)
def test_what_is_wrong_with_a_device_is_said_with_what_to_type(facts, level, text, typed):
    finding = only(machine.devices({**HERE, **facts}))
    assert finding.level == level
    assert text in finding.found
    assert typed in finding.command


def test_a_gpu_that_works_is_fine_and_none_is_a_note():
    gpus = [{"name": "H", "free": 3.0 * GIB, "total": 4.0 * GIB, "error": None}]
    assert levels(machine.devices({**HERE, "device": {**FINE_DEVICE, "gpus": gpus}})) == ["ok", "ok"]
    assert levels(machine.devices(HERE)) == ["ok", "note"]


@pytest.mark.parametrize(
    ("what", "free", "total", "level"),
    [
        ("storage", 50, 100, "ok"),
        ("storage", 1, 100, "warning"),
        ("storage", 0.01, 100, "problem"),
        ("temporary files", 4, 100, "warning"),  # 96 % used
        ("temporary files", 6, 100, "ok"),
        ("shared memory", 0.06, 0.0625, "warning"),  # Docker's default
        ("shared memory", 0.1, 8, "ok"),
    ],
)
def test_little_space_is_said_where_it_matters(what, free, total, level):
    space = {"path": "/p", "free": free * GIB, "total": total * GIB, "file_system": "ext4"}
    (finding,) = machine.disk({what: space})
    assert finding.level == level
    assert f"{what} (/p)" in finding.found


# The token, and what a `ray start` would open


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray" / "auth_token"


def test_a_missing_token_is_a_warning_with_the_command_that_makes_one(no_token):
    finding = only(doors.token(doors.token_facts()))
    assert str(no_token) in finding.found
    assert finding.command == "(umask 077; ray get-auth-token --generate > /dev/null); export RAY_AUTH_MODE=token"


def test_a_token_that_others_may_read_is_a_warning_and_never_shown(no_token, monkeypatch):
    no_token.parent.mkdir()
    no_token.write_text("secret-of-the-cluster")
    no_token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    facts = doors.token_facts()
    finding = only(doors.token(facts))
    assert "mode 644" in finding.found
    assert finding.command == f"chmod 600 {no_token}"
    assert "secret" not in repr(facts)
    no_token.chmod(0o600)
    assert levels(doors.token(doors.token_facts())) == ["ok"]


@pytest.mark.parametrize(("mode", "then"), [(None, "would not use it"), ("disabled", "would obey anyone")])
def test_a_token_without_the_mode_is_a_warning(no_token, monkeypatch, mode, then):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    finding = only(doors.token(doors.token_facts()))
    assert then in finding.found
    assert finding.command == "export RAY_AUTH_MODE=token"


def test_the_token_is_the_variable_then_the_named_file_then_the_usual_one(no_token, monkeypatch, tmp_path):
    assert open_doors.own_token() is None
    no_token.parent.mkdir()
    no_token.write_text(" usual \n")
    assert open_doors.own_token() == "usual"
    (tmp_path / "named").write_text("named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert open_doors.own_token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "variable")
    assert open_doors.own_token() == "variable"


def test_what_a_ray_start_would_serve_to_anyone_depends_on_three_variables():
    finding = only(doors.ray_start({}, guarded=True))
    assert [word in finding.found for word in ("44217", "44227", "every agent's")] == [True] * 3
    assert finding.command == doors.METRICS_SHUT
    some = {"AUTOSCALER_METRIC_PORT": "-1", "RAY_enable_metrics_collection": "0", "DASHBOARD_METRIC_PORT": "9"}
    half = only(doors.ray_start(some, guarded=True))
    assert [word in half.found for word in ("autoscaler", "dashboard's on 9", "agent")] == [False, True, False]
    shut = dict(word.split("=") for word in doors.METRICS_SHUT.removeprefix("export ").split())
    assert levels(doors.ray_start(shut, guarded=True)) == ["note"]
    assert "nothing guards them" in doors.ray_start(shut, guarded=False)[0].found


# Sockets

LISTENER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2])); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *words): pass
server = http.server.HTTPServer((sys.argv[1], 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def listener(folder, name, host, status):
    """A program of that name that listens there and answers every question with that status; its port."""
    program = folder / name
    program.write_text(LISTENER)
    with subprocess.Popen(
        [sys.executable, str(program), host, str(status)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


@pytest.mark.parametrize(("status", "level"), [(200, "problem"), (404, "problem"), (401, "note")])
def test_an_mlflow_that_listens_on_every_interface_is_named_and_asked(tmp_path, status, level):
    with listener(tmp_path, "mlflow", "0.0.0.0", status) as (port, pid):
        own = [s for s in doors.sockets() if s["pid"] == pid]
        assert own == [{"address": "0.0.0.0", "port": port, "pid": pid, "program": "mlflow", "owner": "mlflow"}]
        (finding,) = doors.doors(doors.ask(own))
    assert finding.level == level
    assert f"mlflow on port {port}" in finding.found
    assert level == "note" or "--host 127.0.0.1" in finding.command


def test_another_program_on_every_interface_is_a_note_and_one_on_loopback_is_nothing(tmp_path):
    with (
        listener(tmp_path, "notebook.py", "0.0.0.0", 200) as (port, pid),
        listener(tmp_path, "mlflow", "127.0.0.1", 200) as (_, hidden),
    ):
        found = doors.sockets()
        own = [s for s in found if s["pid"] == pid]
        assert not [s for s in found if s["pid"] == hidden]
        assert levels(doors.doors(doors.ask(own))) == ["ok", "note"]
        assert f"notebook.py on port {port}" in doors.doors(doors.ask(own))[1].found


FAMILY = """
import socket, subprocess, sys
listener = socket.create_server(("0.0.0.0", 0))
print(listener.getsockname()[1], flush=True)
subprocess.run([sys.executable, "-c", "print('up', flush=True); input()"], pass_fds=[listener.fileno()])
"""


def test_a_servers_socket_is_its_own_though_its_workers_hold_it_too(tmp_path):
    (tmp_path / "mlflow").write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "mlflow")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        port = int(server.stdout.readline())
        assert server.stdout.readline() == "up\n"
        (found,) = [s for s in doors.sockets() if s["port"] == port]
        server.stdin.write("\n")
    assert found == {"address": "0.0.0.0", "port": port, "pid": server.pid, "program": "mlflow", "owner": "mlflow"}


class Address(NamedTuple):
    ip: str
    port: int


def connection(ip, status="LISTEN"):
    return SimpleNamespace(laddr=Address(ip, 1), status=status, pid=None)


def test_sockets_of_other_users_and_of_both_families_are_listed_and_those_on_loopback_are_not(monkeypatch):
    loopback = [connection(ip) for ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1")]
    others = [connection(ip) for ip in ("10.0.0.2", "::ffff:10.0.0.3", "::")]
    monkeypatch.setattr(
        psutil, "net_connections", lambda kind: [*loopback, *others, connection("10.0.0.4", "ESTABLISHED")]
    )
    nobody = {"port": 1, "pid": None, "program": None, "owner": None}
    assert doors.sockets() == [{"address": address, **nobody} for address in ("10.0.0.2", "10.0.0.3", "::")]


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), FileNotFoundError("/proc/net/tcp")])
def test_a_system_that_does_not_tell_its_sockets_is_a_note_with_what_would(monkeypatch, error):
    def refuse(kind):
        raise error

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert doors.sockets() is None
    assert only(doors.doors(None), "note").command.startswith("lsof ")


def test_one_guarded_port_of_a_process_speaks_for_those_that_cannot_be_told(monkeypatch):
    answers = {"127.0.0.1:1": "guarded", "[::1]:2": "unknown", "10.0.0.2:3": "unknown", "127.0.0.1:4": "gone"}
    monkeypatch.setattr(doors, "_answer", lambda target, owner: answers[target])
    places_ = [("0.0.0.0", 1, 7), ("::", 2, 7), ("10.0.0.2", 3, 8), ("0.0.0.0", 4, 9)]
    asked = doors.ask(
        {"address": a, "port": p, "pid": pid, "program": "raylet", "owner": "ray"} for a, p, pid in places_
    )
    assert [(s["port"], s["answer"]) for s in asked] == [(1, "guarded"), (2, "guarded"), (3, "unknown")]


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        ("open", "problem", "answers anyone"),
        ("metrics", "warning", "serves metrics"),
        ("guarded", "note", "asks for"),
        ("unknown", "note", "not"),
    ],
)
def test_rays_sockets_are_grouped_by_what_they_answer(answer, level, text):
    found = [
        {"address": "::", "port": p, "pid": 1, "program": "raylet", "owner": "ray", "answer": answer} for p in (7, 8)
    ]
    (finding,) = doors.doors(found)
    assert finding.level == level
    assert text in finding.found
    assert "raylet on port 7, 8" in finding.found


# Whether a cluster obeys anyone


@contextlib.contextmanager
def http_server(answers):
    """A server on loopback: path to status and body; anything else is 404. Yields its address and what was asked."""
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            status, body = answers.get(self.path.partition("?")[0], (404, ""))
            if callable(status):
                status, body = status(self.headers)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/login")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@contextlib.contextmanager
def rpc_server(status, needs="secret"):
    """A gRPC server that answers every call without the token with that status; its address and what was called."""
    called = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            headers = dict(details.invocation_metadata)

            def answer(body, context):
                called.append(details.method)
                if headers.get("authorization") != f"Bearer {needs}" and status is not grpc.StatusCode.OK:
                    context.abort(status, "no")
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", called
    finally:
        server.stop(None).wait()


@pytest.fixture
def far_away(monkeypatch):
    """Loopback counts as another machine."""
    monkeypatch.setattr(open_doors, "is_loopback", lambda host: False)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, "obeys callers without a token"),
        (401, None),
        (403, None),
        (302, None),
        (500, "nothing shows that the job API"),
        (404, "nothing shows"),
    ],
)
def test_a_job_api_is_open_unless_it_asks_for_the_token(far_away, status, reason):
    with http_server({"/api/version": (status, '{"ray_version": "2.60.0"}'), "/login": (200, "")}) as (address, asked):
        found = open_doors.open_to_anyone(address)
    assert (found is None) if reason is None else (reason in found and address in found)
    assert asked == [("/api/version", None)]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (grpc.StatusCode.OK, "obeys callers without a token"),
        # An open client server answers an empty call so.
        (grpc.StatusCode.NOT_FOUND, "obeys callers without a token"),
        (grpc.StatusCode.UNAUTHENTICATED, None),
        (grpc.StatusCode.UNIMPLEMENTED, "nothing shows that the cluster"),
    ],
)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_is_open_unless_its_port_asks_for_the_token(far_away, status, reason, scheme):
    with rpc_server(status) as (address, called):
        found = open_doors.open_to_anyone(scheme + address)
    assert (found is None) if reason is None else (reason in found)
    assert called == ["/ray.rpc.RayletDriver/ClusterInfo" if scheme else "/ray.rpc.NodeInfoGcsService/CheckAlive"]


@pytest.mark.parametrize(("late", "reason"), [(1, None), (2, None), (9, "was answered DEADLINE_EXCEEDED")])
def test_a_busy_cluster_that_answers_late_is_asked_again_and_not_refused(far_away, monkeypatch, late, reason):
    patience = []

    def rpc_status(target, method, token=None, timeout_s=open_doors.TIMEOUT_S):
        patience.append(timeout_s)
        return "DEADLINE_EXCEEDED" if len(patience) <= late else "UNAUTHENTICATED"

    monkeypatch.setattr(open_doors, "rpc_status", rpc_status)
    found = open_doors.open_to_anyone("head:6379")
    assert (found is None) if reason is None else (reason in found)
    assert patience == [open_doors.TIMEOUT_S, *open_doors.LONGER_S][: late + 1]


def test_a_sweep_gives_an_open_remote_cluster_nothing(far_away, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a runner sets variables for Ray
    with rpc_server(grpc.StatusCode.OK) as (address, called):
        with pytest.raises(RequestError, match="obeys callers without a token") as refused:
            RayTuneRunner(address)
        assert open_doors.ADVICE in str(refused.value)
    assert called == ["/ray.rpc.NodeInfoGcsService/CheckAlive"], "more was asked of it than whether it is open"


def test_an_open_cluster_on_loopback_may_be_used_and_is_still_seen():
    with rpc_server(grpc.StatusCode.OK) as (address, called):
        assert open_doors.open_to_anyone(address) is None
        assert not called
        assert "obeys callers" in open_doors.answers_without_token(address)


def test_where_nothing_answers_or_something_else_does_there_is_no_open_cluster(far_away):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert open_doors.reachable(address) is not None
        assert [open_doors.open_to_anyone(prefix + address) for prefix in ("", "ray://", "http://")] == [None] * 3
    assert open_doors.open_to_anyone("local") is None
    with http_server({}) as (address, _):  # HTTP where gRPC is expected: Ray cannot connect either
        assert open_doors.open_to_anyone(address.removeprefix("http://")) is None


@pytest.mark.parametrize("address", ["head", "head:x", "ftp://head:1", "", "ray://", ":6379", "head:99999"])
def test_what_is_no_address_is_refused_with_what_is(far_away, address):
    with pytest.raises(ValueError, match=r"there are host:6379, ray://host:10001, http://host:8265"):
        open_doors.parse(address)
    assert "no address of a Ray cluster" in open_doors.open_to_anyone(address)


def test_addresses_are_taken_apart():
    for text, kind, target in [
        ("head:6379", "gcs", "head:6379"),
        ("[fd00::2]:6379", "gcs", "[fd00::2]:6379"),
        ("ray://head", "client", "head:10001"),
        ("https://head/ray", "jobs", "head:443"),
    ]:
        place = open_doors.parse(text)
        assert (place.kind, place.target) == (kind, target)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.2", False), ("0.0.0.0", 0)]
)
def test_loopback_is_told_from_other_interfaces(host, loopback):
    assert open_doors.is_loopback(host) == loopback
    assert open_doors.is_loopback_ip("::ffff:127.0.0.1")


def test_the_gates_tell_a_wrong_token_from_a_missing_and_a_right_one(no_token, monkeypatch):
    with rpc_server(grpc.StatusCode.UNAUTHENTICATED, needs="right") as (address, _):
        assert "there is none here" in only(cluster.gate_findings(cluster.gates(address))).found
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        gates = cluster.gates(address)
        assert "is not its own" in only(cluster.gate_findings(gates)).found
        assert not cluster.may_connect(gates)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
        gates = cluster.gates(address)
        assert levels(cluster.gate_findings(gates)) == ["ok"]
        assert cluster.may_connect(gates)


def test_a_job_api_is_looked_at_and_never_connected_to(no_token, monkeypatch):
    def version(headers):
        return (200, "{}") if headers.get("Authorization") == "Bearer right" else (401, "")

    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    with http_server({"/api/version": (version, "")}) as (address, _):
        gates = cluster.gates(address)
    assert levels(cluster.gate_findings(gates)) == ["ok"]
    assert not cluster.may_connect(gates)


def test_an_address_where_nothing_listens_is_a_problem(no_token):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        finding = only(cluster.gate_findings(cluster.gates(f"127.0.0.1:{unused.getsockname()[1]}")))
    assert finding.level == "problem"
    assert "nothing answers" in finding.found


def test_the_doctor_gives_an_open_remote_cluster_nothing_and_exits_with_1(
    far_away, no_token, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(cluster, "nodes", lambda *words: pytest.fail("it connected"))
    monkeypatch.setattr(doors, "sockets", lambda: [])
    with rpc_server(grpc.StatusCode.OK) as (address, called):
        code = command.main(["--address", address, "--storage", str(tmp_path / "s")])
    out = capsys.readouterr().out
    assert code == 1
    assert f"the cluster at {address} obeys callers without a token" in out
    assert "nothing was submitted to it" in out
    assert "type: on its head: (umask 077; ray get-auth-token --generate > /dev/null)" in out
    assert set(called) == {"/ray.rpc.NodeInfoGcsService/CheckAlive"}


# Storage, data, clock


def test_a_storage_is_written_read_and_left_as_it_was(tmp_path):
    facts = probe.touch(str(tmp_path), "own", None)
    assert facts["error"] is None
    assert abs(facts["ahead"]) <= facts["within"]
    assert list(tmp_path.iterdir()) == []
    assert levels(places.storage("here", facts, "ext4")) == ["ok", "ok"]


def test_a_marker_of_another_machine_is_seen_where_the_folder_is_shared(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    probe.touch(str(tmp_path / "a"), "driver", None, keep=True)
    assert probe.touch(str(tmp_path / "a"), "node", "driver")["sees_marker"] is True
    assert probe.touch(str(tmp_path / "b"), "node", "driver")["sees_marker"] is False
    probe.remove(str(tmp_path / "a"), "driver")
    assert list(tmp_path.glob("*/*")) == []


def test_a_storage_behind_a_uri_is_written_and_read(tmp_path):
    facts = probe.touch("memory://doctor/storage", "own", None)
    assert facts["error"] is None
    assert probe.ground("memory://doctor/storage") == "memory://doctor/storage"
    assert probe.listing("memory://doctor/storage")["entries"] == 0
    assert "keeps no times" in places.storage("m", {**facts, "ahead": None}, None)[1].found


def test_a_storage_that_is_not_there_yet_is_tried_in_the_nearest_folder_above_it(tmp_path):
    assert probe.ground(str(tmp_path / "a" / "b")) == str(tmp_path)
    assert not (tmp_path / "a").exists()


def test_a_storage_that_cannot_be_written_is_a_problem(tmp_path):
    facts = probe.touch(str(tmp_path / "missing"), "own", None)
    assert "No such file" in facts["error"]
    finding = only(places.storage("here", facts, None))
    assert finding.level == "problem"
    assert "--storage" in finding.command


@pytest.mark.parametrize(("ahead", "text"), [(-3.5, "3.5 s behind"), (60.0, "60.0 s ahead of")])
def test_a_storage_with_another_clock_is_a_warning(ahead, text):
    finding = only(places.storage("here", {**HERE["storage"], "ahead": ahead}, None))
    assert finding.topic == "clock"
    assert text in finding.found


def test_a_network_folder_is_named():
    assert "network folder (nfs4)" in places.storage("here", HERE["storage"], "nfs4")[2].found


def test_data_is_listed(tmp_path):
    assert levels(places.data(None, None)) == ["note"]
    assert only(places.data("d", probe.listing(str(tmp_path / "missing")))).level == "problem"
    assert only(places.data("d", probe.listing(str(tmp_path)))).found == "d is empty"
    (tmp_path / "emodb").mkdir()
    assert "1 entry" in places.data("d", probe.listing(str(tmp_path)))[0].found


def test_a_clock_is_compared_through_the_shortest_round_trip(monkeypatch):
    waits = iter([0.05, 0.0, 0.02, 0.02])

    def ask():
        time.sleep(next(waits))
        return time.time() + 7

    clock = cluster._clock(ask)
    assert clock["within"] < 0.02
    assert clock["ahead"] == pytest.approx(7, abs=0.02)


# MLflow


def test_a_database_in_a_file_is_tried_and_not_changed(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    assert "does not exist yet" in places.mlflow(uri, places.mlflow_facts(uri))[0].found
    assert not path.exists()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        before = path.read_bytes()
        assert levels(places.mlflow(uri, places.mlflow_facts(uri))) == ["ok"]
        assert path.read_bytes() == before
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(places, "SQLITE_S", 0.01)
        finding = only(places.mlflow(uri, places.mlflow_facts(uri)))
        assert (finding.level, finding.command) == ("warning", f"fuser -v {path}")
    path.write_text("no database " * 100)
    assert "file is not a database" in only(places.mlflow(uri, places.mlflow_facts(uri))).found


def test_a_database_on_a_network_folder_is_a_warning():
    facts = {"kind": "sqlite", "path": "/n/mlflow.db", "exists": True, "error": None, "file_system": "nfs4"}
    assert "locks cannot be relied on" in only(places.mlflow("sqlite:////n/mlflow.db", facts)).found


def test_passwords_of_a_database_server_are_not_shown(monkeypatch):
    uri = "postgresql://anna:secret@127.0.0.1:1/mlflow"
    finding = only(places.mlflow(uri, places.mlflow_facts(uri)))
    assert "nothing answers there" in finding.found
    assert "anna:***@" in finding.found
    assert "secret" not in finding.found


def mlflow_server(version="3.17.2", experiments=(200, "{}")):
    question = "/api/2.0/mlflow/experiments/search"
    return http_server({"/health": (200, "OK"), "/version": (200, version), question: experiments})


def test_a_server_that_answers_is_fine_with_its_version():
    with mlflow_server() as (uri, _):
        (finding,) = places.mlflow(uri, places.mlflow_facts(uri))
    assert (finding.level, finding.found) == ("ok", f"MLflow 3.17.2 answers at {uri}")


def test_a_server_of_another_release_is_a_warning():
    with mlflow_server(version="2.9.1") as (uri, _):
        assert "MLflow 2.9.1" in only(places.mlflow(uri, places.mlflow_facts(uri))).found


def test_a_server_gets_the_name_and_password_and_one_that_wants_others_is_a_problem(monkeypatch):
    def experiments(headers):
        return (200, "{}") if headers.get("Authorization") == "Basic YW5uYTpzZWNyZXQ=" else (401, "who are you")

    with mlflow_server(experiments=(experiments, "")) as (uri, _):
        finding = only(places.mlflow(uri, places.mlflow_facts(uri)))
        assert "answers 401" in finding.found
        assert "MLFLOW_TRACKING_USERNAME" in finding.command
        named = uri.replace("://", "://anna:secret@")
        assert levels(places.mlflow(named, places.mlflow_facts(named))) == ["ok"]
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        assert levels(places.mlflow(uri, places.mlflow_facts(uri))) == ["ok"]


def test_a_server_that_refuses_its_name_is_told_which_to_allow():
    with mlflow_server(experiments=(403, "Invalid Host header")) as (uri, _):
        finding = only(places.mlflow(uri, places.mlflow_facts(uri)))
    assert f"--allowed-hosts {uri.removeprefix('http://')}" in finding.command


def test_a_remote_server_that_asks_nobody_is_a_warning(far_away):
    with mlflow_server() as (uri, _):
        assert "asks for no password" in only(places.mlflow(uri, places.mlflow_facts(uri))).found


def test_a_server_that_is_not_there_is_a_problem():
    finding = only(places.mlflow("http://127.0.0.1:1", places.mlflow_facts("http://127.0.0.1:1")))
    assert finding.command.startswith("mlflow server --host 127.0.0.1")


# Nodes


def node(name="n1", **changed):
    facts = {**HERE, "storage": {**HERE["storage"], "sees_marker": True}, **changed.pop("facts", {})}
    return {
        "name": name,
        "alive": True,
        "resources": {"CPU": 4.0},
        "facts": facts,
        "clock": {"ahead": 0.0, "within": 0.01},
        **changed,
    }


def seen(*nodes):
    return {"error": None, "nodes": list(nodes)}


def test_nodes_like_this_machine_are_fine():
    found = cluster.findings(seen(node("a"), node("b"), {"name": "c", "alive": False, "resources": {}}), HERE, "S", "D")
    assert levels(found) == ["ok", "ok"]
    assert found[0].found == "2 nodes with 8 CPUs and 0 GPUs; 1 more has ended"
    assert "2 of 2 nodes" in found[1].found


@pytest.mark.parametrize(
    ("changed", "level", "text", "typed"),
    [
        ({"facts": {"tfser": {**TFSER, "version": None}}}, "problem", "no tfser", "ray job submit --working-dir"),
        (
            {"facts": {"tfser": {**TFSER, "code": "other"}}},
            "problem",
            "tfser 0.1.0 (code other) there, 0.1.0 (code",
            "pip install",
        ),
        (
            {"facts": {"versions": {**VERSIONS, "numpy": "2.0.0"}}},
            "warning",
            "numpy 2.0.0 there, 2.4.6 here",
            "'numpy==2.4.6'",
        ),
        ({"facts": {"versions": {**VERSIONS, "torchaudio": None}}}, "problem", "missing: torchaudio", "pip install"),
        ({"facts": {"python": "3.12.1"}}, "problem", "Python 3.12.1 there, 3.11.7 here", "Python 3.11"),
        (
            {"facts": {"storage": {**HERE["storage"], "sees_marker": False}}},
            "problem",
            "S is another folder there",
            "--storage",
        ),
        (
            {"facts": {"storage": {**HERE["storage"], "error": "PermissionError: x"}}},
            "problem",
            "S cannot be written (Perm",
            "s3://",
        ),
        (
            {"facts": {"data": {"entries": None, "digest": None, "error": "gone"}}},
            "problem",
            "D cannot be read (gone)",
            "mount it",
        ),
        (
            {"facts": {"data": {"entries": 9, "digest": "e", "error": None}}},
            "problem",
            "D holds other files there (9 entries; 3",
            "mount",
        ),
        ({"clock": {"ahead": -30.0, "within": 0.1}}, "warning", "30.0 s behind this machine's", "timedatectl"),
        (
            {"facts": {"disk": {"shared memory": {"path": "/dev/shm", "free": 1, "total": 2**26}}}},
            "warning",
            "shared memory",
            "--shm-size",
        ),
        (
            {"resources": {"CPU": 4.0, "GPU": 1.0}, "device": FINE_DEVICE},
            "problem",
            "Ray counts GPUs there and torch finds",
            "nvidia-smi",
        ),
        (
            {"facts": {"training": "KeyError: x"}},
            "problem",
            "a short training on the CPU fails (KeyError: x), and so would",
            "pip install",
        ),
        (
            {"resources": {"CPU": 4.0, "GPU": 1.0}, "device_error": "E: x"},
            "problem",
            "could not be tried (E: x)",
            "nvidia-smi",
        ),
    ],
)
def test_what_is_wrong_with_a_node_is_said_with_its_name_and_what_to_type(changed, level, text, typed):
    finding = only(cluster.findings(seen(node("a"), node("b", **changed)), HERE, "S", "D"))
    assert finding.level == level
    assert finding.found.startswith("node b: ")
    assert text in finding.found
    assert typed in finding.command


def test_a_node_that_does_not_answer_is_a_problem_and_one_with_busy_gpus_a_note():
    lost = {"name": "b", "alive": True, "resources": {"CPU": 1.0}, "error": "it ran no task within 90 s"}
    assert "node b: no answer (it ran no task" in only(cluster.findings(seen(lost), HERE, "S", None)).found
    busy = cluster.findings(seen(node(resources={"CPU": 1.0, "GPU": 1.0})), HERE, "S", None)
    assert only(busy, "note").found == "node n1: its GPUs are taken; they were not tried"


def test_a_cluster_without_cpus_waits_for_its_autoscaler():
    assert "until the autoscaler" in only(cluster.findings(seen(node(resources={})), HERE, "S", None), "note").found


def test_no_connection_is_a_problem():
    assert "versions differ" in only(cluster.findings({"error": "versions differ", "nodes": []}, HERE, "S", None)).found


# The command


def test_the_places_are_those_of_a_sweep_with_the_same_words(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFSER_DATA", str(tmp_path / "corpora"))
    default = command.wanted(command.parser().parse_args([]))
    assert default.storage == str(tmp_path / "results" / ".tfser")
    assert default.tracking_uri == f"sqlite:///{tmp_path}/results/.tfser/mlflow.db"
    assert (default.data, default.addresses) == (str(tmp_path / "corpora"), ())
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    sweep, doctor = options.parser().parse_args(["synthetic"]), command.parser().parse_args([])
    assert (sweep.address, str(sweep.data)) == (doctor.address, doctor.data)
    there = command.wanted(doctor)
    assert (there.addresses, there.tracking_uri) == (("head:6379",), "http://127.0.0.1:5000")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("TFSER_HOME", "memory://bucket/tfser")
    assert command.wanted(doctor).storage == "memory://bucket/tfser/.tfser"
    assert command.wanted(argparse.Namespace(**{**vars(doctor), "address": "local"})).addresses == ()


def test_a_storage_behind_a_uri_needs_another_place_for_runs(monkeypatch, tmp_path, no_token, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(doors, "sockets", lambda: [])
    assert command.main(["--storage", "memory://doctor/s"]) == 1
    assert "an SQLite database cannot lie in memory://doctor/s" in capsys.readouterr().out


def test_a_wrong_request_exits_with_2_and_names_everything(capsys, no_token):
    assert command.main(["--address", "nonsense", "--tracking-uri", "gopher://x", "--storage", "nowhere://x"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 problems" in said.err
    assert "--address: 'nonsense' is no address" in said.err
    assert "--tracking-uri: no 'gopher://'" in said.err
    assert "--storage: nowhere://x" in said.err


def test_json_says_what_the_lines_say_and_the_exit_code_follows(tmp_path, monkeypatch, capsys, no_token):
    monkeypatch.setattr(doors, "sockets", lambda: [])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["--storage", str(tmp_path), "--data", str(ROOT / "tests")]
    code = command.main(words)
    lines = capsys.readouterr().out
    assert command.main([*words, "--json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert code == (1 if said["counts"]["problem"] else 0)
    assert sum(said["counts"].values()) == len(said["findings"])
    for finding in said["findings"]:
        assert set(finding) == {"topic", "level", "found", "command"}
        if finding["topic"] in ("versions", "token", "data", "MLflow", "Ray"):  # the others hold figures that change
            assert f"  {finding['level']:<8}{finding['found']}" in lines
            assert finding["command"] is None or f"type: {finding['command']}" in lines
    assert {"versions", "devices", "disk", "token", "sockets", "storage", "clock", "data", "MLflow", "Ray"} == {
        f["topic"] for f in said["findings"]
    }
    assert list(tmp_path.iterdir()) == []


BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
from tfser.doctor import probe
there = probe.versions
probe.versions = lambda names: {{n: None if n in {names} else v for n, v in there(names).items()}}
from tfser.doctor.command import main
sys.exit(main(["--storage", sys.argv[1], "--json"]))
"""


@pytest.mark.full
def test_a_machine_with_torch_and_soundfile_alone_is_told_what_is_missing(tmp_path):
    names = {
        "ray",
        "mlflow",
        "optuna",
        "pandas",
        "rich",
        "yaml",
        "sklearn",
        "matplotlib",
        "grpc",
        "upath",
        "sqlalchemy",
        "psutil",
        "filelock",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "TFSER_"))}
    words = [sys.executable, "-c", BARE.format(names=names), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)["findings"]
    (missing,) = (f for f in found if f["found"].startswith("missing:"))
    assert [name in missing["found"] for name in ("ray", "optuna", "mlflow")] == [True] * 3
    assert missing["command"].startswith("pip install ")
    assert any("a product of matrices comes out right" in f["found"] for f in found if f["topic"] == "devices")
    assert any("before what is missing is installed" in f["found"] for f in found if f["topic"] == "storage")


def test_what_keeps_every_trial_from_being_trained_is_a_problem(monkeypatch):
    def broken(*arguments, **named):
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(torch, "use_deterministic_algorithms", broken)
    facts = {**HERE, "training": probe.training()}
    assert "uid not found: 12345" in only(machine.devices(facts)).found


def test_the_moments_training_is_of_the_first_model_that_there_is(monkeypatch):
    def build(ablation, settings, emotions):
        raise RuntimeError(f"built {ablation} with {settings['lstm_hidden']} units")

    first = replace(MODELS["atfnn"], build=build)
    monkeypatch.setattr(models, "PROPOSED", {"atfnn": first})
    assert probe.training() == "RuntimeError: built ATFNN with 128 units"


@pytest.mark.full
def test_what_is_sent_to_nodes_needs_nothing_but_the_standard_library_to_begin_with():
    """Another tfser, or none, may be there."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(probe)
    try:
        packed = cloudpickle.dumps((probe.look, probe.device, probe.now))
    finally:
        cloudpickle.unregister_pickle_by_value(probe)
    text = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tfser":
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
import pickle
look, device, now = pickle.loads({packed!r})
asked = {{"own": "x", "marker": None, "device": False}}
facts = look({{**asked, "packages": ["torch"], "ground": sys.argv[1], "data": sys.argv[1]}})
assert facts["tfser"]["version"] is None, facts
assert facts["storage"]["error"] is None and facts["data"]["error"] is None, facts
assert look({{**asked, "packages": [], "ground": "s3://b", "data": None}})["storage"]["error"]
print(now())
"""
    done = subprocess.run([sys.executable, "-c", text, "/tmp"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(time.time(), abs=60)


def test_a_finding_that_is_fine_needs_no_command():
    assert ok("t", "x").command is None
