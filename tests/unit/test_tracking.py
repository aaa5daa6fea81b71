"""Writing to MLflow: what is there afterwards, and what happens while it is not."""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import sqlite3
import threading
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric_name
from PIL import Image

from tests.helpers.runs import DIGEST, EMOTIONS, Held, failure, points, record, row
from tfser.record import from_dict
from tfser.storage.passwords import redacted
from tfser.tracking import confusion_thumbnail, content, local_store, names, outbox, pages
from tfser.tracking import connection as tracking_connection
from tfser.tracking.connection import prepare
from tfser.tracking.names import configuration_key, recall
from tfser.tracking.outbox import Outbox
from tfser.tracking.runs import Tracker


@pytest.fixture
def fresh(tmp_path):
    """The URI of a database that is not there yet, and its folder."""
    return tracking_connection.default_uri(tmp_path), tmp_path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A database without a run: making one takes a second."""
    folder = tmp_path_factory.mktemp("tables")
    tracking_connection.quiet_environment()
    prepare(tracking_connection.default_uri(folder))
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def place(fresh, tables):
    """The URI of a database without a run, and its folder."""
    (fresh[1] / "mlflow.db").write_bytes(tables)
    return fresh


def tracker(place, sweep="s", **named):
    return Tracker(place[0], sweep, place[1] / "mlartifacts", **named)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def log_all(place):
    """A start that logs two final trials, a search trial, a failed one and their row; returns the row."""
    c, t = row(), tracker(place, command="python -m tfser.sweep tiny")
    finals = [record(c, fold, 0) for fold in c.folds]
    for trial in (*finals, record(c, "anna", 3, "search")):
        t.trial(c, trial)
    t.trial(c, failure(record(c, "anna", 9), "the loss was nan"))
    counts = np.sum([f.scores.confusion for f in finals], axis=0).tolist()
    ids = {f.spec.fold: {"0": f.trial_id} for f in finals}
    settings = {"channels": 16, "epochs": 20}
    t.configuration(
        c,
        ids,
        {"folds_done": 2.0, "test/uar_pooled": 0.4},
        1_700_000_000_000,
        confusion=counts,
        settings=settings,
        digest=DIGEST,
    )
    return c


def test_a_run_holds_every_number_of_its_trial_once(place):
    c = log_all(place)
    held = Held(place[1] / "mlflow.db")
    for trial in (record(c, "anna", 0), record(c, "bert", 0), record(c, "anna", 3, "search")):
        (run,) = held.of("s", trial.trial_id)
        assert held.metrics[run] == points(trial)
        assert held.params[run]["learning_rate"] == "0.001"
        assert held.params[run]["fold"] == trial.spec.fold
    assert set(held.times.values()) == {1}
    (failed,) = held.of("s", record(c, "anna", 9).trial_id)
    assert held.runs[failed][1] == "FAILED"
    assert held.tags[failed]["tfser.reason"] == "the loss was nan"


def test_runs_say_which_part_of_which_database_was_used_for_what(place):
    c = log_all(place)
    held = Held(place[1] / "mlflow.db")
    (fold,), (search,) = (
        held.of("s", record(c, "anna", 0).trial_id),
        held.of("s", record(c, "anna", 3, "search").trial_id),
    )
    (whole,) = held.of("s", configuration_key(c))
    assert held.inputs[fold] == {"train": ("tiny without anna", DIGEST), "test": ("tiny anna", DIGEST)}
    assert held.inputs[search] == {"train": ("tiny without anna, dora", DIGEST), "validation": ("tiny dora", DIGEST)}
    assert held.inputs[whole] == {"leave-one-speaker-out": ("tiny", DIGEST)}


def test_names_parameters_and_tags_tell_runs_apart_without_opening_them(place):
    c = log_all(place)
    held = Held(place[1] / "mlflow.db")
    anna, bert, failed = (record(c, fold, seed).trial_id[:6] for fold, seed in (("anna", 0), ("bert", 0), ("anna", 9)))
    search, model = record(c, "anna", 3, "search").trial_id[:6], "time_frequency_transformer"
    assert {held.tags[run]["mlflow.runName"] for run in held.runs} == {
        f"TFT T+F published · tiny · s · {model}",
        f"TFT T+F published anna · seed 0 · s · {anna} · {model}",
        f"TFT T+F published bert · seed 0 · s · {bert} · {model}",
        f"TFT T+F published anna · seed 9 · s · {failed} · {model}",
        f"TFT T+F published anna · search, validated on dora · seed 3 · s · {search} · {model}",
    }
    (run,) = held.of("s", configuration_key(c))
    assert (
        held.params[run] | {"channels": "16", "epochs": "20", "ablation": "T+F", "selection": "published"}
        == held.params[run]
    )
    assert held.tags[run]["tfser.command"] == "python -m tfser.sweep tiny"
    assert held.tags[run]["tfser.folds"] == "anna bert"


def test_the_beginning_of_a_name_tells_model_ablation_selection_and_fold_apart():
    """MLflow's charts show some 20 characters of it."""
    rows = [
        dataclasses.replace(row(ablation), model=model, selection=selection)
        for model, ablation in (("time_frequency_transformer", "T+F+TF"), ("atfnn", "ATFNN"), ("svm", "full"))
        for selection in ("fixed", "nested")
    ]
    rows += [dataclasses.replace(row(ablation), selection="nested") for ablation in ("T+F", "T+TF", "F+TF")]
    assert len({names.configuration_run(c, "s")[:20] for c in rows}) == len(rows)
    folds = [names.trial_run(c, record(c, fold, 0).spec, "s")[:24] for c in rows for fold in ("03", "08")]
    assert len(set(folds)) == 2 * len(rows)


