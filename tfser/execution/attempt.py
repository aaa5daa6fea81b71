"""An attempt at a trial: its work is done in parts, and however it ends, its entry is committed.

Knows the ledger, faults and logs; knows nothing of how a model learns.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from tfser.errors import DeviceError, MachineError, TrialError, in_a_line
from tfser.execution.faults import of_the_device, of_the_machine, out_of_memory
from tfser.execution.forked import end_copy_of
from tfser.execution.task import Task
from tfser.execution.this_machine import cpu_name, device_name, versions
from tfser.models import isolated
from tfser.record import Failure, Machine, Outcome, Pruned, Record, to_dict
from tfser.storage.places import Place, commit_text, make_folder

Ended = tuple[Outcome, Mapping[str, torch.Tensor] | bytes | None]
"""How a trial ended, and a network's weights or the file of an estimator's fitted state."""


class Attempt:
    """An attempt at a trial.

    Args:
        task: the trial.
        device: name of the device that it is trained on; by default that of the task's ``device``.
        packages: packages that can change its numbers, beside those of every trial.
        circumstances: other facts for its entry's ``machine``.
    """

    def __init__(
        self,
        task: Task,
        *,
        device: str | None = None,
        packages: tuple[str, ...] = (),
        circumstances: Mapping[str, str] | None = None,
    ) -> None:
        self.task = task
        self.spent_s = 0.0
        """Seconds of training so far, in earlier attempts and this one."""
        self.started_unix = time.time()
        self.versions = versions(*packages)
        self.machine = Machine(
            host=socket.gethostname(),
            device=device or (cpu_name() if task.device == "cpu" else device_name()),
            system=platform.platform(),
            circumstances={**(circumstances or {}), **task.machine},
        )
        self._since = time.monotonic()
        self._process = os.getpid()

    def attempt(self, work: Callable[[], Ended | None]) -> Outcome | None:
        """Do a part of the trial's work; return its outcome, or ``None`` where it goes on.

        A record or failure is committed.

        Raises:
            OSError: see ``tfser.execution.run_trial.run``.
            MemoryError: likewise.
        """
        self._since = time.monotonic()
        try:
            ended = self._by_this_process(work)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and not isolated.asked_to_end(error):
                raise
            if out_of_memory(error):
                raise MemoryError(str(error)) from error
            if isinstance(error, DeviceError):
                raise
            if of_the_device(error):
                raise DeviceError(in_a_line(error)) from error
            if of_the_machine(error):
                if isinstance(error, OSError):
                    raise
                raise MachineError(in_a_line(error)) from error
            reason = str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"
            ended = self._failure(reason), None
        self.spent_s = self.seconds()
        if ended is None:
            return None
        outcome, weights = ended
        if not isinstance(outcome, Pruned):
            kept = isinstance(outcome, Record) and keeps_weights(self.task)
            outcome = self.task.ledger.settle(outcome, weights if kept else None)
        self.after_commit()
        return outcome

    def _by_this_process(self, work: Callable[[], Ended | None]) -> Ended | None:
        """Do a part of the work; a copy of this process that the model's code forked gets no further than that."""
        try:
            return work()
        finally:
            end_copy_of(self._process)

    def after_commit(self) -> None:
        """Tidy up once the trial has ended."""

    def _failure(self, reason: str) -> Failure:
        """Write a log of the error that is being handled, and return the failure."""
        failure = self.failure(reason)
        return replace(failure, log=str(_write_log(self.task, failure)))

    def failure(self, reason: str) -> Failure:
        """Return the failure that the trial would have if it ended now."""
        return Failure(
            trial_id=self.task.spec.trial_id,
            spec=self.task.spec,
            reason=reason,
            started_unix=self.started_unix,
            seconds=self.seconds(),
            machine=self.machine,
            versions=self.versions,
        )

    def seconds(self) -> float:
        """Return the trial's training time until now."""
        return self.spent_s + time.monotonic() - self._since


def keeps_weights(task: Task) -> bool:
    """Return whether the ledger keeps the weights or fitted state of a trial beside its record."""
    return task.spec.purpose != "search" and not task.spec.leaks


def _write_log(task: Task, failure: Failure) -> Place:
    """Write the error that is being handled for a person to read; return the path."""
    path = task.storage / "logs" / f"{task.spec.trial_id}.log"
    make_folder(path.parent)
    facts = json.dumps({**to_dict(failure), "pid": os.getpid()}, indent=1, sort_keys=True)
    commit_text(path, f"{traceback.format_exc()}\n{facts}\n")
    return path
