"""Studies and schedule with made-up trainings, fast enough to interrupt a search anywhere."""

import itertools
import random
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest

from tests.helpers.studies import MODEL, KilledError, failed, known, make_plan, outcome, run, train
from tfser.errors import RequestError, TfserError
from tfser.execution.schedule import Schedule
from tfser.models import MODELS
from tfser.planning import plan, search_space_file
from tfser.planning.request import Request
from tfser.planning.settings import hashed, published_settings
from tfser.record import Pruned
from tfser.search import journal
from tfser.search.study import StudyRun, best_epoch, open_storage
from tfser.storage import patience, places
from tfser.storage.ledger import Ledger


def test_the_best_epoch_is_the_first_maximum_of_the_mean_curve():
    assert best_epoch([[0.1, 0.5, 0.5]]) == (2, 0.5)
    epoch, score = best_epoch([[0.9, 0.0, 0.5], [0.0, 0.9, 0.5]])
    assert epoch == 3
    assert score == pytest.approx(0.5)


def test_every_fold_ends_with_one_final_trial_of_the_best_setting_and_epoch_of_its_own_study(tiny, tmp_path):
    made = make_plan(tiny)
    schedule = run(made, tmp_path)
    assert len(schedule.ends) == 4
    for study in made.studies:
        chosen = schedule.chosen[study.name]
        scores = {}
        for settings in trained_settings(schedule.ledger, study):
            specs = study.search_specs(settings)
            scores[best_epoch([train(s).curves.validation_uar for s in specs])] = settings
        epochs, best = max(scores, key=lambda key: key[1])
        assert chosen.score == best
        spec = schedule.finals[study.configuration, study.folds[0], 0]
        assert spec.settings == hashed(MODELS[MODEL], chosen.settings) == scores[epochs, best]
        assert spec.epochs == epochs


def trained_settings(ledger, study):
    records = [ledger.get(i) for i in ledger.ids()]
    return [r.spec.settings for r in records if r.spec.purpose == "search" and r.spec.fold == study.folds[0]]


def test_the_published_setting_is_tried_first_and_every_study_tries_the_number_asked_for(tiny, tmp_path):
    made = make_plan(tiny, trials=5)
    log = []
    schedule = run(made, tmp_path, log=log)
    published = published_settings(MODEL)
    for study in made.studies:
        settings = trained_settings(schedule.ledger, study)
        assert len(settings) == 5
        first = next(r for i in log if (r := schedule.ledger.get(i)).spec.fold == study.folds[0])
        assert first.spec.settings["learning_rate"] == published["learning_rate"]


def test_a_study_is_the_same_whatever_the_order_in_which_other_trials_end(tiny, tmp_path):
    made = make_plan(tiny, seeds=2)
    expected = outcome(run(made, tmp_path / "alone"))
    for seed in range(5):
        found = outcome(
            run(made, tmp_path / str(seed), workers=random.Random(seed).randint(2, 6), rng=random.Random(seed))
        )
        assert found == expected


@pytest.mark.full
def test_killing_the_driver_at_any_moment_changes_nothing_and_trains_nothing_twice(tiny, tmp_path):
    made = make_plan(tiny, trials=4)
    expected = outcome(run(made, tmp_path / "undisturbed"))
    for seed in range(30):
        rng, folder, log = random.Random(seed), tmp_path / str(seed), []
        deaths = 0
        while True:
            try:
                found = outcome(
                    run(made, folder, workers=rng.randint(1, 3), rng=rng, die_after=rng.randint(1, 25), log=log)
                )
                break
            except KilledError:
                deaths += 1
                assert deaths < 200
        assert found == expected
        assert deaths
        assert len(log) == len(set(log)) == 4 * 4 + 4


