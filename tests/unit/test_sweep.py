"""The command from its words to its files, in one process."""

import json
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sqlalchemy
import torch
from mlflow import MlflowClient
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from tests.helpers.own_models import NETWORK, write
from tests.helpers.sweeps import SPACE, arguments, read, runs_of, tables_of
from tests.helpers.tiny import SET_SMALL, SMALL, write_tiny
from tfser import collect
from tfser.databases import load
from tfser.execution import run_trial
from tfser.features.log_mel import FrontEnd
from tfser.features.store import FeatureStore, audio_digests
from tfser.leaks import command as leaks_command
from tfser.models import MODELS
from tfser.planning.settings import build_settings
from tfser.storage import packaged_files
from tfser.storage.ledger import Ledger
from tfser.storage.sweep_lock import lease
from tfser.sweep import command as sweep_command
from tfser.sweep import wrap_up
from tfser.sweep.demo import demo_space
from tfser.sweep.features import Features
from tfser.sweep.options import parse
from tfser.sweep.request import check
from tfser.sweep.trainer import Trainer
from tfser.training.determinism import weights_digest
from tfser.training.training import Training

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def done(tiny_manifest, tmp_path_factory):
    """A finished sweep over all ablations with two seeds; returns its folder."""
    out = tmp_path_factory.mktemp("done")
    assert sweep_command.main(arguments(tiny_manifest, out, "--name", "done", "--ablation", "all", "--seeds", "2")) == 0
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
        assert row.uar_mean == pytest.approx(
            folds[folds.ablation == row.ablation].groupby("fold").uar.mean().mean(), abs=1e-10
        )


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


@pytest.mark.full
def test_a_second_start_trains_nothing_and_writes_the_same_bytes(done, tiny_manifest, monkeypatch):
    before = tables_of(done / "done")
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was trained again"))
    assert (
        sweep_command.main(arguments(tiny_manifest, done, "--name", "done", "--ablation", "all", "--seeds", "2")) == 0
    )
    assert tables_of(done / "done") == before


@pytest.mark.full
def test_collecting_from_mlflow_writes_the_same_bytes(done, tmp_path, capsys):
    assert collect.main(["done", "--storage", str(done / ".tfser"), "--out", str(tmp_path)]) == 0
    assert tables_of(tmp_path / "done") == tables_of(done / "done")
    assert "Tables and figures" in capsys.readouterr().out


