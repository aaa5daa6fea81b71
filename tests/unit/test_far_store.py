"""A storage behind a URI: how many requests a trial costs, what is asked side by side, and what two attempts leave."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from optuna.study import StudyDirection

from tests.helpers.studies import MODEL, make_plan, outcome, run, train
from tests.helpers.tasks import SPEC, task
from tfser.benchmark import far, made_up
from tfser.benchmark.far_store import FarStore
from tfser.execution import left_behind, run_trial
from tfser.execution.on_ray.feed import Feed
from tfser.execution.schedule import Schedule
from tfser.execution.worker_usage import Usage
from tfser.planning import plan
from tfser.planning.request import Request
from tfser.record import Failure, Record
from tfser.search.study import close_storage, open_storage
from tfser.storage import ledger as ledger_module
from tfser.storage import places, side_by_side
from tfser.storage.checkpoints import Checkpoint
from tfser.storage.ledger import Ledger
from tfser.storage.places import place
from tfser.sweep.to_mlflow import ToMlflow

RECORD = made_up.record(SPEC, ("calm", "Zoë"), 4)


@pytest.fixture
def store():
    with FarStore() as far_store:
        yield far_store


def finals(tiny, seeds):
    return plan.make(Request(models=(MODEL,), epochs=2, seeds=seeds), [tiny], lambda d: "d", {})


@pytest.mark.parametrize(("purpose", "requests"), [("final", 4), ("search", 3)])
def test_a_worker_makes_at_most_four_requests_for_a_trial_and_two_more_for_a_checkpoint(store, pack, purpose, requests):
    root = place(store.root)
    assert run_trial.run(task(pack, root, purpose=purpose, checkpoint_s=1e9)).status == "done"
    assert store.count("driver") == requests, store.requests
    store.requests.clear()
    again = task(pack, root / "again", purpose=purpose, checkpoint_s=0.0)
    assert run_trial.run(again).status == "done"
    saved = again.spec.epochs - 1  # not after the last epoch
    assert store.count("driver") == requests + saved + 1, store.requests
    assert places.listed(root / "again" / "checkpoints", "*/*") == []


MANY = pytest.mark.parametrize("folds_of", [25, pytest.param(250, marks=pytest.mark.full)])
"""Trials of each of four folds."""


@MANY
def test_a_driver_makes_one_request_for_a_final_trial_the_mirror_included(store, tiny, folds_of):
    mirror, taken = ToMlflow(None, Ledger(place(store.root) / "ledger"), SimpleNamespace(warn=print, say=print)), []
    mirror._outbox._make = lambda: SimpleNamespace(
        answered=0.0, holds=lambda *of: False, trial=lambda row, entry: taken.append(entry.trial_id)
    )
    _, ended = far.drive(finals(tiny, folds_of), store, 20, mirror.trial)
    mirror._outbox.close()
    assert ended == len(set(taken)) == 4 * folds_of
    assert not list(mirror._local._folder.iterdir())
    assert store.count("driver") == ended, store.requests
    assert store.count("worker") == ended


@MANY
def test_a_driver_makes_one_request_for_a_search_trial_beside_those_that_store_its_journal(
    store, tiny, folds_of, monkeypatch
):
    monkeypatch.setattr("tfser.search.kept.BATCH_S", 1e9)
    _, ended = far.drive(make_plan(tiny, trials=folds_of - 1, sampler="random"), store, 20)
    assert ended == 4 * folds_of
    assert store.requests["driver", "cat_file"] == ended
    parts = store.requests["driver", "put_file"]
    assert store.count("driver") == ended + parts, store.requests
    assert parts < 3 + ended / 50


def test_a_start_on_a_whole_ledger_reads_each_entry_once_and_lists_the_ledger_by_folders(store, tiny):
    made, root = finals(tiny, 50), place(store.root)
    far.fill(made, Ledger(root / "ledger"))
    schedule = Schedule(made, Ledger(root / "ledger"), None)
    assert schedule.finished
    found, _, gone = left_behind.read(schedule)
    assert [entry.trial_id for entry in found.values()] == [spec.trial_id for spec in schedule.finals.values()]
    assert not gone
    assert store.requests["driver", "cat_file"] == 200
    assert store.count("driver") <= 200 + 257


def test_a_start_that_has_something_to_train_keeps_no_entry_and_reads_all_again_at_its_end(store, tiny):
    made, root = finals(tiny, 3), place(store.root)
    ledger = Ledger(root / "ledger")
    far.fill(made, ledger)
    lost = next(iter(ledger.ids()))
    places.remove(ledger.path(lost))
    schedule = Schedule(made, ledger, None)
    spec = schedule.next()
    assert spec.trial_id == lost
    ledger.commit(train(spec))
    schedule.ended(spec, train(spec))
    places.remove(ledger.path(lost))
    found, _, gone = left_behind.read(schedule)
    assert gone == {lost}
    assert len(found) == 11


def test_a_finished_search_is_found_whole_at_one_request_for_each_of_its_trials(store, tiny):
    made, root = make_plan(tiny, trials=5), place(store.root)
    expected = outcome(run(made, root))
    store.requests.clear()
    schedule = Schedule(made, Ledger(root / "ledger"), open_storage(root / "studies.journal"))
    assert schedule.finished
    assert outcome(schedule) == expected
    _, histories, gone = left_behind.read(schedule)
    assert [len(history.tried) for history in histories] == [5] * 4
    assert not gone
    assert store.requests["driver", "cat_file"] == 4 * 5 + 4 + 1, "each entry, and the journal"


def test_entries_are_fetched_side_by_side_in_order_and_few_at_a_time(store, monkeypatch):
    ledger, specs = Ledger(place(store.root)), [replace(SPEC, seed=seed) for seed in range(600)]
    for spec in specs:
        ledger.commit(replace(RECORD, spec=spec))
    ledger.path(specs[7].trial_id).fs.rm(ledger.path(specs[7].trial_id).path)
    places.commit_text(ledger.path(specs[9].trial_id), "{")
    real, begun, lock, many = places.read_bytes, [], threading.Lock(), threading.Barrier(side_by_side.AT_ONCE)

    def read(path):
        with lock:
            begun.append(path)
            first = len(begun) <= side_by_side.AT_ONCE
        if first:
            many.wait(60)  # broken unless so many are asked for at once
        return real(path)

    monkeypatch.setattr(ledger_module, "read_bytes", read)
    entries = ledger.each(spec.trial_id for spec in specs)
    assert next(entries).spec == specs[0]
    assert len(begun) <= 2 * side_by_side.AT_ONCE
    rest = [entry and entry.spec.seed for entry in entries]
    assert rest == [None if seed in (7, 9) else seed for seed in range(1, 600)]
    assert [path.stem for path in ledger.damaged] == [specs[9].trial_id]


def test_an_error_of_the_store_comes_where_its_entry_is_awaited(store, monkeypatch):
    ledger = Ledger(place(store.root))
    ledger.commit(RECORD)
    calls = iter([places.read_bytes])

    def read(path):
        for real in calls:
            return real(path)
        raise OSError("the network is down")

    monkeypatch.setattr(ledger_module, "read_bytes", read)
    monkeypatch.setattr(side_by_side, "AT_ONCE", 1)
    entries = ledger.each([SPEC.trial_id] * 3)
    assert next(entries) == RECORD
    with pytest.raises(OSError, match="the network is down"):
        next(entries)


@pytest.mark.parametrize("far_away", [True, False])
@pytest.mark.parametrize("weights", [None, b"state", {"w": torch.arange(3.0)}])
def test_what_an_earlier_attempt_committed_stays_as_it_is_weights_and_all(store, tmp_path, far_away, weights):
    root = place(store.root) if far_away else tmp_path
    ledger, later = Ledger(root), replace(RECORD, seconds=9.0)
    assert ledger.settle(RECORD, weights) == RECORD
    before = {path.name: places.read_bytes(path) for path in places.listed(root, "*/*")}
    other = {"w": torch.zeros(3)} if isinstance(weights, dict) else weights and b"other"
    assert ledger.settle(later, other) == RECORD
    assert {path.name: places.read_bytes(path) for path in places.listed(root, "*/*")} == before
    assert len(before) == 1 + (weights is not None)


@pytest.mark.parametrize("far_away", [True, False])
def test_weights_without_an_entry_a_failure_and_a_damaged_entry_give_way_to_a_record(store, tmp_path, far_away):
    root = place(store.root) if far_away else tmp_path
    ledger = Ledger(root)
    ledger.commit(RECORD, b"of an attempt that was killed")
    places.remove(ledger.path(SPEC.trial_id))
    assert ledger.settle(RECORD, b"state") == RECORD
    assert ledger.state(SPEC.trial_id) == b"state"
    ledger.commit(Failure(trial_id=SPEC.trial_id, spec=SPEC, reason="odd"))
    assert ledger.settle(RECORD) == RECORD
    assert ledger.get(SPEC.trial_id) == RECORD
    places.commit_text(ledger.path(SPEC.trial_id), "{")
    assert ledger.settle(RECORD) == RECORD
    assert ledger.get(SPEC.trial_id) == RECORD


def test_a_checkpoint_that_an_earlier_attempt_left_is_removed_with_the_trial(store):
    root = place(store.root)
    Checkpoint(root, SPEC.trial_id, {}).save({"epoch": 1})
    found = Checkpoint(root, SPEC.trial_id, {})
    assert found.load() == {"epoch": 1}
    found.remove()
    assert found.load() is None


def feed_of(schedule, root):
    return Feed(schedule, lambda spec: far.task(spec, root), Usage(), lambda waiting: 1, 10**9)


ENDED = {"trials": [{"status": "done"}], "times": [0.0, 1.0]}


def test_the_driver_goes_on_while_an_entry_is_on_its_way(store, tiny, monkeypatch):
    root = place(store.root)
    schedule = Schedule(finals(tiny, 1), Ledger(root / "ledger"), None)
    feed, arrives, real = feed_of(schedule, root), threading.Event(), Ledger.get
    monkeypatch.setattr(Ledger, "get", lambda self, trial_id: arrives.wait(60) and real(self, trial_id))
    first, second = feed.suggest("1"), feed.suggest("2")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    schedule.ledger.commit(train(feed.running["1"][0].spec))
    feed.on_trial_complete("1", ENDED)
    assert isinstance(feed.suggest("3"), dict)
    assert schedule.trained == 0
    arrives.set()
    feed.settle()
    assert schedule.trained == 1


def test_where_nothing_else_is_ready_the_driver_waits_for_the_entries_on_their_way_and_not_for_tune(store, tiny):
    root = place(store.root)
    made = make_plan(tiny, trials=2, folds=("anna",))
    schedule = Schedule(made, Ledger(root / "ledger"), open_storage(root / "s.journal"))
    feed, trained = feed_of(schedule, root), []
    for number in map(str, range(9)):
        if feed.suggest(number) == Feed.FINISHED:
            break
        (asked,) = feed.running[number]
        trained.append(asked.spec.purpose)
        schedule.ledger.commit(train(asked.spec))
        feed.on_trial_complete(number, ENDED)
    assert trained == ["search", "search", "final"]
    assert schedule.finished


def test_a_trial_whose_entry_is_gone_when_it_is_to_be_read_is_given_back_to_the_runner(store, tiny):
    root = place(store.root)
    schedule = Schedule(finals(tiny, 1), Ledger(root / "ledger"), None)
    feed = feed_of(schedule, root)
    feed.suggest("1")
    spec = feed.running["1"][0].spec
    feed.on_trial_complete("1", ENDED)
    feed.settle()
    assert feed.unread == [spec]
    assert schedule.running == 1


def test_a_driver_that_lost_its_lease_does_not_write_over_the_journal_of_another(store):
    path = place(store.root) / "s.journal"
    lost = open_storage(path)
    lost.create_new_study([StudyDirection.MINIMIZE], "mine")
    other = open_storage(path)
    other.create_new_study([StudyDirection.MINIMIZE], "its")
    close_storage(other)
    content = places.read_bytes(path)
    close_storage(lost, store=False)
    assert places.read_bytes(path) == content
    assert any(json.loads(line).get("study_name") == "its" for line in content.splitlines())


def test_a_record_is_read_back_from_the_local_copy_that_the_mirror_keeps():
    from tfser.storage.local_entries import LocalEntries

    local = LocalEntries()
    assert local.get(SPEC.trial_id) is None
    local.put(RECORD)
    assert isinstance(local.get(SPEC.trial_id), Record)
    assert local.get(SPEC.trial_id) == RECORD
    local.remove(SPEC.trial_id)
    assert local.get(SPEC.trial_id) is None
