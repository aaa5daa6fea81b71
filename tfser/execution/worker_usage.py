"""The share of the workers' time that went into trials: busy over available worker seconds.

Only arithmetic on measured times. Knows nothing of Ray, of clusters or of what a trial is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tfser.errors import counted


@dataclass(slots=True)
class Usage:
    """Time of the workers between the begin of a start's first trial and the end of its last.

    A worker is *busy* from the begin of a trial to its end: opening the features, training, scoring, committing. That
    means it had work, not that its core or GPU computed all the time. It is *idle* otherwise: it waits for the next
    trial, or its process starts. A trial that was lost with its worker counts as idle time, because nobody knows how
    long it was trained.

    *Available* time is the number of workers over the whole time. A cluster reports the number every few seconds; each
    number holds until the next report.
    """

    busy_s: float = 0.0
    """Worker seconds spent in trials."""
    first: float | None = None
    """When the first trial began, seconds since 1970 by its worker's clock."""
    last: float | None = None
    """When the last trial ended."""
    looks: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since 1970, workers) at each change of their number, in order."""

    def clear(self) -> None:
        """Forget all trials; the number of workers stays."""
        self.busy_s, self.first, self.last = 0.0, None, None
        del self.looks[:-1]

    def worked(self, begin: float, end: float) -> None:
        """Count a trial that a worker trained from ``begin`` to ``end``, seconds since 1970 by its clock."""
        self.busy_s += max(end - begin, 0.0)
        self.first = begin if self.first is None else min(self.first, begin)
        self.last = end if self.last is None else max(self.last, end)

    def workers(self, at: float, number: int) -> None:
        """Note that there are so many workers from now on."""
        if not self.looks or self.looks[-1][1] != number:
            self.looks.append((at, number))

    @property
    def available_s(self) -> float:
        """Available worker seconds between the first begin and the last end; 0 where nothing was trained.

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
            # The workers of the first report were there before it.
            since = self.first if number == 0 else max(at, self.first)
            total += workers * max(min(until, self.last) - since, 0.0)
        return total

    @property
    def share(self) -> float | None:
        """Busy over available, in [0, 1]; ``None`` where nothing was trained."""
        available = self.available_s
        return min(self.busy_s / available, 1.0) if available else None

    def __str__(self) -> str:
        """Return a line for a person; empty where nothing was trained."""
        if self.share is None:
            return ""
        counts = sorted({workers for _, workers in self.looks})
        fewest = f"{counts[0]} to " if len(counts) > 1 else ""
        return (
            f"Workers busy {100 * self.share:.1f} % of the time ({self.busy_s:.0f} of {self.available_s:.0f} worker "
            f"seconds, {fewest}{counted(counts[-1], 'worker')})."
        )
