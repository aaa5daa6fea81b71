"""The shell scripts of ``cluster/``, with stand-ins for ssh, ray, srun and the MPS daemon that note their calls."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))

NOTE = f"""#!{sys.executable} -S
import json, os, sys
def note(**more):
    keep = ("RAY_", "TFSER_", "MLFLOW_", "AUTOSCALER_", "DASHBOARD_", "CUDA_", "SLURM_")
    kept = {{k: v for k, v in os.environ.items() if k.startswith(keep)}}
    call = dict(what=os.path.basename(sys.argv[0]), words=sys.argv[1:])
    call |= dict(host=os.environ.get("FAKE_HOST"), environment=kept)
    with open(os.environ["FAKE_NOTES"], "a") as file:
        file.write(json.dumps(call | more) + "\\n")
"""

RAY = """
import time
note(pid=os.getpid())
if sys.argv[1] == "start":
    print("scripts.py:1 -- \\x1b[37mLocal node IP\\x1b[39m: \\x1b[1m10.1.2.3\\x1b[22m")
    if "--fail" in sys.argv:
        sys.exit("the port is taken")
    print("Ray runtime started.", flush=True)
    while True:
        time.sleep(1)
"""

SSH = """
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2:]
host, command = words[0].partition("@")[2], " ".join(words[1:])
note(to=words[0], command=command)
if host == "dead":
    sys.exit("ssh: no route to host")
home = os.path.join(os.environ["FAKE_HOMES"], host)
os.makedirs(home, exist_ok=True)
kept = {k: os.environ[k] for k in ("PATH", "FAKE_NOTES", "FAKE_HOMES")}
os.execve("/bin/sh", ["sh", "-c", command], {**kept, "HOME": home, "FAKE_HOST": host})
"""

HOSTNAME = """
print("10.9.8.7 " if sys.argv[1:] == ["-I"] else os.environ.get("FAKE_HOST") or "here")
"""


def fake(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(NOTE + text)
    (folder / name).chmod(0o755)


class Lab:
    """A folder with stand-ins, homes of machines, and notes of every call."""

    def __init__(self, folder):
        self.folder, self.bin, self.notes = folder, folder / "bin", folder / "notes"
        self.notes.touch()
        self.home = folder / "homes" / "here"
        self.home.mkdir(parents=True)
        self.environment = {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "FAKE_NOTES": str(self.notes),
            "FAKE_HOMES": str(folder / "homes"),
            "TFSER_HOME": "/shared/tfser",
        }
        fake(self.bin, "hostname", HOSTNAME)

    def calls(self, what):
        return [call for line in self.notes.read_text().splitlines() if (call := json.loads(line))["what"] == what]

    def run(self, script, *words, **environment):
        given = {k: v for k, v in {**self.environment, **environment}.items() if v is not None}
        return subprocess.run(
            ["bash", script, *words], env=given, cwd=ROOT, capture_output=True, text=True, timeout=300
        )


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_the_script(script):
    read = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_the_script(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert found.stdout == ""


# Starting again


def test_a_command_that_keeps_failing_is_started_ever_more_seldom_and_one_that_ends_well_is_not_started_again(lab):
    fake(lab.bin, "sleep", "note()\n")
    fake(
        lab.bin,
        "failing",
        "note()\nsys.exit(3 if open(os.environ['FAKE_NOTES']).read().count('failing') < 10 else 0)\n",
    )
    done = lab.run(CLUSTER / "restart.sh", "failing", "as typed")
    assert done.returncode == 0
    assert [call["words"] for call in lab.calls("failing")] == [["as typed"]] * 10
    assert [call["words"] for call in lab.calls("sleep")] == [[str(s)] for s in (1, 2, 4, 8, 16, 32, 60, 60, 60)]
    assert done.stdout.count("ended with 3 after ") == 9


# CUDA MPS


MPS = """
if sys.argv[1:] == ["-d"]:
    note()
    open(os.environ["CUDA_MPS_PIPE_DIRECTORY"] + "/control", "w").close()
