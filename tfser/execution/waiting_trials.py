"""Queue of trials that wait to be handed out, the most urgent first.

The order changes how long a sweep takes and never a number in it. Knows nothing of studies, ledgers or runners.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from tfser.trial import TrialSpec

AGAIN, FIRST, ANY = 0, 1, 2
"""Urgencies: lost and handed out again; what a fold waits for after its search; everything else."""

_Item = tuple[int, float, int, "_Waiting"]
"""Of the heaps: urgency, negative work ahead, number, and the trial."""


@dataclass(slots=True)
class _Waiting:
    spec: TrialSpec
    urgency: int
    behind: float
    number: int
    taken: bool = False


class Ready:
    """The queue. Within one urgency, the trial with the most work ahead comes first; on ties, the one pushed first.

    Work ahead is the trial's own work and that of the trainings that have to follow it one after another. A study tries
    setting after setting, so its first trial has a long chain behind it.

    Args:
        work: how much work a trial is, in any unit.
    """

    def __init__(self, work: Callable[[TrialSpec], float]) -> None:
        self._work = work
        self._numbers = itertools.count()
        self._heap: list[_Item] = []
        self._length = 0
        self._key: Callable[[TrialSpec], Hashable] | None = None
        self._of_key: dict[Hashable, list[_Item]] = {}

    def __len__(self) -> int:
        return self._length

    def push(self, spec: TrialSpec, urgency: int = ANY, behind: float = 0.0) -> None:
        """Add a trial.

        Args:
            spec: the trial.
            urgency: ``AGAIN``, ``FIRST`` or ``ANY``.
            behind: trainings of its kind that have to follow it one after another.
        """
        item = self._item(_Waiting(spec, urgency, behind, next(self._numbers)))
        heapq.heappush(self._heap, item)
        if self._key is not None:
            heapq.heappush(self._of_key.setdefault(self._key(spec), []), item)
        self._length += 1

    def pop(self) -> TrialSpec | None:
        """Remove and return the most urgent trial; ``None`` where none waits."""
        (spec,) = self.pop_together(None, 1) or (None,)
        return spec

    def pop_together(self, key: Callable[[TrialSpec], Hashable] | None, most: int) -> list[TrialSpec]:
        """Remove and return the most urgent trial, and after it the most urgent ones with the same key.

        Args:
            key: returns a trial's key. Pass the same function at every call; another one sorts all trials again.
            most: largest number of trials, at least 1.
        """
        found = _take(self._heap, 1)
        self._length -= len(found)
        if found and key is not None and most > 1:
            if key is not self._key:
                self._key, self._of_key = key, {}
                for item in self._heap:
                    if not item[-1].taken:
                        self._of_key.setdefault(key(item[-1].spec), []).append(item)
                for items in self._of_key.values():
                    heapq.heapify(items)
            own = key(found[0])
            more = _take(self._of_key.get(own, []), most - 1)
            if not self._of_key.get(own):
                self._of_key.pop(own, None)
            self._length -= len(more)
            found += more
        return found

    def weigh(self, work: Callable[[TrialSpec], float]) -> None:
        """Order the trials, also those still to come, by another measure of work."""
        self._work = work
        self._heap = [self._item(item[-1]) for item in self._heap if not item[-1].taken]
        heapq.heapify(self._heap)
        self._key, self._of_key = None, {}

    def _item(self, one: _Waiting) -> _Item:
        return (one.urgency, -self._work(one.spec) * (1 + one.behind), one.number, one)


def _take(heap: list[_Item], most: int) -> list[TrialSpec]:
    """Pop up to ``most`` trials; those that another heap has handed out are skipped."""
    found: list[TrialSpec] = []
    while heap and len(found) < most:
        one = heapq.heappop(heap)[-1]
        if not one.taken:
            one.taken = True
            found.append(one.spec)
    return found