@pytest.mark.full
def test_a_new_process_asks_for_the_same_settings(tiny, tiny_manifest, tmp_path):
    code = f"""
from pathlib import Path
from tests.helpers.studies import make_plan, run, outcome
from tfser.databases import load
print(outcome(run(make_plan(load({str(tiny_manifest)!r}, None)), Path({str(tmp_path / "b")!r}))))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(outcome(run(make_plan(tiny), tmp_path / "a")))


def test_another_fold_has_another_sequence_of_settings(tiny, tmp_path):
    made = make_plan(tiny)
    schedule = run(made, tmp_path)
    rates = [{s["learning_rate"] for s in trained_settings(schedule.ledger, study)} for study in made.studies]
    assert len(set.union(*rates)) > 4 * 3


def test_several_settings_at_once_never_exceed_the_limit_or_the_number_asked_for(tiny, tmp_path):
    made = make_plan(tiny, trials=7)
    schedule = run(made, tmp_path, workers=40, rng=random.Random(1), at_once=3)
    assert all(len(trained_settings(schedule.ledger, study)) == 7 for study in made.studies)


def test_global_selection_gives_every_fold_one_setting(tiny, tmp_path):
    made = make_plan(tiny, selection="global")
    schedule = run(made, tmp_path, workers=3, rng=random.Random(0))
    assert len(schedule.chosen) == 1
    finals = [spec for spec in schedule.finals.values()]
    assert len(finals) == 4
    assert len({spec.hyperparameters for spec in finals}) == 1


def test_a_finished_sweep_asks_for_nothing(tiny, tmp_path):
    made = make_plan(tiny)
    expected = outcome(run(made, tmp_path))
    ended = []
    again = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(tmp_path / "studies.journal"), watch=ended.append)
    assert again.finished
    assert again.next() is None
    assert outcome(again) == expected
    assert not any(e.trained for e in ended)


def test_a_failed_setting_is_not_chosen_and_counts_as_tried(tiny, tmp_path):
    made = make_plan(tiny, trials=3, folds=("anna",))
    ledger = Ledger(tmp_path / "ledger")
    schedule = Schedule(made, ledger, open_storage(tmp_path / "studies.journal"))
    tried = 0
    while (spec := schedule.next()) is not None:
        record = train(spec)
        if spec.purpose == "search":
            tried += 1
            if tried == 1:
                record = failed(spec, "the loss was nan in epoch 1")
                first = spec
        ledger.commit(record)
        schedule.ended(spec, record)
    assert tried == 3
    assert schedule.finals[made.configurations[0], "anna", 0].settings != first.settings
    assert [e.outcome.reason for e in schedule.failures] == ["the loss was nan in epoch 1"]
    again = Schedule(made, ledger, open_storage(tmp_path / "studies.journal"))
    assert again.finished


def test_a_study_whose_settings_all_fail_leaves_its_fold_without_a_final_trial(tiny, tmp_path):
    made = make_plan(tiny, trials=2, folds=("anna",))
    schedule = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(tmp_path / "studies.journal"))
    while (spec := schedule.next()) is not None:
        schedule.ended(spec, failed(spec, "no"))
    assert schedule.finished
    assert [study.folds for study in schedule.undecided] == [("anna",)]
    assert schedule.ends == {}


def test_a_lost_entry_of_the_chosen_setting_is_trained_again_before_its_final_trial(tiny, tmp_path):
    made = make_plan(tiny, folds=("anna",))
    first = run(made, tmp_path)
    (chosen,) = first.chosen.values()
    final = first.finals[made.configurations[0], "anna", 0]
    first.ledger.path(chosen.specs[0].trial_id).write_text("torn")
    first.ledger.path(final.trial_id).unlink()
    log = []
    again = run(made, tmp_path, log=log)
    assert log == [chosen.specs[0].trial_id, final.trial_id]
    assert outcome(again) == outcome(first)


def test_a_trial_that_two_sweeps_share_is_trained_once(tiny, tmp_path):
    made = plan.make(Request(models=(MODEL,), epochs=2), [tiny], lambda d: "d", {})
    log = []
    run(made, tmp_path, log=log)
    wider = plan.make(Request(models=(MODEL,), epochs=2, seeds=2), [tiny], lambda d: "d", {})
    run(wider, tmp_path, log=log)
    assert len(log) == len(set(log)) == 8


def test_the_random_baseline_begins_with_a_random_setting_and_another_search_seed_tries_others(tiny, tmp_path):
    rates = []
    for seed in (0, 1):
        made = make_plan(tiny, trials=1, sampler="random", search_seed=seed)
        schedule = run(made, tmp_path / str(seed))
        rates += [s["learning_rate"] for study in made.studies for s in trained_settings(schedule.ledger, study)]
    assert len(set(rates)) == 8
    assert published_settings(MODEL)["learning_rate"] not in rates


def test_the_history_names_every_setting_and_the_chosen_one(tiny, tmp_path):
    schedule = run(make_plan(tiny, trials=4), tmp_path)
    for study in schedule.studies:
        history = study.history(schedule.ledger.get)
        assert [t.state for t in history.tried] == ["finished"] * 4
        chosen = schedule.chosen[study.study.name]
        assert history.tried[history.chosen].validation_uar == chosen.score
        assert set(history.tried[0].hyperparameters) == {"learning_rate", "batch_size"}


def test_a_setting_that_a_study_tries_again_is_not_trained_again(tiny, tmp_path):
    few = tmp_path / "few.yaml"
    few.write_text("model: time_frequency_transformer\nsearch:\n  batch_size: {choice: [16, 32]}\n")
    request = Request(models=(MODEL,), trials=6, epochs=4)
    made = plan.make(request, [tiny], lambda d: "digest", {MODEL: search_space_file.read(few, known())})
    log = []
    schedule = run(made, tmp_path, log=log)
    assert all(len(study.history(schedule.ledger.get).tried) == 6 for study in schedule.studies)
    assert len(log) == len(set(log)) <= 4 * 2 + 4


def test_a_lost_trial_costs_no_setting_and_the_next_start_takes_it_up(tiny, tmp_path):
    made = make_plan(tiny, trials=3, folds=("anna",))
    expected = outcome(run(made, tmp_path / "undisturbed"))
    storage = tmp_path / "studies.journal"
    ledger = Ledger(tmp_path / "ledger")
    schedule = Schedule(made, ledger, open_storage(storage))
    for count in range(3):
        spec = schedule.next()
        if count == 1:
            schedule.ended(spec, failed(spec, "its worker was lost", "lost"))
        else:
            ledger.commit(train(spec))
            schedule.ended(spec, train(spec))
    assert schedule.finished
    assert [study.folds for study in schedule.undecided] == [("anna",)]
    assert [e.outcome.status for e in schedule.failures] == ["lost"]
    again = run(made, tmp_path)
    assert again.failures == []
    assert len(trained_settings(again.ledger, made.studies[0])) == 3
    assert outcome(again)[0].keys() == expected[0].keys()


def test_what_failed_in_an_earlier_start_is_told_again(tiny, tmp_path):
    made = make_plan(tiny, trials=2, folds=("anna",))
    ledger = Ledger(tmp_path / "ledger")
    schedule = Schedule(made, ledger, open_storage(tmp_path / "studies.journal"))
    first = None
    while (spec := schedule.next()) is not None:
        first = first or spec
        record = failed(spec, "the loss was nan in epoch 1") if spec == first else train(spec)
        ledger.commit(record)
        schedule.ended(spec, record)
    again = Schedule(made, ledger, open_storage(tmp_path / "studies.journal"))
    assert again.finished
    assert [e.outcome.reason for e in again.failures] == ["the loss was nan in epoch 1"]


def test_a_search_trial_whose_worker_was_lost_is_tried_again_with_the_same_bar(tiny, tmp_path):
    run(make_plan(tiny, trials=6), tmp_path)
    more = make_plan(tiny, trials=7)
    schedule = Schedule(more, Ledger(tmp_path / "ledger"), open_storage(tmp_path / "studies.journal"))
    spec = schedule.next()
    bar = schedule.bar(spec)
    assert any(bar)
    schedule.put_back(spec)
    assert schedule.next() == spec
    assert schedule.bar(spec) == bar, "it would run on where an undisturbed search ends it"
    schedule.ended(spec, Pruned(trial_id=spec.trial_id, epochs=1))
    assert schedule.bar(spec) == ()


def test_nothing_is_pruned_where_a_setting_is_several_trials(tiny, tmp_path):
    for options in ({"selection": "global"}, {"validation_folds": 2}):
        made = make_plan(tiny, trials=6, **options)
        schedule = run(made, tmp_path / str(options))
        bars = [bar for study in schedule.studies for bar in study.bars(schedule.ledger.get)]
        assert not any(any(bar) for bar in bars)
    schedule = run(make_plan(tiny, trials=6), tmp_path / "nested")
    assert all(any(bar) for study in schedule.studies for bar in study.bars(schedule.ledger.get))


def locked(database):
    """Another process that writes to it; ends with ``rollback``."""
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


def in_a_database(made, tmp_path, at=None, release=True):
    """Run the plan with its studies in SQLite, which another process locks before trial number ``at`` ends."""
    url, said, held = f"sqlite:///{tmp_path}/studies.db?timeout=0.01", [], []

    def say(text):
        said.append(text)
        if release and held:
            held.pop().rollback()

    ledger = Ledger(tmp_path / "ledger")
    schedule = Schedule(made, ledger, open_storage(tmp_path / "no.journal", url, say))
    number = 0
    try:
        while (spec := schedule.next()) is not None:
            ledger.commit(train(spec))
            number += 1
            if number == at:
                held.append(locked(tmp_path / "studies.db"))
            schedule.ended(spec, ledger.get(spec.trial_id))
    finally:
        for other in held:
            other.rollback()
    return schedule, said


@pytest.mark.parametrize("at", [1, 4, 5])
def test_a_database_of_studies_that_is_locked_for_a_while_is_waited_for(tiny, tmp_path, monkeypatch, at):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)
    made = make_plan(tiny, folds=("anna",))
    schedule, said = in_a_database(made, tmp_path, at)
    assert outcome(schedule) == outcome(run(made, tmp_path / "journal"))
    assert "database is locked" in said[0]
    assert "waiting up to 60 s" in said[0]
    assert said[1].endswith("answers again")


def test_a_database_of_studies_that_stays_locked_ends_the_sweep_in_a_sentence_and_loses_nothing(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    made = make_plan(tiny, folds=("anna",))
    with pytest.raises(
        TfserError, match="has not answered for 0 s .*database is locked.*the same command goes on from there"
    ):
        in_a_database(made, tmp_path, at=3, release=False)
    trained = Ledger(tmp_path / "ledger").ids()
    assert len(trained) == 3
    schedule, _ = in_a_database(made, tmp_path)
    assert schedule.trained == 3, "two settings and the final trial: what was trained is not trained again"
    assert outcome(schedule) == outcome(run(made, tmp_path / "journal"))


def test_a_database_that_was_locked_before_anything_began_is_waited_for_and_one_that_is_not_there_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    url = f"sqlite:///{tmp_path}/studies.db?timeout=0.01"
    open_storage(tmp_path / "no.journal", url)
    other, said = locked(tmp_path / "studies.db"), []
    with pytest.raises(RequestError, match="has not answered for 0 s .*database is locked"):
        open_storage(tmp_path / "no.journal", url, said.append)
    other.rollback()
    with pytest.raises(RequestError, match="unable to open"):
        open_storage(tmp_path / "no.journal", f"sqlite:///{tmp_path}/none/studies.db", said.append)
    assert said == []


def test_a_store_that_does_not_answer_for_a_while_keeps_the_journal_waiting(tmp_path, monkeypatch):
    """Behind a URI; what is behind it is the memory of this process."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(journal, "commit", lambda *arguments: away.pop()(*arguments) if away else commit(*arguments))

    def gone(*arguments):
        raise OSError("the network is down")

    commit, away, said = places.commit, [gone, gone], []
    written = journal.StoredJournal(places.place(f"memory://{tmp_path.name}/s.journal"), said.append)
    written.append_logs([{"op_code": 0}])
    assert list(journal.StoredJournal(places.place(f"memory://{tmp_path.name}/s.journal")).read_logs(0)) == [
        {"op_code": 0}
    ]
    assert "the network is down" in said[0]
    assert len(said) == 2


