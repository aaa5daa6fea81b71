"""The estimate of the time left, on sweeps that are simulated with durations of their own."""

import dataclasses
import io
import statistics

import pytest
from rich.console import Console

from tests.helpers.studies import MODEL, draw, make_plan, train
from tfser.benchmark import made_up
from tfser.execution.schedule import Schedule
from tfser.execution.under_way import Epoch
from tfser.planning import plan, request
from tfser.record import Pruned
from tfser.search.study import open_storage
from tfser.storage.ledger import Ledger
from tfser.sweep.progress import View
from tfser.sweep.time_left import about

MODELS = ("time_frequency_transformer", "atfnn", "acrnn", "hu_svm")
WORK = {"time_frequency_transformer": 8.0, "atfnn": 3.0, "acrnn": 1.0, "hu_svm": 40.0}
"""What a schedule would think of an epoch; the simulated durations differ from it."""


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def epoch_s(spec):
    """The true seconds of an epoch: each model is off its declared cost, and each setting off its model."""
    off = {"time_frequency_transformer": 1.3, "atfnn": 0.8, "acrnn": 1.2, "hu_svm": 0.7}[spec.model]
    return 10 * WORK[spec.model] * off * (0.6 + 0.8 * draw(spec.trial_id, "pace"))


def trained(spec, pruned):
    """How many epochs a trial trains; of searches, a share falls behind after a quarter of them."""
    if spec.purpose == "search" and pruned and draw(spec.trial_id, "pruned") < pruned:
        return max(round(spec.epochs * (0.25 + 0.5 * draw(spec.trial_id, "when"))), 1)
    return spec.epochs


def work(spec):
    return WORK[spec.model] * spec.epochs


