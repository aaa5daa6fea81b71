"""Twenty sweeps that write to one MLflow at once, an MLflow that stops in the middle, and drivers killed there."""

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest

from tests.helpers.mlflow_server import Server
from tests.helpers.runs import DIGEST, Held, points, record, row
from tfser.record import from_dict
from tfser.tracking import connection, outbox
from tfser.tracking.names import configuration_key
from tfser.tracking.outbox import Outbox
from tfser.tracking.runs import Tracker

pytestmark = pytest.mark.full

WRITERS = 20
EPOCHS = 100
"""Points of each curve; a search trial has three curves."""


def trials(epochs=EPOCHS):
    """What one sweep logs: its row, and two final and two search trials."""
    c = row()
    return c, [record(c, fold, 0, purpose, epochs) for fold in c.folds for purpose in ("final", "search")]


def log(uri, folder, sweep, *, warn=lambda text: None, epochs=EPOCHS):
    """Start that sweep, hand everything over, and return the mirror."""
    c, records = trials(epochs)
    m = Outbox(lambda: Tracker(uri, sweep, folder / "mlartifacts"), warn)
    for trial in records:
        m.put(lambda tracker, trial=trial: tracker.trial(c, trial), trial.trial_id)
    finals = {t.spec.fold: {"0": t.trial_id} for t in records if t.spec.purpose == "final"}
    m.put(
        lambda tracker: tracker.configuration(c, finals, {"test/uar_pooled": 0.4}, 1_700_000_000_000, digest=DIGEST),
        "the row",
    )
    return m


def writer(uri, folder, sweep, barrier, answers):
    """Log a sweep in one of many processes, when all are ready."""
    said = []
    barrier.wait(300)
    m = log(uri, folder, sweep, warn=said.append)
    m.close(patience_s=300)
    answers.put((sweep, m.lost, said))


def endless_writer(uri, folder, sweep, finished):
    """Log a sweep in a driver that may be killed anywhere."""
    m = log(uri, folder, sweep)
    m.close(patience_s=300)
    if m.lost == 0:
        finished.set()


@pytest.fixture(scope="module")
def processes():
    """A context whose processes have MLflow imported already."""
    connection.quiet_environment()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tfser.tracking.runs", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "PIL.ImageFont"]
    )
    return context


def assert_all_there(held, sweeps, content, epochs=EPOCHS):
    """Every sweep has every run, metric, point, parameter, input and artifact, once.

    Args:
        held: what the database holds.
        sweeps: their names.
        content: of a run's artifact: (run, name) to its text.
        epochs: as logged.
    """
    c, records = trials(epochs)
    for sweep in sweeps:
        (parent,) = held.of(sweep, configuration_key(c))
        assert held.runs[parent][1] == "FINISHED"
        assert held.metrics[parent] == {("test/uar_pooled", 0): 0.4}
        assert set(json.loads(content(parent, "configuration.json"))["finals"]) == set(c.folds)
        for trial in records:
            (run,) = held.of(sweep, trial.trial_id)
            assert held.runs[run][1] == "FINISHED"
            assert held.tags[run]["mlflow.parentRunId"] == parent
            assert held.metrics[run] == points(trial)
            assert held.params[run]["fold"] == trial.spec.fold
            assert held.params[run]["learning_rate"] == "0.001"
            assert len(held.inputs[run]) == 2
            assert from_dict(json.loads(content(run, "trial.json"))) == trial
        ours = [run for run in held.runs if held.tags[run]["tfser.sweep"] == sweep]
        assert len(ours) == 1 + len(records)
    assert set(held.times.values()) == {1}
    assert held.experiments == ["tfser/tiny/speaker"]


def assert_writers_lose_nothing(processes, uri, folder):
    """Release the writers together, wait for them, and return the names of their sweeps."""
    barrier, answers = processes.Barrier(WRITERS), processes.Queue()
    sweeps = [f"s{i}" for i in range(WRITERS)]
    started = [processes.Process(target=writer, args=(uri, folder, sweep, barrier, answers)) for sweep in sweeps]
    for process in started:
        process.start()
    try:
        told = sorted(answers.get(timeout=500) for _ in sweeps)
    finally:
        for process in started:
            process.join(10)
            process.kill()
    assert [(sweep, lost) for sweep, lost, _ in told] == [(sweep, 0) for sweep in sorted(sweeps)], told
    return sweeps