else:
    said = sys.stdin.read().strip()
    note(said=said)
    if not os.path.exists(os.environ["CUDA_MPS_PIPE_DIRECTORY"] + "/control"):
        sys.exit(1)
    if said == "quit":
        os.unlink(os.environ["CUDA_MPS_PIPE_DIRECTORY"] + "/control")
"""


def test_mps_is_left_alone_unless_it_is_asked_for(lab):
    fake(lab.bin, "nvidia-cuda-mps-control", MPS)
    assert lab.run(CLUSTER / "mps.sh", "start").returncode == 0
    assert lab.calls("nvidia-cuda-mps-control") == []


def test_mps_starts_once_for_every_gpu_of_the_machine_and_stops(lab, tmp_path):
    fake(lab.bin, "nvidia-cuda-mps-control", MPS)
    asked = {"TFSER_MPS": "1", "CUDA_VISIBLE_DEVICES": "1", "CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "pipes")}
    assert lab.run(CLUSTER / "mps.sh", "start", **asked).stdout == f"MPS runs ({tmp_path / 'pipes'})\n"
    assert "already" in lab.run(CLUSTER / "mps.sh", "start", **asked).stdout
    (daemon,) = [call for call in lab.calls("nvidia-cuda-mps-control") if call["words"] == ["-d"]]
    assert "CUDA_VISIBLE_DEVICES" not in daemon["environment"], "the daemon would number the GPUs anew"
    assert lab.run(CLUSTER / "mps.sh", "status", **asked).returncode == 0
    assert lab.run(CLUSTER / "mps.sh", "stop", **asked).returncode == 0
    assert lab.run(CLUSTER / "mps.sh", "status", **asked).returncode == 1


def test_mps_that_was_asked_for_and_cannot_be_had_is_said(lab):
    lab.bin.mkdir(exist_ok=True)
    (lab.bin / "bash").symlink_to(shutil.which("bash"))
    # Nothing else on the path: a machine with GPUs has the daemon, and it would be started.
    asked = lab.run(CLUSTER / "mps.sh", "start", TFSER_MPS="1", PATH=str(lab.bin))
    assert asked.returncode == 1
    assert "no nvidia-cuda-mps-control here" in asked.stderr
    assert lab.run(CLUSTER / "mps.sh", "restart").returncode == 2


# Machines over ssh


@pytest.fixture
def site(lab):
    """Three machines; whatever a test starts there is ended."""
    fake(lab.bin, "ssh", SSH)
    fake(lab.folder / "env" / "bin", "ray", RAY)
    fake(lab.folder / "env" / "bin", "python", "note()\n")
    lab.hosts = lab.folder / "hosts"
    lab.hosts.write_text("# ours\nanna@head --num-cpus=0   # trains nothing\n\nanna@one\nanna@two --num-gpus=2\n")
    lab.environment["TFSER_ENV"] = str(lab.folder / "env")
    yield lab
    for call in lab.calls("ray"):
        if call["words"][0] == "start" and alive(call["pid"]):
            os.kill(call["pid"], signal.SIGKILL)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def onprem(site, action, **environment):
    return site.run(CLUSTER / "onprem.sh", action, site.hosts, **environment)


@pytest.mark.full
def test_every_machine_gets_ray_with_the_token_and_only_the_ports_that_a_firewall_can_name(site):
    started = onprem(site, "start")
    assert started.returncode == 0, started.stderr
    calls = {call["host"]: call for call in site.calls("ray")}
    assert set(calls) == {"head", "one", "two"}
    shut = {"RAY_enable_metrics_collection": "0", "AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}
    for host, call in calls.items():
        assert (
            call["environment"].items() >= {"RAY_AUTH_MODE": "token", "TFSER_HOME": "/shared/tfser", **shut}.items()
        ), host
        assert "--block" in call["words"]
        ports = {
            name: int(port) for word in call["words"] for name, port in re.findall(r"^--([\w-]*port)=(\d+)$", word)
        }
        assert {name for name, port in ports.items() if not 7000 <= port <= 7999} <= {"dashboard-port"}, host
        assert len(set(ports.values())) == len(ports)
        agents = {
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
            "runtime-env-agent-port",
            "metrics-export-port",
        }
        assert ports.keys() >= agents | {
            "node-manager-port",
            "object-manager-port",
            "min-worker-port",
            "max-worker-port",
        }, host
    assert {"--head", "--port=7000", "--dashboard-host=127.0.0.1", "--num-cpus=0"} <= set(calls["head"]["words"])
    assert calls["head"]["environment"]["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    for host in ("one", "two"):
        assert "--address=10.1.2.3:7000" in calls[host]["words"], "the workers go where the head said that it is"
        assert "--head" not in calls[host]["words"]
    assert "--num-gpus=2" in calls["two"]["words"]
    (service,) = site.calls("python")
    assert service["host"] == "head"
    assert service["words"][1:] == [
        "start",
        "--folder",
        str(site.folder / "homes/head/.tfser-cluster/head/mlflow"),
        "--port",
        "5000",
    ]


@pytest.mark.full
def test_the_token_reaches_every_machine_for_its_owner_alone_and_stays_out_of_command_lines(site):
    secret = "postgresql://anna:hush@db/mlflow"
    assert onprem(site, "start", TFSER_MLFLOW_DATABASE=secret).returncode == 0
    files = [site.folder / "homes" / host / ".ray" / "auth_token" for host in ("here", "head", "one", "two")]
    token = files[0].read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert [f.read_text() for f in files] == [token] * 4
    assert [f.stat().st_mode & 0o777 for f in files] == [0o600] * 4
    commands = json.dumps(
        [(call["command"], call["words"]) for call in site.calls("ssh")] + [call["words"] for call in site.calls("ray")]
    )
    assert token not in commands
    assert "hush" not in commands
    assert {call["environment"]["TFSER_MLFLOW_DATABASE"] for call in site.calls("python")} == {secret}


@pytest.mark.full
def test_a_token_that_is_there_is_kept_and_another_clusters_is_not_overwritten(site):
    other = site.folder / "homes" / "one" / ".ray" / "auth_token"
    other.parent.mkdir(parents=True)
    other.write_text("of another cluster")
    refused = onprem(site, "start")
    assert refused.returncode != 0
    assert "one has another token" in refused.stderr
    assert other.read_text() == "of another cluster"
    assert site.calls("ray") == [], "something was started"
    ours = (site.home / ".ray" / "auth_token").read_text()
    other.write_text(ours)
    assert onprem(site, "start").returncode == 0
    assert (site.home / ".ray" / "auth_token").read_text() == ours


@pytest.mark.full
def test_a_second_start_leaves_what_runs_alone(site):
    assert onprem(site, "start").returncode == 0
    again = onprem(site, "start")
    assert again.returncode == 0
    assert again.stdout.count("Ray runs already") == 3
    assert len(site.calls("ray")) == 3


@pytest.mark.full
def test_stop_ends_what_start_started_and_nobody_elses_ray(site):
    bystander = subprocess.Popen(
        [site.folder / "env/bin/ray", "start", "--head"], env=site.environment, stdout=subprocess.DEVNULL
    )
    try:
        assert onprem(site, "start").returncode == 0
        ours = [call["pid"] for call in site.calls("ray") if call["pid"] != bystander.pid]
        assert len(ours) == 3
        assert onprem(site, "status").stdout.count("Ray runs (process") == 3
        stopped = onprem(site, "stop")
        assert stopped.returncode == 0, stopped.stderr
        assert not any(alive(pid) for pid in ours)
        assert bystander.poll() is None
        assert [line for line in stopped.stdout.splitlines() if line][-1] == "head: Ray does not run", (
            "the head goes last"
        )
        assert onprem(site, "status").stdout.count("Ray does not run") == 3
    finally:
        bystander.kill()
        bystander.wait()


def test_a_machine_where_ray_cannot_start_is_named_with_rays_own_words_and_the_others_go_on(site):
    site.hosts.write_text("anna@head\nanna@one --fail\nanna@two\n")
    started = onprem(site, "start")
    assert started.returncode == 1
    assert "one: Ray ended at once:" in started.stderr
    assert "the port is taken" in started.stderr
    assert {call["host"] for call in site.calls("ray")} == {"head", "one", "two"}


@pytest.mark.parametrize(
    ("action", "environment", "reason"),
    [
        ("start", {"TFSER_HOME": None}, "TFSER_HOME is not set"),
        ("start", {"TFSER_PORTS": "80"}, "TFSER_PORTS 80: from 1024 to 64000"),
        ("restart", {}, "start, status or stop?"),
    ],
)
def test_a_wrong_request_is_refused_before_any_machine_is_asked(site, action, environment, reason):
    refused = onprem(site, action, **environment)
    assert refused.returncode == 2
    assert reason in refused.stderr
    assert site.calls("ssh") == []


def test_a_missing_or_empty_list_of_machines_is_said(site):
    site.hosts.write_text("# nobody yet\n")
    assert "names no machine" in onprem(site, "start").stderr
    site.hosts.unlink()
    assert "cannot be read" in onprem(site, "start").stderr


# Slurm


SRUN = """
import signal, subprocess
note()
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:]
task = subprocess.Popen(words)
signal.signal(signal.SIGTERM, lambda *_: task.terminate())
sys.exit(task.wait())
"""

SYMMETRIC_RUN = """
import subprocess
note()
os.makedirs(os.environ["FAKE_HOMES"], exist_ok=True)
sys.exit(subprocess.call(sys.argv[sys.argv.index("--") + 1 :]))
"""

SWEEP = """
import signal, time
note()
if "tfser.sweep" in sys.argv and "--long" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    open(os.environ["FAKE_NOTES"] + ".training", "w").close()
    time.sleep(120)
