"""Trials that wait to be handed out, the most urgent first.

The order in which trials are handed out changes how long a sweep takes and never a number in it. Knows
specs as things to be ordered, and nothing of studies, ledgers or runners.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from tfser.trial import TrialSpec

AGAIN, FIRST, ANY = 0, 1, 2
"""Classes of urgency: handed out before and lost; what a fold waits for at the end of its search; everything else."""

Entry = tuple[int, float, int, "_Waiting"]


@dataclass(slots=True)
class _Waiting:
    spec: TrialSpec
    urgency: int
    behind: float
    number: int
    taken: bool = False


class Ready:
    """Of one class of urgency, the trial with the most work ahead comes first, and of equal ones the one that came first.

    Work ahead is the trial's own and that of the trainings that can only come one after another behind it: a study tries
    setting after setting, so that its first trial is the beginning of a long chain.

    Args:
        work: how much work a trial is, in any unit.
    """

    def __init__(self, work: Callable[[TrialSpec], float]) -> None:
        self._work = work
        self._numbers = itertools.count()
        self._heap: list[Entry] = []
        self._length = 0
        self._key: Callable[[TrialSpec], Hashable] | None = None
        self._of_key: dict[Hashable, list[Entry]] = {}

    def __len__(self) -> int:
        return self._length

    def push(self, spec: TrialSpec, urgency: int = ANY, behind: float = 0.0) -> None:
        """Let a trial wait.

        Args:
            spec: the trial.
            urgency: ``AGAIN``, ``FIRST`` or ``ANY``.
            behind: trainings of its kind that have to come one after another behind it.
        """
        entry = self._entry(_Waiting(spec, urgency, behind, next(self._numbers)))
        heapq.heappush(self._heap, entry)
        if self._key is not None:
            heapq.heappush(self._of_key.setdefault(self._key(spec), []), entry)
        self._length += 1

    def pop(self) -> TrialSpec | None:
        """The most urgent trial, or ``None`` where none waits."""
        (spec,) = self.pop_together(None, 1) or (None,)
        return spec

    def pop_together(self, key: Callable[[TrialSpec], Hashable] | None, most: int) -> list[TrialSpec]:
        """The most urgent trial, and after it the most urgent of those that have its key.

        Args:
            key: what the trials have in common. The same function at every call: another one has every waiting trial sorted anew.
            most: trials at most, 1 or more.
        """
        found = _take(self._heap, 1)
        self._length -= len(found)
        if found and key is not None and most > 1:
            if key is not self._key:
                self._key, self._of_key = key, {}
                for entry in self._heap:
                    if not entry[-1].taken:
                        self._of_key.setdefault(key(entry[-1].spec), []).append(entry)
                for entries in self._of_key.values():
                    heapq.heapify(entries)
            own = key(found[0])
            more = _take(self._of_key.get(own, []), most - 1)
            if not self._of_key.get(own):
                self._of_key.pop(own, None)
            self._length -= len(more)
            found += more
        return found

    def weigh(self, work: Callable[[TrialSpec], float]) -> None:
        """Order what waits, and what will, by another measure of work."""
        self._work = work
        waiting = [entry[-1] for entry in self._heap if not entry[-1].taken]
        self._heap = [self._entry(one) for one in waiting]
        heapq.heapify(self._heap)
        self._key, self._of_key = None, {}

    def _entry(self, one: _Waiting) -> Entry:
        return (one.urgency, -self._work(one.spec) * (1 + one.behind), one.number, one)


def _take(heap: list[Entry], most: int) -> list[TrialSpec]:
    """Up to ``most`` trials from the top; what another heap gave away is passed over."""
    found: list[TrialSpec] = []
    while heap and len(found) < most:
        one = heapq.heappop(heap)[-1]
        if not one.taken:
            one.taken = True
            found.append(one.spec)
    return found
