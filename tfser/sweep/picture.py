"""The trials of a sweep that run, as a block of lines that fits a terminal, and as lines for a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tfser.execution.schedule import Schedule
from tfser.execution.under_way import Running
from tfser.models import MODELS, Network, of
from tfser.sweep.live import REPORT_S, SILENT_S, elapsed
from tfser.sweep.progress import View
from tfser.sweep.time_left import about
from tfser.text.streams import one_line
from tfser.trial import TrialSpec

MOST_LINES = 4
"""Most trials that a log names at once; the others come next."""

GAP = "  "
"""Between two columns."""


class Picture:
    """What a sweep shows while it trains.

    Args:
        view: what has ended.
        schedule: knows the trials that run.
        workers: returns how many trials can run at once now.
    """

    def __init__(self, view: View, schedule: Schedule, workers: Callable[[], int]) -> None:
        self._view, self._schedule, self._workers = view, schedule, workers
        self._clock = schedule.under_way.clock
        self._began = self._reported = self._clock()
        self._told: dict[str, tuple[float, int | None]] = {}
        """Trial id to when a log last named it, and its epoch then; ``None`` where it has not."""
        cs = schedule.plan.configurations
        self._names_database = len({c.database for c in cs}) > 1
        self._names_model = len({c.model for c in cs}) > 1
        self._names_ablation = len({(c.model, c.ablation) for c in cs}) > len({c.model for c in cs})
        self._names_seed = any(len(c.seeds) > 1 for c in cs)

    def picture(self, width: int, height: int) -> list[Text]:
        """Return the block: rows of the table so far, the trials that run, and what is left."""
        running, status = self._schedule.under_way.now(), self._status()
        last = [GAP.join(status)] if cell_len(GAP.join(status)) <= width else status
        room = height - len(last)
        rows = self._rows()
        rows = _clipped(rows, max(room // 3, room - len(running) - 3), "row")
        room -= len(rows) + (1 + bool(rows) if running else 0)
        trials = _clipped([self._cells(trial) for trial in running], room, "trial")
        lines = _columns([["so far", "folds", "test UAR"], *rows], width) if rows else []
        if running and trials:
            head = ["running", "epoch", "best UAR", "time"]
            lines += _columns([head, *trials], width)
        return [*lines[: height - len(last)], *(Text(line, style="bold") for line in last)][-height:]

    def report(self, now: float, silent_s: float) -> list[str]:
        """Return a line for each trial that got on since it was last named, the longest unnamed first."""
        if now - self._reported < REPORT_S:
            return []
        running, silent = self._schedule.under_way.now(), silent_s >= SILENT_S
        self._told = {t.spec.trial_id: self._told.get(t.spec.trial_id, (t.began, None)) for t in running}
        due = [t for t in running if silent or self._told[t.spec.trial_id][1] != t.epoch]
        if not due and not silent:
            return []
        due = sorted(due, key=lambda t: self._told[t.spec.trial_id][0])[:MOST_LINES]
        self._reported = now
        self._told.update((t.spec.trial_id, (now, t.epoch)) for t in due)
        *lines, last = [*(self._line(trial, now) for trial in due)] or [""]
        status = ", ".join(self._status())
        return [*lines, f"{last}; {status}" if last else status]

    def _line(self, trial: Running, now: float) -> str:
        said = [f"epoch {self._epoch(trial).strip()}" if _has_epochs(trial.spec) else "fitting"]
        said += [f"best validation UAR {100 * trial.best:.2f} %"] if trial.best is not None else []
        return f"running {' '.join(self._parts(trial.spec))}: {', '.join(said)}, for {elapsed(now - trial.began)}"

    def _status(self) -> list[str]:
        """Return how many trials are done, run and wait, and how long the rest takes."""
        view, running = self._view, len(self._schedule.under_way)
        waiting = max(view.total - view.done - running, 0)
        failed = f" ({view.failed} failed)" if view.failed else ""
        no_worker = "" if self._schedule.under_way.begun or not waiting else " (no worker yet)"
        counts = f"{view.done} of {view.total} trials done{failed}, {running} running{no_worker}, {waiting} waiting"
        times = f"{elapsed(self._clock() - self._began)} so far"
        left = view.left(self._schedule.under_way.now(), self._workers(), self._schedule.settings_at_once)
        if left is not None:
            times += f", {'about' if left.whole else 'more than'} {about(left.seconds)} left"
        return [counts, times]

    def _rows(self) -> list[list[str]]:
        """Return the rows of the table that have a score: name, folds done, mean test UAR of the folds."""
        return [
            [_joined([c.database, c.model, f"{c.ablation},", c.label]), f"{len(row.folds)} of {len(c.folds)}"]
            + [f"{100 * row.uars / row.finals:.2f} %"]
            for c, row in list(self._view.rows.items())
            if row.finals
        ]

    def _cells(self, trial: Running) -> list[str]:
        best = "" if trial.best is None else f"{100 * trial.best:.1f} %"
        time = elapsed(self._clock() - trial.began)
        return [_joined(self._parts(trial.spec)), self._epoch(trial), best, time]

    def _epoch(self, trial: Running) -> str:
        asked = trial.spec.epochs
        return f"{trial.epoch:>{len(str(asked))}} of {asked}" if _has_epochs(trial.spec) else "fitting"

    def _parts(self, spec: TrialSpec) -> list[str]:
        """Return the words that tell a trial from others of its sweep."""
        parts: list[str] = [spec.purpose]
        parts += [spec.database] if self._names_database else []
        parts.append(spec.fold)
        if self._names_model:
            parts.append(MODELS[spec.model].title if spec.model in MODELS else spec.model)
        if self._names_ablation:
            parts.append(spec.ablation)
        if self._names_seed and spec.purpose != "search":
            parts.append(f"seed {spec.seed}")
        parts += [f"({', '.join(spec.leaks)})"] if spec.leaks else []
        return [one_line(part) for part in parts]


def _has_epochs(spec: TrialSpec) -> bool:
    return isinstance(of(spec), Network)


_PART = "\x1f"
"""Between the words of a name that is shortened word by word."""


def _joined(parts: Sequence[str]) -> str:
    return _PART.join(parts)


def _clipped(rows: Sequence[list[str]], most: int, what: str) -> list[list[str]]:
    """Return at most so many rows; the last one counts those that are left out."""
    if len(rows) <= most:
        return [*rows]
    left = len(rows) - max(most - 1, 0)
    more = f"and {left} more" if what == "trial" else f"and {left} more {what}s"
    return [*rows[: max(most - 1, 0)], [more]] if most > 0 else []


def _columns(rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """Return rows as lines: the first column fills what the others leave, and is shortened where it has to be."""
    count = max(len(row) for row in rows)
    own = [max((cell_len(row[i]) for row in rows[1:] if i < len(row)), default=0) for i in range(count)]
    kept = [i for i in range(1, count) if own[i]]
    widths = {i: max(own[i], cell_len(rows[0][i])) for i in kept}
    room = max(width - sum(widths.values()) - len(GAP) * len(kept), 1)
    first = min(max(cell_len(row[0].replace(_PART, " ")) for row in rows), room)
    lines = []
    for number, row in enumerate(rows):
        cells = [set_cell_size(shortened(row[0].split(_PART), first), first)]
        cells += [" " * (widths[i] - cell_len(row[i])) + row[i] for i in kept if i < len(row)]
        lines.append(Text(GAP.join(cells).rstrip(), style="" if number else "dim"))
    return lines


def shortened(parts: Sequence[str], width: int) -> str:
    """Join words with spaces, the longest cut so that they take at most so many columns.

    >>> shortened(["search", "a database with a long name", "anna"], 24)
    'search a database… anna'
    """
    text = " ".join(parts)
    if cell_len(text) <= width:
        return text
    room = width - len(parts) + 1
    most = max((n for n in range(2, width) if sum(min(cell_len(p), n) for p in parts) <= room), default=0)
    if not most:
        return cut(text, width)
    return " ".join(cut(part, most) for part in parts)


def cut(text: str, width: int) -> str:
    """Return a text that takes at most so many columns."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(width - 1, 0)).rstrip()}…"
