"""One Tuner after another: workers are hardly idle because of it, and no Tuner keeps what has ended."""

import inspect
from types import SimpleNamespace

import pytest

from tfser.benchmark import driver
from tfser.execution.on_ray import forgetting
from tfser.execution.on_ray.tune_runner import trials_of_a_tuner


@pytest.mark.parametrize("workers", [100, 1000])
def test_workers_are_idle_for_less_than_a_twentieth_of_the_time_although_a_new_tuner_begins_now_and_then(workers):
    each = trials_of_a_tuner(workers) // workers
    few = 20  # the share depends on the trials per worker alone
    assert driver.idle_share(min(each, 200) * few * 2, few, min(each, 200) * few) < 0.05


def test_the_more_trials_a_tuner_has_the_less_are_workers_idle():
    assert driver.idle_share(4_000, 20, 2_000) < 0.75 * driver.idle_share(4_000, 20, 400)


class Trial:
    def __init__(self, number, ended):
        self.trial_id, self.ended = str(number), ended

    def is_finished(self):
        return self.ended


def controller(ended, live, stopping=0):
    """What Tune's controller holds: trials that have ended, some of which still have an actor, and live ones."""
    over = [Trial(number, ended=True) for number in range(ended)]
    running = [Trial(ended + number, ended=False) for number in range(live)]
    return SimpleNamespace(
        _trials=[*over[: ended // 2], *running, *over[ended // 2 :]],
        _live_trials=set(running),
        _trial_to_actor=dict.fromkeys([*over[:stopping], *running]),
        _stopped_trials=set(over[::2]),
        _failed_trials=set(over[1::2]),
        _trials_to_cache=set(over[-5:]) | set(running),
        _trial_metadata={trial.trial_id: "{}" for trial in over},
    )


def test_of_what_tune_holds_only_what_has_ended_and_has_no_actor_is_let_go():
    c = controller(ended=1000, live=10, stopping=3)
    trials = c._trials
    assert forgetting.forget(c) == 997
    assert c._trials is trials  # callbacks were given this list
    assert [trial.trial_id for trial in trials] == ["0", "1", "2", *(str(1000 + n) for n in range(10))]
    assert len(c._stopped_trials) + len(c._failed_trials) == len(c._trial_metadata) == 3
    assert c._trials_to_cache == c._live_trials


def test_few_trials_are_not_worth_a_look():
    assert forgetting.forget(controller(ended=forgetting.SLACK, live=10)) == 0


def test_what_is_let_go_is_what_tunes_controller_has():
    from ray.tune.execution.tune_controller import TuneController

    written = inspect.getsource(TuneController.__init__)
    for name in vars(controller(ended=1, live=1)):
        assert f"self.{name}" in written


def test_tune_takes_our_printer_of_progress_for_its_own_and_it_keeps_no_trial():
    from ray.tune.progress_reporter import TrialProgressCallback
    from ray.tune.utils.callback import _create_default_callbacks

    quiet = forgetting.quiet_progress()
    made = _create_default_callbacks([quiet], air_verbosity=None)
    assert [one for one in made if isinstance(one, TrialProgressCallback)] == [quiet]
    trial, before = Trial(1, ended=True), repr(vars(quiet))
    for call in (quiet.on_trial_result, quiet.on_trial_error, quiet.on_trial_complete):
        call(iteration=0, trials=[trial], trial=trial, result={})
    assert repr(vars(quiet)) == before