def test_no_two_runs_have_one_name():
    """Nor where settings, data, seed or sweep differ alone, or where names are longer than databases take."""
    c = row()
    long = [dataclasses.replace(c, database=240 * "d" + end) for end in "xy"]
    others = [{"settings": '{"epochs": 1}'}, {"settings": '{"epochs": 2}'}, {"database_digest": DIGEST}]
    rows = [c, *long, row("T+TF"), *(dataclasses.replace(c, **other) for other in others)]
    specs = [record(c, fold, seed).spec for fold in ("anna", 240 * "f" + "x", 240 * "f" + "y") for seed in (0, 1)]
    specs += [record(c, "anna", 0, "search").spec, record(c, "anna", 0, epochs=9).spec]
    made = [names.configuration_run(each, sweep) for each in rows for sweep in ("s", "r")]
    made += [names.trial_run(c, spec, sweep) for spec in specs for sweep in ("s", "r")]
    assert len(set(made)) == len(made) == 2 * (7 + 8)
    assert max(map(len, made)) <= 250


@pytest.mark.parametrize(
    ("model", "beginning"),
    [
        ("svm", "svm"),
        ("fcn_attention", "fcn_attention"),
        ("time_frequency_transformer", "TFT"),
        ("MyOwnTransformerModel", "MOTM"),
        ("averylongsinglename", "averylongsinglename"),
    ],
)
def test_a_long_name_of_several_words_begins_with_their_initials_and_stands_at_the_end(model, beginning):
    name = names.configuration_run(dataclasses.replace(row(), model=model), "s")
    assert name.startswith(f"{beginning} T+F published")
    assert model in name


def test_runs_of_trials_have_the_choice_the_settings_digest_and_the_epochs_as_parameters(place):
    c = dataclasses.replace(row(selection="nested"), settings='{"trials": 3}')
    trial = record(c, "anna", 0, epochs=20)
    tracker(place).trial(c, trial)
    tracker(place).configuration(c, {}, {}, 0)
    held = Held(place[1] / "mlflow.db")
    digest = hashlib.sha256(b'{"trials": 3}').hexdigest()[:12]
    (fold,), (parent,) = held.of("s", trial.trial_id), held.of("s", configuration_key(c))
    assert held.params[fold] == {**held.params[fold], "selection": "nested", "settings_digest": digest, "epochs": "20"}
    assert held.params[parent]["settings_digest"] == digest
    assert f"settings {digest[:6]}" in held.tags[parent]["mlflow.runName"]


@pytest.mark.parametrize("best", [0, 123, 698, 699])
def test_of_a_long_curve_the_first_the_last_and_the_highest_point_are_among_those_shown(best):
    curve = [0.5 + 0.1 * (epoch == best) for epoch in range(700)]
    shown = content.thinned(curve)
    assert len(shown) <= 100
    assert {1, 700, best + 1} <= set(shown)
    assert max(np.diff(shown)) <= 8  # evenly: 700 epochs in 98 steps
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("epochs", [0, 1, 2, 99, 100])
def test_of_a_curve_that_a_chart_can_show_every_point_is_shown(epochs):
    assert content.thinned(epochs * [0.5]) == list(range(1, epochs + 1))


def test_a_curve_is_thinned_in_mlflow_and_whole_in_the_record_beside_it(place):
    c, trial = row(), record(row(), "anna", 0, "search", epochs=700)
    tracker(place).trial(c, trial)
    held = Held(place[1] / "mlflow.db")
    (run,) = held.of("s", trial.trial_id)
    shown = {step: value for (name, step), value in held.metrics[run].items() if name == "validation/uar_curve"}
    assert 90 < len(shown) <= 100
    assert all(value == trial.curves.validation_uar[step - 1] for step, value in shown.items())
    assert max(shown.values()) == max(trial.curves.validation_uar)
    (path,) = (place[1] / "mlartifacts").rglob("trial.json")
    assert len(json.loads(path.read_text())["curves"]["validation_uar"]) == 700


EMOTION = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)


@given(st.lists(EMOTION, min_size=2, max_size=2, unique=True))
@example(["愤怒", "悲伤"])
@example(["anger (hot)", "anger -hot-"])
@example(["क्रोध", "करोध"])
@example(["\u0e42\u0e01\u0e23\u0e18", "\u0e01\u0e23\u0e18"])
@example(["a+", "a:2b:"])
@example(["..", "./."])
@example(["é", "e\u0301"])
@example([64 * "\u0301", 63 * "\u0301" + "\u0302"])
def test_emotions_and_folds_of_any_script_have_metrics_of_their_own_that_mlflow_takes(emotions):
    made = [name("test", emotion) for emotion in emotions for name in (recall, names.by_fold)]
    assert len(set(made)) == 4
    for name in made:
        _validate_metric_name(name)
        assert len(name) <= 250


