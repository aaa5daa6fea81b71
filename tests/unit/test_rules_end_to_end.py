"""Utterance rules and kinds of standardisation from the command line to the ledger, the tables and ``predict``."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from tests.helpers.tiny import SMALL
from tfser import predict
from tfser.errors import RequestError
from tfser.final_models import find
from tfser.final_models.model import read
from tfser.storage.ledger import Ledger
from tfser.sweep import command as sweep_command
from tfser.sweep.options import parse
from tfser.sweep.request import check
from tfser.tracking import connection

pytestmark = pytest.mark.usefixtures("blank_figures")

SIZES = [f"{name}={value}" for name, value in {**SMALL, "channels": 4}.items()]
MADE = {
    "statistics": ["utterance_rule=statistics", "statistics_units=10"],
    "pyramid": ["utterance_rule=pyramid", "standardisation=utterance", "pyramid_p=3"],
    "maximum": ["utterance_rule=maximum", "standardisation=none"],
    "speaker": ["standardisation=speaker"],
}


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    """Results of a sweep per entry of ``MADE``, in one storage."""
    out = tmp_path_factory.mktemp("rules")
    for name, chosen in MADE.items():
        words = [str(tiny_manifest), "--out", str(out), "--in-process", "--fold", "anna", "--epochs", "1"]
        words += ["--model", "time_frequency_transformer", "--name", name, "--set", *SIZES, *chosen]
        assert sweep_command.main(words) == 0
    return out


def record_of(out, name):
    with open(out / name / "folds.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return Ledger(out / ".tfser" / "ledger").get(row["trial_id"])


def files_of(record, manifest):
    return [manifest.parent / u.id for u in record.scores.utterances]


@pytest.mark.full
@pytest.mark.parametrize("name", MADE)
def test_predict_gives_every_recorded_score_of_every_rule_to_the_bit(done, tiny_manifest, capsys, name):
    record = record_of(done, name)
    files = [str(path) for path in files_of(record, tiny_manifest)]
    more = ["--one-speaker"] if name == "speaker" else []
    capsys.readouterr()
    assert predict.main([record.trial_id, "--storage", str(done / ".tfser"), "--json", *more, *files]) == 0
    answers = json.loads(capsys.readouterr().out)["files"]
    assert [list(answer["p"].values()) for answer in answers] == [list(u.p) for u in record.scores.utterances]


@pytest.mark.full
@pytest.mark.parametrize("name", ["statistics", "pyramid"])
def test_what_a_rule_learned_is_among_the_weights_which_are_tensors_under_one_checksum(done, name):
    record, ledger = record_of(done, name), Ledger(done / ".tfser" / "ledger")
    weights = ledger.weights(record.trial_id)
    own = [key for key in weights if key.startswith("utterance_rule/")]
    assert own
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    weights[own[0]] += 1e-9
    torch.save(weights, changed := done / "changed.pt")
    kept = ledger.weights_path(record.trial_id).read_bytes()
    try:
        ledger.weights_path(record.trial_id).write_bytes(changed.read_bytes())
        with pytest.raises(RequestError, match="checksum"):
            find.load(record, ledger)
    finally:
        ledger.weights_path(record.trial_id).write_bytes(kept)


@pytest.mark.full
def test_a_model_standardised_per_speaker_refuses_a_file_of_which_it_does_not_know_the_speaker(
    done, tiny_manifest, capsys
):
    record = record_of(done, "speaker")
    files = [str(path) for path in files_of(record, tiny_manifest)]
    place = ["--storage", str(done / ".tfser")]
    assert predict.main([record.trial_id, *place, files[0]]) == 2
    said = capsys.readouterr().err
    assert "give all files of one speaker, and --one-speaker to say so" in said
    assert predict.main([record_of(done, "maximum").trial_id, *place, files[0], "--one-speaker"]) == 2
    assert "does not standardise per speaker; leave it out" in capsys.readouterr().err
    model = find.load(record, Ledger(done / ".tfser" / "ledger"))
    frames = read(files_of(record, tiny_manifest)[:2], model.extractor)
    with pytest.raises(RequestError, match="a single one does not tell"):
        model.score(frames[0])
    one, both = model.score(frames[0], frames[:1]), model.score(frames[0], frames)
    assert not np.array_equal(one.probabilities, both.probabilities)


@pytest.mark.full
def test_a_row_per_speaker_is_marked_in_tables_and_in_mlflow(done):
    text = (done / "speaker" / "comparison.md").read_text(encoding="utf-8")
    assert "Time-Frequency Transformer§ (ours)" in text
    assert "fixed, transductive" not in text  # one mark is enough
    assert "§" not in (done / "maximum" / "comparison.md").read_text(encoding="utf-8")
    client = MlflowClient(connection.default_uri(done / ".tfser"))
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    marked = {run.data.tags["tfser.sweep"] for run in runs if run.data.tags.get("tfser.transductive") == "true"}
    assert marked == {"speaker"}


def test_a_whole_utterance_is_refused_before_anything_starts(tiny_manifest, tmp_path):
    words = [str(tiny_manifest), "--out", str(tmp_path), "--model", "atfnn", "--set", "utterance_rule=whole"]
    with pytest.raises(RequestError) as refused:
        check(parse(words))
    (problem,) = refused.value.problems
    assert problem.startswith("atfnn ATFNN: utterance_rule: whole needs a network that takes any number of frames")
