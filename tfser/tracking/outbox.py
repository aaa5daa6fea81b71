"""Writes to MLflow in a thread of its own: an outage there delays no training, and is caught up with when it ends.

Knows when to try again, when to give up and what to say of it. What is written, and where, is the tracker's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfser.errors import in_a_line
from tfser.storage.passwords import redacted
from tfser.storage.patience import FIRST_PAUSE_S

if TYPE_CHECKING:
    from tfser.tracking.runs import Tracker

LONGEST_PAUSE_S = 30.0
"""Between attempts while MLflow is unreachable: the first, doubled from there, and the longest."""

LAST_PAUSE_S = 1.0
"""The longest while somebody waits in ``close``."""

PATIENCE_S = 15.0
"""How long ``close`` waits for an MLflow that does not answer."""

MAKING_S = 120.0
"""The same while a tracker is made: MLflow's import and, in SQLite, its tables take a busy machine many seconds."""

REFUSALS = 3
"""How often MLflow may refuse a write before that one is given up. Every attempt looks at what is there anew."""

SETBACKS = 10
"""How often a write may fail in any other way while others go through."""

NAMED = 5
"""So many writes that were given up are named; the rest is counted."""


_left_behind: list[threading.Thread] = []
"""Of mirrors that stopped in the middle of a write: in this process another start may follow, and has to see all of it."""


@dataclass(slots=True)
class _Write:
    do: Callable[[Tracker], object]
    name: str
    wanted: bool = True
    """Whether somebody asked for it; else it is no loss."""
    refusals: int = 0
    setbacks: int = 0
    others: int = 0
    """How many writes had gone through when this one last failed."""


