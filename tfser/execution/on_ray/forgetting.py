"""What lets Tune forget the trials that have ended: an order of trials, and a printer of progress that keeps none.

Tune keeps every trial that it has seen, about 50 kB each, and goes through all of them again and again. Nothing here
asks for them later: the ledger holds what they found. Knows Tune's controller; decides nothing.
"""

from __future__ import annotations

from typing import Any

SLACK = 200
"""So many more trials than are live are kept at least, because each look goes through them."""


def forget(controller: Any) -> int:
    """Let go of the trials that have ended and have no actor, where they are many; return how many.

    Args:
        controller: Tune's ``TuneController``.
    """
    trials, live = controller._trials, controller._live_trials
    if len(trials) <= 2 * len(live) + SLACK:
        return 0
    ended = {
        trial
        for trial in trials
        if trial.is_finished() and trial not in live and trial not in controller._trial_to_actor
    }
    trials[:] = [trial for trial in trials if trial not in ended]
    for held in (controller._stopped_trials, controller._failed_trials, controller._trials_to_cache):
        held -= ended
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
    return len(ended)


def scheduler() -> Any:
    """Return Tune's own order of trials, first in, first out; its class is made here, as Ray's import takes seconds."""
    from ray.tune.schedulers import FIFOScheduler

    class Forgetting(FIFOScheduler):  # type: ignore[misc]  # Ray is not typed
        def choose_trial_to_run(self, tune_controller: Any) -> Any:
            forget(tune_controller)
            return super().choose_trial_to_run(tune_controller)

    return Forgetting()


def quiet_progress() -> Any:
    """Return what Tune takes for its own printer of progress, which keeps every trial even where it prints nothing."""
    from ray.tune.progress_reporter import TrialProgressCallback

    class Quiet(TrialProgressCallback):  # type: ignore[misc]  # Ray is not typed
        def on_trial_result(self, *arguments: Any, **info: Any) -> None:
            """Keep nothing."""

        on_trial_error = on_trial_complete = on_trial_result

    return Quiet(metric=None)
