"""Shows a sweep while it runs: a live table in a terminal, plain lines elsewhere. Decides nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfser.evaluation import metrics
from tfser.execution.schedule import Ended, Schedule
from tfser.planning.plan import Plan
from tfser.record import Failure, Outcome, Pruned, Record
from tfser.text.row_names import with_ablation


@dataclass(slots=True)
class _Row:
    """What the live table shows of a configuration, instead of its records: there may be many thousands."""

    finals: int = 0
    """Number of final trials that are done."""
    uars: float = 0.0
    """Sum of their test UARs."""
    folds: set[str] = field(default_factory=set)
    """Their folds."""
    best: dict[str, float] = field(default_factory=dict)
    """Fold to the best validation UAR of its search."""


class View:
    """Shows the trials of a plan as they end.

    Args:
        plan: what will be trained.
        console: where to show it.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        self._total = plan.search_trials + plan.final_trials
        self._ended = 0
        self._trained, self._trained_s = 0, 0.0
        """Number of trials that were trained, and the sum of their training times."""
        self._rows = {c: _Row() for c in plan.configurations}
        self._several = len({c.model for c in plan.configurations}) > 1
        self._started = time.monotonic()

    @contextlib.contextmanager
    def live(self, schedule: Schedule, workers: int) -> Iterator[None]:
        """Show a live table meanwhile, if the console is a terminal.

        Args:
            schedule: knows how many trials run.
            workers: trials at once.
        """
        if not self._console.is_terminal:
            yield
            return
        picture = partial(self._picture, schedule, workers)
        with Live(get_renderable=picture, console=self._console, refresh_per_second=2, transient=True):
            yield

    def again(self, trials: int) -> None:
        """Take back so many trials that had ended."""
        self._ended -= trials

    def ended(self, ended: Ended[Outcome]) -> None:
        """Count a trial that ended, and print a line on it if this start trained it or it failed."""
        self._ended += 1
        spec, outcome = ended.spec, ended.outcome
        if isinstance(outcome, Record):
            if ended.trained:
                self._trained, self._trained_s = self._trained + 1, self._trained_s + outcome.seconds
            row = self._rows[ended.configuration]
            if spec.purpose == "search":
                row.best[spec.fold] = max(row.best.get(spec.fold, 0.0), *outcome.validation_uar)
            elif spec.purpose != "deploy":
                row.finals += 1
                row.uars += metrics.uar(outcome.scores.matrix)
                row.folds.add(spec.fold)
        if ended.trained or isinstance(outcome, Failure):
            self._print(ended)

    def _print(self, ended: Ended[Outcome]) -> None:
        spec, outcome = ended.spec, ended.outcome
        row = with_ablation(spec.model, spec.ablation) if self._several else spec.ablation
        what = f"{spec.purpose:<6} {spec.database} {spec.held_out} {row} seed {spec.seed}"
        what += f" (leaks: {', '.join(spec.leaks)})" if spec.leaks else ""
        if isinstance(outcome, Failure):
            text = f"{outcome.status}: {outcome.reason}"
        elif isinstance(outcome, Pruned):
            text = f"behind its study, ended after epoch {outcome.epochs} of {spec.epochs}"
        elif spec.purpose == "deploy":
            text = f"trained on every {spec.protocol}, {outcome.seconds:.1f} s"
        elif spec.purpose != "search":
            war, uar = outcome.scores.war, outcome.scores.uar
            text = f"test UAR {100 * uar:.2f} %, WAR {100 * war:.2f} %, {_took(outcome.seconds)}"
        else:
            up_to = "" if outcome.fitted else "up to "
            text = f"validation UAR {up_to}{100 * max(outcome.validation_uar):.2f} %, {_took(outcome.seconds)}"
        style = "red" if isinstance(outcome, Failure) else "dim" if spec.purpose == "search" else ""
        self._console.print(Text(f"[{self._ended}/{self._total}] {what}: {text}", style=style), soft_wrap=True)

    def _picture(self, schedule: Schedule, workers: int) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("database", "model", "folds done", "test UAR so far", "best validation UAR"):
            table.add_column(name)
        for c, row in self._rows.items():
            table.add_row(
                c.database,
                f"{with_ablation(c.model, c.ablation)}, {c.label}",
                f"{len(row.folds)} of {len(c.folds)}",
                f"{100 * row.uars / row.finals:.2f} % (mean of folds)" if row.finals else "",
                ", ".join(f"{fold} {100 * uar:.1f}" for fold, uar in sorted(row.best.items())),
            )
        so_far = duration(time.monotonic() - self._started)
        status = f"{self._ended} of {self._total} trials ended, {schedule.running} running, {so_far} so far"
        if self._trained:
            left_s = self._trained_s / self._trained * max(self._total - self._ended, 0) / workers
            status += f", about {duration(left_s)} left"
        return Group(table, Text(status))


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else duration(seconds)


def duration(seconds: float) -> str:
    """Return seconds in words.

    >>> duration(4000), duration(200_000), duration(10_788_960)
    ('1 h 7 min', '2 days 8 h', '124 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} days {hours} h" if days < 10 and hours else f"{days} days"
