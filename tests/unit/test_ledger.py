import contextlib
import errno
import itertools
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.tasks import SPEC
from tfser.benchmark import made_up
from tfser.storage.ledger import Ledger

RECORD = made_up.record(SPEC, ("calm", "Zoë"), 4)


def test_an_entry_is_read_back_exactly(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit(RECORD)
    assert ledger.get(SPEC.trial_id) == RECORD
    assert ledger.ids() == {SPEC.trial_id}
    assert Ledger(tmp_path / "empty").get(SPEC.trial_id) is None
    assert Ledger(tmp_path / "empty").ids() == set()


def test_weights_are_kept_beside_the_entry_and_read_without_pickle(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit(RECORD, {"w": torch.arange(3.0)})
    assert torch.equal(ledger.weights(SPEC.trial_id)["w"], torch.arange(3.0))


@pytest.mark.parametrize("damage", ["torn", "empty", "edited", "other trial", "not json", "list"])
def test_a_damaged_entry_counts_as_none_and_is_set_aside(tmp_path, damage):
    ledger = Ledger(tmp_path)
    ledger.commit(RECORD)
    path = ledger.path(SPEC.trial_id)
    text = path.read_text()
    entry = json.loads(text)
    path.write_text(
        {
            "torn": text[: len(text) // 2],
            "empty": "",
            "edited": json.dumps({**entry, "uar": 0.9}),
            "other trial": json.dumps({**entry, "spec": {**entry["spec"], "seed": 7}}),
            "not json": "\x00",
            "list": "[]",
        }[damage]
    )
    assert ledger.get(SPEC.trial_id) is None
    assert ledger.damaged == [path.with_suffix(".damaged")]
    assert ledger.ids() == set()
    ledger.commit(RECORD)
    assert ledger.get(SPEC.trial_id) == RECORD


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_a_failing_disk_leaves_no_entry_and_no_temporary_file(tmp_path, monkeypatch, step):
    ledger = Ledger(tmp_path)

    def fails(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="No space left"):
        ledger.commit(RECORD, {"w": torch.arange(3.0)})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_failing_disk_leaves_an_earlier_entry_as_it_was(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.commit(RECORD)
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        ledger.commit(replace(RECORD, seconds=0.5))
    assert ledger.get(SPEC.trial_id) == RECORD


def test_a_number_that_is_not_finite_is_never_committed(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        Ledger(tmp_path).commit(replace(RECORD, seconds=float("nan")))
    assert Ledger(tmp_path).ids() == set()


OPERATIONS = (
    "tempfile.mkstemp",
    "os.fdopen",
    "os.fsync",
    "os.chmod",
    "os.replace",
    "pathlib.Path.mkdir",
    "os.open",
    "os.close",
)
"""Everything that a commit asks of the file system."""

OWNERS = {"os": os, "tempfile": tempfile, "pathlib.Path": Path}
TRIALS = [replace(SPEC, seed=seed) for seed in range(3)]


def record_of(spec):
    return replace(RECORD, spec=spec)


def commit_all(ledger, patch, operation, call, then):
    """Commit three trials while the ``call``-th use of an operation goes wrong; the trials whose commit returned."""
    owner, attribute = OWNERS[operation.rpartition(".")[0]], operation.rpartition(".")[2]
    real, count, committed = getattr(owner, attribute), itertools.count(1), set()

    def disturbed(*arguments, **named):
        if next(count) == call:
            then(arguments)
        return real(*arguments, **named)

    patch.setattr(owner, attribute, disturbed)
    for spec in TRIALS:
        with contextlib.suppress(OSError):
            ledger.commit(record_of(spec), {"w": torch.arange(3.0)})
            committed.add(spec.trial_id)
    return committed


def holds(ledger):
    """The trials that the ledger gives back whole, with their weights; anything else that it lists is an error."""
    held = {spec.trial_id for spec in TRIALS if ledger.get(spec.trial_id) == record_of(spec)}
    assert ledger.ids() == held
    assert all(torch.equal(ledger.weights(trial_id)["w"], torch.arange(3.0)) for trial_id in held)
    return held


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(errno.ENOSPC, id="full"),
        pytest.param(errno.EROFS, id="read-only", marks=pytest.mark.full),
        pytest.param(errno.EIO, id="broken", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_disk_that_fails_at_any_point_leaves_exactly_the_committed_trials(tmp_path, monkeypatch, operation, code):
    def fails(arguments):
        raise OSError(code, os.strerror(code))

    for call in range(1, 15):
        with monkeypatch.context() as patch:
            ledger = Ledger(tmp_path / str(call))
            committed = commit_all(ledger, patch, operation, call, fails)
        assert len(committed) >= 2
        assert holds(ledger) == committed
        for spec in TRIALS:
            ledger.commit(record_of(spec), {"w": torch.arange(3.0)})
        assert len(holds(ledger)) == 3


@pytest.mark.full
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_process_that_is_killed_at_any_point_of_a_commit_leaves_whole_entries_only(tmp_path, monkeypatch, operation):
    for call in range(1, 9):
        ledger = Ledger(tmp_path / str(call))
        child = os.fork()
        if child == 0:
            with monkeypatch.context() as patch:
                commit_all(ledger, patch, operation, call, lambda arguments: os._exit(1))
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        # A folder is flushed after its entry has its name.
        assert len(holds(ledger)) == 3 or killed
        assert len(holds(ledger)) < 3 or not killed or operation in ("os.open", "os.close")
        for spec in TRIALS:
            ledger.commit(record_of(spec), {"w": torch.arange(3.0)})
        assert len(holds(ledger)) == 3


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.8, 0.99])
def test_an_entry_that_a_power_cut_tore_is_found_named_and_taken_for_none(tmp_path, share):
    ledger = Ledger(tmp_path)
    for spec in TRIALS:
        ledger.commit(record_of(spec), {"w": torch.arange(3.0)})
    torn = ledger.path(TRIALS[1].trial_id)
    torn.write_bytes(torn.read_bytes()[: int(share * torn.stat().st_size)])
    assert ledger.get(TRIALS[1].trial_id) is None
    assert holds(ledger) == {TRIALS[0].trial_id, TRIALS[2].trial_id}
    assert ledger.damaged == [torn.with_suffix(".damaged")]
