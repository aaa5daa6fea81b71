"""Train one trial, or several that a worker was handed at once; every runner does it by this module.

A network is trained by ``run_network``, an estimator fitted by ``run_estimator``. Knows nothing of Ray, Optuna or
MLflow.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from tfser.errors import DeviceError, in_a_line
from tfser.execution import run_estimator, run_network
from tfser.execution.faults import of_the_device, out_of_memory
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
        DeviceError: a GPU's fault, after which this process can train nothing; no trial is committed as failed.
        OSError: see ``run``.
        MemoryError: see ``run``.
    """
    try:
        give_back_memory()  # also that of a trial that was interrupted, whose error held it until now
        with limit(tasks):
            outcomes = [run(tasks[0])] if len(tasks) == 1 else run_together(tasks)
        give_back_memory()
        return outcomes
    except (MemoryError, DeviceError):
        raise
    except Exception as error:
        # What PyTorch raises outside an attempt, while it looks for the GPU for example, is told apart here.
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        if of_the_device(error):
            raise DeviceError(in_a_line(error)) from error
        raise


def give_back_memory() -> None:
    """Give back the memory of earlier trials on a GPU, for the processes that share it.

    A captured graph and its model are a circle of references, which only the collector frees.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()


def pack_key(spec: TrialSpec) -> Hashable:
    """Return a key that is equal for trials that can be trained at once; an estimator's is its own."""
    return spec.trial_id if _is_estimator(spec) else fusion_key(spec)


def _is_estimator(spec: TrialSpec) -> bool:
    return isinstance(find(spec.model, spec.source), Estimator)
