"""Nothing answers beyond this machine without a token: every listening socket of the default set-up is probed."""

import http.server
import re
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import yaml

from tests.helpers.clusters import (
    MARK,
    RAY,
    Cluster,
    MlflowServer,
    environment,
    http_status,
    kill,
    listening,
    marked,
    wait_until,
)
from tests.helpers.ports import free_port
from tests.helpers.tiny import SET_SMALL

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
LOOPBACK = ("127.", "::1", "::ffff:127.")
METHODS = (
    # One of each kind of server that Ray 2.60 has; the others of that kind stand behind the same guard.
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.RayletDriver/ClusterInfo",
)
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"


def beyond_loopback(processes):
    """(what listens, host to reach it at, port) of every socket that another machine could reach."""
    found = set()
    for process, address, port in listening(processes):
        if not address.startswith(LOOPBACK):
            host = "127.0.0.1" if address in ("::", "0.0.0.0") else address.removeprefix("::ffff:")
            found.add((process.name(), host, port))
    return sorted(found)


def call(host, port, method, token=None):
    """Return a gRPC server's answer to an empty message: bytes, or the name of its status."""
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            metadata = [("authorization", f"Bearer {token}")] if token else None
            answer: bytes = channel.unary_unary(method)(b"", timeout=10, metadata=metadata)
            return answer
        except grpc.RpcError as error:
            return error.code().name


def asked(host, port):
    """Return what a socket does for a caller with a wrong or no token, and why no refusal is known ("" if it is)."""
    statuses = {path: http_status(f"http://{host}:{port}{path}") for path in ("/", "/metrics", "/api/version")}
    if set(statuses.values()) == {401}:
        return [], ""
    done = [f"{path} answers {status} to plain HTTP" for path, status in statuses.items() if status not in (None, 401)]
    answers = {(method, token): call(host, port, method, token) for method in METHODS for token in (None, "0" * 64)}
    done += [f"{method} answers {answer!r}" for (method, _), answer in answers.items() if isinstance(answer, bytes)]
    # Every caller gets an answer to a liveness check; it only says that the server runs.
    health = call(host, port, HEALTH)
    if isinstance(health, bytes) and health != SERVING:
        done.append(f"{HEALTH} says more than that it runs: {health!r}")
    refused = {token for (_, token), answer in answers.items() if answer == "UNAUTHENTICATED"}
    if refused == {None, "0" * 64} and health in (SERVING, "UNIMPLEMENTED", "UNAUTHENTICATED"):
        return done, ""
    said = sorted({str(answer) for answer in (*answers.values(), health, *statuses.values())})
    return done, f"is not known to ask for a token: {said}"


def open_doors(processes):
    """List the ways in which a socket beyond loopback does more than refuse a caller with no token or a wrong one."""
    doors, waiting = [], beyond_loopback(processes)
    for attempt in range(5):  # on a busy machine an answer may come too late to be one
        unknown = {}
        for name, host, port in waiting:
            done, why = asked(host, port)
            doors += [f"{name} {host}:{port} {what}" for what in done]
            if why:
                unknown[name, host, port] = why
        still = set(beyond_loopback(processes))  # Ray ends idle workers
        waiting = [where for where in unknown if where in still]
        if not waiting:
            return doors
        time.sleep(2 * attempt)
    return doors + [f"{name} {host}:{port} {unknown[name, host, port]}" for name, host, port in waiting]


