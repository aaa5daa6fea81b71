"""Wait for a database or a store that does not answer for a while, instead of ending a sweep of days."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tfser.errors import TfserError, in_a_line
from tfser.storage.passwords import redacted

FIRST_PAUSE_S = 0.5
PATIENCE_S = 60.0
"""How long the driver waits before it ends. The ledger then still holds what was trained, for the next start."""

LONGEST_PAUSE_S = 5.0

Answer = TypeVar("Answer")


class Patience:
    """Asks a database or a store again, with growing pauses, while it does not answer.

    Args:
        what: its name for a person.
        passing: returns whether an error may pass by itself.
        say: told when the wait begins and when the answer is there.
    """

    def __init__(self, what: str, passing: Callable[[Exception], bool], say: Callable[[str], None]) -> None:
        self._what, self._passing, self._say = redacted(what), passing, say
        self._lost = ""
        """Why it was given up; empty while it was not."""

    def __call__(self, ask: Callable[[bool], Answer]) -> Answer:
        """Return what ``ask`` returns.

        Args:
            ask: called with ``True`` on a repetition, when the request may already have been carried out.

        Raises:
            TfserError: it did not answer for ``PATIENCE_S``.
        """
        since, pause, again = time.monotonic(), FIRST_PAUSE_S, False
        while True:
            if self._lost:
                raise TfserError(self._lost)
            try:
                answer = ask(again)
            except Exception as error:
                if not self._passing(error):
                    raise
                cause = error.__cause__ or error
                reason = redacted(in_a_line(cause, 200))
            else:
                if again:
                    self._say(f"{self._what} answers again")
                return answer
            if time.monotonic() - since >= PATIENCE_S:
                lines = f"{self._what} has not answered for {PATIENCE_S:.0f} s ({reason})"
                self._lost = f"{lines}; what was trained is kept, and the same command goes on from there"
            elif not again:
                self._say(f"{self._what} does not answer ({reason}); waiting up to {PATIENCE_S:.0f} s for it")
            again = True
            if not self._lost:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
