"""Where the numbers of the page lead."""

from __future__ import annotations

from collections.abc import Sequence

from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.report.provenance import Provenance
from tfser.report.summary import Summary


class Links:
    """Targets of the numbers' links: the MLflow run if a server shows it, else the trials in the page.

    Args:
        results: knows the runs.
        made: knows the server; ``None`` for no links to it.
    """

    def __init__(self, results: Results, summaries: Sequence[Summary], made: Provenance | None) -> None:
        self._results, self._made = results, made
        self._numbers: dict[tuple[str, ...], tuple[int, Configuration]] = {
            s.configuration.key: (i, s.configuration) for i, s in enumerate(summaries, start=1)
        }

    def anchor(self, key: tuple[str, ...]) -> str:
        """Return the id of the list of a row's trials."""
        return f"trials-{self._numbers[key][0]}"

    def of_row(self, key: tuple[str, ...]) -> str:
        """Return the target of a number of a row."""
        run = self._results.row_runs.get(self._numbers[key][1])
        return (self._made.run_link(run) if self._made else "") or f"#{self.anchor(key)}"

    def of_trial(self, configuration: Configuration, fold: str, seed: int) -> str:
        """Return the address of a final trial's run; empty where no server shows it."""
        return self._made.run_link(self._results.runs.get((configuration, fold, seed))) if self._made else ""
