"""Input of the tables and figures: a sweep's rows, the entries of its final trials and what its studies tried.

Knows nothing of where trials were read from (ledger or MLflow) and draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfser.planning.configuration import Configuration
from tfser.record import Entry, refuse_leaks
from tfser.search.history import History

KEY_COLUMNS = ("database", "database_digest", "protocol", "model", "ablation", "selection", "settings")
"""Names of the fields of ``Configuration.key`` in files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A sweep's rows and the entries of its final trials."""

    sweep: str
    """The sweep's name."""
    configurations: tuple[Configuration, ...]
    """Sorted by key."""
    entries: Mapping[tuple[Configuration, str, int], Entry] = field(default_factory=dict)
    """(configuration, fold, seed) to the entry of that final trial; a missing key is a missing fold."""
    runs: Mapping[tuple[Configuration, str, int], str] = field(default_factory=dict)
    """(configuration, fold, seed) to the id of that trial's MLflow run, where it has one."""
    row_runs: Mapping[Configuration, str] = field(default_factory=dict)
    """Configuration to the id of its own MLflow run, where it has one."""
    histories: tuple[History, ...] = ()
    """What each study of the sweep tried."""
    command: str = ""
    """The command line that made them, without passwords; empty where it is unknown or there were several."""
    sweep_file: str = ""
    """The same request as the content of a sweep file; empty where the command is."""

    def __post_init__(self) -> None:
        for entry in self.entries.values():
            refuse_leaks(entry)
