"""Ray Tune against the in-process runner, and a driver that is killed. Every test ends only what it started."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.ingredients import ALL, SPACE, set_words
from tests.helpers.sweeps import runs_of, tables_of
from tests.helpers.sweeps import search_arguments as arguments
from tests.helpers.tiny import SMALL
from tfser.errors import counted
from tfser.sweep import command as sweep_command

ROOT = Path(__file__).parents[2]
FOLDS = ("anna", "bert", "carl", "dora")


def environment():
    """Ours, without a cluster that the caller may be in."""
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}


def command(*words, **named):
    return subprocess.run(
        [sys.executable, "-m", "tfser.sweep", *words], capture_output=True, text=True, env=environment(), **named
    )


def started(*words):
    call = [sys.executable, "-m", "tfser.sweep", *words]
    return subprocess.Popen(call, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_a_trial(driver):
    for line in driver.stdout:
        if line.startswith("["):
            return
    pytest.fail("the sweep ended before a trial did")


@pytest.fixture(scope="module")
def undisturbed(tiny_manifest, tmp_path_factory):
    """The sweep in one process: the reference."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert sweep_command.main(arguments(tiny_manifest, out, "--in-process")) == 0
    return out


@pytest.mark.full
@pytest.mark.parametrize("address", [None, "local"])
def test_a_local_ray_is_one_of_its_own_whatever_cluster_was_started_on_the_machine(address):
    code = f"""
from tfser.execution.on_ray.tune_runner import RayTuneRunner
runner = RayTuneRunner({address!r}, workers=1)
print("workers", runner.workers, [node["NodeManagerHostname"] for node in runner._ray.nodes()] != [])
runner.close()
"""
    with tempfile.TemporaryDirectory(prefix="tfr", dir="/tmp") as folder:  # short: Ray keeps Unix sockets below
        (Path(folder) / "ray").mkdir()
        # As `ray start` notes it, and leaves it when it is killed.
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        env = environment() | {"RAY_TMPDIR": folder, "HOME": folder}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
        assert done.stdout == "workers 1 True\n", done.stdout + done.stderr
        assert not (Path(folder) / ".ray").exists(), "a token that others may read was left behind"


@pytest.mark.full
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_scores_of_the_in_process_runner_to_the_bit(undisturbed, tiny_manifest, tmp_path, workers):
    cores = len(os.sched_getaffinity(0))
    # A relative folder, as the default --out is.
    words = arguments(tiny_manifest, "results", "--deterministic", "--trial-cpus", str(cores / workers))
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Training, {counted(workers, 'trial')} at once" in done.stdout
    assert tables_of(tmp_path / "results" / "s") == tables_of(undisturbed / "s")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kills", "folds"), [(1, ("anna", "bert")), pytest.param(2, FOLDS, marks=pytest.mark.full)], ids=["one", "two"]
)
def test_a_killed_driver_loses_nothing_and_the_table_is_the_undisturbed_one(tiny_manifest, tmp_path, kills, folds):
    chosen = ("--deterministic", "--fold", *folds)
    assert sweep_command.main([*arguments(tiny_manifest, tmp_path / "undisturbed"), *chosen, "--in-process"]) == 0
    words = [*arguments(tiny_manifest, tmp_path / "killed"), *chosen]
    for _ in range(kills):
        with started(*words) as driver:
            wait_for_a_trial(driver)
            driver.send_signal(signal.SIGKILL)
    out = tmp_path / "killed"
    before = {p.name: p.stat().st_mtime_ns for p in (out / ".tfser" / "ledger").glob("*/*.json")}
    done = command(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before
    after = {p.name: p.stat().st_mtime_ns for p in (out / ".tfser" / "ledger").glob("*/*.json")}
    assert {name: after[name] for name in before} == before, "a finished trial was trained again"
    assert tables_of(out / "s") == tables_of(tmp_path / "undisturbed" / "s")
    ids = [r.data.tags["tfser.trial_id"] for r in runs_of(out)[1] if r.data.tags["tfser.kind"] != "configuration"]
    assert len(ids) == len(set(ids)) == 2 * len(folds) * 3


@pytest.mark.full
def test_a_search_with_all_that_helps_on_small_corpora_is_the_same_after_kills_and_on_one_and_two_workers(
    tiny_manifest, tmp_path
):
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    searched = {line.split(":")[0].strip() for line in SPACE.splitlines() if line.startswith("  ")}
    fixed = set_words({name: value for name, value in {**SMALL, **ALL}.items() if name not in searched})
    search = ["--trials", "2", "--epochs", "4", "--name", "s", "--fold", "anna", "bert", "--deterministic"]

    def words(out):
        model = ["--model", "time_frequency_transformer", "--space", str(space), "--checkpoint", "0.01"]
        return [str(tiny_manifest), "--out", str(out), *model, *search, "--set", *fixed]

    assert sweep_command.main([*words(tmp_path / "here"), "--in-process"]) == 0
    wanted = tables_of(tmp_path / "here" / "s")
    for _ in range(2):
        with started(*words(tmp_path / "killed"), "--in-process") as driver:
            wait_for_a_trial(driver)
            time.sleep(0.3)
            driver.send_signal(signal.SIGKILL)
    assert sweep_command.main([*words(tmp_path / "killed"), "--in-process"]) == 0
    assert tables_of(tmp_path / "killed" / "s") == wanted
    cores = len(os.sched_getaffinity(0))
    for workers in (1, 2):
        done = command(*words(tmp_path / f"on{workers}"), "--trial-cpus", str(cores / workers))
        assert done.returncode == 0, done.stdout + done.stderr
        assert tables_of(tmp_path / f"on{workers}" / "s") == wanted


@pytest.mark.full
def test_sigterm_ends_a_sweep_with_a_word_on_how_to_go_on(tiny_manifest, tmp_path):
    with started(*arguments(tiny_manifest, tmp_path)) as driver:
        wait_for_a_trial(driver)
        driver.send_signal(signal.SIGTERM)
        out = driver.communicate(timeout=300)[0]
    assert driver.returncode == 130, out
    assert "What was finished is kept; the same command goes on from there" in out
    assert "Traceback" not in out


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_the_table_of_an_undisturbed_search(tiny_manifest, tmp_path):
    """One process per start, so that the kill hits the driver while it asks, trains, commits or tells."""

    def words(out):
        return arguments(tiny_manifest, out, "--in-process", "--validation-folds", "2", trials="8", epochs="30")

    assert sweep_command.main(words(tmp_path / "undisturbed")) == 0
    rng, kills = random.Random(1), 0
    while kills < 20:
        with started(*words(tmp_path / "killed")) as driver:
            wait_for_a_trial(driver)
            time.sleep(rng.uniform(0.0, 1.5))
            if driver.poll() is None:
                driver.send_signal(signal.SIGKILL)
                kills += 1
    assert command(*words(tmp_path / "killed")).returncode == 0
    assert tables_of(tmp_path / "killed" / "s") == tables_of(tmp_path / "undisturbed" / "s")
    searched = pd.read_csv(tmp_path / "killed" / "s" / "search.csv")
    assert set(searched.groupby(["ablation", "folds"]).size()) == {8}
    ids = [
        r.data.tags["tfser.trial_id"]
        for r in runs_of(tmp_path / "killed")[1]
        if r.data.tags["tfser.kind"] != "configuration"
    ]
    assert len(ids) == len(set(ids))
