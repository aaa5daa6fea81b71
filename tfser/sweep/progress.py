"""Prints a line on each trial that ends, and counts what is done. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from tfser.evaluation import metrics
from tfser.execution.ends import Ended
from tfser.planning.plan import Plan
from tfser.record import Failure, Outcome, Pruned, Record
from tfser.sweep.time_left import TimeLeft
from tfser.text.row_names import with_ablation


@dataclass(slots=True)
class _Row:
    """What a live view shows of a configuration, instead of its records: there may be many thousands."""

    finals: int = 0
    """Number of final trials that are done."""
    uars: float = 0.0
    """Sum of their test UARs."""
    folds: set[str] = field(default_factory=set)
    """Their folds."""


class View:
    """Shows the trials of a plan as they end.

    Args:
        plan: what will be trained.
        console: where to show it.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        self.total = plan.search_trials + plan.final_trials
        """Trials of the plan, as many as a search can have."""
        self.done, self.failed = 0, 0
        """Trials that ended, and those of them that failed."""
        self.rows = {c: _Row() for c in plan.configurations}
        self._several = len({c.model for c in plan.configurations}) > 1
        self.left = TimeLeft(plan)

    def again(self, trials: int) -> None:
        """Take back so many trials that had ended."""
        self.done -= trials

    def ended(self, ended: Ended[Outcome]) -> None:
        """Count a trial that ended, and print a line on it if this start trained it or it failed."""
        self.done += 1
        self.left.ended(ended)
        spec, outcome = ended.spec, ended.outcome
        self.failed += isinstance(outcome, Failure)
        if isinstance(outcome, Record) and spec.purpose not in ("search", "deploy"):
            row = self.rows[ended.configuration]
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
        self._console.print(Text(f"[{self.done}/{self.total}] {what}: {text}", style=style), soft_wrap=True)


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
