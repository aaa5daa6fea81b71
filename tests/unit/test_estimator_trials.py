"""An estimator as a trial: its record against scikit-learn by hand, its fitted state, the sweep, tables and predict."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tfser
from tests.helpers import estimators as helper
from tests.helpers.estimators import FRAMES, LOGISTIC, SVM, known, own, task
from tests.helpers.sweeps import read, runs_of
from tests.helpers.tiny import write_tiny
from tfser import predict
from tfser.collect import main as collect
from tfser.errors import RequestError
from tfser.execution import fitted_state, run_trial, time_limit
from tfser.execution.this_machine import versions
from tfser.features.pack import Pack
from tfser.final_models import find
from tfser.final_models.mlflow_model import save
from tfser.leaks import command as leaks_command
from tfser.record import Failure, Record, from_dict, to_dict
from tfser.storage.ledger import Ledger
from tfser.sweep import command, hours
from tfser.sweep.options import parse
from tfser.sweep.request import check

pytestmark = pytest.mark.usefixtures("blank_figures")

FOLDS = ("anna", "bert", "carl", "dora")
ROOT = Path(__file__).parents[2]

WORKER = """
import itertools, pickle, sys
from pathlib import Path

from tfser.execution.time_limit import Watchdog

with Watchdog()([pickle.loads(Path(sys.argv[1]).read_bytes())]):
    sum(itertools.repeat(0))  # in C code that holds Python's lock
