"""What a person sees while a sweep runs: a live table in a terminal, plain lines elsewhere.

Shows what the schedule reports and decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfser.evaluation import metrics
from tfser.execution.schedule import Ended, Schedule
from tfser.planning.configuration import Configuration
from tfser.planning.plan import Plan
from tfser.record import Failure, Outcome, Pruned, Record


@dataclass(slots=True)
class _Finals:
    """The final trials of a configuration that are done: only what is shown, there may be many thousands."""

    number: int = 0
    uars: float = 0.0
    """Sum of their test UARs."""
    folds: set[str] = field(default_factory=set)


class View:
    """Use as a context manager around the run.

    Args:
        plan: what will be trained.
        console: where to show it.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.schedule: Schedule | None = None
        self.workers = 1
        self._total = plan.search_trials + plan.final_trials
        self._done = 0
        self._trained, self._trained_s = 0, 0.0
        """How many trials were trained, and for how long together."""
        self._finals: dict[Configuration, _Finals] = {c: _Finals() for c in plan.configurations}
        self._best: dict[Configuration, dict[str, float]] = {c: {} for c in plan.configurations}
        self._started = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._picture, console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def again(self, trials: int) -> None:
        """Take back so many trials that had ended."""
        self._done -= trials

    def ended(self, ended: Ended[Outcome]) -> None:
        """Take in one trial that ended."""
        self._done += 1
        spec, outcome = ended.spec, ended.outcome
        if isinstance(outcome, Record):
            if ended.trained:
                self._trained, self._trained_s = self._trained + 1, self._trained_s + outcome.seconds
            if spec.purpose == "search":
                best = self._best[ended.configuration]
                best[spec.fold] = max(best.get(spec.fold, 0.0), *outcome.curves.validation_uar)
            else:
                finals = self._finals[ended.configuration]
                finals.number += 1
                finals.uars += metrics.uar(outcome.scores.matrix)
                finals.folds.add(spec.fold)
        if ended.trained or isinstance(outcome, Failure):
            self._line(ended)

    def _line(self, ended: Ended[Outcome]) -> None:
        spec, outcome = ended.spec, ended.outcome
        what = f"{spec.purpose:<6} {spec.database} {spec.fold} {spec.ablation} seed {spec.seed}"
        what += f" (leaks: {', '.join(spec.leaks)})" if spec.leaks else ""
        if isinstance(outcome, Failure):
            text = f"{outcome.status}: {outcome.reason}"
        elif isinstance(outcome, Pruned):
            text = f"behind its study, ended after epoch {outcome.epochs} of {spec.epochs}"
        elif spec.purpose != "search":
            war, uar = outcome.scores.war, outcome.scores.uar
            text = f"test UAR {100 * uar:.2f} %, WAR {100 * war:.2f} %, {outcome.seconds:.1f} s"
        else:
            best = max(outcome.curves.validation_uar)
            text = f"validation UAR up to {100 * best:.2f} %, {outcome.seconds:.1f} s"
        style = "red" if isinstance(outcome, Failure) else "dim" if spec.purpose == "search" else ""
        self.console.print(Text(f"[{self._done}/{self._total}] {what}: {text}", style=style), soft_wrap=True)

    def time_left_s(self) -> float | None:
        """Seconds left, from the trials so far; ``None`` before there are any."""
        if not self._trained:
            return None
        mean = self._trained_s / self._trained
        return mean * max(self._total - self._done, 0) / self.workers

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("database", "model", "folds done", "test UAR so far", "best validation UAR"):
            table.add_column(name)
        for configuration, finals in self._finals.items():
            best = sorted(self._best[configuration].items())
            table.add_row(
                configuration.database,
                f"{configuration.model} {configuration.ablation}, {configuration.label}",
                f"{len(finals.folds)} of {len(configuration.folds)}",
                f"{100 * finals.uars / finals.number:.2f} % (mean of folds)" if finals.number else "",
                ", ".join(f"{fold} {100 * uar:.1f}" for fold, uar in best),
            )
        left = self.time_left_s()
        running = self.schedule.running if self.schedule else 0
        status = f"{self._done} of {self._total} trials ended, {running} running, {duration(time.monotonic() - self._started)} so far"
        return Group(table, Text(status + (f", about {duration(left)} left" if left is not None else "")))


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(4000)
    '1 h 7 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
