"""GPUs and nodes that are kept from trials: a task that does nothing takes their place.

Ray itself gives work to whatever is free, and cannot be told that one GPU is broken. Knows Ray; decides nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tfser.execution.breakages import Where

TAKE_S = 30.0
"""How long it may take until the last workers have left a place."""


class HeldBack:
    """The places that are held.

    Args:
        ray: the module, connected to the cluster.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._holders: dict[Where, Any] = {}

    def __contains__(self, where: Where) -> bool:
        return where in self._holders

    def gpus(self, node: str) -> int:
        """Return how many GPUs of a node are held by themselves."""
        return sum(where.node == node and where.gpu != "" for where in self._holders)

    def hold(self, where: Where, resources: Mapping[str, float]) -> None:
        """Take a place, once no trial runs there; what cannot be taken in ``TAKE_S`` stays free.

        Args:
            where: the GPU or node.
            resources: of the node.
        """
        gpus = int(resources.get("GPU", 0.0)) - self.gpus(where.node)
        if where.gpu:
            # Ray chooses the GPU, so that all of the node are taken, and all but one given back.
            self._take(where, [self._holder(where.node, 0.0, 1.0) for _ in range(gpus)])
            return
        cpus = resources.get("CPU", 0.0)
        for fewer in (0.0, 1.0):  # a job's driver may have one itself
            if where not in self and cpus > fewer:
                self._take(where, [self._holder(where.node, cpus - fewer, float(gpus))])

    def _take(self, where: Where, asked: Sequence[Any]) -> None:
        """Keep the first of some holders that is at a place, and end the others."""
        until = time.monotonic() + TAKE_S
        found = []
        for holder in asked:
            gpus = None
            with contextlib.suppress(self._ray.exceptions.RayError):
                gpus = self._ray.get(holder.gpus.remote(), timeout=max(until - time.monotonic(), 0.1))
            found.append(gpus)
        for holder, gpus in zip(asked, found, strict=True):
            if gpus is not None and where not in self and (not where.gpu or where.gpu in gpus):
                self._holders[where] = holder
            else:
                self._ray.kill(holder)

    def _holder(self, node: str, cpus: float, gpus: float) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._ray.remote(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=there)(_Holder).remote()


class _Holder:
    """What takes the place."""

    def gpus(self) -> list[str]:
        """Return the numbers of the GPUs that it has."""
        return own_gpus()


def own_gpus() -> list[str]:
    """Return the numbers of the GPUs of which this Ray worker has a share."""
    import ray

    return [str(gpu) for gpu in ray.get_runtime_context().get_accelerator_ids().get("GPU", [])]
