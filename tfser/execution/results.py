"""What the tables and figures are made from: the sweep that was asked for, the final trials that exist and what was searched.

Knows nothing of where trials were read from (ledger or MLflow) and draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tfser.planning.configuration import Configuration
from tfser.record import Entry, refuse_leaks

if TYPE_CHECKING:
    from tfser.search.history import History  # which takes its configurations from here


KEY_COLUMNS = ("database", "database_digest", "protocol", "model", "ablation", "selection", "settings")
"""What ``Configuration.key`` holds, as files name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A sweep's rows and the ledger records of its final trials."""

    sweep: str
    """The sweep's name."""
    configurations: tuple[Configuration, ...]
    """Sorted by key."""
    entries: Mapping[tuple[Configuration, str, int], Entry] = field(default_factory=dict)
    """(configuration, fold, seed) to what is known of that final trial; a missing key is a missing fold."""
    runs: Mapping[tuple[Configuration, str, int], str] = field(default_factory=dict)
    """(configuration, fold, seed) to the id of that trial's MLflow run, where it has one."""
    row_runs: Mapping[Configuration, str] = field(default_factory=dict)
    """Configuration to the id of its own MLflow run, where it has one."""
    histories: tuple[History, ...] = ()
    """What each study of the sweep tried."""
    command: str = ""
    """The command line that made them, without passwords; empty where it is not known, or where there were several."""

    def __post_init__(self) -> None:
        for entry in self.entries.values():
            refuse_leaks(entry)
