"""The doctor on a real Ray: two nodes on this machine, started with a token and ended by the test."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from tests.helpers.clusters import ROOT, Cluster, listening
from tfser.doctor import cluster, doors, machine, places
from tfser.execution.on_ray import open_doors

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def ray():
    with Cluster() as started:
        started.add()
        yield started


def doctor(environment, *words):
    call = [sys.executable, "-m", "tfser.doctor", "--json", *map(str, words)]
    return subprocess.Popen(call, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process):
    out, err = process.communicate(timeout=400)
    assert "Traceback" not in err, err
    found = json.loads(out)["findings"]
    assert process.returncode == (1 if any(f["level"] == "problem" for f in found) else 0)
    return found


def of(found, *topics, level="problem"):
    return [f["found"] for f in found if f["topic"] in topics and f["level"] == level]


def test_every_node_of_a_guarded_cluster_is_visited_and_nothing_is_left_behind(ray, tmp_path):
    storage = tmp_path / "s"
    storage.mkdir()
    environment = ray.driver_environment()
    shared = doctor(environment, "--address", ray.address, "--storage", storage, "--data", ROOT / "tests")
    client = f"ray://{ray.host}:{ray.client_port}"
    # A client's server has a port from 23000 on, which another Ray of this machine may take at the same moment.
    for _ in range(3):
        # Not shared: each process has its own memory.
        split = said(
            doctor(environment, "--address", client, "--storage", "memory://doctor", "--tracking-uri", "sqlite:///x.db")
        )
        if not any("no connection" in text for text in of(split, "Ray")):
            break
    fine = said(shared)
    lines = of(fine, "Ray", level="ok")
    assert f"Ray at {ray.address} answers, asks for the token and takes it" in lines
    assert "2 nodes with 1 CPU and 0 GPUs" in lines
    assert of(fine, "Ray", "storage", "data", "clock") == []
    assert list(storage.iterdir()) == []
    (text,) = of(split, "storage")
    assert text.startswith("2 nodes, ")
    assert "memory://doctor is another folder there" in text


def test_without_the_token_nothing_is_submitted_and_the_cluster_is_not_called_open(ray, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for token, why in (("", "there is none here"), ("0" * 64, "the one that is here is not its own")):
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        for address in (ray.address, f"ray://{ray.host}:{ray.client_port}"):
            gates = cluster.gates(address)
            assert not cluster.may_connect(gates)
            assert of([asdict(f) for f in cluster.gate_findings(gates)], "Ray") == [
                f"{address} asks for a token, and {why}"
            ]
            assert open_doors.open_to_anyone(address) is None


def test_the_sockets_of_the_cluster_are_all_found_and_all_guarded(ray):
    def ours():
        processes = [p for node in ray.nodes for p in node.processes()]
        return {p.pid for p in processes}, {
            port for _, ip, port in listening(processes) if not open_doors.is_loopback_ip(ip)
        }

    for _ in range(10):  # Ray ends idle workers meanwhile, and a busy machine may answer too late
        pids, expected = ours()
        own = [s for s in doors.sockets() if s["pid"] in pids]
        same = ours()[1] == expected
        answers = {s["answer"] for s in doors.ask(own)}
        if same and "unknown" not in answers:
            break
    assert {s["port"] for s in own} == expected
    assert {s["owner"] for s in own} == {"ray"}
    assert answers == {"guarded"}
    assert ray.gcs_port in expected


def test_advice_follows_the_kind_of_a_failure_and_not_its_words(monkeypatch):
    facts = {"kind": "sqlite", "path": "/n/m.db", "exists": True, "error": "no such file: locked.db", "busy": False}
    (finding,) = places.mlflow("sqlite:////n/m.db", facts)
    assert (finding.level, finding.command) == ("problem", "name another with --tracking-uri or MLFLOW_TRACKING_URI")
    (finding,) = places.mlflow("sqlite:////n/m.db", {**facts, "error": "wait", "busy": True})
    assert (finding.level, finding.command) == ("warning", "fuser -v /n/m.db")

    def no_grpc(where):
        raise ImportError("No module named 'grpc'")

    monkeypatch.setattr(open_doors, "reachable", lambda where: None)
    monkeypatch.setattr(open_doors, "answers_without_token", no_grpc)
    (finding,) = cluster.gate_findings(cluster.gates("head:6379"))
    assert finding.found == "head:6379 cannot be asked whether it is safe (No module named 'grpc')"
    assert finding.command == machine.install_command()
