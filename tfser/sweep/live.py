"""Shows what a start does now: a block below the printed lines in a terminal, now and then a line in a log.

Whatever takes long is named here before it begins: reading audio, starting Ray, training. Knows terminals and time;
knows nothing of trials.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

from rich.console import Console, ConsoleRenderable, Group, RenderHook
from rich.live import Live
from rich.text import Text

from tfser.text.streams import one_line, printable

Doing = Callable[[str], None]
"""Told what is done from now on, in words such as ``reading emodb``."""


def unshown(what: str) -> None:
    """Show nothing."""


TICK_S = 1.0
"""Seconds between two drawings, and between two looks at whether a log is due a line."""

SOON_S = 4.0
"""Seconds after which a log says what is being done, where that is not over yet."""

REPORT_S = 60.0
"""Least seconds between two lines of a log about the same."""

SILENT_S = 240.0
"""Seconds after which a log gets a line although nothing has changed."""


class Shown(Protocol):
    """What can be shown."""

    def picture(self, width: int, height: int) -> list[Text]:
        """Return the lines of a block of at most so many columns and lines."""
        ...

    def report(self, now: float, silent_s: float) -> list[str]:
        """Return the lines that a log is due now.

        Args:
            now: seconds of the clock.
            silent_s: seconds since the last line, whoever printed it.
        """
        ...


class Stage:
    """Something that is done before or after training.

    Args:
        what: it, in words; empty for nothing that takes long.
        since: when it began.
        clock: returns seconds.
    """

    def __init__(self, what: str, since: float, clock: Callable[[], float]) -> None:
        self.what, self._since, self._clock = what, since, clock
        self._said: str | None = None
        self._said_at = since

    def picture(self, width: int, height: int) -> list[Text]:
        """See ``Shown``."""
        return [Text(f"{one_line(self.what)} ({elapsed(self._clock() - self._since)})")] if self.what else []

    def report(self, now: float, silent_s: float) -> list[str]:
        """See ``Shown``."""
        first = self._said is None and now - self._since >= SOON_S
        changed = self._said not in (None, self.what) and now - self._said_at >= REPORT_S
        if not self.what or not (first or changed or silent_s >= SILENT_S):
            return []
        self._said, self._said_at = self.what, now
        return [f"{one_line(self.what)} ({elapsed(now - self._since)})"]


class Display(RenderHook):
    """Shows what is done now, from ``__enter__`` to ``close``.

    Args:
        console: where everything is printed.
        clock: returns seconds.
        tick_s: seconds between two ticks; ``None`` where the caller ticks.
    """

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic, tick_s: float | None = TICK_S
    ) -> None:
        self.console, self.clock, self._tick_s = console, clock, tick_s
        self._shown: Shown = Stage("", clock(), clock)
        self._heard = clock()
        self._live: Live | None = None
        self._open = threading.Event()
        self._closed = threading.Event()

    def __enter__(self) -> Display:
        self._heard = self.clock()
        self._open.set()
        if is_live(self.console):
            self._live = Live(
                get_renderable=self._block,
                console=self.console,
                auto_refresh=False,
                transient=True,
                vertical_overflow="crop",
            )
            self._live.start()
            # Seen all the time, so that it is there after Ctrl-Z or a kill too.
            self.console.show_cursor(True)
        else:
            self.console.push_render_hook(self)
        if self._tick_s is not None:
            threading.Thread(target=self._tick_on, args=(self._tick_s,), daemon=True, name="live view").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(kept=isinstance(error, KeyboardInterrupt))

    def close(self, *, kept: bool = False) -> None:
        """Stop.

        Args:
            kept: whether the block stays where it is.
        """
        if not self._open.is_set():
            return
        self._open.clear()
        self._closed.set()
        if self._live is not None:
            self._live.transient = not kept
            self._live.stop()
        else:
            self.console.pop_render_hook()

    def doing(self, what: str) -> None:
        """Show what is done from now on; the time counts from the first of some words that differ in numbers alone."""
        shown = self._shown
        if isinstance(shown, Stage) and _without_numbers(shown.what) == _without_numbers(what):
            shown.what = what
        else:
            self._shown = Stage(what, self.clock(), self.clock)

    @contextlib.contextmanager
    def showing(self, shown: Shown) -> Iterator[None]:
        """Show something meanwhile."""
        self._shown = shown
        try:
            yield
        except BaseException:
            raise  # what was shown last is what a person wants to see
        else:
            self.doing("")

    def tick(self) -> None:
        """Draw, or print the lines that are due."""
        if self._live is not None:
            if _in_foreground(self.console):
                self._live.refresh()
            return
        now = self.clock()
        for line in self._shown.report(now, now - self._heard):
            self.console.print(Text(line), soft_wrap=True)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Note that a log gets lines; for ``Console.push_render_hook``."""
        self._heard = self.clock()
        return renderables

    def _tick_on(self, tick_s: float) -> None:
        while not self._closed.wait(tick_s):
            with contextlib.suppress(Exception):  # a view that fails ends no training
                self.tick()

    def _block(self) -> Group:
        """Return the block for the terminal's size as it is now."""
        width, height = self.console.size
        lines: list[Text] = []
        with contextlib.suppress(Exception):  # main prints through here; see ``_tick_on``
            lines = self._shown.picture(width - 1, max(height - 2, 1))
        for line in lines:
            line.plain = printable(line.plain, self.console.encoding)
            line.no_wrap, line.overflow = True, "crop"
            line.truncate(width - 1)
        return Group(*lines)


def is_live(console: Console) -> bool:
    """Return whether a block can be drawn: the cursor can move there, unlike in a log that takes colours."""
    try:
        there = console.file.isatty()
    except ValueError:  # it is closed
        return False
    return there and console.is_terminal and console.is_interactive and not console.is_jupyter


def _in_foreground(console: Console) -> bool:
    """Return whether the terminal is this process's to draw on; it is not after Ctrl-Z and ``bg``."""
    try:
        return os.tcgetpgrp(console.file.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return True


def _without_numbers(text: str) -> str:
    return "".join(letter for letter in text if not letter.isdigit())


def elapsed(seconds: float) -> str:
    """Return a time as a clock shows it.

    >>> elapsed(7), elapsed(192), elapsed(3903)
    ('0:07', '3:12', '1:05:03')
    """
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