@pytest.fixture
def memory(tmp_path):
    """A folder behind a URI: the memory of this process."""
    folder = places.place(f"memory://{tmp_path.name}")
    yield folder
    folder.fs.rm(folder.path, recursive=True)


def numbers(path):
    return [line["number"] for line in journal.StoredJournal(path).read_logs(0)]


def test_a_journal_behind_a_uri_stores_its_lines_in_batches_in_order_and_the_last_ones_when_it_is_closed(
    memory, monkeypatch
):
    now, stored, real = [0.0], [], journal.commit
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(journal, "commit", lambda path, write: (stored.append(path.name), real(path, write)))
    monkeypatch.setattr(journal, "PART_BYTES", 100)
    monkeypatch.setattr(journal, "_store_late", lambda *late: None)
    path = memory / "s.journal"
    written = journal.StoredJournal(path, batch_s=2.0)
    for number in range(12):
        written.append_logs([{"op_code": 0, "number": number}])
        assert [line["number"] for line in written.read_logs(number)] == [number], "the driver itself knows every line"
    assert stored == ["s.journal"]
    assert numbers(path) == [0]
    now[0] = 2.0
    written.append_logs([{"op_code": 0, "number": 12}])
    assert stored == ["s.journal", "s.journal", "s.journal.0001", "s.journal.0002", "s.journal.0003"]
    assert numbers(path) == list(range(13))
    written.append_logs([{"op_code": 0, "number": 13}])
    assert numbers(path) == list(range(13))
    written.close()
    assert stored[5:] == ["s.journal.0003"]
    assert numbers(path) == list(range(14))


