"""Brings what has ended to MLflow in a thread of its own, so that an outage there delays no training.

Knows what is missing there, when to try again, when to give up and what to say. What is written is the tracker's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfser.errors import counted, in_a_line
from tfser.storage.passwords import redacted
from tfser.storage.patience import FIRST_PAUSE_S

if TYPE_CHECKING:
    from tfser.tracking.runs import Tracker

LONGEST_PAUSE_S = 30.0
"""Longest pause between attempts while MLflow is unreachable; the first is ``FIRST_PAUSE_S``, doubled from there."""

LAST_PAUSE_S = 1.0
"""Longest pause while ``close`` waits."""

PATIENCE_S = 15.0
"""How long ``close`` waits for an MLflow that does not answer."""

MAKING_S = 120.0
"""How long it waits while a tracker is made: a busy machine takes long to import MLflow and to make SQLite's tables."""

REFUSALS, SETBACKS = 3, 10
"""Failures of a write's own after which it is given up: where MLflow refuses it, and where it breaks at it."""

NAMED = 5
"""So many writes that were given up are named; the rest are counted."""

_one_at_a_time = threading.Lock()
"""Held during a write. After an outbox that stopped during one, the next in this process waits for its end."""


@dataclass(slots=True)
class _Write:
    do: Callable[[Tracker], object]
    name: str
    faults: int = 0
    """Failures of its own: MLflow refused it, or took others since it last failed."""
    others: int = 0
    """Writes that had gone through when it last failed."""


