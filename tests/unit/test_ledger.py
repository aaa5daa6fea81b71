import json
import os

import pytest
import torch

from tests.unit.test_trial import SPEC
from tfser.ledger import Ledger

RECORD = {"trial_id": SPEC.trial_id, "spec": SPEC.to_dict(), "status": "done", "uar": 0.1 + 0.2, "name": "Zoë"}


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
        ledger.commit({**RECORD, "uar": 0.5})
    assert ledger.get(SPEC.trial_id) == RECORD


def test_a_number_that_is_not_finite_is_never_committed(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        Ledger(tmp_path).commit({**RECORD, "uar": float("nan")})
    assert Ledger(tmp_path).ids() == set()
