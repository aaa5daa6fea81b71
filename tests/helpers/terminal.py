"""A terminal that a test drives: it records what a command writes with the times, and draws it on a screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence

_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b.|([\r\n])|([^\x1b\r\n]+)", re.DOTALL)


def columns(text: str) -> int:
    """The columns that a text takes, by Unicode's own table."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Screen:
    """What a terminal shows, and what scrolled away; knows the few controls that are used here."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row, self.column = 0, 0
        self.cursor_shown = True
        self._rest = ""

    def write(self, text: str) -> None:
        for codes, letter, move, plain in _CONTROL.findall(text):
            if letter:
                self._control(codes, letter)
            elif move == "\r":
                self.column = 0
            elif move == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)

    def _control(self, codes: str, letter: str) -> None:
        if letter == "A":
            self.row = max(self.row - int(codes or 1), 0)
        elif letter == "K":
            assert codes == "2", codes
            self.lines[self.row] = ""
        elif codes == "?25":
            self.cursor_shown = letter == "h"
        else:
            assert letter == "m", (codes, letter)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


class Recording:
    """A command in a terminal of its own; ``events`` are (seconds since its start, text) as in an asciinema file."""

    def __init__(
        self, command: Sequence[str], size: tuple[int, int] = (100, 30), env: Mapping[str, str] | None = None
    ) -> None:
        self._terminal, inner = pty.openpty()
        self.resize(*size)
        self.events: list[tuple[float, str]] = []
        self.started = time.monotonic()
        # The terminal says how wide it is, and not the variables that pytest's workers are given.
        around = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**around, "TERM": "xterm-256color", **(env or {})},
            preexec_fn=_own_terminal,
            close_fds=True,
        )
        os.close(inner)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *ended: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._terminal)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    @property
    def text(self) -> str:
        """Everything that was written."""
        return "".join(text for _, text in self.events)

    @property
    def screen(self) -> Screen:
        screen = Screen()
        screen.write(self.text)
        return screen

    def until(self, true: Callable[[], bool] = lambda: False, within_s: float = 120.0) -> bool:
        """Record until something holds, or the command has ended, or the time is up; tell whether it holds."""
        until = time.monotonic() + within_s
        while not true() and time.monotonic() < until:
            if not select.select([self._terminal], [], [], 0.1)[0]:
                if self.process.poll() is not None:
                    break
                continue
            try:
                piece = os.read(self._terminal, 1 << 16)
            except OSError:  # it has ended, and everything was read
                break
            if not piece:
                break
            self.events.append((time.monotonic() - self.started, piece.decode(errors="replace")))
        return true()

    def ended(self) -> int:
        """Record to the end, and return the exit code."""
        self.until()
        return self.process.wait(timeout=60)


def _own_terminal() -> None:
    """Make the terminal the one that Ctrl-C reaches the command by, also where these tests were started with ``&``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
