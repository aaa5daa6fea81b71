"""What killed processes left is removed once no process needs it; what is or may be in use stays."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.tasks import SPEC
from tfser.benchmark import made_up
from tfser.execution.on_ray import tune_runner
from tfser.storage import leftovers, places, temporary
from tfser.storage.checkpoints import Checkpoint
from tfser.storage.ledger import Ledger

ROOT = Path(__file__).parents[2]
RECORD = made_up.record(SPEC, ("calm", "glad"), 4)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine's temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def killed(code, folder):
    """Run some lines in a process that is killed at their end."""
    lines = f"import os, signal\nfrom pathlib import Path\n{code}\nos.kill(os.getpid(), signal.SIGKILL)"
    env = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", lines], env=env, check=False).returncode == -9


def aged(path, days):
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_the_folders_of_killed_processes_are_removed_and_those_of_live_ones_stay(machine):
    killed(
        "from tfser.storage import temporary\nfolder = temporary.Folder('tune')\n(folder.path / 'x').write_text('')",
        machine,
    )
    (dead,) = machine.iterdir()
    assert dead.name.startswith("tfser-tune-")
    with temporary.Folder("mlflow") as alive:
        (alive / "x").write_text("")
        assert temporary.clear() == (1, [])
        assert (alive / "x").exists()
        assert not dead.exists()
    assert list(machine.iterdir()) == []


def test_folders_that_no_lock_tells_of_stay_and_are_named(machine):
    (machine / "tfser-tune-abcd_123" / "trials").mkdir(parents=True)
    (machine / "tfser-mlflow-efgh4567").mkdir()
    aged(machine / "tfser-mlflow-efgh4567", 2)
    (machine / "tfser-mlflow-ijkl4567").mkdir()  # its process may be about to lock it
    theirs = [machine / "tfser-results", machine / "tfser-my-sweep", machine / "other-tune-abcd1234"]
    for folder in theirs:
        folder.mkdir()
    (machine / "tfser-manifest").write_text("")
    (machine / "tfser-link-abcd1234").symlink_to(theirs[0])
    assert temporary.clear() == (1, [machine / "tfser-mlflow-ijkl4567", machine / "tfser-tune-abcd_123"])
    assert not (machine / "tfser-mlflow-efgh4567").exists()
    assert len(list(machine.iterdir())) == 7


def test_a_folder_that_is_taken_for_a_leftover_before_it_is_locked_is_made_anew(machine, monkeypatch):
    hold, taken = temporary.hold, []

    def late(folder):
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return hold(folder)

    monkeypatch.setattr(temporary, "hold", late)
    with temporary.Folder("tune") as folder:
        assert folder.parent != taken[0]
        assert temporary.clear() == (0, [])


def test_half_written_files_of_killed_processes_are_removed_and_those_being_written_stay(tmp_path):
    (tmp_path / "ab").mkdir()
    write = "lambda file: (file.write(b'half'), file.flush(), os.kill(os.getpid(), signal.SIGKILL))"
    killed(
        f"from tfser.storage import places\nplaces.commit(Path({str(tmp_path / 'ab' / 'x.json')!r}), {write})", tmp_path
    )
    (half,) = (tmp_path / "ab").iterdir()
    assert half.name.startswith(".x.json.")
    removed = []

    def writing(file):
        file.write(b"whole")
        removed.append(places.remove_unfinished(tmp_path))

    places.commit(tmp_path / "ab" / "y.json", writing)
    assert removed == [1]
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["y.json"]
    assert (tmp_path / "ab" / "y.json").read_bytes() == b"whole"


def test_half_written_files_without_a_lock_are_removed_when_a_day_has_passed(tmp_path, monkeypatch):
    for name in (".x.json.abcd_123", ".y.json.abcd_123", ".hidden", "x.json"):
        (tmp_path / name).write_text("")
    aged(tmp_path / ".x.json.abcd_123", 2)
    aged(tmp_path / ".hidden", 2)
    assert places.remove_unfinished(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".y.json.abcd_123", "x.json"]
    (tmp_path / ".z.json.abcd_123.part").write_text("")
    monkeypatch.setattr(temporary, "is_free", lambda file: None)  # a file system that has no locks
    assert places.remove_unfinished(tmp_path) == 0
    aged(tmp_path / ".z.json.abcd_123.part", 2)
    assert places.remove_unfinished(tmp_path) == 1


def test_what_a_storage_needs_no_more_is_removed_and_what_is_kept_is_said(tmp_path, machine):
    storage, ledger = tmp_path / "storage", Ledger(tmp_path / "storage" / "ledger")
    under_way, gone = replace(SPEC, seed=7), replace(SPEC, seed=8)
    ledger.commit(RECORD)
    for spec in (SPEC, under_way):
        Checkpoint(storage / "checkpoints", spec.trial_id, {}).save({"w": torch.zeros(1)})
    for spec in (SPEC, gone):
        path = ledger.path(spec.trial_id).with_suffix(".damaged")
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    kept = ledger.path(gone.trial_id).with_suffix(".damaged")
    (machine / "tfser-tune-abcd1234" / "trials").mkdir(parents=True)
    assert leftovers.clear(storage, tmp_path / "out", ledger) == [
        "Removed what earlier starts had left: 1 checkpoint of a done trial, "
        "1 damaged entry whose trial was trained again",
        f"Kept 1 damaged ledger entry, not trained again yet: {kept}",
        f"Kept 1 temporary folder of an earlier version: {machine / 'tfser-tune-abcd1234'} (perhaps still in use; "
        "to be removed when no sweep of an earlier version runs)",
    ]
    assert not ledger.path(SPEC.trial_id).with_suffix(".damaged").exists()
    assert kept.exists()
    assert [path.stem for path in (storage / "checkpoints").glob("*/*")] == [under_way.trial_id]
    (machine / "tfser-tune-abcd1234" / "trials").rmdir()
    (machine / "tfser-tune-abcd1234").rmdir()
    kept.unlink()
    assert leftovers.clear(storage, tmp_path / "out", ledger) == []
    assert ledger.get(SPEC.trial_id) == RECORD


def test_folders_of_a_local_ray_are_removed_once_its_driver_is_gone_and_others_stay(tmp_path):
    for name in ("dead", "live", "strange", "own"):
        (tmp_path / f"session_{name}" / "logs").mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(tmp_path / "session_own")
    killed(
        f"from tfser.storage import temporary\nheld = temporary.hold(Path({str(tmp_path / 'session_dead')!r}))",
        tmp_path,
    )
    with temporary.hold(tmp_path / "session_live"):
        mark = tune_runner._mark_session(tmp_path / "session_own")
        left = {path.name for path in tmp_path.glob("session_*")}
        assert left == {"session_live", "session_strange", "session_own", "session_latest"}
    mark.close()
    tune_runner._mark_session(tmp_path / "session_strange").close()
    assert {path.name for path in tmp_path.glob("session_*") if path.exists()} == {"session_strange"}
