"""Prints what a start of a sweep has to say, in plain lines."""

from __future__ import annotations

from rich.console import Console

from tfser.storage.passwords import redacted
from tfser.storage.places import Place, absolute
from tfser.sweep.live import Display


class Printer:
    """Prints to one console.

    Args:
        console: the console; by default that of the process.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console() if console is None else console
        self.live = Display(self.console)
        """Shows what is done now."""
        self._interrupted = False

    def say(self, text: str, style: str = "") -> None:
        """Print a text as it is."""
        self.console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)

    def warn(self, text: str) -> None:
        """Print a text that a person should not miss."""
        self.say(text, "yellow")

    def say_place(self, what: str, place: Place) -> None:
        """Print where something is, without passwords."""
        self.say(f"{what}: {redacted(str(absolute(place)))}")

    def say_interrupted(self, sweep: str, done: str = "") -> None:
        """Print once how to go on, below what was shown last.

        Args:
            sweep: its name.
            done: how many trials are done, as a sentence.
        """
        if not self._interrupted:
            self._interrupted = True
            self.live.close(kept=True)
            kept = "What was finished is kept; the same command goes on from there"
            self.say(" ".join(filter(None, ["Interrupted.", done, f"{kept} (sweep {sweep})."])))