class Mirror:
    """Writes ended trials to MLflow, so that neither Tune nor training waits for it.

    While MLflow is unreachable everything is kept and tried again with growing pauses. A write that fails for a
    reason of its own is given up alone.

    Args:
        make: makes the tracker; called in the mirror's thread, and again after every failure, so that what MLflow
            really holds is read anew (a write that failed here may have arrived there).
        warn: told when MLflow becomes unreachable, and what was given up.
        say: told when everything is caught up with; the default is ``warn``.
    """

    def __init__(
        self, make: Callable[[], Tracker], warn: Callable[[str], None], say: Callable[[str], None] | None = None
    ) -> None:
        self._make, self._warn, self._say = make, warn, say or warn
        self.lost = 0
        """Writes that were given up; the next start of the sweep makes up for them."""
        self._state = threading.Condition()
        """Guards everything below."""
        self._waiting: deque[_Write] = deque()
        self._current: _Write | None = None
        self._closing = self._stopped = self._hurry = False
        self._tracker: Tracker | None = None
        self._making = False
        self._written = self._refused = 0
        self._failures = 0
        """Attempts in a row to which MLflow gave no answer."""
        self._down_since: float | None = None
        """When the first of those began, by ``time.monotonic``."""
        self._warned = False
        self._doubtful = False
        """Whether a write that failed may have arrived all the same."""
        self._thread = threading.Thread(target=self._work, name="tfser-mlflow", daemon=True)
        self._thread.start()

    def put(self, write: Callable[[Tracker], object], name: str = "a record") -> None:
        """Do ``write`` when its turn comes; returns at once.

        Args:
            write: what to do with the tracker. It may be done more than once, so doing it again has to change nothing.
            name: what it is called where it has to be given up.
        """
        with self._state:
            if self._stopped:
                self.lost += 1
                return
            self._waiting.append(_Write(write, name))
            self._state.notify_all()

    def close(self, patience_s: float | None = None) -> None:
        """Wait until everything has been written or given up.

        Args:
            patience_s: seconds without an answer after which MLflow counts as gone and the rest as ``lost``
                (default: ``PATIENCE_S``). As long as it answers, this waits for it, however slow it is.
        """
        patience = PATIENCE_S if patience_s is None else patience_s
        closed = time.monotonic()
        with self._state:
            self._closing = self._hurry = True
            self._state.notify_all()
            while (self._waiting or self._current) and not self._silent(closed, patience):
                self._state.wait(0.1)
            left = self._stop()
            refused = self._refused
        if left:
            self._warn(
                f"MLflow has not answered for {patience:.0f} s, so {left} record(s) are not in it; the next start makes up for it"
            )
        if refused > NAMED:
            self._warn(f"MLflow could not take {refused - NAMED} more record(s); the next start tries them again")

    def abandon(self, wait_s: float = 0.0) -> int:
        """Stop, whatever is waiting.

        Args:
            wait_s: seconds to go on for before that.

        Returns:
            How many records are left for the next start.
        """
        until = time.monotonic() + wait_s
        with self._state:
            self._closing = self._hurry = True
            self._state.notify_all()
            while (self._waiting or self._current) and (rest := until - time.monotonic()) > 0:
                self._state.wait(rest)
            return self._stop()

    def _stop(self) -> int:
        """End the thread after the write that it is at; returns how many are lost by that. The caller holds the lock."""
        writes = [*self._waiting, *([self._current] if self._current else [])]
        left = sum(write.wanted for write in writes)
        if self._current:
            _left_behind[:] = [*(thread for thread in _left_behind if thread.is_alive()), self._thread]
        self._stopped = True
        self._waiting.clear()
        self._current = None
        self.lost += left
        self._state.notify_all()
        return left

    def _silent(self, closed: float, patience: float) -> bool:
        """Whether MLflow has been unreachable for longer than ``close``, called at ``closed``, is ready to wait."""
        now = time.monotonic()
        if (
            self._down_since is not None
            and now - self._down_since >= patience
            and not self._hurry
            and not self._current
        ):
            return True  # it has had its last chance
        answered = max(closed, self._tracker.answered if self._tracker else 0.0)
        return now - answered >= (max(patience, MAKING_S) if self._making else patience)

    def _work(self) -> None:
        pause = 0.0
        while (write := self._next(pause)) is not None:
            pause = self._attempt(write)

    def _next(self, pause: float) -> _Write | None:
        """The next write once the pause is over; ``None`` where there will be none."""
        with self._state:
            self._state.wait_for(lambda: self._stopped or self._hurry, pause)
            self._state.wait_for(lambda: self._stopped or self._closing or self._waiting)
            self._hurry = False
            if self._stopped or not self._waiting:
                return None
            self._current = self._waiting.popleft()
            return self._current

    def _attempt(self, write: _Write) -> float:
        """Try it once; returns how many seconds to pause before the next."""
        started = time.monotonic()
        failure: Exception | None = None
        try:
            if self._tracker is None:
                self._making = True
                for thread in tuple(_left_behind):
                    thread.join()
                self._tracker = self._make()
                self._making = False
            write.do(self._tracker)
        except Exception as error:  # whatever MLflow raises must not reach training
            failure = error
        with self._state:
            self._making, self._current = False, None
            if self._stopped:
                return 0.0  # it counts as lost, and the next start looks at what is there
            pause, warning = self._settle(write, failure, started)
            caught_up = self._caught_up()
            self._state.notify_all()
        if warning:
            self._warn(warning)
        if caught_up:
            self._say("MLflow is back and caught up with")
        return pause

    def _settle(self, write: _Write, failure: Exception | None, started: float) -> tuple[float, str]:
        """Take note of an attempt; returns how long to pause and what to warn of. The caller holds the lock."""
        if failure is None:
            self._written += 1
            self._failures, self._down_since = 0, None
            return 0.0, ""
        self._tracker = None
        reason = redacted(in_a_line(failure))
        if refused(failure):
            write.refusals += 1
            pause = FIRST_PAUSE_S if not self._waiting else 0.0
        else:
            self._doubtful = True
            self._failures += 1
            self._down_since = self._down_since or started
            write.setbacks += self._written > write.others
            write.others = self._written
            longest = LAST_PAUSE_S if self._closing else LONGEST_PAUSE_S
            pause = min(FIRST_PAUSE_S * 2 ** min(self._failures - 1, 30), longest)
        if write.refusals >= REFUSALS or write.setbacks >= SETBACKS:
            self.lost += write.wanted
            self._refused += write.wanted
            told = write.wanted and self._refused <= NAMED
            return (
                0.0,
                f"MLflow could not take {write.name} ({reason}); it is left out, and the next start tries it again"
                if told
                else "",
            )
        self._waiting.append(write)  # at the end: it may be this one alone that cannot be written
        if self._failures < 2 or self._warned:
            return pause, ""
        self._warned = True
        return pause, (
            f"MLflow could not be written ({reason}); training goes on, and the next start makes up for it unless MLflow is back before"
        )

    def _caught_up(self) -> bool:
        """Whether that was the last of what an outage held up. The caller holds the lock."""
        if self._waiting:
            return False
        if self._doubtful:
            self._doubtful = False
            self._waiting.append(_Write(lambda tracker: tracker.remove_doubles(), "", wanted=False))
            return False
        self._warned, warned = False, self._warned
        return warned


def refused(error: Exception) -> bool:
    """Whether MLflow answered and will have this write no more than before, or the write itself is at fault.

    Everything that can be the network's, the server's, the disk's or the password's fault is an outage instead:
    it would meet every other write as well.
    """
    if isinstance(error, (OSError, ImportError)):
        response = getattr(
            error, "response", None
        )  # the requests of artifacts end in requests.HTTPError, which is an OSError
        return response is not None and response.status_code in (400, 413, 422)
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.get_http_status_code() in (400, 404) and error.error_code != "ENDPOINT_NOT_FOUND"
    return not type(error).__module__.startswith(
        ("sqlalchemy", "sqlite3", "psycopg", "pymysql", "urllib3", "botocore", "google")
    )