"""


@pytest.fixture(autouse=True)
def models():
    with known(SVM, LOGISTIC):
        yield


def by_hand(asked, build):
    """(truth, probabilities) of the test speaker, from the features and scikit-learn alone."""
    pack = Pack.open(asked.pack)
    frames = np.array(pack.frames())
    train = [u for u in pack.utterances if u.speaker != asked.spec.fold]
    test = [u for u in pack.utterances if u.speaker == asked.spec.fold]
    model = build().fit(frames[[u.start for u in train]], [u.emotion for u in train])
    return [u.id for u in test], model.predict_proba(frames[[u.start for u in test]])


def test_a_trials_scores_are_those_of_scikit_learn_by_hand(tmp_path):
    asked = task(tmp_path, LOGISTIC, seed=1, c=0.5)
    record = run_trial.run(asked)
    ids, expected = by_hand(asked, lambda: helper.logistic({"c": 0.5}, 1))
    assert [u.id for u in record.scores.utterances] == ids
    np.testing.assert_allclose([u.p for u in record.scores.utterances], expected, rtol=0, atol=1e-12)
    assert record.scores.segments is None
    assert record.epochs == 1
    assert (record.curves.train_loss, record.standardisation, record.parameters) == ((), None, 0)
    assert record.versions == versions("scikit-learn", "scipy")
    assert from_dict(json.loads(json.dumps(to_dict(record)))) == record == asked.ledger.get(record.trial_id)


def test_a_search_trial_is_fitted_without_the_test_and_the_validation_speaker_and_keeps_nothing(tmp_path):
    seen = []
    spy = own("spy", fit=lambda x, y: seen.append((np.array(x), list(y))))
    with known(spy):
        asked = task(tmp_path, spy, purpose="search")
        record = run_trial.run(asked)
    pack = Pack.open(asked.pack)
    train = [u for u in pack.utterances if u.speaker in ("carl", "dora")]
    ((x, y),) = seen
    np.testing.assert_array_equal(x, np.array(pack.frames())[[u.start for u in train]])
    assert y == [u.emotion for u in train]
    assert {u.speaker for u in record.scores.utterances} == {"bert"}
    assert record.validation_uar == (record.scores.uar,)
    assert not asked.ledger.state_path(record.trial_id).exists()


def test_frames_make_a_trial_too(tmp_path):
    model = own("framed", features=FRAMES)
    with known(model):
        assert isinstance(run_trial.run(task(tmp_path, model)), Record)


def test_an_error_fails_the_trial_alone_with_its_traceback_in_the_log(tmp_path):
    def misses(x, y):
        raise FileNotFoundError("a file of mine")

    model = own(fit=misses)
    with known(model):
        failure = run_trial.run(task(tmp_path, model))
    assert isinstance(failure, Failure)
    assert failure.reason == "fit raised FileNotFoundError: a file of mine"
    assert "in misses" in Path(failure.log).read_text(encoding="utf-8")


# Fitted state


def test_the_fitted_state_is_kept_without_pickle_and_scores_as_before(tmp_path):
    asked = task(tmp_path, SVM)
    record = run_trial.run(asked)
    state = asked.ledger.state(record.trial_id)
    assert fitted_state.digest(state) == record.weights_sha256
    assert record.fitted.unkept == ""
    model = find.load(record, asked.ledger)
    pack = Pack.open(asked.pack)
    frames = pack.frames()
    rows = {u.id: np.array(frames[u.start : u.start + 1]) for u in pack.utterances}
    for u in record.scores.utterances:
        np.testing.assert_allclose(model.scores([rows[u.id]])[0].probabilities, u.p, atol=1e-6)


class Foreign:
    """Would run code when it is unpickled."""


def test_state_with_other_types_is_neither_written_nor_read(tmp_path):
    from sklearn.preprocessing import StandardScaler
    from skops.io import dumps

    model = StandardScaler()
    model.extra_ = Foreign()
    with pytest.raises(fitted_state.StateError, match=r"not scikit-learn's, NumPy's or a built-in model's: .*Foreign"):
        fitted_state.load(dumps(model))
    with pytest.raises(fitted_state.StateError, match="skops cannot read it"):
        fitted_state.load(b"PK no file of skops")
    model = own()
    with known(model):
        asked = task(tmp_path, model)
        record = run_trial.run(asked)
    assert "tests.helpers.estimators.Own" in record.fitted.unkept
    assert not asked.ledger.state_path(record.trial_id).exists()


def loaded(asked, record, capsys):
    capsys.readouterr()
    model = find.load(record, asked.ledger)
    return model, capsys.readouterr().err


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_without_its_state_an_estimator_is_fitted_again_on_the_stored_features_after_saying_so(tmp_path, harm, capsys):
    asked = task(tmp_path, SVM)
    record = run_trial.run(asked)
    path = asked.ledger.state_path(record.trial_id)
    path.unlink() if harm == "missing" else path.write_bytes(path.read_bytes()[:-1] + b"x")
    (tmp_path / "features").rename(tmp_path / "storage" / "features")
    model, said = loaded(asked, record, capsys)
    why = f"{path} is not there" if harm == "missing" else "its fitted state is damaged"
    assert said.startswith(f"trial {record.trial_id}: {why}")
    assert f"; it is fitted again on the features {tmp_path / 'storage' / 'features'}" in said
    pack = Pack.open(model.pack(tmp_path / "storage" / "features"))
    (first, *_) = (u for u in pack.utterances if u.id == record.scores.utterances[0].id)
    again = model.scores([np.array(pack.frames()[first.start : first.start + 1])])[0].probabilities
    np.testing.assert_allclose(again, record.scores.utterances[0].p, atol=1e-6)


def test_without_state_and_features_the_refusal_says_what_to_do(tmp_path):
    model = own()
    with known(model):
        asked = task(tmp_path, model)
        record = run_trial.run(asked)
        with pytest.raises(RequestError) as refused:
            find.load(record, asked.ledger)
    (said,) = refused.value.problems
    assert "its fitted state was not kept, because it holds types" in said
    assert "on which it is fitted again, cannot be read" in said
    assert "type its sweep's command again" in said


def test_an_estimator_that_now_scores_otherwise_is_refused(tmp_path):
    asked = task(tmp_path, LOGISTIC)
    record = run_trial.run(asked)
    other = replace(record, known_sound=tuple(reversed(record.known_sound)))
    with pytest.raises(RequestError, match="it gives a made-up sound other scores than were recorded"):
        find.load(other, asked.ledger)


# --trial-timeout


def test_in_process_an_alarm_ends_a_trial_that_takes_too_long_even_one_that_catches_exceptions(tmp_path):
    def hang(x, y):
        while True:
            try:
                while True:
                    pass
            except Exception:
                continue

    slow, quick = own("slow", fit=hang), own("quick")
    with known(slow, quick):
        asked = [task(tmp_path, slow, limit_s=0.2), task(tmp_path, quick, limit_s=60.0)]
        with pytest.raises(time_limit.TimeUp):
            run_trial.run_pack(asked[:1], time_limit.by_alarm)
        (failure,) = time_limit.ended(asked[:1])
        (record,) = run_trial.run_pack(asked[1:], time_limit.by_alarm)
    assert failure.reason.startswith("it took longer than --trial-timeout 0.2 s")
    assert asked[0].ledger.get(failure.trial_id) == failure
    assert isinstance(record, Record)


def test_another_process_ends_a_worker_whose_time_is_up_and_leaves_its_failure_in_a_ledger_that_is_still_empty(
    tmp_path,
):
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    asked = task(tmp_path, SVM, limit_s=0.1)
    spec = tmp_path / "task.pickle"
    spec.write_bytes(pickle.dumps(asked))
    done = subprocess.run(
        [sys.executable, str(script), str(spec)], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    failure = asked.ledger.get(asked.spec.trial_id)
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("it took longer than --trial-timeout 0.1 s")


# Requests


def refused(*words):
    with pytest.raises(RequestError) as error:
        check(parse([*words, "--in-process"]))
    return "\n".join(error.value.problems)


def test_options_about_epochs_are_refused_where_no_model_has_them(tiny_manifest, tmp_path):
    base = [str(tiny_manifest), "--out", str(tmp_path)]
    assert "--epochs: tiny_svm, tiny_logistic have no epochs; leave it out" in refused(
        *base, "--epochs", "3", "--model", "tiny_svm", "tiny_logistic"
    )
    said = refused(*base, "--selection", "oracle", "--model", "tiny_svm")
    assert "--selection oracle: tiny_svm has no epochs to choose on the test fold; name networks only" in said
    both = check(parse([*base, "--epochs", "3", "--model", "tiny_svm", "time_frequency_transformer"]))
    epochs = {s.configuration.model: s.epochs for s in both.plan.studies}
    assert epochs == {"tiny_svm": 1, "time_frequency_transformer": 3}


@pytest.mark.parametrize("seconds", ["0", "-1"])
def test_a_time_limit_has_to_be_above_zero(tiny_manifest, seconds):
    assert f"--trial-timeout: {float(seconds)} is not above 0" in refused(
        str(tiny_manifest), "--model", "tiny_svm", "--trial-timeout", seconds
    )


def test_a_plan_says_nothing_of_an_estimators_epochs_and_that_its_cost_is_not_known(tiny_manifest, tmp_path, capsys):
    words = [str(tiny_manifest), "--out", str(tmp_path), "--model", "tiny_svm", "--plan"]
    assert command.main(words) == 0
    out = capsys.readouterr().out
    assert "Tiny SVM full on tiny, leave-one-speaker-out: 4 folds, 1 seed\n" in out
    assert "how long tiny_svm takes is known only once it was fitted" in out
    assert "epoch" not in out
    assert hours.core_hours(check(parse(words)).plan, {}) == 0.0


# A sweep, its tables and MLflow


def space(folder, model="tiny_svm"):
    path = folder / "space.yaml"
    path.write_text(f"model: {model}\nsearch:\n  c: {{float: [0.01, 100.0], scale: log}}\n")
    return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A nested search over an estimator, and another one that is transductive and has no such emotion everywhere."""
    out = tmp_path_factory.mktemp("searched")
    manifest = write_tiny(out / "tiny")
    beside = own("beside", transductive=True, proba=lambda p, x: 0.9 * p + 0.1 * np.mean(p, axis=0))
    with known(SVM, LOGISTIC, beside):
        words = [str(manifest), "--out", str(out), "--in-process"]
        more = ["--model", "tiny_svm", "--trials", "3", "--space", str(space(out)), "--name", "s"]
        assert command.main([*words, *more]) == 0
        assert command.main([*words, "--model", "tiny_svm", "beside", "--name", "t"]) == 0
    return out


