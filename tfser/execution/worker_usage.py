"""How much of the workers' time went into trials: busy worker seconds over available worker seconds.

Arithmetic on times that others measured; knows nothing of Ray, of clusters or of what a trial is.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Usage:
    """What the workers of one start did between the beginning of its first trial and the end of its last.

    A worker is *busy* from the moment it begins with a trial to the moment it has ended it: opening the features, training,
    scoring, committing. It says that the worker had work, not that its core or GPU computed all the time. *Idle* is the rest:
    waiting for the next trial, starting processes, trials whose worker was lost (nobody knows for how long it was at work).

    *Available* is the number of places for trials, as the cluster reported it, over the time between. A cluster that grows or
    shrinks is looked at every few seconds, and each number holds until the next look.
    """

    busy_s: float = 0.0
    """Worker seconds within trials."""
    first: float | None = None
    """When the first trial began, seconds since 1970 by its worker's clock."""
    last: float | None = None
    """When the last one ended."""
    looks: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since 1970, workers) where their number changed, in order."""

    def clear(self) -> None:
        """Begin anew, with the workers that there are."""
        self.busy_s, self.first, self.last = 0.0, None, None
        del self.looks[:-1]

    def worked(self, begin: float, end: float) -> None:
        """A worker was at a trial from ``begin`` to ``end``, seconds since 1970 by its own clock."""
        self.busy_s += max(end - begin, 0.0)
        self.first = begin if self.first is None else min(self.first, begin)
        self.last = end if self.last is None else max(self.last, end)

    def workers(self, at: float, number: int) -> None:
        """There are so many workers from now on."""
        if not self.looks or self.looks[-1][1] != number:
            self.looks.append((at, number))

    @property
    def available_s(self) -> float:
        """Worker seconds between the first begin and the last end; 0 where nothing was trained.

        >>> usage = Usage()
        >>> usage.workers(0.0, 1); usage.workers(60.0, 3)
        >>> usage.worked(10.0, 100.0)
        >>> usage.available_s  # one worker for 50 s, three for 40 s
        170.0
        """
        if self.first is None or self.last is None:
            return 0.0
        total = 0.0
        ends = [at for at, _ in self.looks[1:]] + [self.last]
        for number, ((at, workers), until) in enumerate(zip(self.looks, ends, strict=False)):
            since = (
                self.first if number == 0 else max(at, self.first)
            )  # what was there first was there before the first look
            total += workers * max(min(until, self.last) - since, 0.0)
        return total

    @property
    def share(self) -> float | None:
        """Busy over available, in [0, 1]; ``None`` where nothing was trained."""
        available = self.available_s
        return min(self.busy_s / available, 1.0) if available else None

    def __str__(self) -> str:
        """A line for a person; empty where nothing was trained."""
        if self.share is None:
            return ""
        counts = sorted({workers for _, workers in self.looks})
        number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return (
            f"Workers were at trials {100 * self.share:.1f} % of the time from the first start to the last end "
            f"({self.busy_s:.0f} of {self.available_s:.0f} worker seconds, {number} worker(s)); idle {100 * (1 - self.share):.1f} %."
        )