class Simulated:
    """A sweep of which only the clock runs: (time, estimate) after every epoch of every trial."""

    def __init__(self, made, folder, workers, pruned=0.0, pace=1.0):
        self.clock, self.workers, self.pruned, self.pace = Clock(), workers, pruned, pace
        self.view = View(made, Console(file=io.StringIO()))
        self.view.left.weigh(work)
        at_once = -(-workers // len(made.studies)) if made.search_trials else 1
        self.schedule = Schedule(
            made,
            Ledger(folder / "ledger"),
            open_storage(folder / "studies.journal"),
            watch=self.view.ended,
            settings_at_once=at_once,
            work=work,
        )
        self.schedule.under_way.clock = self.clock
        self.seen = []

    def run(self, most=None):
        """Run to the end, or until so many trials have ended."""
        under_way, running = self.schedule.under_way, {}
        ended = 0
        while most is None or ended < most:
            while len(running) < self.workers and (spec := self.schedule.next()) is not None:
                under_way.begin([spec])
                running[spec] = (0, self.clock.now + self.pace * epoch_s(spec))
            if not running:
                break
            spec, (epoch, at) = min(running.items(), key=lambda item: item[1][1])
            self.clock.now, last = at, trained(spec, self.pruned)
            seconds = (epoch + 1) * self.pace * epoch_s(spec)
            under_way.tell(Epoch(spec.trial_id, epoch + 1, trained=epoch + 1, seconds=seconds))
            if epoch + 1 < last:
                running[spec] = (epoch + 1, at + self.pace * epoch_s(spec))
            else:
                del running[spec]
                self._end(spec, last)
                ended += 1
            self.seen.append((self.clock.now, self.left()))
        return self

    def left(self):
        return self.view.left(self.schedule.under_way.now(), self.workers, self.schedule.settings_at_once)

    def _end(self, spec, epochs):
        if epochs < spec.epochs:
            self.schedule.ended(spec, Pruned(trial_id=spec.trial_id, epochs=epochs))
            return
        made = train(spec) if spec.purpose == "search" else made_up.record(spec, ("calm", "glad"), 4)
        record = dataclasses.replace(made, seconds=epochs * self.pace * epoch_s(spec))
        self.schedule.ledger.commit(record)
        self.schedule.ended(spec, record)

    def factors(self, since=0.1):
        """Estimated over true time left, from a share of the whole time on, up to its last fiftieth."""
        begin, end = Clock.now, self.seen[-1][0]
        whole = end - begin
        inner = [(at, left) for at, left in self.seen if begin + since * whole <= at <= end - 0.02 * whole]
        assert len(inner) > 10
        return [left.seconds / (end - at) for at, left in inner]


def fixed(tiny, **options):
    return plan.make(request.Request(**{"models": MODELS, "epochs": 20, **options}), [tiny], lambda d: "d", {})


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_from_a_tenth_of_the_time_on_models_that_differ_are_estimated_within_a_factor_of_two(tiny, tmp_path, workers):
    """A model of which no trial has run is taken by its declared cost beside those that have."""
    factors = Simulated(fixed(tiny, seeds=2), tmp_path, workers).run().factors()
    assert min(factors) >= 0.5
    assert max(factors) <= 2


@pytest.mark.parametrize(("workers", "pruned"), [(1, 0.4), (3, 0.0), (8, 0.4)])
def test_a_search_of_which_trials_are_pruned_is_estimated_within_a_factor_of_two(tiny, tmp_path, workers, pruned):
    """With eight workers, four studies try two settings each at the same time, one after another."""
    made = make_plan(tiny, trials=8)
    made = dataclasses.replace(made, studies=tuple(dataclasses.replace(s, epochs=12) for s in made.studies))
    factors = Simulated(made, tmp_path, workers, pruned).run().factors()
    assert min(factors) >= 0.5
    assert max(factors) <= 2


@pytest.mark.parametrize("selection", ["nested", "global"])
def test_the_search_and_training_of_a_model_for_use_are_estimated_within_a_factor_of_two(tiny, tmp_path, selection):
    made = make_plan(tiny, trials=8, seeds=3, purpose="deploy", selection=selection)
    made = dataclasses.replace(made, studies=tuple(dataclasses.replace(s, epochs=12) for s in made.studies))
    factors = Simulated(made, tmp_path, 1).run().factors()
    assert min(factors) >= 0.5
    assert max(factors) <= 2


def test_nothing_is_estimated_before_an_epoch_has_ended_and_an_estimate_is_there_after_the_first(tiny, tmp_path):
    sweep = Simulated(fixed(tiny), tmp_path, 1)
    assert sweep.left() is None
    sweep.schedule.under_way.begin([sweep.schedule.next()])
    assert sweep.left() is None
    sweep = Simulated(fixed(tiny), tmp_path, 1).run()
    assert sweep.seen[0][1] is not None


def test_after_a_resume_the_ledger_tells_what_is_left_before_anything_has_run(tiny, tmp_path):
    Simulated(fixed(tiny), tmp_path, 1).run(most=8)
    again = Simulated(fixed(tiny), tmp_path, 1)
    before = again.left().seconds
    begin = again.clock.now
    again.run()
    assert before == pytest.approx(again.clock.now - begin, rel=0.5)


def test_a_resume_on_a_machine_four_times_as_slow_is_estimated_at_the_new_pace(tiny, tmp_path):
    Simulated(fixed(tiny, seeds=2), tmp_path, 1).run(most=16)
    factors = Simulated(fixed(tiny, seeds=2), tmp_path, 1, pace=4.0).run().factors()
    assert min(factors) >= 0.5
    assert max(factors) <= 2


def test_a_model_that_says_nothing_of_its_cost_and_has_not_run_makes_the_estimate_a_least_one(tiny, tmp_path):
    sweep = Simulated(fixed(tiny), tmp_path, 1)
    sweep.view.left.weigh(lambda spec: 0.0)
    sweep.run(most=1)
    assert sweep.seen[-1][1].whole is False
    sweep.run()
    assert sweep.seen[-2][1].whole is True


def test_trials_that_are_trained_as_one_share_a_worker(tiny, tmp_path):
    sweep = Simulated(fixed(tiny, models=(MODEL,)), tmp_path, 1)
    specs = [sweep.schedule.next() for _ in range(4)]
    sweep.schedule.under_way.begin(specs)
    for spec in specs:  # each has a quarter of 40 s per epoch
        sweep.schedule.under_way.tell(Epoch(spec.trial_id, 5, trained=5, seconds=50.0))
    assert sweep.left().seconds == pytest.approx(15 * 40)


def test_an_estimate_claims_no_more_than_two_digits():
    said = [about(seconds) for seconds in range(1, 1_000_000, 997)]
    assert all(len([c for c in words if c.isdigit()]) <= 2 for words in said)
    assert about(2 * 3600 + 100) == "2 h"


def test_the_pace_of_a_kind_is_that_of_all_its_epochs(tiny, tmp_path):
    sweep = Simulated(fixed(tiny, models=(MODEL,)), tmp_path, 1).run(most=3)
    last = sweep.schedule.next()
    mean = statistics.fmean(epoch_s(s) for s in sweep.schedule.finals.values() if s.trial_id != last.trial_id)
    assert sweep.left().seconds == pytest.approx(20 * mean)