@pytest.fixture(scope="module")
def head():
    """A head with the job interface, with the words and the environment of ``cluster/up.yaml``, and one worker."""
    up = yaml.safe_load((ROOT / "cluster" / "up.yaml").read_text(encoding="utf-8"))
    (start,) = (line for line in up["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in shlex.split(start)
    given = dict(re.findall(r"-e ((?:RAY|AUTOSCALER|DASHBOARD)_\w+)=(\S+)", " ".join(up["docker"]["run_options"])))
    assert given["RAY_AUTH_MODE"] == "token"
    with Cluster(dashboard=True, **given) as cluster:
        cluster.add()
        yield cluster


class Anybody(http.server.BaseHTTPRequestHandler, grpc.GenericRpcHandler):
    """Answers every caller, in HTTP and in gRPC."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

    @staticmethod
    def service(details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


def test_the_probes_notice_servers_that_answer_anybody():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anybody) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done, why = asked("127.0.0.1", server.server_port)
        server.shutdown()
    assert "/metrics answers 200 to plain HTTP" in done
    assert "not known to ask for a token" in why
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Anybody])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    done, why = asked("127.0.0.1", port)
    server.stop(None).wait()
    assert f"{METHODS[0]} answers b''" in done
    assert "not known to ask for a token" in why


def test_the_ray_that_a_sweep_starts_refuses_callers_without_its_token(tiny_manifest, tmp_path):
    words = [
        str(tiny_manifest),
        "--out",
        str(tmp_path),
        "--model",
        "time_frequency_transformer",
        "--epochs",
        "100000",
        "--set",
        *SET_SMALL,
    ]
    mark = f"sweep-{tmp_path.name}-{free_port()}"
    with open(tmp_path / "log", "w+") as log:
        env = environment(**{MARK: mark})
        driver = subprocess.Popen(
            [sys.executable, "-m", "tfser.sweep", *words], env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:

        def trains():
            assert driver.poll() is None, (tmp_path / "log").read_text()
            return any(p.name().startswith("ray::ResourceTr") for p in marked(mark))

        wait_until(trains, "a trial is trained", 300)
        processes = marked(mark)
        kinds = {name for name, _, _ in beyond_loopback(processes)}
        assert {"gcs_server", "raylet"} <= kinds, "the probes look at another Ray"
        assert open_doors(processes) == []
    finally:
        kill(marked(mark))
        driver.wait(timeout=20)


def test_a_head_with_the_job_interface_refuses_callers_without_the_token(head):
    processes = marked(head.mark)
    kinds = {name for name, _, _ in beyond_loopback(processes)}
    assert {"gcs_server", "raylet"} <= kinds
    assert open_doors(processes) == []
    assert isinstance(call(head.host, head.gcs_port, METHODS[0], head.token), bytes), "the token itself is refused"


def test_the_job_interface_listens_on_loopback_alone_and_refuses_without_the_token(head):
    addresses = {address for _, address, port in listening(marked(head.mark)) if port == head.dashboard_port}
    assert addresses == {"127.0.0.1"}
    url = f"http://127.0.0.1:{head.dashboard_port}"
    jobs = f"{url}/api/jobs/"
    assert [http_status(jobs), http_status(jobs, "0" * 64), http_status(jobs, head.token)] == [401, 403, 200]
    submitted = subprocess.run(
        [*RAY, "job", "submit", "--address", url, "--", "true"], env=environment(), capture_output=True, text=True
    )
    assert submitted.returncode != 0
    assert "401" in submitted.stdout + submitted.stderr or "Unauthorized" in submitted.stdout + submitted.stderr


def test_no_driver_and_no_ray_client_connects_without_the_token(head):
    driver, client = head.address, f"ray://{head.host}:{head.client_port}"
    without, wrong = (said_by(head, [(driver, token), (client, token)]) for token in (None, "0" * 64))
    # A client's server has a port from 23000 on, which another Ray of this machine may take at the same moment.
    for _ in range(3):
        right = said_by(head, [(driver, head.token), (client, head.token)])
        if all("connected" in text for text in right):
            break
    assert ["connected" in text for text in right] == [True, True], right
    assert ["connected" in text for text in without + wrong] == [False] * 4, without + wrong
    # A client without the token gets no reason from Ray, only the end of its patience.
    assert all(re.search(r"(?i)authenticat|token", text) for text in (without[0], wrong[0])), [without[0], wrong[0]]


def said_by(head, callers):
    """Return the output of processes that connect to (address, token) at the same time."""
    code = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR'); print('connected')"
    homeless = environment(HOME=str(head.folder))  # a token in the home directory would be taken
    patient = {"RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "30"}  # a refused one uses up three times that
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, address],
            env=homeless
            | ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {})
            | (patient if token == head.token else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for address, token in callers
    ]
    try:
        return [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_mlflow_as_make_ui_starts_it_listens_on_loopback_alone(tmp_path):
    # Without make's messages about directories: make may run the tests themselves.
    dry = subprocess.run(
        ["make", "-n", "--no-print-directory", "ui"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    words = shlex.split(dry.replace("\\\n", " ").strip().splitlines()[-1])
    assert "--disable-security-middleware" not in words
    with MlflowServer(tmp_path, words[words.index("server") + 1 :]) as server:
        sockets = {(address, port) for _, address, port in listening(marked(server.mark))}
        assert sockets == {("127.0.0.1", server.port)}