sys.exit(int(os.environ.get("FAKE_CODE", 0)) if "tfser.sweep" in sys.argv else 0)
"""


@pytest.fixture
def queue(lab):
    for name, text in {"srun": SRUN, "ray": SYMMETRIC_RUN, "python": SWEEP, "scontrol": "note()\n"}.items():
        fake(lab.bin, name, text)
    # A number of its own: it names the script's folders in /tmp, and another run of these tests may be under way.
    lab.job = str(7_000_000 + 2 * os.getpid())
    slurm = {
        "SLURM_JOB_ID": lab.job,
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "2",
    }
    lab.environment |= {**slurm, "SLURM_SUBMIT_DIR": str(ROOT), "TFSER_ENV": str(lab.folder / "nowhere")}
    return lab


def spooled(lab):
    """Slurm runs a copy of the script from a folder of its own."""
    return shutil.copy(CLUSTER / "slurm.sh", lab.folder / "slurm_script")


def option(call, name):
    (value,) = [word.partition("=")[2] for word in call["words"] if word.startswith(f"--{name}=")]
    return value


def test_a_job_runs_the_sweep_on_one_ray_over_all_its_nodes(queue):
    done = queue.run(spooled(queue), "casia", "--trials", "50")
    assert done.returncode == 0, done.stderr
    (step,), (ray,) = queue.calls("srun"), queue.calls("ray")
    assert {"--nodes=3", "--ntasks=3", "--ntasks-per-node=1"} <= set(step["words"])
    assert ray["words"][:5] == ["symmetric-run", "--address", ray["environment"]["RAY_ADDRESS"], "--min-nodes", "3"]
    assert ray["environment"]["RAY_ADDRESS"].startswith("10.9.8.7:")
    assert {"--num-cpus=16", "--num-gpus=2", "--dashboard-host=127.0.0.1", "--disable-usage-stats"} <= set(ray["words"])
    (sweep,) = [call for call in queue.calls("python") if "tfser.sweep" in call["words"]]
    assert sweep["words"] == ["-m", "tfser.sweep", "--out", "/shared/tfser", "casia", "--trials", "50"]
    shut = {"RAY_enable_metrics_collection": "0", "AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}
    assert sweep["environment"].items() >= {"RAY_AUTH_MODE": "token", **shut}.items()
    started, *_, stopped = [call["words"] for call in queue.calls("python")]
    assert started[0] == stopped[0] == f"{ROOT}/cluster/mlflow_service.py"
    assert (started[1], stopped[1]) == ("start", "stop")
    assert sweep["environment"]["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{started[started.index('--port') + 1]}"


def test_two_jobs_share_neither_ports_nor_folders_nor_tokens_and_no_token_is_in_a_command_line(queue):
    for job in (queue.job, str(int(queue.job) + 1)):
        assert queue.run(spooled(queue), "casia", SLURM_JOB_ID=job).returncode == 0
    first, second = queue.calls("ray")
    for one, other in zip(first["words"][2:], second["words"][2:], strict=True):
        if re.search(r"port|temp-dir|:\d+$", one):
            assert one != other
    ports = [{int(option(c, "dashboard-port")), int(option(c, "ray-client-server-port"))} for c in (first, second)]
    assert not ports[0] & ports[1]
    assert all(20000 <= port < 32768 for port in ports[0] | ports[1]), "Linux gives ports from 32768 to anybody"
    tokens = [call["environment"]["RAY_AUTH_TOKEN"] for call in (first, second)]
    assert tokens[0] != tokens[1]
    assert all(re.fullmatch("[0-9a-f]{64}", token) for token in tokens)
    assert not any(
        token in json.dumps([c["words"] for w in ("srun", "ray", "python") for c in queue.calls(w)]) for token in tokens
    )
    assert all(len(option(call, "temp-dir")) < 30 for call in (first, second)), (
        "socket paths below it may have 107 letters"
    )


def test_the_jobs_exit_code_is_the_sweeps(queue):
    assert queue.run(spooled(queue), "casia", FAKE_CODE="1").returncode == 1
    assert queue.calls("scontrol") == []


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_job_whose_time_is_up_goes_on_later_and_one_that_was_cancelled_does_not(queue, number, requeued):
    job = subprocess.Popen(
        ["bash", spooled(queue), "casia", "--long"],
        env=queue.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until = time.monotonic() + 300
        while not Path(f"{queue.notes}.training").exists():
            assert time.monotonic() < until
            assert job.poll() is None, job.stdout.read()
            time.sleep(0.05)
        job.send_signal(number)  # Slurm sends it to the script alone
        said, _ = job.communicate(timeout=300)
    finally:
        job.kill()
    assert job.returncode == 130, said
    assert [call["words"] for call in queue.calls("scontrol")] == ([["requeue", queue.job]] if requeued else [])
    assert queue.calls("python")[-1]["words"][1] == "stop", "MLflow's database was not copied a last time"


@pytest.mark.parametrize(
    ("environment", "words", "reason"),
    [
        ({"SLURM_JOB_ID": None}, ["casia"], "submit it: sbatch cluster/slurm.sh"),
        ({"TFSER_HOME": None}, ["casia"], "TFSER_HOME is not set"),
        ({}, [], "no database"),
        ({"SLURM_SUBMIT_DIR": "/tmp"}, ["casia"], "not the repository's root"),
    ],
)
def test_a_wrong_job_is_refused_before_ray_starts(queue, environment, words, reason):
    refused = queue.run(spooled(queue), *words, **environment)
    assert refused.returncode == 2
    assert reason in refused.stderr
    assert queue.calls("srun") == []