@pytest.mark.full
def test_a_search_chooses_the_setting_with_the_best_validation_recall_and_has_no_epochs(searched):
    tried = read(searched / "s", "search.csv")
    assert len(tried) == 4 * 3
    assert tried.epochs.isna().all()
    ledger = Ledger(searched / ".tfser" / "ledger")
    records = [ledger.get(i) for i in ledger.ids()]
    for fold in FOLDS:
        own_trials = [
            r for r in records if r.spec.fold == fold and r.spec.purpose == "search" and r.spec.model == "tiny_svm"
        ]
        best = max(r.scores.uar for r in own_trials)
        (chosen,) = tried[(tried.folds == fold) & tried.chosen].to_dict("records")
        assert chosen["validation_uar"] == pytest.approx(best, abs=1e-12)
        finals = read(searched / "s", "folds.csv")
        (final,) = finals[finals.fold == fold].to_dict("records")
        assert json.loads(final["hyperparameters"])["c"] == pytest.approx(json.loads(chosen["hyperparameters"])["c"])


@pytest.mark.full
def test_tables_have_no_epochs_for_an_estimator_and_its_notes(searched):
    tables = tfser.results(searched / "s")
    assert tables.folds.epochs.isna().all()
    assert "epochs" not in json.loads(tables.summary.settings[0])
    text = (searched / "s" / "details.md").read_text()
    assert "it has no predict_proba; probabilities are the softmax of its decision_function" in text
    assert "an estimator may choose settings of its own inside its fit, which sees training utterances alone" in text
    page = (searched / "s" / "report.html").read_text()
    assert '<td class="n">–</td>' in page
    assert "Learning curves" not in page


