"""How far trials are, on its way from workers to the driver: the newest word of each trial, every few seconds.

An actor without a CPU holds it. Nothing waits for it: a word that is lost, or an actor that is gone, costs nothing but
a number on the screen. Knows Ray; knows nothing of schedules.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from tfser.execution.under_way import Epoch, Tell

EVERY_S = 2.0
"""Least seconds between two messages of a worker, and between two looks of the driver."""


class _Box:
    """The actor."""

    def __init__(self) -> None:
        self._newest: dict[str, Epoch] = {}

    def put(self, told: list[Epoch]) -> None:
        """Keep the newest word of some trials."""
        self._newest.update((epoch.trial_id, epoch) for epoch in told)

    def take(self) -> list[Epoch]:
        """Return what came since the last time."""
        newest, self._newest = list(self._newest.values()), {}
        return newest


class Mailbox:
    """The driver's side.

    Args:
        ray: the module, connected to the cluster.
        clock: returns seconds.
    """

    def __init__(self, ray: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._ray, self._clock = ray, clock
        self._asked: Any = None
        self._looked = float("-inf")
        self.box: Any = None
        """The actor's handle, for the workers; ``None`` where it cannot be had."""
        # Without task events, because the dashboard would list every message. Its node is the driver's where that is
        # one of the cluster, so that it does not go with a node that is rented.
        kept: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "enable_task_events": False}
        with contextlib.suppress(Exception):
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = ray.get_runtime_context().get_node_id()
            kept["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=True)
        with contextlib.suppress(Exception):  # without it, the sweep goes on and shows no epochs
            self.box = ray.remote(**kept)(_Box).remote()

    def look(self, tell: Tell) -> None:
        """Pass on what has come, now and then; never wait for it."""
        now = self._clock()
        if self.box is None or now - self._looked < EVERY_S:
            return
        with contextlib.suppress(Exception):
            if self._asked is None:
                self._asked = self.box.take.remote()
                return
            if not self._ray.wait([self._asked], timeout=0)[0]:
                return
            asked, self._asked, self._looked = self._asked, None, now
            for epoch in self._ray.get(asked):
                tell(epoch)


class Sender:
    """A worker's side: takes in each epoch, and sends the newest of each trial.

    Args:
        box: the actor's handle.
        clock: returns seconds.
    """

    def __init__(self, box: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._box, self._clock = box, clock
        self._newest: dict[str, Epoch] = {}
        self._sent = float("-inf")
        self._under_way: Any = None

    def __call__(self, epoch: Epoch) -> None:
        """Take in how far a trial is; send it where the last message is old enough and has arrived."""
        self._newest[epoch.trial_id] = epoch
        now = self._clock()
        if self._box is None or now - self._sent < EVERY_S:
            return
        with contextlib.suppress(Exception):
            import ray

            if self._under_way is None or ray.wait([self._under_way], timeout=0)[0]:
                self._under_way = self._box.put.remote(list(self._newest.values()))
                self._newest, self._sent = {}, now

    def begin(self) -> None:
        """Forget the trials that have ended."""
        self._newest = {}
