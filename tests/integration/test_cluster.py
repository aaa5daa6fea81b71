"""A sweep on three Ray nodes of one machine gives the numbers of one process, whatever dies meanwhile."""

import json
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers.clusters import Cluster, MlflowServer
from tests.helpers.disturbances import KINDS, DisturbedSweep, tables_of, undisturbed, words

pytestmark = pytest.mark.full

LONG_ABLATIONS = ("T+F", "F+TF", "T+TF", "T+F+TF")
LONG_DISTURBANCES = 50


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and two nodes of one CPU; tests may add more."""
    with Cluster(RAY_health_check_period_ms="1000") as started:
        started.add(2)
        yield started


@pytest.fixture(scope="module")
def reference():
    """The tables of the sweep in one process."""
    return tables_of(undisturbed())


def test_trials_run_on_every_node_and_the_tables_are_those_of_one_process(cluster, reference, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tfser.sweep", *words(tmp_path, "--address", cluster.address)],
        env=cluster.driver_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Training, 2 trials at once" in done.stdout
    entries = [json.loads(path.read_text()) for path in (tmp_path / ".tfser" / "ledger").glob("*/*.json")]
    assert {entry["machine"]["node"] for entry in entries} == {node.id for node in cluster.workers}
    assert tables_of(tmp_path) == reference


def test_killing_a_node_a_worker_the_driver_and_mlflow_changes_no_byte_and_trains_nothing_twice(
    cluster, reference, tmp_path
):
    seed = int(os.environ.get("TFSER_TEST_SEED", "0"))
    rng = random.Random(seed)
    kinds = rng.sample(KINDS, k=len(KINDS))
    waiting, happened = list(kinds), []
    for number in range(len(KINDS)):  # a sweep may be over before everything has happened to it; one thing has
        with MlflowServer(tmp_path / f"mlflow{number}") as server:
            sweep = DisturbedSweep(number, cluster, server, tmp_path / f"out{number}", rng)
            waiting = sweep.run(waiting, pause_s=(1.0, 4.0))
            assert sweep.problems(reference) == [], sweep.happened
        happened += [event.kind for event in sweep.happened]
        if not waiting:
            break
    assert happened == kinds


@pytest.mark.slow
def test_fifty_disturbances_over_repeated_sweeps_change_no_byte(cluster, tmp_path):
    """Write what happened to the file that TFSER_DISTURBANCES names."""
    reference = tables_of(undisturbed(LONG_ABLATIONS))
    seed, started = int(os.environ.get("TFSER_TEST_SEED", "0")), time.time()
    rng = random.Random(seed)
    waiting = [kind for _ in range(-(-LONG_DISTURBANCES // len(KINDS))) for kind in KINDS][:LONG_DISTURBANCES]
    rng.shuffle(waiting)
    sweeps, happened = [], []
    while waiting:
        number = len(sweeps)
        with MlflowServer(tmp_path / f"mlflow{number}") as server:
            sweep = DisturbedSweep(number, cluster, server, tmp_path / f"sweep{number}", rng, LONG_ABLATIONS)
            begun = time.monotonic()
            at_once = waiting[:10]
            waiting[:10] = sweep.run(at_once, pause_s=(1.0, 10.0))
            problems = sweep.problems(reference)
        happened += sweep.happened
        outcome = {
            "disturbances": len(sweep.happened),
            "seconds": round(time.monotonic() - begun),
            "trials": len(sweep.ledger.seen),
        }
        sweeps.append({"sweep": number, **outcome, "nodes": len(sweep.nodes_seen()), "problems": problems})
        _record(seed, started, sweeps, [asdict(event) for event in happened])
        assert problems == [], sweep.happened
    assert len(happened) == LONG_DISTURBANCES


def _record(seed, started, sweeps, happened):
    """Write after every sweep, so that a long run that ends early leaves what it saw."""
    path = os.environ.get("TFSER_DISTURBANCES")
    if path:
        summary = {
            "seed": seed,
            "seconds": round(time.time() - started),
            "versions": {
                "python": platform.python_version(),
                **{n: version(n) for n in ("tfser", "ray", "optuna", "mlflow", "torch")},
            },
            "machine": {"system": platform.platform(), "cores": len(os.sched_getaffinity(0))},
            "kinds": dict(sorted(Counter(event["kind"] for event in happened).items())),
            "sweeps": sweeps,
            "disturbances": happened,
        }
        Path(path).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
