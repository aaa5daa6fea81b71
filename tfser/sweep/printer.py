"""Prints what a start of a sweep has to say, in plain lines."""

from __future__ import annotations

from rich.console import Console

from tfser.storage.passwords import redacted
from tfser.storage.places import Place, absolute


class Printer:
    """Prints to one console.

    Args:
        console: the console; by default that of the process.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console() if console is None else console
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

    def say_interrupted(self, sweep: str) -> None:
        """Print once how to go on."""
        if not self._interrupted:
            self._interrupted = True
            kept = "What was finished is kept; the same command goes on from there"
            self.say(f"Interrupted. {kept} (sweep {sweep}).")
