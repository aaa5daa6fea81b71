"""The nodes of ``cluster/up.yaml`` as local processes: they come when a sweep needs them and go at its end."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from tests.helpers.clusters import Cluster, wait_until
from tests.helpers.disturbances import tables_of, undisturbed, words

pytestmark = pytest.mark.full

UP = Path(__file__).parents[2] / "cluster" / "up.yaml"
HEAD = "ray.head.default"  # the fake provider's name for the type of the head
HEAD_ID = "f" * 51 + "00000"  # it counts its nodes from there
PROVIDER = {
    # By its module: the name "fake_multinode" reads a file that wheels do not hold.
    "type": "external",
    "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
    "launch_multiple": True,
    "head_node_id": HEAD_ID,
}


def fake(up, worker):
    """The same cluster of at most two fake workers without the GPU, which go after a 60th of the idle time."""
    types = up["available_node_types"]
    resources = {"CPU": types[worker]["resources"]["CPU"], "object_store_memory": 90_000_000}
    return {
        **{key: value for key, value in up.items() if not key.endswith("_commands")},
        **{
            f"{kind}_commands": []
            for kind in ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
        },
        "provider": PROVIDER,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "max_workers": min(2, up["max_workers"]),
        "idle_timeout_minutes": up["idle_timeout_minutes"] / 60,
        "head_node_type": HEAD,
        "available_node_types": {
            HEAD: {**types[up["head_node_type"]], "node_config": {}},
            worker: {
                **types[worker],
                "node_config": {},
                "resources": resources,
                "max_workers": min(2, types[worker]["max_workers"]),
            },
        },
    }


def fake_workers(cluster):
    """Ray's names of the fake workers that are up; Ray's monitor, below the head's process, starts and ends them."""
    found = set()
    for process in psutil.Process(cluster.head.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() == "raylet":
                found.update(word.partition("=")[2] for word in process.cmdline() if word.startswith("--node_id="))
    return found - {HEAD_ID}


def test_the_shipped_cluster_grows_from_no_worker_to_two_and_back_and_gives_the_tables_of_one_process(tmp_path):
    reference = undisturbed()
    up = yaml.safe_load(UP.read_text(encoding="utf-8"))
    (worker,) = set(up["available_node_types"]) - {up["head_node_type"]}
    assert up["available_node_types"][up["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}, (
        "the head would run trials"
    )
    # The environment that the file gives to every process, the driver's included.
    given = dict(re.findall(r"-e ((?:RAY|TUNE|AUTOSCALER|DASHBOARD)_\w+)=(\S+)", " ".join(up["docker"]["run_options"])))
    fakes = {"RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID, "RAY_CLOUD_INSTANCE_ID": HEAD_ID}
    quick = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
    # Features are extracted by one process per CPU, and a fake worker has more of those than this machine.
    shutil.copytree(reference / ".tfser" / "features", tmp_path / ".tfser" / "features")
    # Four trials can be trained at once, so halves of a worker need two.
    half = str(up["available_node_types"][worker]["resources"]["CPU"] / 2)
    call = [sys.executable, "-m", "tfser.sweep", *words(tmp_path, "--trial-cpus", half, "--trial-gpus", "0")]
    with (
        Cluster(autoscaling=fake(up, worker), **given, **fakes, **quick) as cluster,
        open(tmp_path / "log", "w+") as log,
    ):
        assert fake_workers(cluster) == set()
        env = cluster.driver_environment(**{**given, "RAY_ADDRESS": cluster.address})
        driver = subprocess.Popen(call, env=env, stdout=log, stderr=log)
        at_once, seen = 0, set()

        def over():
            nonlocal at_once, seen
            workers = fake_workers(cluster)
            at_once, seen = max(at_once, len(workers)), seen | workers
            return driver.poll() is not None

        try:
            wait_until(over, f"the sweep is over ({shlex.join(call)})", 600, every_s=0.5)
        finally:
            driver.kill()
            driver.wait()
        said = (tmp_path / "log").read_text() + "".join(
            p.read_text()[-3000:] for p in cluster.folder.glob("**/logs/monitor.err")
        )
        assert driver.returncode == 0, said
        assert at_once == 2, said
        entries = [json.loads(path.read_text()) for path in (tmp_path / ".tfser" / "ledger").glob("*/*.json")]
        trained_on = {entry["machine"]["node"] for entry in entries}
        assert trained_on, said
        # On a busy machine the second worker may come up when all is done.
        assert trained_on <= seen, "a trial ran on the head"
        assert tables_of(tmp_path) == tables_of(reference)
        wait_until(lambda: not fake_workers(cluster), "both workers are gone", 120)
