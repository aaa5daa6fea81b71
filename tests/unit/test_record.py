"""What is known of a trial that ended: written, read back, and refused where it contradicts itself."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tasks import SPEC
from tfser.benchmark import made_up
from tfser.record import Failure, Record, ScoredUtterance, from_dict, to_dict
from tfser.storage.ledger import Ledger

OLD_STORE = Path(__file__).parents[1] / "helpers" / "old_store.tar.xz"

RECORD = replace(made_up.record(SPEC, ("angry", "calm", "glad"), 7), known_sound=(0.2, 0.3, 0.5), resumed_at_epoch=2)


def text(values):
    return json.dumps(values, sort_keys=True)


def test_entries_of_an_earlier_version_are_read_and_written_with_every_value_they_had(tmp_path):
    with tarfile.open(OLD_STORE) as archive:
        archive.extractall(tmp_path, filter="data")
    paths = sorted(tmp_path.rglob("ledger/??/*.json"))
    assert len(paths) > 10
    purposes = set()
    for path in paths:
        values = json.loads(path.read_text())
        checksum = values.pop("checksum")
        entry = from_dict(values)
        assert text(to_dict(entry)) == text(values)
        purposes.add(entry.spec.purpose)
        assert Ledger(path.parents[1]).get(path.stem) == entry
        Ledger(tmp_path / "again").commit(entry)
        assert json.loads(Ledger(tmp_path / "again").path(path.stem).read_text())["checksum"] == checksum
    assert purposes == {"final", "search"}


@pytest.mark.parametrize(
    "entry",
    [
        RECORD,
        Failure(trial_id=SPEC.trial_id, spec=SPEC, reason="the loss was nan", log="logs/x.log", seconds=3.0),
    ],
    ids=["done", "failed"],
)
def test_an_entry_survives_json(entry):
    assert from_dict(json.loads(text(to_dict(entry)))) == entry


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "lost"}, "has the status 'lost'"),
        ({"status": "dnoe"}, "has the status 'dnoe'"),
        ({"trial_id": "0" * 16}, f"the entry says trial {'0' * 16}, its spec is trial {SPEC.trial_id}"),
        ({"spec": {**SPEC.to_dict(), "epochs": 0}}, "0 epochs"),
    ],
)
def test_what_no_trial_can_have_left_is_no_entry(change, why):
    with pytest.raises(ValueError, match=why):
        from_dict({**to_dict(RECORD), **change})


@pytest.mark.parametrize(
    "lacking", ["spec", "trial_id", "status", "utterances", "confusion", "uar", "epochs", "curves"]
)
def test_an_entry_that_lacks_what_tables_are_made_of_is_damaged(tmp_path, lacking):
    ledger = Ledger(tmp_path)
    ledger.commit(RECORD)
    values = json.loads(ledger.path(SPEC.trial_id).read_text())
    del values[lacking]
    ledger.path(SPEC.trial_id).write_text(json.dumps(values))
    assert ledger.get(SPEC.trial_id) is None
    assert [path.name for path in ledger.damaged] == [f"{SPEC.trial_id}.damaged"]


def test_the_recognised_emotion_is_the_most_probable_one_and_the_first_of_equal_ones():
    def recognised(*p):
        return ScoredUtterance(id="u", speaker="s", truth="calm", p=p).predicted

    assert [recognised(0.1, 0.7, 0.2), recognised(0.4, 0.2, 0.4)] == [1, 0]


def test_a_record_cannot_be_changed():
    with pytest.raises(AttributeError):
        RECORD.seconds = 1.0
    with pytest.raises(TypeError):
        Record(spec=SPEC, scores=RECORD.scores, epochs=1, started_unix=0.0, seconds=0.0, status="failed")


def test_the_matrix_counts_the_utterances_that_the_record_lists():
    index = {emotion: i for i, emotion in enumerate(RECORD.scores.emotions)}
    counts = np.zeros((3, 3), dtype=int)
    for utterance in RECORD.scores.utterances:
        counts[index[utterance.truth], utterance.predicted] += 1
    np.testing.assert_array_equal(RECORD.scores.matrix, counts)
