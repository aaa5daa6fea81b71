"""A training interrupted after any epoch goes on to the same bits; a checkpoint that cannot be used costs only time."""

import dataclasses
import math

import pytest
import torch

from tests.helpers.tasks import EPOCHS, task
from tfser.execution import attempt, run_trial
from tfser.storage.checkpoints import Checkpoint
from tfser.training.training import Training

TIMES = ("started_unix", "seconds", "resumed_at_epoch")


def interrupted_after(monkeypatch, epoch):
    """The process is gone when it begins the epoch after ``epoch``."""
    real = Training.run_epoch

    def run_epoch(self):
        if self.epoch == epoch:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)


def numbers(record):
    return dataclasses.replace(record, **dict.fromkeys(TIMES, 0))


@pytest.mark.parametrize(
    "purpose", ["final", *(pytest.param(purpose, marks=pytest.mark.full) for purpose in ("search", "oracle"))]
)
@pytest.mark.parametrize("epoch", range(1, EPOCHS))
def test_a_trial_that_is_interrupted_ends_with_the_same_bits(pack, tmp_path, monkeypatch, purpose, epoch):
    whole = task(pack, tmp_path / "whole", purpose=purpose, checkpoint_s=math.inf)
    reference = run_trial.run(whole)
    assert not (tmp_path / "whole" / "checkpoints").exists()
    broken = task(pack, tmp_path / "broken", purpose=purpose)
    with monkeypatch.context() as patch:
        interrupted_after(patch, epoch)
        with pytest.raises(KeyboardInterrupt):
            run_trial.run(broken)
    resumed = run_trial.run(broken)
    assert resumed.resumed_at_epoch == epoch
    assert numbers(resumed) == numbers(reference)
    if purpose != "search":
        states = [t.ledger.weights(t.spec.trial_id) for t in (whole, broken)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not list((tmp_path / "broken" / "checkpoints").rglob("*.pt")), (
        "the checkpoint of a finished trial is removed"
    )


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "other version", "other device"])
def test_a_checkpoint_that_cannot_be_used_counts_as_none(pack, tmp_path, monkeypatch, damage):
    asked = task(pack, tmp_path)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run_trial.run(asked)
    (path,) = (tmp_path / "checkpoints").rglob("*.pt")
    content = path.read_bytes()
    if damage == "torn":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other version":
        monkeypatch.setattr(attempt, "versions", lambda *more: {"torch": "1.0"})
    else:
        monkeypatch.setattr(attempt, "device_name", lambda: "another device")
    assert run_trial.run(asked).resumed_at_epoch == 0


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(pack, tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    assert run_trial.run(task(pack, tmp_path)).status == "done"


def test_a_checkpoint_holds_no_code(tmp_path):
    checkpoint = Checkpoint(tmp_path, "ab12", {"torch": "x"})
    checkpoint.save({"weights": torch.arange(3.0), "epoch": 2, "best": None})
    kept = checkpoint.load()
    assert kept["epoch"] == 2
    assert torch.equal(kept["weights"], torch.arange(3.0))


def test_a_trial_that_another_attempt_has_committed_is_not_trained_again(pack, tmp_path, monkeypatch):
    asked = task(pack, tmp_path)
    first = run_trial.run(asked)
    monkeypatch.setattr(Training, "run_epoch", lambda self: pytest.fail("trained again"))
    assert run_trial.run(asked) == first
