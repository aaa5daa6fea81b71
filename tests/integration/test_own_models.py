"""Models that are not built in, through Ray: workers that do not see their files, submitted jobs, an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.bad_models import IN_A_SWEEP, write_bad
from tests.helpers.clusters import RAY, Cluster, environment, wait_until
from tests.helpers.own_models import NETWORK, write
from tests.helpers.sweeps import read, tables_of
from tests.helpers.tiny import SET_SMALL
from tfser.sweep import command as sweep_command

HELPED = "import helper\n" + NETWORK.replace(
    "        return self.outer", "        import late\n        x = x * late.ONE * helper.ONE\n        return self.outer"
)
"""A network that imports modules beside it, one of them only when it is trained."""

EXTRACTED = HELPED.replace("\nMine =", "\nfrom features import OWN\n\nMine =").replace('"n_mels": 16', '"halves": 8')
EXTRACTED = EXTRACTED.replace('title="My method",', 'title="My method", features=OWN,')
FEATURES = """
from dataclasses import dataclass
import numpy as np
from tfser.models import FeatureSet, Hyperparameter

@dataclass(frozen=True)
class Halves:
    bands: int
    id = "halves"

    def __call__(self, waveform):
        import late
        x = waveform.samples[0]
        count = len(x) // 160
        return late.ONE * np.abs(x[: count * 160]).reshape(count, -1)[:, : self.bands].astype(np.float32)

OWN = FeatureSet(
    name="halves", meaning="loudness", extractor=lambda settings: Halves(int(settings["halves"])),
    hyperparameters={"halves": Hyperparameter(default=16, low=1, high=100, help="values")},
)
"""

DRIVER = """
import shutil, sys
from tfser.sweep import command, trainer
begun = trainer.Trainer._runner
def gone(self):
    shutil.rmtree(sys.argv[1])
    return begun(self)