def test_a_metrics_name_keeps_letters_of_any_script():
    assert recall("test", "愤怒") == "test/recall/愤怒"
    assert recall("test", "Ärger 2_b-c.d") == "test/recall/Ärger 2_b-c.d"
    assert recall("test", "joy + fear (mild)") == "test/recall/joy :2b: fear :28:mild:29:"


def test_two_emotions_in_chinese_are_two_metrics_of_a_run(place):
    c = dataclasses.replace(row(), emotions=("愤怒", "悲伤", "高兴", "平静"))
    trial = record(c, "anna", 0)
    tracker(place).trial(c, trial)
    held = Held(place[1] / "mlflow.db")
    (run,) = held.of("s", trial.trial_id)
    assert {name: value for (name, _), value in held.metrics[run].items() if name.startswith("test/recall/")} == {
        f"test/recall/{emotion}": recall for emotion, recall in trial.scores.recalls.items()
    }


@pytest.mark.full
def test_long_names_of_parts_of_a_database_stay_apart(place):
    """MLflow links a run to one dataset of a name, and takes 500 characters."""
    c = row()
    for end in ("x", "y"):
        fold = 600 * "n" + end
        tracker(place).trial(dataclasses.replace(c, folds=(fold,)), record(c, fold, 0))
    held = Held(place[1] / "mlflow.db")
    names = {
        held.inputs[run][context][0] for run in held.runs if "test" in held.inputs[run] for context in ("train", "test")
    }
    assert len(names) == 4
    assert max(map(len, names)) <= 500


def test_confusion_pictures_lie_beside_the_record(place):
    c = log_all(place)
    held = Held(place[1] / "mlflow.db")
    for key in (record(c, "anna", 0).trial_id, configuration_key(c)):
        (run,) = held.of("s", key)
        folder = Path(held.runs[run][2].removeprefix("file://"))
        with Image.open(folder / "confusion.png") as image:
            assert image.width > 4 * confusion_thumbnail.CELL
        assert (folder / "confusion.csv").read_text().splitlines()[0] == "true,angry,calm,glad,sad"
    (search,) = held.of("s", record(c, "anna", 3, "search").trial_id)
    assert [p.name for p in Path(held.runs[search][2].removeprefix("file://")).iterdir()] == ["trial.json"]


def test_logging_again_changes_nothing(place):
    def dump():
        with sqlite3.connect(place[1] / "mlflow.db") as connection:
            lines = sorted(connection.iterdump())
        connection.close()
        return lines

    log_all(place)
    before, artifacts = dump(), files(place[1] / "mlartifacts")
    log_all(place)
    assert dump() == before
    assert files(place[1] / "mlartifacts") == artifacts


def rows_of(place):
    """Every column of the tables of runs, by trial id or key of a row, without the ids that MLflow chooses."""
    with sqlite3.connect(place[1] / "mlflow.db") as connection:
        keys = dict(connection.execute("SELECT run_uuid, value FROM tags WHERE key = 'tfser.key'"))
        found = defaultdict(list)
        for table, run in [("runs", "run_uuid"), *((t, "run_uuid") for t in ("tags", "params")), *METRICS]:
            cursor = connection.execute(f"SELECT * FROM {table}")
            for values in cursor:
                own = dict(zip([column[0] for column in cursor.description], values, strict=True))
                key = keys[own.pop(run)]
                if "T+F" in key:  # a row's run has the time of its writing
                    own = {name: value for name, value in own.items() if name not in TIMES}
                found[table, key].append(repr([(name, _known(value, keys)) for name, value in sorted(own.items())]))
        of_inputs = connection.execute(
            "SELECT i.destination_id, i.source_type, i.destination_type, i.step, t.name, t.value, d.experiment_id, "
            "d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, d.dataset_profile "
            "FROM inputs i JOIN datasets d ON i.source_id = d.dataset_uuid JOIN input_tags t USING (input_uuid)"
        )
        for run, *values in of_inputs:
            found["inputs", keys[run]].append(repr(values))
        found["datasets"] = connection.execute("SELECT COUNT(*) FROM datasets").fetchall()
    connection.close()
    return {name: sorted(rows) for name, rows in found.items()}


TIMES = ("timestamp", "start_time", "end_time")
METRICS = [("metrics", "run_uuid"), ("latest_metrics", "run_uuid")]


def _known(value, keys):
    for run, key in keys.items():
        value = value.replace(run, key) if isinstance(value, str) else value
    return value


def test_a_local_database_holds_the_same_rows_as_if_mlflow_itself_had_written_them(place, tables, monkeypatch):
    log_all(place)
    ours = rows_of(place)
    (place[1] / "mlflow.db").write_bytes(tables)
    with monkeypatch.context() as patch:
        patch.setattr(local_store.LocalStore, "_plainly", lambda self, plain, own, *arguments: own(*arguments))
        log_all(place)
    assert ours == rows_of(place)
    assert sum(map(len, ours.values())) > 300


@pytest.mark.parametrize("later", ["ALTER TABLE metrics ADD COLUMN later INTEGER DEFAULT 7", ""])
def test_tables_that_a_later_mlflow_made_are_written_by_mlflow_itself(place, monkeypatch, later):
    with sqlite3.connect(place[1] / "mlflow.db") as connection:
        connection.executescript(later)
    connection.close()
    plain = []
    monkeypatch.setattr(local_store, "_insert", lambda connection, table, rows, **named: plain.append(table) or 1 / 0)
    if later:
        log_all(place)
        assert len(Held(place[1] / "mlflow.db").runs) == 5
        assert not plain
    else:
        with pytest.raises(ZeroDivisionError):
            log_all(place)