class Outbox:
    """Brings ended trials to MLflow, so that neither Tune nor training waits for it.

    What is missing there is tried in turn until it is there. After a failure a new tracker reads what MLflow holds,
    because a write that failed here may have arrived there; for the same reason doubles are removed at the end.

    Args:
        make: makes a tracker, in the outbox's thread.
        warn: told when MLflow becomes unreachable, and what was given up.
        say: told when nothing is missing any more; the default is ``warn``.
    """

    def __init__(
        self, make: Callable[[], Tracker], warn: Callable[[str], None], say: Callable[[str], None] | None = None
    ) -> None:
        self._make, self._warn, self._say = make, warn, say or warn
        self.lost = 0
        """Writes that were given up; the next start of the sweep makes up for them."""
        self._state = threading.Condition()
        """Guards everything below."""
        self._missing: deque[_Write] = deque()
        """What is not known to be in MLflow; the first is tried now or next."""
        self._doubtful = False
        """Whether a write that failed may have arrived all the same."""
        self._tracker: Tracker | None = None
        self._making = self._closing = self._stopped = self._warned = False
        self._written = self._refused = 0
        self._failures = 0
        """Attempts in a row that MLflow did not answer."""
        self._answered = 0.0
        """When it last did, or the wait in ``close`` began, by ``time.monotonic``."""
        self._thread = threading.Thread(target=self._work, name="tfser-mlflow", daemon=True)
        self._thread.start()

    def put(self, write: Callable[[Tracker], object], name: str = "a record") -> None:
        """Do ``write`` when its turn comes; return at once.

        Args:
            write: what to do with the tracker. It may be done more than once, so doing it again has to change nothing.
            name: what a warning calls it.
        """
        with self._state:
            if self._stopped:
                self.lost += 1
            else:
                self._missing.append(_Write(write, name))
                self._state.notify_all()

    def close(self, patience_s: float | None = None) -> None:
        """Wait until everything has been written or given up.

        Args:
            patience_s: seconds without an answer after which MLflow counts as gone and the rest as ``lost``
                (default: ``PATIENCE_S``). As long as it answers, this waits for it, however slow it is.
        """
        patience = PATIENCE_S if patience_s is None else patience_s
        with self._state:
            self._closing, self._answered = True, time.monotonic()
            self._state.notify_all()
            while self._has_work() and not self._is_silent(patience):
                self._state.wait(0.1)
        if left := self.abandon():
            lacks = f"MLflow has not answered for {patience:.0f} s and lacks {counted(left, 'record')}"
            self._warn(f"{lacks}; the next start makes up for it")
        if self._refused > NAMED:
            more = counted(self._refused - NAMED, "more record")
            self._warn(f"MLflow could not take {more}; the next start tries them again")

    def abandon(self) -> int:
        """Stop after the write that is under way; return how many records are left for the next start."""
        with self._state:
            left = len(self._missing)
            self._missing.clear()
            self._stopped = True
            self.lost += left
            self._state.notify_all()
            return left

    def _has_work(self) -> bool:
        return bool(self._missing) or self._doubtful

    def _is_silent(self, patience: float) -> bool:
        """Return whether MLflow has not answered for longer than ``close`` is ready to wait."""
        answered = max(self._answered, self._tracker.answered if self._tracker else 0.0)
        return time.monotonic() - answered >= (max(patience, MAKING_S) if self._making else patience)

    def _work(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._stopped or self._has_work())
                if self._stopped:
                    return
                write = self._missing[0] if self._missing else None
            failure = self._attempt(write)
            with self._state:
                if self._stopped:
                    return  # it counts as lost, and the next start looks at what is there
                pause = self._noted(write, failure)
                if self._warned and not self._has_work():
                    self._warned = False
                    self._say("MLflow is back and caught up with")
                self._state.notify_all()
                self._rest(pause)

    def _rest(self, pause: float) -> None:
        """Pause; where ``close`` begins meanwhile, end the pause for one more attempt at once."""
        closing = self._closing
        self._state.wait_for(lambda: self._stopped or self._closing != closing, pause)

    def _attempt(self, write: _Write | None) -> Exception | None:
        """Try a write, or the removal of doubles where nothing is missing; return what went wrong."""
        self._making = self._tracker is None
        try:
            with _one_at_a_time:
                self._tracker = self._tracker or self._make()
                self._making = False
                if write:
                    write.do(self._tracker)
                else:
                    self._tracker.remove_doubles()
        except Exception as error:  # whatever MLflow raises must not reach training
            return error
        finally:
            self._making = False
        return None

    def _noted(self, write: _Write | None, failure: Exception | None) -> float:
        """Take note of an attempt; return how long to pause. The caller holds the lock."""
        if write:
            self._missing.popleft()
        if failure is None:
            self._failures, self._answered = 0, time.monotonic()
            self._written += write is not None
            self._doubtful = self._doubtful and write is not None
            return 0.0
        self._tracker = None
        reason = redacted(in_a_line(failure))
        its_own = refused(failure)
        if its_own:
            self._answered = time.monotonic()
            self._doubtful = self._doubtful and write is not None
            pause = 0.0 if self._missing else FIRST_PAUSE_S
        else:
            self._doubtful = True
            self._failures += 1
            longest = LAST_PAUSE_S if self._closing else LONGEST_PAUSE_S
            pause = min(FIRST_PAUSE_S * 2 ** min(self._failures - 1, 30), longest)
        if write:
            write.faults += its_own or self._written > write.others
            write.others = self._written
            if write.faults >= (REFUSALS if its_own else SETBACKS):
                self._leave_out(write, reason)
                return 0.0
            self._missing.append(write)  # at the end: it may be this one alone that cannot be written
        if self._failures > 1 and not self._warned:
            self._warned = True
            goes_on = "training goes on, and the next start makes up for it unless MLflow is back before"
            self._warn(f"MLflow could not be written ({reason}); {goes_on}")
        return pause

    def _leave_out(self, write: _Write, reason: str) -> None:
        """Give up a write that is itself at fault."""
        self.lost += 1
        self._refused += 1
        if self._refused <= NAMED:
            again = "it is left out, and the next start tries it again"
            self._warn(f"MLflow could not take {write.name} ({reason}); {again}")


def refused(error: Exception) -> bool:
    """Return whether MLflow answered and refuses this write, or the write itself is at fault.

    Whatever can be the fault of the network, the server, the disk or the password is an outage instead: it would meet
    every other write as well.
    """
    if isinstance(error, (OSError, ImportError)):
        response = getattr(error, "response", None)  # of requests.HTTPError, an OSError that artifacts end in
        return response is not None and response.status_code in (400, 413, 422)
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.get_http_status_code() in (400, 404) and error.error_code != "ENDPOINT_NOT_FOUND"
    return not type(error).__module__.startswith(
        ("sqlalchemy", "sqlite3", "psycopg", "pymysql", "urllib3", "botocore", "google")
    )