trainer.Trainer._runner = gone
sys.exit(command.main(sys.argv[2:]))
"""
"""A driver whose files are gone before Ray starts, as on workers that never see its folder."""


def files(folder):
    return write(folder, mine=EXTRACTED, helper="ONE = 1.0\n", late="ONE = 1.0\n", features=FEATURES)


def words(manifest, folder, out, *more):
    search = ["--trials", "1", "--epochs", "1", "--deterministic", "--name", "s", "--fold", "anna"]
    return [str(manifest), "--out", str(out), "--model", f"{folder}/mine.py:Mine", *search, *more]


@pytest.fixture(scope="module")
def reference(tiny_manifest, tmp_path_factory):
    """The tables of the sweep in one process."""
    folder = tmp_path_factory.mktemp("reference")
    assert sweep_command.main(words(tiny_manifest, files(folder / "files"), folder, "--in-process")) == 0
    return tables_of(folder / "s")


def driven(folder, asked, env):
    call = [sys.executable, "-c", DRIVER, str(folder), *asked]
    return subprocess.run(call, env=env, capture_output=True, text=True)


@pytest.mark.full
def test_workers_train_and_extract_with_files_that_they_do_not_see(reference, tiny_manifest, tmp_path):
    folder = files(tmp_path / "files")
    done = driven(folder, words(tiny_manifest, folder, tmp_path), environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert not folder.exists()
    assert tables_of(tmp_path / "s") == reference


@pytest.fixture(scope="module")
def cluster():
    """A head with the job interface, and two nodes that train."""
    with Cluster(dashboard=True) as started:
        started.add(2)
        yield started


@pytest.mark.full
def test_two_nodes_train_it_and_an_error_of_a_trial_names_file_and_line(cluster, tiny_manifest, tmp_path):
    folder, more = files(tmp_path / "files"), ("--fold", "bert", "carl", "dora")
    alone = tmp_path / "alone"
    assert sweep_command.main(words(tiny_manifest, folder, alone, *more, "--in-process")) == 0
    asked = words(tiny_manifest, folder, tmp_path, *more, "--address", cluster.address)
    done = driven(folder, asked, cluster.driver_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    entries = [json.loads(path.read_text()) for path in (tmp_path / ".tfser" / "ledger").glob("*/*.json")]
    assert {entry["machine"]["node"] for entry in entries} == {node.id for node in cluster.workers}
    assert tables_of(tmp_path / "s") == tables_of(alone / "s")
    broken = files(tmp_path / "broken")
    (broken / "late.py").write_text("ONE = 1.0\n\nraise RuntimeError('not in training')\n")
    text = (broken / "mine.py").read_text().replace("features=OWN,", "").replace('"halves": 8', '"n_mels": 16')
    (broken / "mine.py").write_text(text)
    asked = words(tiny_manifest, broken, tmp_path / "b", "--address", cluster.address)
    done = driven(broken, asked, cluster.driver_environment())
    assert "RuntimeError: not in training" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    log = next((tmp_path / "b" / ".tfser" / "logs").glob("*.log")).read_text()
    assert f'File "{broken}/late.py", line 3, in <module>\n    raise RuntimeError' in log


def submitted(cluster, job, home, asked, *options):
    """Submit a job, wait for its end; return its exit code and what it said."""
    variables = {"env_vars": {"TFSER_HOME": str(home)}}
    address = f"http://127.0.0.1:{cluster.dashboard_port}"
    how = ["job", "submit", "--address", address, "--submission-id", job, *options]
    how += ["--runtime-env-json", json.dumps(variables), "--", sys.executable, "-m", "tfser.sweep", *asked]

    def answered():
        done = subprocess.run([*RAY, *how], env=cluster.driver_environment(), capture_output=True, text=True)
        said = done.stdout + done.stderr
        return None if "No available agent to submit job" in said else (done.returncode, said)

    return wait_until(answered, "the head's agent takes jobs", 180, 2)


@pytest.mark.full
def test_a_submitted_job_has_the_file_of_its_working_directory_and_says_what_to_do_without(
    cluster, reference, tiny_manifest, tmp_path
):
    folder = files(tmp_path / "files")
    asked = words(tiny_manifest, ".", "OUT")
    del asked[asked.index("--out") : asked.index("--out") + 2]
    asked[asked.index("./mine.py:Mine")] = "mine.py:Mine"
    code, said = submitted(cluster, "own", tmp_path / "home", asked, "--working-dir", str(folder))
    assert code == 0, said
    assert tables_of(tmp_path / "home" / "s") == reference
    code, said = submitted(cluster, "own-without", tmp_path / "none", asked)
    assert code == 1
    assert "there is no file mine.py" in said
    assert "ray job submit --working-dir . -- tfser sweep" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.full
def test_from_an_empty_folder_to_one_table_with_a_model_of_the_papers(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "model: time_frequency_transformer\nfixed: {channels: 2}\nsearch:\n  batch_size: {choice: [32, 64]}\n"
    )
    env = {**environment(), "TFSER_TRIAL_CPUS": str(len(os.sched_getaffinity(0)) / 2)}

    def typed(*words):
        call = [sys.executable, "-m", "tfser", *words]
        done = subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "tfser sweep synthetic --model mine.py:Mine" in typed("models", "new", "mine.py")
    small = ["--epochs", "2", "--set", *(s for s in SET_SMALL if not s.startswith(("batch", "segment", "channels")))]
    both = ["--model", "mine.py:Mine", "time_frequency_transformer", "--trials", "3"]
    said = typed("sweep", "synthetic", *both, "--space", "space.yaml", *small, "--name", "both", "--fold", "ada", "ben")
    assert "its declared ranges are searched: width 8 to 128, dropout 0 to 0.5, learning_rate" in said
    assert set(read(tmp_path / "results" / "both", "summary.csv").model) == {"Mine", "time_frequency_transformer"}
    assert not [path for path in Path(tmp_path).rglob("__pycache__")]


@pytest.mark.full
def test_the_template_s_network_tells_emotions_of_the_built_in_database_better_than_chance(tmp_path):
    code = subprocess.run([sys.executable, "-m", "tfser", "models", "new", "mine.py"], cwd=tmp_path, env=environment())
    assert code.returncode == 0
    asked = ["synthetic", "--model", f"{tmp_path}/mine.py:Mine", "--out", str(tmp_path), "--in-process", "--name", "s"]
    assert sweep_command.main(asked) == 0
    assert read(tmp_path / "s", "summary.csv").uar_pooled[0] > 0.35, "chance is 0.25"


@pytest.mark.full
def test_bad_models_fail_their_own_trials_with_the_reason_and_the_others_go_on_through_ray(tiny_manifest, tmp_path):
    asked = ["--fold", "anna", "--ablation", "full", "--epochs", "1", "--name", "s", "--trial-timeout", "300"]
    call = [sys.executable, "-m", "tfser", "sweep", str(tiny_manifest), "--out", str(tmp_path), *asked]
    call += ["--model", *write_bad(tmp_path)]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    entries = [json.loads(path.read_text()) for path in (tmp_path / ".tfser" / "ledger").glob("*/*.json")]
    ends = {entry["spec"]["model"]: entry.get("reason") for entry in entries}
    assert ends.keys() == IN_A_SWEEP.keys()
    for name, (_, reason) in IN_A_SWEEP.items():
        assert ends[name] is None if reason is None else reason in ends[name]