def test_calls_that_share_a_transaction_are_all_made_where_one_is_not_the_plain_case_and_none_where_one_breaks(place):
    c, trial = row(), record(row(), "anna", 0)
    t = tracker(place)
    run = t._index.make_trial(c, trial.spec, 1_700_000_000_000).id
    with contextlib.suppress(ZeroDivisionError), t._client.together():
        t._client.log(run, {"fold": "anna"}, [("test/war", 0.5, 0)], {}, 5)
        raise ZeroDivisionError
    assert t._client.get_run(run).data.params == {}
    with t._client.together():
        t._client.log_parts(run, c, DIGEST, content.trial_parts(trial.spec))
        t._client.log(run, {"fold": "anna"}, [("test/war", 0.5, 0)], {"note": "1"}, 5)
        t._client.log(run, {}, [("test/uar", math.inf, 0)], {"note": "2"}, 5)
        t._client.set_terminated(run, "FINISHED", end_time=7)
    found = t._client.get_run(run)
    assert found.data.params == {"fold": "anna"}
    assert set(found.data.metrics) == {"test/war", "test/uar"}
    assert found.data.tags["note"] == "2"
    assert (found.info.status, found.info.end_time) == ("FINISHED", 7)
    assert set(Held(place[1] / "mlflow.db").inputs[run]) == {"train", "test"}


def test_a_batch_that_is_not_the_plain_case_ends_as_mlflow_would_end_it(place):
    c, trial = row(), record(row(), "anna", 0)
    t = tracker(place)
    t.trial(c, trial)
    (run,) = Held(place[1] / "mlflow.db").of("s", trial.trial_id)
    client = t._client
    client.log(run, {"fold": "anna"}, [("test/war", trial.scores.war, 0), ("new", math.nan, 0), ("new", 1.0, 1)], {}, 5)
    assert client.get_run(run).data.metrics["new"] == 1.0
    with pytest.raises(MlflowException, match="Changing param values"):
        client.log(run, {"fold": "bert"}, [("newer", 1.0, 0)], {}, 5)
    assert "newer" not in client.get_run(run).data.metrics
    with pytest.raises(MlflowException, match="Invalid value for a metric|Invalid"):
        client.log(run, {}, [("a:b+c", 1.0, 0)], {}, 5)
    with pytest.raises(MlflowException, match="not found"):
        client.log("0" * 32, {}, [("newer", 1.0, 0)], {}, 5)
    client.delete_run(run)
    with pytest.raises(MlflowException, match="deleted|active"):
        client.set_terminated(run, "FINISHED", end_time=7)


def test_the_last_number_of_a_row_is_the_one_that_shows_even_where_it_is_smaller(place):
    c = row()
    for value in (0.6, 0.5):
        time.sleep(0.002)  # MLflow's clock has milliseconds
        tracker(place).configuration(c, {}, {"test/uar_pooled": value}, 1_700_000_000_000)
    client = tracker(place)._client
    (run,) = Held(place[1] / "mlflow.db").of("s", configuration_key(c))
    assert client.get_run(run).data.metrics == {"test/uar_pooled": 0.5}


def test_more_than_mlflow_takes_at_once_goes_in_parts(place):
    c, numbers = row(), {names.by_fold("test", f"{fold:04d}"): fold / 2100 for fold in range(2100)}
    tracker(place).configuration(c, {}, numbers, 0)
    held = Held(place[1] / "mlflow.db")
    (run,) = held.of("s", configuration_key(c))
    assert held.metrics[run] == {(name, 0): value for name, value in numbers.items()}


def test_a_write_that_was_cut_off_is_made_whole_by_the_next_start(place, monkeypatch):
    c, trial = row(), record(row(), "anna", 0)
    for step in ("log_inputs", "log_artifacts", "log_batch", "set_terminated"):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, step, lambda *a, **k: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                tracker(place).trial(c, trial)
    tracker(place).trial(c, trial)
    held = Held(place[1] / "mlflow.db")
    (run,) = held.of("s", trial.trial_id)
    assert held.metrics[run] == points(trial)
    assert held.runs[run][1] == "FINISHED"
    assert set(held.times.values()) == {1}


def test_a_record_that_is_gone_or_empty_is_written_anew(place):
    c, trial = row(), record(row(), "anna", 0)
    tracker(place).trial(c, trial)
    (path,) = (place[1] / "mlartifacts").rglob("trial.json")
    for damage in (lambda: path.write_text(""), path.unlink):
        damage()
        tracker(place).trial(c, trial)
        assert from_dict(json.loads(path.read_text())) == trial


def test_a_trial_that_failed_and_then_did_not_is_no_failure_any_more(place):
    c, trial = row(), record(row(), "anna", 0)
    tracker(place).trial(c, failure(trial, "out of memory"))
    tracker(place).trial(c, trial)
    held = Held(place[1] / "mlflow.db")
    (run,) = held.of("s", trial.trial_id)
    assert held.runs[run][1] == "FINISHED"
    assert "tfser.reason" not in held.tags[run]