def test_lines_of_a_journal_behind_a_uri_that_none_follows_are_stored_too(memory):
    path = memory / "s.journal"
    written = journal.StoredJournal(path, batch_s=0.05)
    for number in range(3):
        written.append_logs([{"op_code": 0, "number": number}])
    until = time.monotonic() + 20
    while numbers(path) != [0, 1, 2] and time.monotonic() < until:
        time.sleep(0.02)
    assert numbers(path) == [0, 1, 2]


def test_what_a_killed_driver_had_not_stored_of_its_journal_is_made_good_from_the_ledger(tiny, memory, monkeypatch):
    made = make_plan(tiny, trials=3, folds=("anna", "bert"))
    expected = outcome(run(made, memory / "undisturbed"))
    for seed in range(6):
        rng, folder, log, deaths, now = random.Random(seed), memory / str(seed), [], 0, itertools.count()
        monkeypatch.setattr("tfser.search.kept.BATCH_S", float(rng.choice((20, 60, 10_000))))
        monkeypatch.setattr(journal, "_store_late", lambda *late: None)
        with monkeypatch.context() as patch:
            patch.setattr(journal.time, "monotonic", lambda now=now: float(next(now)))
            while True:
                try:
                    found = outcome(
                        run(made, folder, workers=rng.randint(1, 3), rng=rng, die_after=rng.randint(9, 25), log=log)
                    )
                    break
                except KilledError:
                    deaths += 1
        assert deaths
        assert found == expected
        assert len(log) == len(set(log)) == 2 * 3 + 2


