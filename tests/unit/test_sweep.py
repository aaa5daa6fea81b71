"""The command from its words to its files, in one process."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from tests.helpers.sweeps import SPACE, arguments, read, runs_of, tables_of
from tests.helpers.tiny import write_tiny
from tfser import collect, sweep
from tfser.databases import load
from tfser.features import FeatureStore, FrontEnd, audio_digests
from tfser.lease import lease
from tfser.ledger import Ledger
from tfser.models import MODELS
from tfser.numerics import weights_digest
from tfser.request import check, parser
from tfser.runners import work
from tfser.train import Training


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    """A finished sweep over all ablations with two seeds; returns its folder."""
    out = tmp_path_factory.mktemp("done")
    assert sweep.main(arguments(tiny_manifest, out, "--name", "done", "--ablation", "all", "--seeds", "2")) == 0
    return out


def test_every_printed_recall_follows_from_the_scores_of_the_utterances(done):
    folds, predictions = read(done / "done", "folds.csv"), read(done / "done", "predictions.csv")
    summary = read(done / "done", "summary.csv")
    assert len(folds) == 4 * 4 * 2
    probabilities = [c for c in predictions if c.startswith("p_")]
    assert (predictions[probabilities].idxmax(axis=1).str.removeprefix("p_") == predictions["predicted"]).all()
    for row in folds.itertuples():
        own = predictions[predictions.trial_id == row.trial_id]
        assert len(own) == row.utterances == 9
        assert row.war == pytest.approx(accuracy_score(own.truth, own.predicted), abs=1e-10)
        assert row.uar == pytest.approx(balanced_accuracy_score(own.truth, own.predicted), abs=1e-10)
    for row in summary.itertuples():
        ids = folds[folds.ablation == row.ablation].set_index("trial_id")
        by_seed = predictions.join(ids["seed"], on="trial_id", how="inner").groupby("seed")
        pooled = by_seed.apply(lambda g: balanced_accuracy_score(g.truth, g.predicted)).mean()
        assert row.uar_pooled == pytest.approx(pooled, abs=1e-10)
        assert row.uar_mean == pytest.approx(folds[folds.ablation == row.ablation].groupby("fold").uar.mean().mean(), abs=1e-10)


def test_every_test_utterance_is_scored_once_by_a_model_that_never_saw_its_speaker(done, tiny):
    predictions, folds = read(done / "done", "predictions.csv"), read(done / "done", "folds.csv")
    one = folds[(folds.ablation == "T+F+TF") & (folds.seed == 0)]
    scored = predictions[predictions.trial_id.isin(one.trial_id)]
    assert sorted(scored.utterance) == sorted(u.id for u in tiny.utterances)
    assert (scored.set_index("trial_id").speaker == one.set_index("trial_id").fold.reindex(scored.trial_id)).all()


def test_the_files_of_the_contract_are_there(done):
    names = {p.name for p in (done / "done").iterdir()}
    tables = {f"{table}.{kind}" for table in ("comparison", "ablation") for kind in ("md", "csv", "tex")}
    assert {"summary.csv", "folds.csv", "predictions.csv", "sweep.json", *tables} <= names
    assert sum(n.startswith("confusion_") and n.endswith(".png") for n in names) == 4
    assert sum(n.startswith("confusion_") and n.endswith(".csv") for n in names) == 4
    record = json.loads((done / "done" / "sweep.json").read_text())
    assert record["trained"] == 32
    assert record["failed"] == []
    assert len(record["runs"]) == 4


def test_a_second_start_trains_nothing_and_writes_the_same_bytes(done, tiny_manifest, monkeypatch):
    before = tables_of(done / "done")
    monkeypatch.setattr(work, "run", lambda task: pytest.fail("a finished trial was trained again"))
    assert sweep.main(arguments(tiny_manifest, done, "--name", "done", "--ablation", "all", "--seeds", "2")) == 0
    assert tables_of(done / "done") == before


def test_collecting_from_mlflow_writes_the_same_bytes(done, tmp_path, capsys):
    assert collect.main(["done", "--storage", str(done / ".tfser"), "--out", str(tmp_path)]) == 0
    assert tables_of(tmp_path / "done") == tables_of(done / "done")
    assert "Tables and figures" in capsys.readouterr().out


def test_collecting_by_database_finds_the_same_rows(done, tmp_path):
    assert collect.main(["tiny", "--storage", str(done / ".tfser"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "tiny" / "summary.csv").read_bytes() == (done / "done" / "summary.csv").read_bytes()


def test_collecting_what_does_not_exist_names_what_does(done, tmp_path, capsys):
    assert collect.main(["dune", "--storage", str(done / ".tfser"), "--out", str(tmp_path)]) == 2
    assert "no 'dune'; there are done, tiny (did you mean 'done'?)" in capsys.readouterr().err
    assert collect.main(["--out", str(tmp_path)]) == 2
    assert "it holds no mlflow.db; run a sweep first" in capsys.readouterr().err


def test_the_end_of_a_sweep_says_how_much_of_the_time_its_worker_was_at_trials(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "u", epochs="1")
    assert sweep.main(call) == 0
    assert "of the time from the first start to the last end" in capsys.readouterr().out
    workers = json.loads((tmp_path / "u" / "sweep.json").read_text())["workers"]
    assert 0 < workers["busy_share"] <= 1
    assert workers["busy_share"] == pytest.approx(workers["busy_s"] / workers["available_s"])
    assert sweep.main(call) == 0
    assert "from the first start" not in capsys.readouterr().out, "nothing was trained"
    assert json.loads((tmp_path / "u" / "sweep.json").read_text())["workers"]["busy_share"] is None


def test_mlflow_shows_one_run_per_configuration_and_one_child_per_trial(done):
    experiments, runs = runs_of(done)
    assert [e.name for e in experiments] == ["tfser/tiny/speaker"]
    kinds = pd.Series([r.data.tags["tfser.kind"] for r in runs]).value_counts().to_dict()
    assert kinds == {"configuration": 4, "fold": 32}
    parents = {r.info.run_id: r for r in runs if r.data.tags["tfser.kind"] == "configuration"}
    for run in runs:
        if run.data.tags["tfser.kind"] == "fold":
            assert run.data.tags["tfser.ablation"] == parents[run.data.tags["mlflow.parentRunId"]].data.tags["tfser.ablation"]
            assert {"test/war", "test/uar", "test/recall/calm", "train/loss_curve", "seconds"} <= run.data.metrics.keys()
            assert run.data.params["learning_rate"] == "0.001"
            assert run.info.status == "FINISHED"
        else:
            assert {"test/uar_pooled", "test/uar_mean", "folds_done"} <= run.data.metrics.keys()


@pytest.mark.full
def test_mlflow_is_rebuilt_from_the_ledger_with_the_same_tables(done, tiny_manifest, tmp_path):
    uri = f"sqlite:///{tmp_path / 'fresh.db'}"
    more = ("--name", "done", "--ablation", "all", "--seeds", "2", "--storage", str(done / ".tfser"), "--tracking-uri", uri)
    before = tables_of(done / "done")
    assert sweep.main(arguments(tiny_manifest, tmp_path, *more)) == 0
    assert tables_of(tmp_path / "done") == before


def test_an_mlflow_that_cannot_be_written_costs_no_training(tiny_manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tfser.mirror.PATIENCE_S", 1.0)
    more = ("--name", "x", "--tracking-uri", "http://127.0.0.1:9")
    assert sweep.main(arguments(tiny_manifest, tmp_path, *more)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "MLflow could not be written" in shown
    assert "training goes on, and the next start makes up for it" in shown
    assert len(read(tmp_path / "x", "folds.csv")) == 4


@pytest.mark.full
def test_an_interrupted_sweep_ends_like_one_that_was_not(tiny_manifest, tmp_path, monkeypatch, capsys):
    search = ("--space", str(SPACE), "--trials", "2")
    assert sweep.main(arguments(tiny_manifest, tmp_path / "a", "--name", "s", *search)) == 0
    run, left = work.run, [3]

    def interrupted(task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(task)

    monkeypatch.setattr(work, "run", interrupted)
    assert sweep.main(arguments(tiny_manifest, tmp_path / "b", "--name", "s", *search)) == 130
    assert "the same command goes on from there" in capsys.readouterr().out
    assert list((tmp_path / "b" / "s").iterdir()) == []
    monkeypatch.setattr(work, "run", run)
    assert sweep.main(arguments(tiny_manifest, tmp_path / "b", "--name", "s", *search)) == 0
    assert tables_of(tmp_path / "b" / "s") == tables_of(tmp_path / "a" / "s")
    ids = [r.data.tags["tfser.trial_id"] for r in runs_of(tmp_path / "b")[1] if r.data.tags["tfser.kind"] != "configuration"]
    assert len(ids) == len(set(ids)) == 4 * 2 + 4


def test_a_trial_that_fails_is_marked_and_the_rest_is_kept(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "f", epochs="1")
    epoch = Training.run_epoch

    def nan_for_carl(self):
        if self.data.scored[0][0] == starts["carl"]:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        epoch(self)

    database = load(str(tiny_manifest), None)
    pack = FeatureStore(tmp_path / ".tfser" / "features").ensure(database, audio_digests(database), FrontEnd(n_mels=16, preemphasis=0.97))
    starts = {}
    for utterance in pack.utterances:
        starts.setdefault(utterance.speaker, utterance.start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "run_epoch", nan_for_carl)
        assert sweep.main(call) == 1
    out = capsys.readouterr().out
    assert "the loss was nan in epoch 1 of 1" in out
    folds, summary = read(tmp_path / "f", "folds.csv"), read(tmp_path / "f", "summary.csv")
    assert sorted(folds.fold) == ["anna", "bert", "dora"]
    assert (summary.folds_done[0], summary.folds_total[0]) == (3, 4)
    assert "3 of 4" in (tmp_path / "f" / "comparison.md").read_text()
    assert sweep.main(call) == 1
    assert sweep.main([*call, "--retry-failed"]) == 0
    assert len(read(tmp_path / "f", "folds.csv")) == 4


@pytest.mark.parametrize(
    ("more", "messages"),
    [
        (["--model", "crnn"], ["--model: no 'crnn'; there are atfnn, time_frequency_transformer"]),
        (["--ablation", "T-F"], ["--ablation: no 'T-F'"]),
        (["--fold", "emil"], ["--fold: no 'emil'; there are anna, bert, carl, dora"]),
        (["--set", "chanels=3"], ["--set: no 'chanels'", "did you mean 'channels'?"]),
        (["--set", "channels"], ["--set: 'channels' is not KEY=VALUE"]),
        (["--set", "channels=x"], ["--set channels: 'x' is not a whole number"]),
        (["--name", "../evil"], ["--name: '../evil' becomes a folder"]),
        (["--trials", "2", "--space", "nowhere.yaml"], ["nowhere.yaml: no such file"]),
        (["--trial-cpus", "-1"], ["--trial-cpus: -1.0 is not above 0"]),
        (["--fold", "emil", "--set", "foo=1"], ["no 'emil'", "no 'foo'"]),
        (["--storage", "s3://bucket/x"], ["--tracking-uri: an SQLite database cannot lie in s3://bucket/x; name an MLflow server"]),
        (["--checkpoint", "0"], ["--checkpoint: 0.0 is not above 0"]),
        (["--tracking-uri", "nonsense://x"], ["--tracking-uri: no 'nonsense://'; there are databricks://, http://"]),
        (["--trial-gpus", "-1"], ["--trial-gpus: -1.0 is below 0"]),
        (["--model", "crnn", "--set", "x", "--seeds", "0", "--protocol", "y"], ["crnn", "KEY=VALUE", "--seeds: 0", "no 'y'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_request_ends_with_2_and_every_reason_and_starts_nothing(tiny_manifest, tmp_path, capsys, more, messages):
    out = tmp_path / "out"
    assert sweep.main(arguments(tiny_manifest, out, *more)) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert "nothing was started" in error
    assert "Traceback" not in error
    assert not out.exists()


def test_wrong_databases_are_all_named_at_once(tmp_path, capsys):
    no_column = tmp_path / "columns.csv"
    no_column.write_text("path,speaker\na.wav,x\n")
    gone = tmp_path / "gone.csv"
    databases = ["casla", str(gone), str(no_column), "emodb"]
    assert sweep.main([*databases, "--data", str(tmp_path / "nothing"), "--out", str(tmp_path / "out"), "--in-process"]) == 2
    error = capsys.readouterr().err
    assert "no 'casla'" in error
    assert "gone.csv" in error
    assert "emotion" in error
    assert "nothing" in error
    assert not (tmp_path / "out").exists()


def test_unusable_audio_is_named_before_anything_is_trained(tmp_path, capsys):
    manifest = write_tiny(tmp_path / "corpus")
    (tmp_path / "corpus" / "anna" / "calm0.wav").write_bytes(b"")
    (tmp_path / "corpus" / "bert" / "calm0.wav").write_bytes(b"RIFF????WAVE")
    assert sweep.main(arguments(manifest, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "anna/calm0.wav" in error
    assert "bert/calm0.wav" in error
    assert not list((tmp_path / "out").rglob("ledger/*/*"))


def test_a_name_that_stands_for_other_options_is_refused_and_loses_nothing(done, tiny_manifest, capsys):
    before = tables_of(done / "done")
    assert sweep.main(arguments(tiny_manifest, done, "--name", "done", epochs="3")) == 2
    assert "epochs: 2 then, 3 now; choose another --name, or ask for what it was" in capsys.readouterr().err
    assert tables_of(done / "done") == before


def test_a_second_driver_of_the_same_sweep_is_told_who_holds_it(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "one")
    asked = check(parser().parse_args(call))
    with lease(asked.storage, asked.name, print):
        assert sweep.main(call) == 2
    assert "it is being run by process" in capsys.readouterr().err


def test_the_plan_is_printed_and_nothing_is_run(tiny_manifest, tmp_path, capsys):
    assert sweep.main(arguments(tiny_manifest, tmp_path / "out", "--plan", "--seeds", "3", "--ablation", "all")) == 0
    out = capsys.readouterr().out
    assert "0 search and 48 final trials" in out
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_more_seeds_and_ablations_may_join_a_sweep(tiny_manifest, tmp_path):
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--name", "grow")) == 0
    first = set(read(tmp_path / "grow", "folds.csv").trial_id)
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--name", "grow", "--seeds", "2", "--ablation", "T+F+TF", "T+F")) == 0
    assert first < set(read(tmp_path / "grow", "folds.csv").trial_id)
    assert len(read(tmp_path / "grow", "folds.csv")) == 4 * 2 * 2


def test_the_weights_of_final_trials_are_kept_and_are_those_that_were_scored(done):
    ledger = Ledger(done / ".tfser" / "ledger")
    record = ledger.get(read(done / "done", "folds.csv").trial_id[0])
    spec = record["spec"]
    model = MODELS[spec["model"]].build(spec["ablation"], spec["hyperparameters"], 3)
    model.load_state_dict(ledger.weights(record["trial_id"]))
    assert weights_digest(model) == record["weights_sha256"]
    assert np.isfinite(record["standardisation"]["std"]).all()


def test_a_disk_that_fills_up_while_tables_are_written_costs_no_trial(tiny_manifest, tmp_path, monkeypatch, capsys):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tfser.report.tables.write", full)
        assert sweep.main(arguments(tiny_manifest, tmp_path)) == 1
    assert "No space left on device\nWhat was trained is kept." in capsys.readouterr().err
    assert sweep.main(arguments(tiny_manifest, tmp_path)) == 0
    assert "Trained 0 trial(s)" in capsys.readouterr().out


def test_a_storage_that_cannot_be_made_is_refused_before_anything_starts(tiny_manifest, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--storage", str(tmp_path / "file" / "x"))) == 2
    assert "name another with --storage" in capsys.readouterr().err


def test_passwords_are_in_no_file(tiny_manifest, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tfser.mirror.PATIENCE_S", 1.0)
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--tracking-uri", "http://anna:s3cr3t@127.0.0.1:9", "--name", "p")) == 0
    written = [p for p in tmp_path.rglob("*") if p.is_file() and b"s3cr3t" in p.read_bytes()]
    assert written == []
    assert "http://anna:***@127.0.0.1:9" in (tmp_path / "p" / "sweep.json").read_text()


def test_places_in_the_request_are_shown_as_text_without_passwords():
    class Place:
        def __str__(self):
            return "ftp://anna:s3cr3t@host/x"

    assert sweep._shown([Place(), "a/b", 0.5, None, True]) == ["ftp://anna:***@host/x", "a/b", 0.5, None, True]


def test_a_store_that_cannot_be_reached_when_it_is_named_is_a_clear_refusal(tiny_manifest, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep.main(arguments(tiny_manifest, "ftp://127.0.0.1:9/out"))
    assert ended.value.code == 2
    assert "ftp://127.0.0.1:9/out: it cannot be reached" in capsys.readouterr().err


@pytest.mark.full
def test_two_corpora_whose_manifests_have_one_name_stay_apart(tmp_path, capsys):
    for folder in ("a", "b"):
        manifest = write_tiny(tmp_path / folder)
        if folder == "b":
            manifest.write_text(manifest.read_text().replace("carl", "karl").replace("karl/", "carl/"))
        assert sweep.main(arguments(manifest, tmp_path / "out", epochs="1")) == 0
    assert len([p for p in (tmp_path / "out").iterdir() if p.name != ".tfser"]) == 2
    for folder, code in (("a", 0), ("b", 2)):
        assert sweep.main(arguments(tmp_path / folder / "tiny.csv", tmp_path / "out", "--name", "one", epochs="1")) == code
    assert "tiny holds other utterances, labels or audio; choose another --name" in capsys.readouterr().err


def test_a_refused_request_leaves_nothing_that_refuses_the_corrected_one(tiny_manifest, tmp_path, capsys):
    search = ("--space", str(SPACE), "--name", "n")
    assert sweep.main(arguments(tiny_manifest, tmp_path, *search, "--trials", "2", "--optuna-storage", "nonsense")) == 2
    assert "--optuna-storage" in capsys.readouterr().err
    assert sweep.main(arguments(tiny_manifest, tmp_path, *search, "--trials", "1")) == 0


def test_tables_that_cannot_be_written_are_refused_before_anything_is_trained(tiny_manifest, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert sweep.main(arguments(tiny_manifest, tmp_path / "file", "--storage", str(tmp_path / "s"))) == 2
    assert "name another folder" in capsys.readouterr().err
    assert not (tmp_path / "s" / "ledger").exists()


def test_ctrl_c_while_tables_are_made_says_what_is_kept(tiny_manifest, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfser.report.tables.write", interrupted)
    assert sweep.main(arguments(tiny_manifest, tmp_path)) == 130
    assert "What was finished is kept" in capsys.readouterr().out


@pytest.mark.full
def test_a_printed_number_leads_to_its_trials_and_a_trial_to_the_command_that_repeats_it(done, tmp_path, capsys):
    uri = ["--tracking-uri", f"sqlite:///{done}/.tfser/mlflow.db"]
    fold = read(done / "done", "folds.csv").iloc[0]
    assert collect.main(["done", *uri, "--trace", fold.trial_id, "--json"]) == 0
    traced = json.loads(capsys.readouterr().out)
    assert fold.trial_id in json.dumps(traced)
    assert collect.main(["done", *uri, "--repeat", fold.trial_id]) == 0
    printed = capsys.readouterr().out
    run = next(entry["runs"][0] for entry in traced if entry["trials"] == [fold.trial_id])
    assert collect.main(["done", *uri, "--repeat", run]) == 0
    assert capsys.readouterr().out == printed
    command = shlex.split(printed)
    assert command[:3] == ["python", "-m", "tfser.sweep"]
    again = command[3:]
    again[again.index("--out") + 1] = str(tmp_path)
    assert sweep.main([*again, "--in-process"]) == 0
    (name,) = [path.name for path in tmp_path.iterdir() if path.name != ".tfser"]
    repeated = read(tmp_path / name, "folds.csv")
    assert list(repeated.trial_id) == [fold.trial_id]
    assert repeated.uar[0] == fold.uar
    assert collect.main(["done", *uri, "--repeat", "0123456789abcdef"]) == 2
    assert "no final trial or run 0123456789abcdef" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.usefixtures("in_float64")
def test_trials_trained_together_give_the_printed_recalls_of_trials_trained_alone(tiny_manifest, tmp_path):
    done = tmp_path / "alone"
    assert sweep.main(arguments(tiny_manifest, done, "--name", "done", "--ablation", "all")) == 0
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--name", "done", "--ablation", "all", "--together", "3")) == 0
    for name in ("comparison.md", "ablation.md", "summary.csv", "folds.csv"):
        assert (tmp_path / "done" / name).read_bytes() == (done / "done" / name).read_bytes()
    alone, together = (read(folder / "done", "predictions.csv") for folder in (done, tmp_path))
    scores = [c for c in alone if c.startswith("p_")]
    np.testing.assert_allclose(together[scores], alone[scores], atol=1e-8)
    ledger = Ledger(tmp_path / ".tfser" / "ledger")
    packs = sorted(ledger.get(trial)["machine"].get("trained_together", "1") for trial in ledger.ids())
    assert packs == ["1"] * 4 + ["3"] * 12


def test_a_wrong_number_of_trials_together_is_refused(tiny_manifest, tmp_path, capsys):
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--together", "0")) == 2
    assert "--together: 0 is below 1" in capsys.readouterr().err
    assert sweep.main(arguments(tiny_manifest, tmp_path, "--together", "2", "--captured")) == 2
    assert "leave out --together, or --captured" in capsys.readouterr().err