def test_of_runs_that_exist_twice_one_stays_with_all_children(place):
    c, trials = row(), [record(row(), fold, 0) for fold in ("anna", "bert")]
    t = tracker(place)
    t.trial(c, trials[0])
    late = tracker(place)
    late._index._runs = {e: {} for e in t._index._runs}  # what a start sees whose requests are still on their way
    late._index.make_trial(c, trials[0].spec, 0)
    late.trial(c, trials[1])
    assert len(Held(place[1] / "mlflow.db").runs) == 5
    tracker(place).remove_doubles()
    held = Held(place[1] / "mlflow.db")
    (parent,) = held.of("s", configuration_key(c))
    for trial in trials:
        (run,) = held.of("s", trial.trial_id)
        assert held.tags[run]["mlflow.parentRunId"] == parent
        assert held.metrics[run] == points(trial)
        assert held.runs[run][1] == "FINISHED"


@pytest.mark.parametrize("late", [False, True], ids=["arrives while we wait", "arrives after our next attempt"])
def test_a_run_whose_making_was_not_answered_in_time_is_there_once(place, monkeypatch, late):
    c, trial = row(), record(row(), "anna", 0)
    warned, on_their_way, calls = [], [], []
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.01)

    def make():
        t = tracker(place)
        create = t._client.create_run

        def unanswered(*arguments, **named):
            calls.append(named["run_name"])
            if calls.count(named["run_name"]) == 1:
                on_their_way.append(lambda: create(*arguments, **named))
                if not late:
                    on_their_way.pop()()
                raise TimeoutError("no answer for 30 s")
            answer = create(*arguments, **named)
            while on_their_way:
                on_their_way.pop()()
            return answer

        monkeypatch.setattr(t._client, "create_run", unanswered)
        return t

    m = Outbox(make, warned.append)
    m.put(lambda tracker: tracker.trial(c, trial), "the trial")
    m.close()
    held = Held(place[1] / "mlflow.db")
    (parent,), (run,) = held.of("s", configuration_key(c)), held.of("s", trial.trial_id)
    assert held.tags[run]["mlflow.parentRunId"] == parent
    assert held.metrics[run] == points(trial)
    assert held.runs[run][1] == "FINISHED"
    assert len(calls) == (4 if late else 2)
    assert m.lost == 0


def test_sweeps_do_not_see_each_others_runs(place):
    c, trial = row(), record(row(), "anna", 0)
    for sweep in ("s", "r"):
        tracker(place, sweep).trial(c, trial)
    held = Held(place[1] / "mlflow.db")
    assert [len(held.of(sweep, trial.trial_id)) for sweep in ("s", "r")] == [1, 1]


def test_an_experiment_that_somebody_makes_at_the_same_time_is_used(place, monkeypatch):
    tracker(place).experiment(row())
    t = tracker(place)
    found = t._client.get_experiment_by_name
    monkeypatch.setattr(t._client, "get_experiment_by_name", lambda name: None)

    def make(*arguments, create=t._client.create_experiment, **named):
        monkeypatch.setattr(t._client, "get_experiment_by_name", found)
        return create(*arguments, **named)

    monkeypatch.setattr(t._client, "create_experiment", make)
    assert t.experiment(row()) == found("tfser/tiny/speaker").experiment_id


def test_a_run_whose_parent_was_deleted_gets_the_new_one(place):
    c, trial = row(), record(row(), "anna", 0)
    t = tracker(place)
    t.trial(c, trial)
    (before,) = Held(place[1] / "mlflow.db").of("s", configuration_key(c))
    t._client.delete_run(before)
    later = tracker(place)
    assert not later.holds(c, trial.trial_id, "done")
    later.trial(c, trial)
    assert later.holds(c, trial.trial_id, "done")
    held = Held(place[1] / "mlflow.db")
    (parent,), (run,) = held.of("s", configuration_key(c)), held.of("s", trial.trial_id)
    assert parent != before
    assert held.tags[run]["mlflow.parentRunId"] == parent
    assert set(held.times.values()) == {1}


def test_rows_of_other_data_or_settings_have_runs_of_their_own(place):
    states = [("a", '{"epochs": 8}'), ("a", '{"epochs": 1}'), ("b", '{"epochs": 8}')]
    rows = [dataclasses.replace(row(), database_digest=digest, settings=settings) for digest, settings in states]
    ids = [tracker(place).configuration(c, {}, {}, 0) for c in rows]
    assert len(set(ids)) == 3
    assert [tracker(place).configuration(c, {}, {}, 0) for c in rows] == ids


@pytest.mark.parametrize(
    ("digest", "settings", "adopted"),
    [
        (DIGEST, '{"channels": 16, "epochs": 20}', True),
        ("other", '{"channels": 16, "epochs": 20}', False),
        (DIGEST, '{"epochs": 1}', False),
    ],
)
def test_the_run_that_an_earlier_version_made_of_a_row_is_taken_over_where_it_is_the_same(
    place, digest, settings, adopted
):
    log_all(place)
    (before,) = Held(place[1] / "mlflow.db").of("s", configuration_key(row()))
    with sqlite3.connect(place[1] / "mlflow.db") as connection:
        key = " ".join(row().words)
        connection.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'tfser.key'", (key, before))
    connection.close()
    # Our own epochs were called published once.
    c = dataclasses.replace(row(selection="fixed"), database_digest=digest, settings=settings)
    run = tracker(place).configuration(c, {}, {}, 0)
    assert (run == before) == adopted
    assert Held(place[1] / "mlflow.db").of("s", configuration_key(c)) == [run]


