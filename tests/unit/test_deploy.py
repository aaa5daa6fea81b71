"""One model for use, trained on every speaker: what it is trained on, how it is chosen, and that it claims no score."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import estimators
from tests.helpers.studies import MODEL, SPACE, KilledError, make_plan, run, train
from tests.helpers.sweeps import SPACE as SPACE_FILE
from tests.helpers.sweeps import arguments, read, runs_of, tables_of
from tests.helpers.tasks import task
from tfser import collect, interface, predict
from tfser.evaluation import folds
from tfser.execution import run_estimator, run_network, run_trial
from tfser.execution.run_trial import trial_data
from tfser.final_models import find
from tfser.models import MODELS
from tfser.planning import plan
from tfser.planning.request import Request, problems
from tfser.planning.settings import published_settings
from tfser.record import Record, from_dict, to_dict
from tfser.report.repeat_command import repeat
from tfser.storage.ledger import Ledger
from tfser.sweep import command as sweep_command
from tfser.trial import TrialSpec


def deploy(spec):
    """The trial of a spec, on every speaker."""
    return replace(spec, fold="", purpose="deploy")


# ------------------------------------------------------------------ what it is trained on


def test_every_utterance_of_every_speaker_is_trained_on_and_none_is_scored(pack, tiny, tmp_path):
    spec = deploy(task(pack, tmp_path).spec)
    data = trial_data(pack, pack.frames(), spec)
    assert len(data.train) == len(tiny.utterances)
    assert {start for start, _, _ in data.train} == {u.start for u in pack.utterances}
    assert data.scored == ()
    assert Counter(data.speakers) == Counter(u.speaker for u in tiny.utterances)


def test_a_search_trial_that_chooses_for_it_holds_out_its_validation_speaker_alone(pack, tmp_path):
    spec = replace(task(pack, tmp_path, purpose="search").spec, fold="")
    data = trial_data(pack, pack.frames(), spec)
    assert {*data.speakers[: len(data.train)]} == {"anna", "carl", "dora"}
    assert {*data.speakers[len(data.train) :]} == {"bert"}


def test_its_record_says_what_it_was_trained_on_and_claims_no_score(pack, tiny, tmp_path):
    trial = task(pack, tmp_path)
    record = run_network.run(replace(trial, spec=deploy(trial.spec)))
    assert isinstance(record, Record), record
    assert record.training.speakers == Counter(u.speaker for u in tiny.utterances)
    assert record.training.emotions == Counter(u.emotion for u in tiny.utterances)
    assert record.training.utterances == 36
    entry = json.loads(trial.ledger.path(record.trial_id).read_text())
    assert (entry["war"], entry["uar"], entry["segments"]) == (None, None, None)
    assert entry["utterances"] == []
    assert set(entry["recalls"].values()) == {None}
    assert not np.any(entry["confusion"])
    assert trial.ledger.weights_path(record.trial_id).is_file()
    again = from_dict(json.loads(json.dumps(to_dict(record))))
    assert to_dict(again) == to_dict(record)
    model = find.load(trial.ledger.get(record.trial_id), trial.ledger)
    assert model.trial_id == record.trial_id


@pytest.mark.parametrize("rule", ["statistics", "pyramid"])
def test_a_rule_that_is_a_classifier_is_fitted_though_nothing_is_scored(pack, tmp_path, rule):
    trial = task(pack, tmp_path)
    settings = tuple(sorted({**trial.spec.settings, "utterance_rule": rule}.items()))
    spec = replace(deploy(trial.spec), hyperparameters=settings, epochs=1)
    record = run_network.run(replace(trial, spec=spec))
    assert isinstance(record, Record), record
    model = find.load(record, trial.ledger)
    assert model.rule.is_fitted
    frames = pack.frames()[: pack.utterances[0].frames]
    assert model.score(frames).probabilities.sum() == pytest.approx(1)


def test_inner_speakers_end_the_training_and_are_told_apart(pack, tmp_path):
    trial = task(pack, tmp_path)
    more = {"inner_speakers": 1, "early_end_patience": 1}
    spec = replace(deploy(trial.spec), hyperparameters=tuple(sorted({**trial.spec.settings, **more}.items())), epochs=9)
    record = run_network.run(replace(trial, spec=spec))
    assert isinstance(record, Record), record
    assert record.inner_speakers == ("anna",)
    assert set(record.training.speakers) == {"bert", "carl", "dora"}
    curve = record.curves.inner_uar
    assert record.epochs == 1 + int(np.argmax(curve))


def test_an_estimator_is_fitted_on_everything_and_keeps_its_state(tmp_path):
    with estimators.known(estimators.LOGISTIC):
        trial = estimators.task(tmp_path, estimators.LOGISTIC)
        record = run_estimator.run(replace(trial, spec=deploy(trial.spec)))
        assert isinstance(record, Record), record
        assert record.training.utterances == 36
        assert record.scores.utterances == ()
        assert record.weights_sha256
        model = find.load(record, trial.ledger)
        assert model.trial_id == record.trial_id


def test_no_spec_claims_to_be_both_for_use_and_tested(pack, tmp_path):
    spec = task(pack, tmp_path).spec
    with pytest.raises(ValueError, match="purpose deploy holds out fold anna"):
        replace(spec, purpose="deploy")
    with pytest.raises(ValueError, match="need a name"):
        replace(spec, fold="")
    with pytest.raises(ValueError, match="leaks need a test fold"):
        replace(deploy(spec), leaks=("standardisation",))


def test_without_a_fold_the_circle_of_validation_speakers_begins_at_the_first():
    names = ("a", "b", "c")
    assert [folds.validation_group(names, "", i) for i in range(3)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="rotation 3 of 3 training groups"):
        folds.validation_group(names, "", 3)


# ------------------------------------------------------------------ how it is chosen


def made(tiny, **options):
    request = Request(models=(MODEL,), purpose="deploy", **options)
    assert problems(request, {MODEL: SPACE} if request.trials else {}) == []
    return plan.make(request, [tiny], lambda d: "digest", {MODEL: SPACE} if request.trials else {})


def final_of(one):
    (study,) = one.studies
    (spec,) = study.final_specs(study.base, study.epochs).values()
    return spec


def test_without_a_search_it_has_the_settings_and_epochs_of_every_fold(tiny):
    for options in ({}, {"epochs": 3, "fixed": (("channels", "8"),)}, {"seeds": 4}):
        one = made(tiny, **options)
        honest = plan.make(Request(models=(MODEL,), **options), [tiny], lambda d: "digest", {})
        trials = [spec for s in honest.studies for spec in s.final_specs(s.base, s.epochs).values()]
        spec = final_of(one)
        assert (spec.purpose, spec.fold, spec.seed, spec.validation) == ("deploy", "", 0, ())
        assert {(t.hyperparameters, t.epochs) for t in trials} == {(spec.hyperparameters, spec.epochs)}
        assert (one.search_trials, one.final_trials) == (0, 1), "one model, however many seeds the folds have"
        assert one.configurations[0].key == honest.configurations[0].key


def test_nested_it_is_chosen_on_speakers_of_all_and_shares_no_trial_with_a_fold(tiny):
    one, honest = made(tiny, trials=2, validation_folds=2), make_plan(tiny, trials=2, validation_folds=2)
    (study,) = one.studies
    specs = study.search_specs(study.base)
    assert [(s.fold, s.validation, s.purpose) for s in specs] == [
        ("", ("anna",), "search"),
        ("", ("bert",), "search"),
    ]
    assert one.search_trials == 4
    others = [spec for s in honest.studies for spec in s.search_specs(s.base)]
    assert {s.trial_id for s in specs}.isdisjoint(s.trial_id for s in others)
    assert study.name not in {s.name for s in honest.studies}


def test_globally_it_is_what_the_study_of_all_folds_chose(tiny):
    options = {"trials": 2, "selection": "global", "epochs": 4}
    (study,) = made(tiny, **options).studies
    (honest,) = plan.make(Request(models=(MODEL,), **options), [tiny], lambda d: "digest", {MODEL: SPACE}).studies
    assert study.name == honest.name
    assert study.search_specs(study.base) == honest.search_specs(honest.base)


@pytest.mark.parametrize("selection", ["nested", "global"])
def test_settings_and_epochs_are_those_with_the_highest_mean_of_the_validation_curves(tiny, tmp_path, selection):
    one = made(tiny, trials=6, epochs=4, validation_folds=2, selection=selection, prune=False)
    schedule = run(one, tmp_path)
    ((key, end),) = schedule.ends.items()
    assert key[1:] == ("", 0)
    spec = Ledger(tmp_path / "ledger").get(end.trial_id).spec
    ledger = Ledger(tmp_path / "ledger")
    groups = {}
    for trial in ledger.ids():
        record = ledger.get(trial)
        if record.spec.purpose == "search":
            groups.setdefault(record.spec.hyperparameters, []).append(record.curves.validation_uar)
    held_out = 2 if selection == "nested" else 8
    assert {len(curves) for curves in groups.values()} == {held_out}
    means = {settings: np.mean(curves, axis=0) for settings, curves in groups.items()}
    best = max(means, key=lambda settings: means[settings].max())
    assert spec.hyperparameters == best
    assert spec.epochs == 1 + int(means[best].argmax())


def test_a_global_choice_is_made_of_the_trials_that_the_folds_have_trained(tiny, tmp_path):
    options = {"trials": 3, "selection": "global"}
    run(make_plan(tiny, **options), tmp_path)
    trained = []
    schedule = run(made(tiny, epochs=4, **options), tmp_path, log=trained)
    ((_, end),) = schedule.ends.items()
    assert trained == [end.trial_id], "the search is not repeated"


@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_start_that_is_killed_goes_on_to_the_same_model(tiny, tmp_path, step):
    one = made(tiny, trials=4, epochs=4)
    whole = run(one, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(one, tmp_path / "killed", die_after=step)
    trained = []
    again = run(one, tmp_path / "killed", log=trained)
    assert [end.trial_id for end in again.ends.values()] == [end.trial_id for end in whole.ends.values()]
    assert len(trained) == len({*trained})
    run(one, tmp_path / "killed", log=(last := []))
    assert last == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": ("anna",)}, "--fold: the model of --purpose deploy is trained on every speaker; leave it out"),
        (
            {"selection": "oracle"},
            "--selection oracle: it chooses the epoch on the test fold, and the model of --purpose deploy has none; "
            "use nested or global",
        ),
    ],
)
def test_options_that_speak_of_test_folds_are_refused(options, said):
    assert said in problems(Request(models=(MODEL,), purpose="deploy", **options), {})


def test_a_word_that_is_no_purpose_is_refused_with_those_there_are(tmp_path, capsys):
    assert sweep_command.main(["synthetic", "--purpose", "deply", "--out", str(tmp_path)]) == 2
    assert "--purpose: no 'deply'; there are deploy, final (did you mean 'deploy'?)" in capsys.readouterr().err


# ------------------------------------------------------------------ from the command to a file's emotion

SEARCH = ("--name", "s", "--trials", "2", "--space", str(SPACE_FILE))


@pytest.fixture(scope="module")
def deployed(tiny_manifest, tmp_path_factory):
    """A sweep that trained one model for use and nothing else."""
    out = tmp_path_factory.mktemp("deployed")
    assert sweep_command.main(arguments(tiny_manifest, out, *SEARCH, "--purpose", "deploy")) == 0
    return out


def deploy_record(out):
    ledger = Ledger(out / ".tfser" / "ledger")
    (record,) = [r for r in map(ledger.get, sorted(ledger.ids())) if r.spec.purpose == "deploy"]
    return record


def asked(capsys, *words):
    code = predict.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_plan_says_that_there_will_be_one_model_and_what_is_searched(tiny_manifest, tmp_path, capsys):
    assert sweep_command.main(arguments(tiny_manifest, tmp_path, *SEARCH, "--purpose", "deploy", "--plan")) == 0
    said = capsys.readouterr().out
    assert (
        "Time-Frequency Transformer T+F+TF on tiny, leave-one-speaker-out: one model for use, trained on every "
        "speaker, seed 0, 2 search trials of up to 2 epochs"
    ) in said
    assert "2 search and 1 model for use in all" in said
    assert not (tmp_path / "s").exists()


def test_a_file_is_scored_by_the_name_of_a_sweep_that_has_a_model_for_use_alone(deployed, tiny_manifest, capsys):
    file, record = tiny_manifest.parent / "anna" / "calm0.wav", deploy_record(deployed)
    for run_word in ("s", record.trial_id, record.trial_id[:8]):
        code, out, err = asked(capsys, run_word, file, "--json", "--results", deployed)
        assert code == 0, err
        answered = json.loads(out)["trial"]
        assert answered["trial_id"] == record.trial_id
        assert (answered["purpose"], answered["fold"], answered["uar"], answered["war"]) == ("deploy", "", None, None)
    code, out, _ = asked(capsys, "s", "--purpose", "deploy", file, "--results", deployed)
    assert code == 0
    assert out.startswith(
        "time_frequency_transformer T+F+TF, trained on all of tiny, seed 0 "
        f"(trial {record.trial_id}; without a test score)"
    )


def test_no_table_and_no_figure_shows_it(deployed, tmp_path, capsys):
    assert {path.name for path in (deployed / "s").iterdir()} == {
        "deploy.json",
        "model_card_tiny_speaker_time_frequency_transformer_t+f+tf_nested.md",
    }
    words = ["s", "--storage", str(deployed / ".tfser"), "--out", str(tmp_path)]
    assert collect.main(words) == 1
    assert "s: it holds a model for use and no result of a fold" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_mlflow_says_what_it_is_for_and_holds_no_recall_of_it(deployed):
    _, runs = runs_of(deployed)
    kinds = Counter(run.data.tags["tfser.kind"] for run in runs)
    assert kinds == {"configuration": 1, "search": 2, "deploy": 1}
    assert {run.info.status for run in runs} == {"FINISHED"}
    (run,) = [run for run in runs if run.data.tags["tfser.kind"] == "deploy"]
    assert run.data.tags["tfser.purpose"] == "deploy"
    assert not [name for name in run.data.metrics if name.startswith(("test", "validation"))]
    assert "every speaker" in run.data.tags["mlflow.runName"]
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["tiny, every speaker"]
    folder = run.info.artifact_uri.removeprefix("file://")
    with open(f"{folder}/model_card.md", encoding="utf-8") as file:
        assert file.read() == Ledger(deployed / ".tfser" / "ledger").card(deploy_record(deployed).trial_id)


def test_the_same_command_trains_nothing_again(deployed, tiny_manifest, monkeypatch):
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was trained again"))
    card = next((deployed / "s").glob("*.md")).read_bytes()
    assert sweep_command.main(arguments(tiny_manifest, deployed, *SEARCH, "--purpose", "deploy")) == 0
    assert next((deployed / "s").glob("*.md")).read_bytes() == card


def test_a_model_for_use_is_not_repeated_as_a_fold_would_be(deployed):
    with pytest.raises(Exception, match="it is a model for use; the command on its model card trains it again"):
        repeat(deploy_record(deployed).spec)


@pytest.fixture(scope="module")
def both(tiny_manifest, tmp_path_factory):
    """A sweep with the results of its folds, then a model for use, then the results again; and its tables each time."""
    out, tables = tmp_path_factory.mktemp("both"), []
    for more in (["--seeds", "2"], ["--purpose", "deploy"], ["--seeds", "2"]):
        assert sweep_command.main(arguments(tiny_manifest, out, "--name", "s", *more)) == 0
        tables.append(tables_of(out / "s"))
    return out, tables


@pytest.mark.full
def test_it_changes_no_result_of_a_fold(both):
    _, (before, after, again) = both
    for later in (after, again):
        assert {name: later[name] for name in before} == before
        new = sorted(later.keys() - before.keys())
        assert [name.split("_")[0] for name in new] == ["deploy.json", "model"]


@pytest.mark.full
def test_the_name_of_a_sweep_with_both_asks_which_and_names_the_model_for_use(both, tiny_manifest, capsys):
    out, file = both[0], tiny_manifest.parent / "anna" / "calm0.wav"
    trial = deploy_record(out).trial_id
    code, _, err = asked(capsys, "s", file, "--results", out)
    assert code == 2
    assert "it is 9 trials; name one by its id, or pick one with --fold, --seed, --purpose:" in err
    assert f"{trial}  tiny the model for use, trained on everything, time_frequency_transformer T+F+TF, seed 0" in err
    assert "--purpose deploy: the model for use" in err
    code, found, err = asked(capsys, "s", "--purpose", "deploy", file, "--json", "--results", out)
    assert (code, err) == (0, "")
    assert json.loads(found)["trial"]["trial_id"] == trial
    code, found, _ = asked(capsys, "s", "--fold", "anna", "--seed", "0", file, "--json", "--results", out)
    assert code == 0
    assert json.loads(found)["trial"]["fold"] == "anna"


@pytest.mark.full
def test_a_network_is_written_as_onnx_by_the_command_with_its_card_beside_it(deployed, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    code, out, err = asked(capsys, "s", "--export", path, "--results", deployed)
    assert code == 0, err
    assert f"wrote {path}, {tmp_path}/model.json, {tmp_path}/model.md; its probabilities differ" in out
    assert json.loads((tmp_path / "model.json").read_text())["trial"]["id"] == deploy_record(deployed).trial_id
    assert (tmp_path / "model.md").read_text() == next((deployed / "s").glob("*.md")).read_text()


def test_nothing_is_written_where_a_file_or_a_name_is_wrong(deployed, tmp_path, capsys):
    code, out, err = asked(capsys, "s", tmp_path / "gone.wav", "--export", tmp_path / "model.pt", "--results", deployed)
    assert (code, out) == (2, "")
    assert f"--export: {tmp_path}/model.pt does not end in .onnx" in err
    assert "gone.wav: missing" in err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ the model card


@pytest.mark.full
def test_the_card_has_the_recalls_that_the_tables_have_and_says_whose_they_are(both):
    out = both[0]
    summary, table = read(out / "s", "summary.csv").iloc[0], read(out / "s", "folds.csv")
    card = next((out / "s").glob("model_card*.md")).read_text(encoding="utf-8")
    heads = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert heads == [
        "Intended use", "Out of scope", "Training data", "Training", "Evaluation", "Limits", "Licence",
        "How to make it again",
    ]  # fmt: skip
    assert "This model has no test score: it was trained on every speaker" in card
    assert "is of **other models**" in card
    assert f"| WAR, pooled | {100 * summary.war_pooled:.2f} |" in card
    assert f"| UAR, pooled | {100 * summary.uar_pooled:.2f} |" in card
    assert f"| UAR, mean of folds | {100 * summary.uar_mean:.2f} |" in card
    for speaker, rows in table.groupby("fold"):
        assert f"| {speaker} | 9 | {100 * rows.war.mean():.2f} | {100 * rows.uar.mean():.2f} |" in card
    assert "36 utterances of 4 speakers" in card
    assert "| calm | 12 |" in card
    assert f"digest `{deploy_record(out).spec.database_digest}`" in card
    assert "The recordings: not stated by its source" in card
    assert "--purpose deploy" in card.split("## How to make it again")[1]
    assert card == Ledger(out / ".tfser" / "ledger").card(deploy_record(out).trial_id)


def test_without_results_of_folds_the_card_claims_none(deployed):
    card = next((deployed / "s").glob("model_card*.md")).read_text(encoding="utf-8")
    assert "No leave-one-speaker-out result of the same configuration is known" in card
    assert "WAR" not in card
    assert "chosen by their mean UAR on validation speakers, in a search of its own over all speakers" in card


@pytest.mark.full
def test_the_function_for_notebooks_trains_it_and_has_empty_frames(tiny_manifest, tmp_path, monkeypatch):
    from tests.helpers.tiny import SMALL

    monkeypatch.chdir(tmp_path)
    one = {"model": MODEL, "epochs": 1, "set": SMALL, "in_process": True, "name": "n"}
    tables = interface.run(tiny_manifest, purpose="deploy", **one)
    assert (len(tables.summary), len(tables.folds), len(tables.predictions)) == (0, 0, 0)
    assert list(tables.folder.glob("model_card*.md"))


def test_a_made_up_training_of_it_has_no_fold():
    spec = TrialSpec(
        database="tiny",
        database_digest="d",
        protocol="session",
        fold="",
        purpose="deploy",
        model=MODEL,
        ablation=MODELS[MODEL].ablations[0],
        seed=0,
        epochs=3,
        hyperparameters=tuple(sorted(published_settings(MODEL).items())),
    )
    assert spec.held_out == "no session"
    assert TrialSpec.from_dict(spec.to_dict()) == spec
    assert train(spec).trial_id == spec.trial_id
