"""Train one trial, or several that a worker was handed at once; every runner does it by this module.

A network is trained by ``run_network``, an estimator fitted by ``run_estimator``. Knows nothing of Ray, Optuna or
MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext

from tfser.execution import run_estimator, run_network
from tfser.execution.run_network import run_together, trial_data
from tfser.execution.task import FeaturesError, Task, committed
from tfser.models import Estimator, find
from tfser.record import Outcome
from tfser.training.together import fusion_key
from tfser.trial import TrialSpec

__all__ = ["FeaturesError", "Limit", "Task", "pack_key", "run", "run_pack", "run_together", "trial_data"]

Limit = Callable[[Sequence[Task]], AbstractContextManager[None]]
"""Watches over the time of trials that are trained at once, as a runner can (``tfser.execution.time_limit``)."""


def _unlimited(tasks: Sequence[Task]) -> AbstractContextManager[None]:
    return nullcontext()


def run(task: Task) -> Outcome:
    """Train one trial, commit its entry, and return it.

    A trial that would fail again in the same way is committed as failed, with the path of its log. A fault that may not
    recur elsewhere or later (a full disk, a store that does not answer, a full memory) is raised. A pruned trial is
    returned and not committed. A checkpoint of an earlier attempt is resumed; the numbers are the same without one.

    Raises:
        OSError: something could not be read or written; ``MachineError`` for other faults of the machine.
        MemoryError: this process or its GPU has too little memory.
    """
    if (there := committed(task)) is not None:
        return there
    return run_estimator.run(task) if _is_estimator(task.spec) else run_network.run(task)


def run_pack(tasks: Sequence[Task], limit: Limit = _unlimited) -> list[Outcome]:
    """Train the trials that a worker was handed at once, one alone or several together; return their outcomes in order.

    Args:
        tasks: trials with one ``pack_key``.
        limit: ends trials that take longer than their task says.

    Raises:
        OSError: see ``run``.
        MemoryError: see ``run``.
    """
    with limit(tasks):
        return [run(tasks[0])] if len(tasks) == 1 else run_together(tasks)


def pack_key(spec: TrialSpec) -> Hashable:
    """Return a key that is equal for trials that can be trained at once; an estimator's is its own."""
    return spec.trial_id if _is_estimator(spec) else fusion_key(spec)


def _is_estimator(spec: TrialSpec) -> bool:
    return isinstance(find(spec.model, spec.source), Estimator)