def as_before(place, held):
    """Give the runs the names and parameters that earlier versions gave them."""
    client = tracker(place)._client
    for run in held.runs:
        tags = held.tags[run]
        words = [tags["tfser.ablation"], f"speaker {tags.get('tfser.fold')}", f"seed {tags.get('tfser.seed')}"]
        name = {
            "configuration": f"{words[0]} · tiny · {tags['tfser.selection']} · s",
            "fold": " · ".join(words),
            "search": " · ".join(["search", *words[:2], "validated on dora", words[2]]),
        }[tags["tfser.kind"]]
        client.update_run(run, name=name)
    with sqlite3.connect(place[1] / "mlflow.db") as connection:
        trials = "SELECT run_uuid FROM tags WHERE key = 'tfser.trial_id'"
        younger = "('selection', 'settings_digest')"
        connection.execute(f"DELETE FROM params WHERE key IN {younger} AND run_uuid IN ({trials})")
    connection.close()


def test_runs_of_an_earlier_version_are_kept_and_get_the_names_and_parameters_of_this_one(place):
    c = log_all(place)
    now = Held(place[1] / "mlflow.db")
    as_before(place, now)
    before = Held(place[1] / "mlflow.db")
    assert {before.tags[run]["mlflow.runName"] for run in before.runs}.isdisjoint(
        {now.tags[run]["mlflow.runName"] for run in now.runs}
    )
    (own,) = before.of("s", record(c, "bert", 0).trial_id)
    tracker(place)._client.update_run(own, name="mine")
    assert not tracker(place).holds(c, record(c, "anna", 0).trial_id, "done")
    log_all(place)
    after = Held(place[1] / "mlflow.db")
    assert after.runs == now.runs
    assert after.params == now.params
    assert after.metrics == now.metrics
    assert after.tags[own].pop("mlflow.runName") == "mine", "a person's own name was taken away"
    now.tags[own].pop("mlflow.runName")
    assert after.tags == now.tags
    assert tracker(place).holds(c, record(c, "anna", 0).trial_id, "done")


def test_a_run_that_was_begun_for_another_choice_keeps_its_parameters_and_is_finished(place):
    """A parameter cannot change, and a failed trial may be trained again for another row of the sweep."""
    trial = record(row(), "anna", 0)
    tracker(place).trial(row(), failure(trial, "out of memory"))
    tracker(place).trial(row(selection="nested"), trial)
    held = Held(place[1] / "mlflow.db")
    (run,) = held.of("s", trial.trial_id)
    assert held.runs[run][1] == "FINISHED"
    assert held.params[run]["selection"] == "published"


def test_models_are_logged_where_they_are_asked_for_and_nowhere_else(place):
    c = row()
    final, search, failed = record(c, "anna", 0), record(c, "anna", 3, "search"), failure(record(c, "bert", 0), "nan")
    logged = []
    for log_model in (None, lambda client, run, entry: logged.append((run, entry.trial_id))):
        t = tracker(place, log_model=log_model)
        for entry in (final, search, failed):
            t.trial(c, entry)
        assert t.holds(c, final.trial_id, "done") == (log_model is None)
        assert bool(logged) == (log_model is not None)
    (run,) = Held(place[1] / "mlflow.db").of("s", final.trial_id)
    assert logged == [(run, final.trial_id)], "the run was there before models were asked for"


@pytest.mark.full
def test_a_start_that_was_killed_while_it_made_the_database_leaves_none_behind(fresh, monkeypatch):
    path = fresh[1] / "mlflow.db"
    (fresh[1] / ".mlflow.db.partial").write_text("half a database")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *a: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            prepare(fresh[0])
    assert not path.exists()
    tracker(fresh).trial(row(), record(row(), "anna", 0))
    assert len(Held(path).runs) == 2


def test_a_database_that_is_there_stays_as_it_is(place):
    tracker(place)
    before = (place[1] / "mlflow.db").read_bytes()
    prepare(place[0])
    assert (place[1] / "mlflow.db").read_bytes() == before


# The mirror, with an MLflow that does what the test wants.


class Fake:
    """Takes writes into ``held`` unless ``down``."""

    def __init__(self):
        self.held, self.down, self.made, self.cleaned = [], None, 0, 0
        self.answered = 0.0

    def make(self):
        self.made += 1
        return self

    def take(self, name):
        if self.down is not None:
            raise self.down
        self.answered = time.monotonic()
        self.held.append(name)

    def remove_doubles(self):
        self.take("doubles")
        self.held.remove("doubles")
        self.cleaned += 1


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(outbox, "LONGEST_PAUSE_S", 0.02)
    return Fake()


def put(m, *names):
    for name in names:
        m.put(lambda fake, name=name: fake.take(name), name)


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_an_outage_is_caught_up_with_in_the_same_start_and_said_once(fake):
    warned, said = [], []
    m = Outbox(fake.make, warned.append, said.append)
    put(m, "a")
    wait_for(lambda: fake.held == ["a"])
    fake.down = ConnectionError("refused by http://anna:s3cret@host")
    put(m, *"bcdef")
    wait_for(lambda: fake.made > 8)
    fake.down = None
    wait_for(lambda: said)
    put(m, "g")
    m.close()
    assert sorted(fake.held) == list("abcdefg")
    assert m.lost == 0
    assert len(warned) == len(said) == 1
    assert "training goes on" in warned[0]
    assert "s3cret" not in warned[0]
    assert fake.cleaned == 1


