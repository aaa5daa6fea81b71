"""Errors of a GPU, through Ray: its worker ends, its trials are tried again, and what breaks too many gets no more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.clusters import environment
from tests.helpers.own_models import NETWORK, write
from tests.helpers.sweeps import read

BREAKS = "import torch\n" + NETWORK.replace(
    "        return self.outer",
    "        if {when}:\n            raise RuntimeError('CUDA error: device-side assert triggered')\n"
    "        return self.outer",
)
"""A network whose training says what PyTorch says of a broken context."""

HELD = """
import os
from tfser.execution.on_ray import environment
os.environ.update(environment.ENVIRONMENT)
environment.secure_local_ray()
import ray
ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
from tfser.execution.breakages import Where
from tfser.execution.on_ray.held_back import HeldBack, own_gpus
def visible():
    return os.environ.get("CUDA_VISIBLE_DEVICES")
assert ray.get(ray.remote(num_gpus=0)(visible).remote()) == ""
node, held = ray.nodes()[0], HeldBack(ray)
held.hold(Where(node=node["NodeID"], gpu="1"), node["Resources"])
assert held.gpus(node["NodeID"]) == 1
given = ray.remote(num_gpus=1, num_cpus=1)(own_gpus)
assert ray.get([given.remote() for _ in range(3)]) == [["0"]] * 3
held.hold(Where(node=node["NodeID"]), node["Resources"])
left = ray.available_resources()
assert not left.get("CPU") and not left.get("GPU"), left
"""


def swept(manifest, folder, out, when, *more):
    model = write(folder, mine=BREAKS.replace("{when}", when))
    asked = ["--out", out, "--model", f"{model}/mine.py:Mine", "--epochs", "1", "--name", "s"]
    call = [sys.executable, "-m", "tfser.sweep", manifest, *asked, *more]
    done = subprocess.run(list(map(str, call)), env=environment(), capture_output=True, text=True)
    entries = [json.loads(path.read_text()) for path in (out / ".tfser" / "ledger").glob("*/*.json")]
    return done, entries


@pytest.mark.full
def test_a_trial_that_breaks_two_workers_fails_and_a_node_that_breaks_three_trials_is_given_no_more(
    tiny_manifest, tmp_path
):
    done, entries = swept(tiny_manifest, tmp_path / "files", tmp_path, "self.training", "--trial-cpus", "2")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "it is tried again by a fresh worker" in said
    assert "broke 3 different trials and is given no more" in said
    assert "No worker is left that trials can be given" in said
    assert 1 <= len(entries) <= 2, said  # the third trial breaks the node before it is tried twice
    for entry in entries:
        assert entry["status"] == "failed"
        assert entry["reason"].count("device-side assert triggered (on node ") == 2
        assert Path(entry["log"]).read_text().count("mine.py") >= 2


@pytest.mark.full
def test_a_trial_whose_worker_broke_once_is_trained_by_the_next(tiny_manifest, tmp_path):
    mark = f"__import__('pathlib').Path('{tmp_path}/broke')"
    once = f"self.training and not {mark}.exists() and {mark}.touch() is None"
    done, entries = swept(tiny_manifest, tmp_path / "files", tmp_path, once)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it is tried again by a fresh worker" in done.stdout + done.stderr
    assert {entry["status"] for entry in entries} == {"done"}
    assert len(read(tmp_path / "s", "folds.csv")) == 4


@pytest.mark.full
def test_a_gpu_and_a_node_are_held_and_a_worker_without_a_share_sees_no_gpu():
    done = subprocess.run([sys.executable, "-c", HELD], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