def on_disk(held):
    """Return a reader of artifacts for runs with local artifacts."""
    return lambda run, name: (Path(held.runs[run][2].removeprefix("file://")) / name).read_text()


def test_twenty_sweeps_at_once_lose_nothing_in_sqlite_whose_tables_none_of_them_has_made(processes, tmp_path):
    sweeps = assert_writers_lose_nothing(processes, connection.default_uri(tmp_path), tmp_path)
    held = Held(tmp_path / "mlflow.db")
    assert_all_there(held, sweeps, on_disk(held))
    assert len(held.runs) == 5 * WRITERS


def test_a_driver_that_is_killed_again_and_again_leaves_each_run_once(processes, tmp_path):
    uri, dice, kills = connection.default_uri(tmp_path), random.Random(3), 0
    finished = processes.Event()
    while not finished.is_set():
        process = processes.Process(target=endless_writer, args=(uri, tmp_path, "s", finished))
        process.start()
        # The first start is the most delicate one, because it makes the tables.
        process.join(dice.uniform(0.05, 1.5) if kills < 6 else 300)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
    assert kills > 0
    held = Held(tmp_path / "mlflow.db")
    assert_all_there(held, ["s"], on_disk(held))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def impatient(monkeypatch):
    """Shorten requests and pauses to seconds."""
    connection.quiet_environment()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")  # a busy machine needs one for a request that it does answer
    monkeypatch.setattr(outbox, "LONGEST_PAUSE_S", 1.0)


def wait_for(condition):
    until = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_twenty_sweeps_at_once_lose_nothing_through_a_server(processes, server):
    sweeps = assert_writers_lose_nothing(processes, server.uri, server.folder)
    held = server.held()
    assert_all_there(held, sweeps, server.content(held))


def test_a_server_that_stops_in_the_middle_is_caught_up_with_in_the_same_start(server, impatient):
    said = []
    m = log(server.uri, server.folder, "stopped", warn=said.append)
    wait_for(lambda: m._written == 1)
    with server.stopped():
        wait_for(lambda: said)
    m.close(patience_s=120)
    assert m.lost == 0
    assert "training goes on" in said[0]
    assert said[1:] == ["MLflow is back and caught up with"]
    held = server.held()
    assert_all_there(held, ["stopped"], server.content(held))


def test_a_server_that_never_comes_back_costs_no_more_than_the_patience_and_the_next_start_makes_up_for_it(
    server, impatient
):
    said = []
    with server.stopped():
        started = time.monotonic()
        m = log(server.uri, server.folder, "gone", warn=said.append)
        assert m._written == 0  # handing over does not wait
        m.close(patience_s=3)
        assert 2 < time.monotonic() - started < 60  # a request that is under way is not waited for
        assert m.lost == 5
        assert "the next start makes up for it" in said[-1]
    m._thread.join(60)  # requests that were given up here may still arrive there
    wait_for(server.answers)
    again = log(server.uri, server.folder, "gone")
    again.close(patience_s=120)
    assert again.lost == 0
    held = server.held()
    assert_all_there(held, ["gone"], server.content(held))


def test_a_server_that_is_killed_and_started_again_is_caught_up_with_in_the_same_start(server):
    said = []
    m = log(server.uri, server.folder, "killed", warn=said.append)
    wait_for(lambda: m._written == 1)
    server.kill()
    wait_for(lambda: said)
    server.start()
    m.close(patience_s=120)
    assert m.lost == 0
    assert len(said) == 2
    held = server.held()
    assert_all_there(held, ["killed"], server.content(held))


def test_a_server_that_is_disturbed_at_random_moments_ends_with_each_run_once(server, impatient):
    dice = random.Random(5)
    for turn in range(10):
        m = log(server.uri, server.folder, f"turn{turn}", epochs=30)
        for _ in range(3):
            time.sleep(dice.uniform(0.0, 0.6))
            with server.stopped():
                time.sleep(dice.uniform(0.0, 3.0))
        if turn % 5 == 4:
            server.kill()
            server.start()
        m.close(patience_s=120)
        assert m.lost == 0
        held = server.held()
        assert_all_there(held, [f"turn{turn}"], server.content(held), epochs=30)