def test_a_hiccup_is_not_worth_a_word(fake):
    warned = []
    m = Outbox(fake.make, warned.append)
    slow = iter([TimeoutError("slow")])

    def write(fake):
        for error in slow:
            raise error
        fake.take("a")

    m.put(write)
    m.close()
    assert fake.held == ["a"]
    assert warned == []
    assert m.lost == 0


def refusal():
    from mlflow.exceptions import MlflowException

    return MlflowException.invalid_parameter_value("the value is too long")


@pytest.mark.parametrize("make", [refusal, lambda: KeyError("curves")], ids=["refused", "unfit record"])
def test_a_write_that_is_itself_at_fault_is_given_up_alone_and_named(fake, make):
    warned, tried = [], []

    def bad(fake):
        tried.append(1)
        raise make()

    m = Outbox(fake.make, warned.append)
    m.put(bad, "trial 0123")
    put(m, *"abc")
    m.close()
    assert fake.held == ["a", "b", "c"]
    assert m.lost == 1
    assert len(tried) == outbox.REFUSALS
    assert len(warned) == 1
    assert "trial 0123" in warned[0]


def test_a_write_at_which_the_server_breaks_does_not_stop_the_others(fake):
    from mlflow.exceptions import MlflowException

    def bad(fake):
        raise MlflowException("internal error")

    warned = []
    m = Outbox(fake.make, warned.append)
    m.put(bad, "trial 0123")
    for i in range(40):
        put(m, f"a{i}")
        time.sleep(0.002)
    m.close(patience_s=0.3)
    assert len(fake.held) == 40
    assert m.lost == 1


def test_of_many_writes_that_were_refused_some_are_named_and_the_rest_counted(fake):
    warned = []
    m = Outbox(fake.make, warned.append)
    for i in range(12):
        m.put(lambda fake: (_ for _ in ()).throw(refusal()), f"trial {i}")
    m.close()
    assert m.lost == 12
    assert len(warned) == outbox.NAMED + 1
    assert "7 more" in warned[-1]


def test_an_mlflow_that_never_comes_back_costs_its_patience_and_no_more(fake):
    fake.down = ConnectionRefusedError("refused")
    warned = []
    m = Outbox(fake.make, warned.append)
    put(m, *"abc")
    started = time.monotonic()
    m.close(patience_s=0.5)
    assert 0.4 < time.monotonic() - started < 5
    assert m.lost == 3
    assert "lacks 3 records" in warned[-1]
    assert "the next start makes up for it" in warned[-1]


def test_an_mlflow_that_was_long_gone_gets_one_last_chance_at_the_end(fake, monkeypatch):
    monkeypatch.setattr(outbox, "LONGEST_PAUSE_S", 1000.0)
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 1000.0)
    m = Outbox(fake.make, lambda text: None)
    fake.down = ConnectionRefusedError("refused")
    put(m, *"abc")
    wait_for(lambda: fake.made == 1)
    wait_for(lambda: m._failures == 1)
    fake.down = None
    m.close(patience_s=20)
    assert sorted(fake.held) == ["a", "b", "c"]
    assert m.lost == 0


def test_a_server_that_accepts_and_never_answers_holds_nobody_up(fake):
    stuck = threading.Event()
    m = Outbox(fake.make, lambda text: None)
    m.put(lambda fake: stuck.wait(60), "trial")
    started = time.monotonic()
    put(m, *"abc")
    assert time.monotonic() - started < 5
    m.close(patience_s=0.3)
    assert 0.2 < time.monotonic() - started < 10
    assert m.lost == 4
    stuck.set()
    m._thread.join(10)
    assert fake.held == []


def test_a_slow_mlflow_is_waited_for_as_long_as_it_answers(fake):
    def slow(fake):
        for _ in range(10):
            time.sleep(0.05)
            fake.answered = time.monotonic()
        fake.take("slow")

    m = Outbox(fake.make, lambda text: None)
    m.put(slow, "trial")
    put(m, "a")
    m.close(patience_s=0.3)
    assert fake.held == ["slow", "a"]
    assert m.lost == 0


def test_abandoning_returns_at_once_and_says_what_is_left(fake):
    stuck = threading.Event()
    m = Outbox(fake.make, lambda text: None)
    m.put(lambda fake: stuck.wait(60), "trial")
    put(m, *"abc")
    started = time.monotonic()
    assert m.abandon() == 4
    assert time.monotonic() - started < 2
    assert m.lost == 4
    stuck.set()
    m._thread.join(10)
    assert fake.held == []
    put(m, "late")
    assert m.lost == 5


def test_a_start_in_the_same_process_waits_for_the_write_at_which_the_last_one_was_stopped(fake):
    stuck = threading.Event()

    def slow(fake):
        stuck.wait(60)
        fake.take("old")

    first = Outbox(fake.make, lambda text: None)
    first.put(slow)
    wait_for(lambda: fake.made == 1)
    assert first.abandon() == 1
    second = Outbox(fake.make, lambda text: None)
    put(second, "new")
    time.sleep(0.1)
    assert fake.held == []
    stuck.set()
    second.close()
    assert fake.held == ["old", "new"]


