"""Submitted jobs: with the working directory uploaded or an installed package, stopped and submitted again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from tests.helpers.clusters import RAY, ROOT, Cluster, wait_until
from tests.helpers.sweeps import search_arguments as arguments
from tests.helpers.sweeps import tables_of
from tfser.sweep import command as sweep_command

pytestmark = pytest.mark.full

INTERRUPTED = "What was finished is kept; the same command goes on from there"


@pytest.fixture(scope="module")
def cluster():
    """A head with the job interface, and a node that trains."""
    with Cluster(dashboard=True) as started:
        started.add(1)
        yield started


@pytest.fixture(scope="module")
def undisturbed(tiny_manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert sweep_command.main(call(tiny_manifest, out, "--in-process")) == 0
    return tables_of(out / "s")


def call(manifest, out, *more):
    """A sweep of some twenty trials of a second or so."""
    words = arguments(manifest, out, "--deterministic", *more)
    words[words.index("--epochs") + 1] = "8"
    return words


def ray_job(cluster, *words):
    address = f"http://127.0.0.1:{cluster.dashboard_port}"
    done = subprocess.run(
        [*RAY, "job", *words[:1], "--address", address, *words[1:]],
        env=cluster.driver_environment(),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def submit(cluster, job, manifest, home, *options, wait=False):
    """``--out`` is left to TFSER_HOME."""
    words = call(manifest, "OUT")
    del words[words.index("--out") : words.index("--out") + 2]
    variables = {"env_vars": {"TFSER_HOME": str(home)}}
    how = [*options, "--runtime-env-json", json.dumps(variables), "--submission-id", job] + (
        [] if wait else ["--no-wait"]
    )

    def submitted():
        answer = ray_job(cluster, "submit", *how, "--", sys.executable, "-m", "tfser.sweep", *words)
        return None if "No available agent to submit job" in answer[1] else answer

    return wait_until(submitted, "the head's agent takes jobs", 180, 2)


def code_of_its_own(folder):
    """A working directory whose code is another version than the one that is installed on the nodes."""
    shutil.copytree(ROOT / "tfser", folder / "tfser", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "search_spaces", folder / "search_spaces")
    (folder / "results").mkdir()
    shutil.copy(ROOT / "results" / "published.yaml", folder / "results")
    init = folder / "tfser" / "__init__.py"
    init.write_text(init.read_text() + '\n__version__ = "9.9.9"\n')
    return folder


def test_a_job_that_is_stopped_says_how_to_go_on_and_the_next_one_does(cluster, undisturbed, tiny_manifest, tmp_path):
    """With Ray's own three seconds between SIGTERM and SIGKILL, and the package as it is installed on the nodes."""
    code, said = submit(cluster, "stopped", tiny_manifest, tmp_path)
    assert code == 0, said
    jobs = JobSubmissionClient(
        f"http://127.0.0.1:{cluster.dashboard_port}", headers={"Authorization": f"Bearer {cluster.token}"}
    )

    def third_trial_ended():
        assert jobs.get_job_status("stopped") in ("PENDING", "RUNNING"), jobs.get_job_logs("stopped")
        return "[3/" in jobs.get_job_logs("stopped")

    wait_until(third_trial_ended, "the third trial ends", 300, 0.5)
    assert ray_job(cluster, "stop", "stopped")[0] == 0
    assert jobs.get_job_status("stopped") == "STOPPED"
    assert INTERRUPTED in jobs.get_job_logs("stopped")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / ".tfser" / "ledger").glob("*/*.json")}
    assert len(before) >= 3
    code, said = submit(cluster, "again", tiny_manifest, tmp_path, wait=True)
    assert code == 0, said
    assert tables_of(tmp_path / "s") == undisturbed
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / ".tfser" / "ledger").glob("*/*.json")}
    assert {name: after[name] for name in before} == before, "a finished trial was trained again"


def test_an_uploaded_working_directory_is_what_driver_and_workers_run(cluster, undisturbed, tiny_manifest, tmp_path):
    folder = code_of_its_own(tmp_path / "code")
    code, said = submit(cluster, "uploaded", tiny_manifest, tmp_path / "home", "--working-dir", str(folder), wait=True)
    assert code == 0, said
    assert json.loads((tmp_path / "home" / "s" / "sweep.json").read_text())["versions"]["tfser"] == "9.9.9"
    entries = [json.loads(path.read_text()) for path in (tmp_path / "home" / ".tfser" / "ledger").glob("*/*.json")]
    assert {entry["versions"]["tfser"] for entry in entries} == {"9.9.9"}
    assert tables_of(tmp_path / "home" / "s") == undisturbed
    assert not list(folder.rglob("*.db"))


def test_a_driver_of_other_code_than_the_workers_trains_nothing(cluster, tiny_manifest, tmp_path):
    folder = code_of_its_own(tmp_path / "code")
    words = call(tiny_manifest, tmp_path / "out", "--address", cluster.address)
    environment = cluster.driver_environment() | {"PYTHONPATH": str(folder)}
    command = [
        sys.executable,
        "-c",
        "import sys; from tfser.sweep.command import main; sys.exit(main(sys.argv[1:]))",
        *words,
    ]
    done = subprocess.run(command, env=environment, cwd=Path(os.sep), capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the driver runs tfser 9.9.9" in done.stderr
    assert "install one version on every node" in done.stderr
    assert not list((tmp_path / "out" / ".tfser" / "ledger").glob("*/*.json"))