@pytest.mark.full
def test_collecting_by_database_finds_the_same_rows(done, tmp_path):
    assert collect.main(["tiny", "--storage", str(done / ".tfser"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "tiny" / "summary.csv").read_bytes() == (done / "done" / "summary.csv").read_bytes()


def test_collecting_what_does_not_exist_names_what_does(done, tmp_path, capsys):
    assert collect.main(["dune", "--storage", str(done / ".tfser"), "--out", str(tmp_path)]) == 2
    assert "no 'dune'; there are done, tiny (did you mean 'done'?)" in capsys.readouterr().err
    assert collect.main(["--out", str(tmp_path)]) == 2
    assert "it holds no mlflow.db; run a sweep first" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--repeat", ""], ["--trace", ""], ["--json"], [""]], ids=" ".join)
def test_collect_writes_no_table_for_an_option_that_is_empty(done, tmp_path, capsys, more):
    assert collect.main(["--storage", str(done / ".tfser"), "--out", str(tmp_path), *more]) == 2
    assert "problem, nothing was started" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_the_end_of_a_sweep_says_how_much_of_the_time_its_worker_was_at_trials(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "u", epochs="1")
    assert sweep_command.main(call) == 0
    said = capsys.readouterr().out
    assert re.search(r"Workers busy [\d.]+ % of the time", said)
    ((experiment,), _) = runs_of(tmp_path)
    link = rf"http://127\.0\.0\.1:5000/#/experiments/{experiment.experiment_id}/runs\?workflowType=machine_learning&"
    assert re.search(link, said), "the printed link does not lead to the sweep's runs"
    workers = json.loads((tmp_path / "u" / "sweep.json").read_text())["workers"]
    assert 0 < workers["busy_share"] <= 1
    assert workers["busy_share"] == pytest.approx(workers["busy_s"] / workers["available_s"])
    assert sweep_command.main(call) == 0
    assert "Workers busy" not in capsys.readouterr().out, "nothing was trained"
    assert json.loads((tmp_path / "u" / "sweep.json").read_text())["workers"]["busy_share"] is None


def test_mlflow_shows_one_run_per_configuration_and_one_child_per_trial(done):
    experiments, runs = runs_of(done)
    assert [e.name for e in experiments] == ["tfser/tiny/speaker"]
    kinds = pd.Series([r.data.tags["tfser.kind"] for r in runs]).value_counts().to_dict()
    assert kinds == {"configuration": 4, "fold": 32}
    parents = {r.info.run_id: r for r in runs if r.data.tags["tfser.kind"] == "configuration"}
    for run in runs:
        if run.data.tags["tfser.kind"] == "fold":
            assert (
                run.data.tags["tfser.ablation"]
                == parents[run.data.tags["mlflow.parentRunId"]].data.tags["tfser.ablation"]
            )
            assert {
                "test/war",
                "test/uar",
                "test/recall/calm",
                "train/loss_curve",
                "seconds",
            } <= run.data.metrics.keys()
            assert run.data.params["learning_rate"] == "0.001"
            assert run.info.status == "FINISHED"
            assert run.data.params["selection"] == "fixed"
            assert run.data.params["epochs"] == "2"
            parent = parents[run.data.tags["mlflow.parentRunId"]]
            assert run.data.params["settings_digest"] == parent.data.params["settings_digest"]
        else:
            assert {"test/uar_pooled", "test/uar_mean", "folds_done"} <= run.data.metrics.keys()
    assert len({run.info.run_name for run in runs}) == 4 + 32


def test_a_configurations_run_has_the_uar_of_each_fold_and_the_recall_of_each_emotion(done):
    """So MLflow's Compare shows folds and emotions side by side; scikit-learn computes them from the predictions."""
    folds = read(done / "done", "folds.csv")[["trial_id", "ablation", "fold", "seed"]]
    predictions = read(done / "done", "predictions.csv").merge(folds, on="trial_id")
    for run in runs_of(done)[1]:
        if run.data.tags["tfser.kind"] != "configuration":
            continue
        own = predictions[predictions.ablation == run.data.tags["tfser.ablation"]]
        uars = own.groupby(["fold", "trial_id"]).apply(lambda t: balanced_accuracy_score(t.truth, t.predicted))
        emotions = sorted(own.truth.unique())
        recalls = recall_score(own.truth, own.predicted, labels=emotions, average=None, zero_division=0)
        by_seed = [balanced_accuracy_score(t.truth, t.predicted) for _, t in own.groupby("seed")]
        wanted = {f"test/uar by fold/{fold}": value for fold, value in uars.groupby("fold").mean().items()}
        wanted |= {f"test/recall/{emotion}": value for emotion, value in zip(emotions, recalls, strict=True)}
        shown = {
            name: run.data.metrics[name] for name in run.data.metrics if name.startswith(("test/uar by", "test/r"))
        }
        assert shown == pytest.approx(wanted)
        assert len(shown) == 4 + 3
        assert run.data.metrics["test/uar_pooled"] == pytest.approx(np.mean(by_seed))


@pytest.mark.full
def test_models_are_logged_to_mlflow_only_where_they_are_asked_for(tiny_manifest, tmp_path):
    call = arguments(tiny_manifest, tmp_path, "--name", "m", "--fold", "anna", epochs="1")
    found = []
    for more in ([], ["--log-models"], ["--log-models"]):
        assert sweep_command.main([*call, *more]) == 0
        experiments, runs = runs_of(tmp_path)
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / '.tfser' / 'mlflow.db'}")
        found.append(len(client.search_logged_models([e.experiment_id for e in experiments])))
        assert len(runs) == 2
    assert found == [0, 1, 1]


@pytest.mark.full
def test_mlflow_is_rebuilt_from_the_ledger_with_the_same_tables(done, tiny_manifest, tmp_path):
    uri = f"sqlite:///{tmp_path / 'fresh.db'}"
    more = (
        "--name",
        "done",
        "--ablation",
        "all",
        "--seeds",
        "2",
        "--storage",
        str(done / ".tfser"),
        "--tracking-uri",
        uri,
    )
    before = tables_of(done / "done")
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, *more)) == 0
    assert tables_of(tmp_path / "done") == before


@pytest.mark.full
def test_an_mlflow_that_cannot_be_written_costs_no_training(tiny_manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tfser.tracking.outbox.PATIENCE_S", 1.0)
    more = ("--name", "x", "--tracking-uri", "http://127.0.0.1:9")
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, *more)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "MLflow has not answered for 1 s and lacks 5 records; the next start makes up for it" in shown
    assert len(read(tmp_path / "x", "folds.csv")) == 4