def test_an_mlflow_that_refuses_one_record_after_the_other_is_answering(fake):
    def bad(fake):
        time.sleep(0.1)
        raise refusal()

    warned = []
    m = Outbox(fake.make, warned.append)
    for number in range(4):
        m.put(bad, f"trial {number}")
    m.close(patience_s=0.5)
    assert len(warned) == 4
    assert all("could not take trial" in text for text in warned)


def test_pauses_grow_and_are_bounded(fake, monkeypatch):
    fake.down = ConnectionRefusedError("refused")
    m = Outbox(fake.make, lambda text: None)
    pauses = []
    noted = m._noted
    monkeypatch.setattr(m, "_noted", lambda *attempt: pauses.append(noted(*attempt)) or pauses[-1])
    put(m, "a")
    wait_for(lambda: len(pauses) > 5)
    m.abandon()
    assert pauses[:4] == pytest.approx([0.005, 0.01, 0.02, 0.02])


@pytest.mark.parametrize(
    ("error", "its_own"),
    [
        (lambda: MlflowError("x", "INVALID_PARAMETER_VALUE"), True),
        (lambda: MlflowError("x", "RESOURCE_DOES_NOT_EXIST"), True),
        (lambda: MlflowError("no such page", "ENDPOINT_NOT_FOUND"), False),
        (lambda: MlflowError("database is locked", "TEMPORARILY_UNAVAILABLE"), False),
        (lambda: MlflowError("API request failed", "INTERNAL_ERROR"), False),
        (lambda: MlflowError("who are you", "UNAUTHENTICATED"), False),
        (lambda: MlflowError("slow down", "REQUEST_LIMIT_EXCEEDED"), False),
        (lambda: HttpError(400), True),
        (lambda: HttpError(503), False),
        (lambda: OSError(28, "No space left on device"), False),
        (lambda: ImportError("no module named mlflow"), False),
        (lambda: sqlite3.OperationalError("disk I/O error"), False),
        (lambda: TypeError("a bug"), True),
    ],
)
def test_what_would_meet_every_write_is_an_outage_and_what_meets_one_is_its_own_fault(error, its_own):
    assert outbox.refused(error()) is its_own


def MlflowError(text, code):  # noqa: N802
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    return MlflowException(text, error_code=ErrorCode.Value(code))


def HttpError(status):  # noqa: N802
    import requests

    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("x", response=response)


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://me:secret@host/mlflow/", "https://host/mlflow"),
        ("sqlite:////a/mlflow.db", ""),
        ("postgresql://me:secret@host/runs", ""),
    ],
)
def test_a_link_begins_with_the_server_and_names_no_user(uri, base):
    assert pages.server(uri) == base


def test_a_link_names_the_pages_for_training_and_the_runs_of_configurations():
    """MLflow takes everything behind ``#`` as its own address."""

    def parts(experiments):
        address = urlsplit(urlsplit(pages.runs(pages.LOCAL, experiments)).fragment)
        return address.path, {name: values for name, values in parse_qs(address.query).items()}

    both = {"workflowType": ["machine_learning"], "searchFilter": ["tags.tfser.kind='configuration'"]}
    assert parts({"7"}) == ("/experiments/7/runs", both)
    assert parts({"7", "12"}) == ("/compare-experiments/s", {**both, "experiments": ['["12", "7"]']})
    assert parts(()) == ("/experiments", {"workflowType": ["machine_learning"]})


def test_passwords_in_uris_are_hidden():
    assert redacted("postgresql://u:p%40ss@h/d and https://a@h") == "postgresql://u:***@h/d and https://a@h"
    shown = redacted("--optuna-storage 'postgresql://h/d?user=u&Password=p%40&sslmode=require' next")
    assert shown == "--optuna-storage 'postgresql://h/d?user=u&Password=***&sslmode=require' next"


# The small picture.


def test_a_picture_is_darker_where_more_was_recognised_and_the_same_for_the_same_counts():
    counts = [[9, 1, 0, 0], [0, 10, 0, 0], [0, 0, 0, 0], [5, 0, 0, 5]]
    picture = confusion_thumbnail.confusion(EMOTIONS, counts, ["a heading"])
    assert picture == confusion_thumbnail.confusion(EMOTIONS, counts, ["a heading"])
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), dtype=int)
    left = pixels.shape[1] - confusion_thumbnail.GAP - 4 * confusion_thumbnail.CELL
    rows = np.flatnonzero(pixels[:, left + confusion_thumbnail.CELL + 5] < 60)  # the one column that holds a full cell
    top = rows[0] - confusion_thumbnail.CELL - 1

    def shade(i, j):
        return pixels[top + i * confusion_thumbnail.CELL + 5, left + j * confusion_thumbnail.CELL + 5]

    assert shade(1, 1) < shade(0, 0) < shade(3, 0) < shade(0, 1) < shade(0, 2)
    assert shade(3, 0) == shade(3, 3)
    assert shade(2, 0) > 250  # an emotion that never occurs
    assert min(Image.open(io.BytesIO(picture)).convert("RGB").getpixel((0, 0))) >= 254


def test_long_names_and_headings_stay_inside_the_picture():
    picture = confusion_thumbnail.confusion(["a", "an emotion with a very long name"], [[1, 2], [3, 4]], ["x" * 500])
    assert Image.open(io.BytesIO(picture)).width < 800