@pytest.mark.full
def test_a_transductive_row_is_marked_in_every_table_and_never_bold(searched):
    for name in ("comparison.md", "comparison.tex", "details.md", "details.csv", "report.html"):
        assert "§" in (searched / "t" / name).read_text(), name
        assert ", transductive" not in (searched / "t" / name).read_text(), name
        assert "§" not in (searched / "s" / name).read_text(), name
    rows = [line for line in (searched / "t" / "details.md").read_text().splitlines() if "beside" in line]
    assert rows
    assert all("**" not in row for row in rows if row.startswith("|"))
    again = searched / "collected"
    assert collect(["t", "--storage", str(searched / ".tfser"), "--out", str(again)]) == 0
    assert "beside, full§ (ours)" in (again / "t" / "comparison.md").read_text()


@pytest.mark.full
def test_mlflow_has_the_mark_and_the_notes_and_no_epochs_segments_or_parameters(searched):
    runs = [r.data for r in runs_of(searched)[1]]
    marked = {r.tags["tfser.model"] for r in runs if r.tags.get("tfser.transductive") == "true"}
    assert marked == {"beside"}
    trials = [r for r in runs if r.tags["tfser.kind"] == "fold"]
    assert trials
    for run in trials:
        assert not {"test/segment_uar", "parameters"} & run.metrics.keys()
        assert "epochs" not in run.params
    assert any("softmax of its decision_function" in r.tags.get("tfser.notes", "") for r in trials)


@pytest.mark.full
def test_the_same_command_fits_nothing_again(searched, capsys, monkeypatch):
    monkeypatch.setattr(run_trial, "run", lambda task: pytest.fail("a finished trial was fitted again"))
    words = [str(searched / "tiny" / "tiny.csv"), "--out", str(searched), "--in-process"]
    more = ["--model", "tiny_svm", "--trials", "3", "--space", str(space(searched)), "--name", "s"]
    assert command.main([*words, *more]) == 0
    out = capsys.readouterr().out
    assert "Trained 0 trials" in out
    assert "chosen for tiny anna full: c " in out
    assert "at epoch" not in out


