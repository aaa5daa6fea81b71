"""The trials that have a worker now, and how far each is: what a person sees of them before they end.

It is for the eye alone: nothing that is trained, chosen or kept depends on it, and a message that is lost is missed by
nobody. Knows nothing of processes, Ray or terminals.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tfser.trial import TrialSpec


@dataclass(frozen=True, slots=True)
class Epoch:
    """How far a trial is."""

    trial_id: str
    epoch: int
    """Epochs that are trained."""
    best: float | None = None
    """A search trial's best validation UAR so far, in [0, 1]."""
    trained: int = 0
    """How many of the epochs this attempt trained; fewer where it went on from a checkpoint."""
    seconds: float = 0.0
    """What those took; of trials that are trained as one, this one's share."""


Tell = Callable[[Epoch], None]
"""Takes in how far a trial is, after each epoch. It returns at once and raises nothing."""


def untold(epoch: Epoch) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Running:
    """A trial that has a worker."""

    spec: TrialSpec
    began: float
    """When the worker got it, in seconds of the clock."""
    pack: int
    """Number of the pack of trials that the worker trains as one."""
    together: int = 1
    """Trials of the pack."""
    said: Epoch | None = None
    """What it told last."""

    @property
    def epoch(self) -> int:
        """Epochs that are trained, as far as told."""
        return self.said.epoch if self.said else 0

    @property
    def best(self) -> float | None:
        """A search trial's best validation UAR so far, in [0, 1]."""
        return self.said.best if self.said else None

    @property
    def trained(self) -> int:
        """How many epochs this attempt has trained, as far as told."""
        return self.said.trained if self.said else 0

    @property
    def epoch_s(self) -> float | None:
        """Seconds per epoch; ``None`` before the first."""
        return self.said.seconds / self.said.trained if self.said and self.said.trained else None


class UnderWay:
    """The trials that have a worker; several threads may ask.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._packs = 0

    def begin(self, specs: Sequence[TrialSpec]) -> None:
        """Note that a worker has begun trials, as one where there are several."""
        now = self.clock()
        with self._lock:
            self._packs += 1
            self._running.update((s.trial_id, Running(s, now, self._packs, len(specs))) for s in specs)

    def tell(self, said: Epoch) -> None:
        """Take in how far a trial is; pass over what is older than known, or about one that has no worker."""
        with self._lock:
            known = self._running.get(said.trial_id)
            if known is not None and said.epoch >= known.epoch:
                self._running[said.trial_id] = replace(known, said=said)

    def end(self, trial_id: str) -> float | None:
        """Note that a trial has no worker any more; return its share of the worker's seconds, if it had one."""
        with self._lock:
            was = self._running.pop(trial_id, None)
        return None if was is None else (self.clock() - was.began) / was.together

    def now(self) -> list[Running]:
        """Return the trials that have a worker, in the order in which they began."""
        with self._lock:
            return list(self._running.values())

    @property
    def begun(self) -> bool:
        """Whether any worker has had a trial."""
        return self._packs > 0

    def __len__(self) -> int:
        return len(self._running)