def test_a_journal_that_is_gone_is_made_again_from_the_ledger(tiny, memory):
    made = make_plan(tiny, trials=3)
    expected = outcome(run(made, memory))
    places.remove(memory / "studies.journal")
    log = []
    assert outcome(run(made, memory, log=log)) == expected
    assert log == []


def test_a_study_says_that_its_value_is_the_validation_uar(tiny, tmp_path):
    """Optuna's dashboard names its axes after it."""
    run(make_plan(tiny, trials=1), tmp_path)
    storage = open_storage(tmp_path / "studies.journal")
    found = optuna.get_all_study_names(storage)
    assert found
    assert all(optuna.load_study(study_name=name, storage=storage).metric_names == ["validation UAR"] for name in found)


def test_a_study_of_an_earlier_version_gets_the_name_and_keeps_its_results(tiny, tmp_path, monkeypatch):
    """One that is whole, and one that was stopped: both go on as if they had been named from the beginning."""
    made = make_plan(tiny)
    expected = outcome(run(made, tmp_path / "now"))
    with monkeypatch.context() as before:
        before.setattr(StudyRun, "_name_metric", lambda self: None)
        run(made, tmp_path / "whole")
        with pytest.raises(KilledError):
            run(made, tmp_path / "stopped", die_after=9)
    for folder in ("whole", "stopped"):
        path = tmp_path / folder / "studies.journal"
        old = path.read_text()
        assert "validation UAR" not in old
        assert outcome(run(made, tmp_path / folder)) == expected
        assert path.read_text().startswith(old), "lines of the journal were changed"
        assert outcome(run(made, tmp_path / folder)) == expected
        assert path.read_text().count("validation UAR") == len(made.studies), "a study was named twice"