@pytest.mark.full
def test_an_interrupted_sweep_ends_like_one_that_was_not(tiny_manifest, tmp_path, monkeypatch, capsys):
    search = ("--space", str(SPACE), "--trials", "2")
    assert sweep_command.main(arguments(tiny_manifest, tmp_path / "a", "--name", "s", *search)) == 0
    run, left = run_trial.run, [3]

    def interrupted(task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(task)

    monkeypatch.setattr(run_trial, "run", interrupted)
    assert sweep_command.main(arguments(tiny_manifest, tmp_path / "b", "--name", "s", *search)) == 130
    assert "the same command goes on from there" in capsys.readouterr().out
    assert list((tmp_path / "b" / "s").iterdir()) == []
    monkeypatch.setattr(run_trial, "run", run)
    assert sweep_command.main(arguments(tiny_manifest, tmp_path / "b", "--name", "s", *search)) == 0
    assert tables_of(tmp_path / "b" / "s") == tables_of(tmp_path / "a" / "s")
    ids = [
        r.data.tags["tfser.trial_id"]
        for r in runs_of(tmp_path / "b")[1]
        if r.data.tags["tfser.kind"] != "configuration"
    ]
    assert len(ids) == len(set(ids)) == 4 * 2 + 4


@pytest.mark.full
def test_a_trial_that_fails_is_marked_and_the_rest_is_kept(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "f", epochs="1")
    epoch = Training.run_epoch

    def nan_for_carl(self):
        if self.data.scored[0][0] == starts["carl"]:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        epoch(self)

    database = load(str(tiny_manifest), None)
    pack = FeatureStore(tmp_path / ".tfser" / "features").ensure(
        database, audio_digests(database), FrontEnd(n_mels=16, preemphasis=0.97)
    )
    starts = {}
    for utterance in pack.utterances:
        starts.setdefault(utterance.speaker, utterance.start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "run_epoch", nan_for_carl)
        assert sweep_command.main(call) == 1
    out = capsys.readouterr().out
    assert "the loss was nan in epoch 1 of 1" in out
    assert re.search(r"^Trained 3 trials in \d+ s; 1 failed\.$", out, re.MULTILINE)
    folds, summary = read(tmp_path / "f", "folds.csv"), read(tmp_path / "f", "summary.csv")
    assert sorted(folds.fold) == ["anna", "bert", "dora"]
    assert (summary.folds_done[0], summary.folds_total[0]) == (3, 4)
    assert "3 of 4 folds; missing carl (failed: the loss was nan" in (tmp_path / "f" / "comparison.md").read_text()
    assert sweep_command.main(call) == 1
    assert re.search(
        r"^Trained 0 trials in \d+ s; 1 had failed before; 3 were there already\.$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert sweep_command.main([*call, "--retry-failed"]) == 0
    assert re.search(r"^Trained 1 trial in \d+ s; 3 were there already\.$", capsys.readouterr().out, re.MULTILINE)
    assert len(read(tmp_path / "f", "folds.csv")) == 4


SEARCHES = ["--selection", "global", "--validation-folds", "2", "--sampler", "random", "--search-seed", "7"]
SEARCHES += ["--no-pruning", "--deterministic"]


@pytest.mark.parametrize(
    ("more", "idle", "it"),
    [
        (SEARCHES, "--selection, --validation-folds, --sampler, --search-seed, --no-pruning, --deterministic", "them"),
        (["--trials", "0", "--search-seed=7"], "--search-seed", "it"),
        (["--purpose", "deploy", "--selection", "global"], "--selection", "it"),
    ],
)
def test_options_of_a_search_are_refused_where_nothing_is_searched(tiny_manifest, tmp_path, capsys, more, idle, it):
    assert sweep_command.main([*arguments(tiny_manifest, tmp_path / "out", *more), "--plan"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{idle}: without --trials nothing is searched; add --trials N, or leave {it} out" in said
    assert not (tmp_path / "out").exists()


def test_options_of_a_search_at_their_defaults_and_those_of_the_demos_own_search_are_accepted(tiny_manifest):
    usual = ["--validation-folds", "1", "--sampler", "tpe", "--search-seed", "0", "--selection", "nested"]
    for more in (usual, ["--selection", "oracle"]):
        assert check(parse(arguments(tiny_manifest, "out", *more))).request.trials == 0
    assert check(parse(["synthetic", *SEARCHES])).request.sampler == "random"


def test_leaks_refuse_the_seed_of_a_draw_where_nothing_is_drawn(tiny_manifest, tmp_path, capsys):
    assert leaks_command.main(arguments(tiny_manifest, tmp_path / "out", "--search-seed", "7", "--plan")) == 2
    assert "--search-seed: without --trials nothing is searched" in capsys.readouterr().err
    assert leaks_command.main(arguments(tiny_manifest, tmp_path / "out", "--plan")) == 0


@pytest.mark.parametrize(
    ("more", "messages"),
    [
        (["--model", "xyz"], [f"--model: no 'xyz'; there are {', '.join(sorted(MODELS))}"]),
        (["--ablation", "T-F"], ["--ablation: no 'T-F'"]),
        (["--fold", "emil"], ["--fold: no 'emil'; there are anna, bert, carl, dora"]),
        (["--set", "chanels=3"], ["--set: no 'chanels'", "did you mean 'channels'?"]),
        (["--set", "channels"], ["--set: 'channels' is not KEY=VALUE"]),
        (["--set", "channels=x"], ["--set channels: 'x' is not a whole number"]),
        (["--name", "../evil"], ["--name: '../evil' becomes a folder"]),
        (["--trials", "2", "--space", "nowhere.yaml"], ["nowhere.yaml: no such file"]),
        (["--trial-cpus", "-1"], ["--trial-cpus: -1.0 is not above 0"]),
        (["--fold", "emil", "--set", "foo=1"], ["no 'emil'", "no 'foo'"]),
        (
            ["--storage", "s3://bucket/x"],
            ["--tracking-uri: an SQLite database cannot lie in s3://bucket/x; name an MLflow server"],
        ),
        (["--checkpoint", "0"], ["--checkpoint: 0.0 is not above 0"]),
        (["--epochs", "0"], ["--epochs: 0 is below 1"]),
        (["--trials", "-1"], ["--trials: -1 is below 0"]),
        (["--seeds", "99999999999"], ["--seeds: 99999999999 is above 10000"]),
        (["--name", ""], ["--name: '' becomes a folder"]),
        (["--name", "nul"], ["--name: 'nul' becomes a folder, and Windows has none of that name"]),
        (["--fold", ""], ["--fold: no ''"]),
        (["--model", ""], ["--model: no ''"]),
        (["--set", ""], ["--set: '' is not KEY=VALUE"]),
        (["--set", "dropout=0.1", "dropout=0.2"], ["--set: dropout is given twice, as '0.1' and as '0.2'"]),
        (["--set", "dropout=0.1", "--set", "dropout=0.2"], ["--set: dropout is given twice, as '0.1' and as '0.2'"]),
        (["--set", "batch_size=1_0"], ["--set batch_size: '1_0' is not a whole number"]),
        (["--space", str(SPACE)], ["--space: without --trials nothing is drawn from it"]),
        (["--tracking-uri", "nonsense://x"], ["--tracking-uri: no 'nonsense://'; there are databricks://, http://"]),
        (["--trial-gpus", "-1"], ["--trial-gpus: -1.0 is below 0"]),
        (
            ["--model", "crnn", "--set", "x", "--seeds", "0", "--protocol", "y", "--selection", "z"],
            ["crnn", "KEY=VALUE", "--seeds: 0", "--protocol: no 'y'; there are", "--selection: no 'z'; there are"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_request_ends_with_2_and_every_reason_and_starts_nothing(
    tiny_manifest, tmp_path, capsys, more, messages
):
    out = tmp_path / "out"
    words = [str(tiny_manifest), "--out", str(out), "--in-process", "--set", *SET_SMALL]
    assert sweep_command.main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert "nothing was started" in error
    assert "Traceback" not in error
    assert not out.exists()


def test_the_head_of_a_refusal_counts_the_problems_of_every_part_of_the_request(tiny_manifest, tmp_path, capsys):
    manifest = tmp_path / "wrong.csv"
    manifest.write_text("path,speaker,emotion\n" + "".join(f"{number}.wav,anna,joy\n" for number in range(32)))
    assert (
        sweep_command.main(
            [
                str(tiny_manifest),
                str(manifest),
                "--out",
                str(tmp_path / "out"),
                "--in-process",
                "--epochs",
                "0",
                "--fold",
                "emil",
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert error.startswith("tfser sweep: 34 problems, nothing was started")
    assert leaks_command.main([str(manifest), "--model", "atfnn", "--epochs", "0", "--leak", "x"]) == 2
    assert capsys.readouterr().err.startswith("tfser leaks: 34 problems, nothing was started")


@pytest.mark.parametrize(
    "more",
    [
        *(
            ["--" + name, text]
            for name in ("epochs", "trials", "seeds", "together")
            for text in ("", "1_0", "１０", " 1", "1e3", "True")
        ),
        *(
            ["--" + name, text]
            for name in ("trial-cpus", "trial-gpus", "checkpoint")
            for text in ("", "1_0", "１", "nan", "inf", "1e999")
        ),
        *(
            ["--" + name, ""]
            for name in ("out", "storage", "data", "space", "tracking-uri", "address", "optuna-storage")
        ),
        ["--seed", "3"],  # not the first letters of --seeds
    ],
    ids=" ".join,
)
def test_what_is_typed_is_never_taken_for_another_number_or_for_nothing(tiny_manifest, tmp_path, capsys, more):
    with pytest.raises(SystemExit) as ended:
        sweep_command.main(arguments(tiny_manifest, tmp_path / "out", *more))
    assert ended.value.code == 2
    assert more[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more", [["--epochs", "0"], ["--trials", "-1"], ["--name", ""], ["--seeds", "0"]], ids=" ".join
)
def test_the_built_in_database_never_runs_its_demo_in_place_of_what_was_typed(tmp_path, capsys, more):
    assert sweep_command.main(["synthetic", "--plan", "--out", str(tmp_path), *more]) == 2
    assert more[0] in capsys.readouterr().err


def test_the_demo_trains_the_model_that_its_search_space_names(tmp_path, monkeypatch):
    (tmp_path / "demo.yaml").write_text("model: atfnn\nsearch:\n  batch_size: {choice: [16, 32]}\n", encoding="utf-8")
    monkeypatch.setattr(packaged_files, "data_folder", lambda name: tmp_path)
    checked = check(parse(["synthetic", "--out", str(tmp_path)]))
    assert {c.model for c in checked.plan.configurations} == {"atfnn"}
    assert {study.trials for study in checked.plan.studies} == {3}


@pytest.mark.full
@pytest.mark.parametrize("more", [(), ("--seeds", "2")], ids=len)
def test_a_search_on_the_built_in_database_beside_a_model_of_ones_own_is_as_small_as_the_demo(tmp_path, capsys, more):
    file = write(tmp_path, mine=NETWORK) / "mine.py"
    typed = ["synthetic", "--model", f"{file}:Mine", "time_frequency_transformer", "--trials", "3", *more]
    assert sweep_command.main([*typed, "--plan", "--out", str(tmp_path)]) == 0
    assert "Transformer: the small search of the built-in database: learning_rate 0.001" in capsys.readouterr().out
    studies = {study.configuration.model: study for study in check(parse(typed)).plan.studies}
    assert {study.epochs for study in studies.values()} == {16}
    demo = studies["time_frequency_transformer"].space
    assert demo.fixed["channels"] == 8
    assert {d.name for d in studies["Mine"].space.dimensions} >= {"learning_rate"}
    for other in (["--epochs", "4"], ["--set", "dropout=0.1"]):
        studies = {study.configuration.model: study for study in check(parse([*typed, *other])).plan.studies}
        assert len(studies["time_frequency_transformer"].space.dimensions) > len(demo.dimensions)


def test_the_name_of_that_search_is_the_same_wherever_tfser_is_installed(tmp_path, monkeypatch):
    typed = ["synthetic", "--model", "time_frequency_transformer", "--trials", "3", "--out", str(tmp_path)]
    name = check(parse(typed)).name
    shutil.copytree(demo_space().parent, tmp_path / "elsewhere")
    monkeypatch.setattr(packaged_files, "data_folder", lambda name: tmp_path / "elsewhere")
    assert demo_space().parent == tmp_path / "elsewhere"
    assert check(parse(typed)).name == name


def test_an_option_that_is_repeated_adds_to_the_first_one(tiny_manifest, tmp_path):
    typed = ["--fold", "anna", "--fold", "bert", "carl", "--set", "dropout=0.1"]
    checked = check(parse(arguments(tiny_manifest, tmp_path, *typed)))
    assert checked.plan.configurations[0].folds == ("anna", "bert", "carl")
    settings = checked.plan.studies[0].base
    assert (settings["dropout"], settings["channels"]) == (0.1, SMALL["channels"])
    assert parse(["x", "--model", "a", "--model", "b"]).model == ["a", "b"]


def test_environment_variables_that_are_empty_count_as_not_set(tiny_manifest, tmp_path, monkeypatch):
    names = (
        "TFSER_DATA",
        "TFSER_TRIAL_CPUS",
        "TFSER_TRIAL_GPUS",
        "TFSER_CACHE",
        "TFSER_HOME",
        "RAY_ADDRESS",
        "MLFLOW_TRACKING_URI",
    )
    for name in names:
        monkeypatch.setenv(name, "")
    parsed = parse(arguments(tiny_manifest, tmp_path))
    assert (parsed.data, parsed.trial_cpus, parsed.trial_gpus, parsed.address) == (None, None, None, None)
    assert check(parsed).tracking_uri == f"sqlite:///{tmp_path}/.tfser/mlflow.db"


def test_a_number_from_the_environment_that_is_none_is_refused_with_the_variable(
    tiny_manifest, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TFSER_TRIAL_CPUS", "1_0")
    with pytest.raises(SystemExit):
        parse(arguments(tiny_manifest, tmp_path))
    assert (
        "'1_0' is not a number; write it as 10, 0.5 or 1e-4 (typed, or from TFSER_TRIAL_CPUS)"
        in capsys.readouterr().err
    )


def test_wrong_databases_are_all_named_at_once(tmp_path, capsys):
    no_column = tmp_path / "columns.csv"
    no_column.write_text("path,speaker\na.wav,x\n")
    gone = tmp_path / "gone.csv"
    databases = ["casla", str(gone), str(no_column), "emodb"]
    assert (
        sweep_command.main(
            [*databases, "--data", str(tmp_path / "nothing"), "--out", str(tmp_path / "out"), "--in-process"]
        )
        == 2
    )
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
    assert sweep_command.main(arguments(manifest, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "anna/calm0.wav" in error
    assert "bert/calm0.wav" in error
    assert not list((tmp_path / "out").rglob("ledger/*/*"))


def test_a_name_that_stands_for_other_options_is_refused_and_loses_nothing(done, tiny_manifest, capsys):
    before = tables_of(done / "done")
    assert sweep_command.main(arguments(tiny_manifest, done, "--name", "done", epochs="3")) == 2
    assert "epochs: 2 then, 3 now; choose another --name, or ask for what it was" in capsys.readouterr().err
    assert tables_of(done / "done") == before


def test_a_second_driver_of_the_same_sweep_is_told_who_holds_it(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "one")
    asked = check(parse(call))
    with lease(asked.storage, asked.name, print):
        assert sweep_command.main(call) == 2
    assert "it is being run by process" in capsys.readouterr().err


def test_the_plan_is_printed_and_nothing_is_run(tiny_manifest, tmp_path, capsys):
    assert (
        sweep_command.main(arguments(tiny_manifest, tmp_path / "out", "--plan", "--seeds", "3", "--ablation", "all"))
        == 0
    )
    out = capsys.readouterr().out
    assert "0 search and 48 final trials" in out
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_more_seeds_and_ablations_may_join_a_sweep(tiny_manifest, tmp_path):
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "grow")) == 0
    first = set(read(tmp_path / "grow", "folds.csv").trial_id)
    assert (
        sweep_command.main(
            arguments(tiny_manifest, tmp_path, "--name", "grow", "--seeds", "2", "--ablation", "T+F+TF", "T+F")
        )
        == 0
    )
    assert first < set(read(tmp_path / "grow", "folds.csv").trial_id)
    assert len(read(tmp_path / "grow", "folds.csv")) == 4 * 2 * 2


def test_the_weights_of_final_trials_are_kept_and_are_those_that_were_scored(done):
    ledger = Ledger(done / ".tfser" / "ledger")
    record = ledger.get(read(done / "done", "folds.csv").trial_id[0])
    spec = record.spec
    declared = MODELS[spec.model]
    model = declared.build(spec.ablation, build_settings(declared, spec.settings), 3)
    model.load_state_dict(ledger.weights(record.trial_id))
    assert weights_digest(model) == record.weights_sha256
    assert np.isfinite(record.standardisation.std).all()


@pytest.mark.full
def test_a_disk_that_fills_up_while_tables_are_written_costs_no_trial(tiny_manifest, tmp_path, monkeypatch, capsys):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tfser.report.write.write", full)
        assert sweep_command.main(arguments(tiny_manifest, tmp_path)) == 1
    assert "No space left on device\nWhat was trained is kept." in capsys.readouterr().err
    assert sweep_command.main(arguments(tiny_manifest, tmp_path)) == 0
    assert "Trained 0 trials" in capsys.readouterr().out


def test_a_storage_that_cannot_be_made_is_refused_before_anything_starts(tiny_manifest, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--storage", str(tmp_path / "file" / "x"))) == 2
    assert "name another with --storage" in capsys.readouterr().err


@pytest.mark.full
def test_passwords_are_in_no_file(tiny_manifest, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tfser.tracking.outbox.PATIENCE_S", 1.0)
    assert (
        sweep_command.main(
            arguments(tiny_manifest, tmp_path, "--tracking-uri", "http://anna:s3cr3t@127.0.0.1:9", "--name", "p")
        )
        == 0
    )
    written = [p for p in tmp_path.rglob("*") if p.is_file() and b"s3cr3t" in p.read_bytes()]
    assert written == []
    assert "http://anna:***@127.0.0.1:9" in (tmp_path / "p" / "sweep.json").read_text()


def test_places_in_the_request_are_shown_as_text_without_passwords():
    class Place:
        def __str__(self):
            return "ftp://anna:s3cr3t@host/x"

    shown = wrap_up.request(replace(parse(["x", "--set", "a/b"]), out=Place(), space=[Place()]))
    assert (shown["out"], shown["space"]) == ("ftp://anna:***@host/x", ["ftp://anna:***@host/x"])
    assert (shown["fixed"], shown["checkpoint"], shown["epochs"], shown["prune"]) == (["a/b"], 120.0, None, True)
    assert "typed" not in shown


def test_a_store_that_cannot_be_reached_when_it_is_named_is_a_clear_refusal(tiny_manifest, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep_command.main(arguments(tiny_manifest, "ftp://127.0.0.1:9/out"))
    assert ended.value.code == 2
    assert "ftp://127.0.0.1:9/out: it cannot be reached" in capsys.readouterr().err


@pytest.mark.full
def test_two_corpora_whose_manifests_have_one_name_stay_apart(tmp_path, capsys):
    for folder in ("a", "b"):
        manifest = write_tiny(tmp_path / folder)
        if folder == "b":
            manifest.write_text(manifest.read_text().replace("carl", "karl").replace("karl/", "carl/"))
        assert sweep_command.main(arguments(manifest, tmp_path / "out", epochs="1")) == 0
    assert len([p for p in (tmp_path / "out").iterdir() if p.name != ".tfser"]) == 2
    for folder, code in (("a", 0), ("b", 2)):
        assert (
            sweep_command.main(arguments(tmp_path / folder / "tiny.csv", tmp_path / "out", "--name", "one", epochs="1"))
            == code
        )
    assert "tiny holds other utterances, labels or audio; choose another --name" in capsys.readouterr().err


def test_a_name_whose_sweep_knew_an_option_that_is_unknown_here_is_refused(tiny_manifest, tmp_path, capsys):
    memory = tmp_path / ".tfser" / "sweeps" / "n.json"
    memory.parent.mkdir(parents=True)
    memory.write_text('{"augmentation": "speed", "protocol": "speaker"}')
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "n")) == 2
    assert "sweep n: 1 problem, nothing was started" in (said := capsys.readouterr().err)
    assert "augmentation: 'speed' then, None now; choose another --name, or ask for what it was" in said


@pytest.mark.full
def test_a_refused_request_leaves_nothing_that_refuses_the_corrected_one(tiny_manifest, tmp_path, capsys):
    search = ("--space", str(SPACE), "--name", "n")
    assert (
        sweep_command.main(arguments(tiny_manifest, tmp_path, *search, "--trials", "2", "--optuna-storage", "nonsense"))
        == 2
    )
    assert "--optuna-storage" in capsys.readouterr().err
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, *search, "--trials", "1")) == 0


def test_tables_that_cannot_be_written_are_refused_before_anything_is_trained(tiny_manifest, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert sweep_command.main(arguments(tiny_manifest, tmp_path / "file", "--storage", str(tmp_path / "s"))) == 2
    assert "name another folder" in capsys.readouterr().err
    assert not (tmp_path / "s" / "ledger").exists()


@pytest.mark.full
def test_ctrl_c_while_tables_are_made_says_what_is_kept(tiny_manifest, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfser.report.write.write", interrupted)
    assert sweep_command.main(arguments(tiny_manifest, tmp_path)) == 130
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
    assert sweep_command.main([*again, "--in-process"]) == 0
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
    assert sweep_command.main(arguments(tiny_manifest, done, "--name", "done", "--ablation", "all")) == 0
    assert (
        sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "done", "--ablation", "all", "--together", "3"))
        == 0
    )
    for name in ("comparison.md", "ablation.md", "summary.csv", "folds.csv"):
        assert (tmp_path / "done" / name).read_bytes() == (done / "done" / name).read_bytes()
    alone, together = (read(folder / "done", "predictions.csv") for folder in (done, tmp_path))
    scores = [c for c in alone if c.startswith("p_")]
    np.testing.assert_allclose(together[scores], alone[scores], atol=1e-8)
    ledger = Ledger(tmp_path / ".tfser" / "ledger")
    packs = sorted(ledger.get(trial).machine.circumstances.get("trained_together", "1") for trial in ledger.ids())
    assert packs == ["1"] * 4 + ["3"] * 12


def test_a_wrong_number_of_trials_together_is_refused(tiny_manifest, tmp_path, capsys):
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--together", "0")) == 2
    assert "--together: 0 is below 1" in capsys.readouterr().err
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--together", "2", "--captured")) == 2
    assert "leave out --together, or --captured" in capsys.readouterr().err


@pytest.mark.full
def test_a_working_folder_of_any_name_holds_everything_and_the_printed_command_opens_its_database(
    tiny_manifest, tmp_path, monkeypatch, capsys
):
    """MLflow's database, artifacts and the studies' journal lie below the name as it is, and nothing lies beside it."""
    tables = []
    for name in ("plain", "what?50%25 #1 it's Straße"):
        folder = tmp_path / name
        (folder / "space").mkdir(parents=True)
        monkeypatch.chdir(folder)
        call = arguments(
            tiny_manifest,
            "results",
            "--name",
            "s",
            "--trials",
            "2",
            "--space",
            str(SPACE),
            "--ablation",
            "T+F",
        )
        assert sweep_command.main(call) == 0
        said = capsys.readouterr().out
        assert collect.main(["s"]) == 0
        tables.append(tables_of(folder / "results" / "s"))
        assert {path.name for path in (folder / "results" / ".tfser").iterdir()} >= {
            "mlflow.db",
            "mlartifacts",
            "ledger",
            "search",
        }
        assert list((folder / "results" / ".tfser" / "mlartifacts").rglob("trial.json"))
        (command,) = (line for line in said.splitlines() if "mlflow server" in line)
        *_, uri = shlex.split(command.partition(": ")[2])
        assert sqlalchemy.engine.make_url(uri).database == str(folder / "results" / ".tfser" / "mlflow.db")
    assert tables[0] == tables[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "what?50%25 #1 it's Straße"]


def tears_entries_after_training(patch, out, times):
    """Damage the entry of carl's final trial so often, each time after the schedule has read it."""
    train, left = Trainer._train, [times]

    def torn(trainer):
        train(trainer)
        for path in (out / ".tfser" / "ledger").glob("*/*.json"):
            if (
                left[0]
                and (spec := json.loads(path.read_text())["spec"])["fold"] == "carl"
                and spec["purpose"] == "final"
            ):
                left[0] -= 1
                path.write_text("{")

    patch.setattr(Trainer, "_train", torn)


@pytest.fixture
def deaf(monkeypatch):
    """The options of a sweep whose MLflow does not answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tfser.tracking.outbox.PATIENCE_S", 0.5)
    return ["--tracking-uri", "http://127.0.0.1:9"]


@pytest.mark.full
def test_an_entry_that_is_damaged_after_it_was_read_is_trained_again_in_the_same_start(
    tiny_manifest, tmp_path, monkeypatch, capsys, deaf
):
    tears_entries_after_training(monkeypatch, tmp_path, times=1)
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "t", *deaf)) == 0
    shown = capsys.readouterr().out
    assert len(read(tmp_path / "t", "folds.csv")) == 4
    assert "The ledger lost 1 trial that had ended; what it lost is trained again" in shown
    assert shown.count("its trial was trained again") == 1
    assert "Trained 5 trials" in shown
    assert "holds them all" not in shown


@pytest.mark.full
def test_entries_that_are_damaged_again_and_again_end_with_1_and_are_no_part_of_what_is_said_to_be_there(
    tiny_manifest, tmp_path, monkeypatch, capsys, deaf
):
    call = arguments(tiny_manifest, tmp_path, "--name", "t", *deaf)
    with monkeypatch.context() as patch:
        tears_entries_after_training(patch, tmp_path, times=9)
        assert sweep_command.main(call) == 1
    shown = capsys.readouterr().out
    assert sorted(read(tmp_path / "t", "folds.csv").fold) == ["anna", "bert", "dora"]
    assert "The tables lack 1 trial, because the ledger lost it again; the same command trains what is missing" in shown
    assert "its trial is trained again by the next start that needs it" in shown
    assert "was trained again" not in shown
    assert sweep_command.main(call) == 0
    assert "Trained 1 trial in" in capsys.readouterr().out
    assert len(read(tmp_path / "t", "folds.csv")) == 4


@pytest.mark.full
def test_an_entry_that_is_deleted_while_a_whole_sweep_is_looked_through_is_trained_again(
    tiny_manifest, tmp_path, monkeypatch, capsys
):
    call = arguments(tiny_manifest, tmp_path, "--name", "t")
    assert sweep_command.main(call) == 0
    before, finish = tables_of(tmp_path / "t"), Trainer.finish

    def deleted(trainer):
        schedule = trainer.schedule
        assert schedule.finished
        schedule.ledger.path(next(iter(schedule.ends.values())).trial_id).unlink()
        return finish(trainer)

    monkeypatch.setattr(Trainer, "finish", deleted)
    assert sweep_command.main(call) == 0
    assert "Trained 1 trial in" in capsys.readouterr().out
    assert tables_of(tmp_path / "t") == before


@pytest.mark.full
def test_a_damaged_search_entry_that_its_study_knows_is_trained_again_once(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "s", "--fold", "anna", "--trials", "2")
    call += ["--space", str(SPACE)]
    assert sweep_command.main(call) == 0
    before, ledger = tables_of(tmp_path / "s"), Ledger(tmp_path / ".tfser" / "ledger")
    assert read(tmp_path / "s", "search.csv").epochs.notna().all()
    searched = [trial_id for trial_id in sorted(ledger.ids()) if ledger.get(trial_id).spec.purpose == "search"]
    for trial_id in searched:  # the chosen setting's, and those of others
        ledger.path(trial_id).write_text("{")
        capsys.readouterr()
        assert sweep_command.main(call) == 0
        shown = capsys.readouterr().out
        assert "its trial was trained again" in shown
        assert "Trained 1 trial in" in shown
        assert ledger.get(trial_id).status == "done"
        assert tables_of(tmp_path / "s") == before
    assert sweep_command.main(call) == 0
    shown = capsys.readouterr().out
    assert "A damaged ledger entry" not in shown
    assert "Trained 0 trials" in shown


def harm(features, damage):
    """Do something to the only pack of a storage."""
    (frames,), (table,) = features.glob("*/*.npy"), features.glob("*/*.json")
    match damage:
        case "deleted":
            shutil.rmtree(features)
        case "frames deleted":
            frames.unlink()
        case "frames cut":
            frames.write_bytes(frames.read_bytes()[:-1000])
        case "table torn":
            table.write_text(table.read_text()[:100])
        case "another database's":
            table.write_text(json.dumps({**json.loads(table.read_text()), "database_digest": "0" * 16}))


def harmed_before(patch, trial, act):
    """Do something when training of that trial begins, counted from 1; returns the trials that began."""
    run, begun = run_trial.run, []

    def harmed(task):
        begun.append(task.spec.fold)
        if len(begun) == trial:
            act()
        return run(task)

    patch.setattr(run_trial, "run", harmed)
    return begun


HARM = ("frames deleted", "frames cut", "table torn", "another database's")


@pytest.mark.full
@pytest.mark.parametrize("damage", ["deleted", *(pytest.param(harm, marks=pytest.mark.full) for harm in HARM)])
def test_features_that_are_harmed_under_a_live_driver_are_made_again_in_the_same_start(
    tiny_manifest, tmp_path, monkeypatch, capsys, damage
):
    begun = harmed_before(monkeypatch, 2, lambda: harm(tmp_path / ".tfser" / "features", damage))
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, "--name", "h", epochs="1")) == 0
    shown = capsys.readouterr().out
    assert shown.count("they are made again") == 1
    assert "failed" not in shown
    assert begun[1] == begun[2], "the trial that met it is tried again"
    assert len(begun) == 5
    assert len(read(tmp_path / "h", "folds.csv")) == 4
    assert not (tmp_path / ".tfser" / "logs").exists()


def test_features_whose_audio_has_changed_too_are_not_made_again(tmp_path, monkeypatch, capsys):
    manifest, out = write_tiny(tmp_path / "corpus"), tmp_path / "out"

    def act():
        harm(out / ".tfser" / "features", "deleted")
        (tmp_path / "corpus" / "anna" / "calm0.wav").write_bytes(
            (tmp_path / "corpus" / "anna" / "calm1.wav").read_bytes()
        )

    begun = harmed_before(monkeypatch, 2, act)
    assert sweep_command.main(arguments(manifest, out, epochs="1")) == 1
    said = capsys.readouterr().err
    assert "cannot be made again: its audio is not what it was when this sweep began. What was trained is kept." in said
    assert "nothing was started" not in said
    assert len(begun) == 2


@pytest.mark.full
def test_features_that_stay_away_leave_trials_lost_and_none_failed(tiny_manifest, tmp_path, monkeypatch, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "h", "--fold", "anna", "bert", epochs="1")
    with monkeypatch.context() as patch:
        begun = harmed_before(patch, 1, lambda: harm(tmp_path / ".tfser" / "features", "deleted"))
        patch.setattr(Features, "repair", lambda features, spec: None)
        assert sweep_command.main(call) == 1
    assert sorted(begun) == ["anna"] * 6 + ["bert"] * 6
    assert "lost: tiny anna" in capsys.readouterr().out
    assert Ledger(tmp_path / ".tfser" / "ledger").ids() == set()
    assert sweep_command.main(call) == 0


@pytest.mark.full
def test_a_start_removes_what_killed_ones_left_and_says_so(done, tiny_manifest, capsys):
    before, entry = tables_of(done / "done"), next((done / ".tfser" / "ledger").glob("*/*.json"))
    left = [
        entry.with_suffix(".damaged"),
        entry.with_name(f".{entry.name}.abcd_123.part"),
        done / "done" / ".folds.csv.abcd_123.part",
    ]
    for path in left:
        path.write_text("{")
    assert (
        sweep_command.main(arguments(tiny_manifest, done, "--name", "done", "--ablation", "all", "--seeds", "2")) == 0
    )
    shown = capsys.readouterr().out
    assert (
        "Removed what earlier starts had left: 2 half-written files, 1 damaged entry whose trial was trained again"
        in shown
    )
    assert not any(path.exists() for path in left)
    assert tables_of(done / "done") == before