@pytest.mark.full
def test_predict_scores_files_with_an_estimator_and_refuses_segments(searched, capsys):
    sounds = [str(searched / "tiny" / "anna" / f"{name}.wav") for name in ("calm0", "glad1")]
    run = ["s", "--results", str(searched), "--fold", "anna"]
    assert predict.main([*run, *sounds, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    recorded = {u: p for u, p in read(searched / "s", "predictions.csv").set_index("utterance").iterrows()}
    for file, name in zip(answer["files"], ("anna/calm0.wav", "anna/glad1.wav"), strict=True):
        for emotion, p in file["p"].items():
            assert p == pytest.approx(recorded[name][f"p_{emotion}"], abs=1e-6)
    assert predict.main([*run, *sounds, "--segments"]) == 2
    assert "--segments: tiny_svm scores whole utterances and has none" in capsys.readouterr().err


@pytest.mark.full
def test_a_logged_estimator_is_served_from_its_state(searched, tmp_path):
    import pandas as pd
    from mlflow.pyfunc import load_model

    ledger = Ledger(searched / ".tfser" / "ledger")
    records = [r for r in map(ledger.get, ledger.ids()) if r.spec.purpose == "final" and r.spec.model == "tiny_svm"]
    record = next(r for r in records if r.spec.fold == "anna")
    save(tmp_path / "served", record, ledger.state(record.trial_id))
    sound = (searched / "tiny" / "anna" / "calm0.wav").read_bytes()
    answer = load_model(str(tmp_path / "served")).predict(pd.DataFrame({"audio": [sound]}))
    (u,) = (u for u in record.scores.utterances if u.id == "anna/calm0.wav")
    np.testing.assert_allclose(answer[[f"p_{e}" for e in record.scores.emotions]].to_numpy()[0], u.p, atol=1e-6)


# Leaks


def leaks(manifest, out, *more):
    words = [str(manifest), "--out", str(out), "--in-process", "--model", "tiny_svm", "--name", "x", *more]
    return leaks_command.main(words)


def test_leaks_leave_out_the_rows_that_an_estimator_cannot_have_and_say_why(tiny_manifest, tmp_path, capsys):
    assert leaks(tiny_manifest, tmp_path) == 0
    rows = read(tmp_path / "leaks-x", "leaks.csv")
    assert list(rows["row"]) == ["honest", "standardisation_per_speaker", "random_split"]
    assert rows.epochs.isna().all()
    text = (tmp_path / "leaks-x" / "leaks.md").read_text()
    for said in (
        "epoch chosen on the test fold: tiny_svm is an estimator, and there are no epochs to choose among",
        "standardisation over all speakers: standardisation is none in the first row, so that no statistics of",
    ):
        assert said in text
    assert "epochs, the last one counts" not in text
    capsys.readouterr()
    assert leaks(tiny_manifest, tmp_path / "other", "--leak", "standardisation", "random_split") == 2
    assert "--leak standardisation: standardisation is none in the first row" in capsys.readouterr().err


def test_leaks_choose_an_estimators_setting_on_the_test_fold_and_split_at_random(tiny_manifest, tmp_path):
    assert leaks(tiny_manifest, tmp_path, "--trials", "2", "--space", str(space(tmp_path))) == 0
    rows = read(tmp_path / "leaks-x", "leaks.csv").set_index("row")
    assert list(rows.index) == [
        "honest", "hyperparameters", "standardisation_per_speaker", "random_split", "together"
    ]  # fmt: skip
    assert rows.loc["hyperparameters"].uar_mean >= rows.loc["honest"].uar_mean
    trials = read(tmp_path / "leaks-x", "leaks_trials.csv")
    assert set(trials[trials["row"] == "together"].leaks) == {"random_split"}
    assert set(trials.purpose) == {"final"}
    ledger = Ledger(tmp_path / ".tfser" / "ledger")
    leaking = [ledger.get(i) for i in ledger.ids() if ledger.get(i).spec.leaks]
    assert leaking
    assert not any(ledger.state_path(r.trial_id).exists() for r in leaking)
