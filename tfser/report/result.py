"""What the tables and figures are made from: the sweep that was asked for, the final trials that exist and what was searched.

Knows nothing of where trials were read from (ledger or MLflow) and draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from tfser.errors import TfserError

if TYPE_CHECKING:
    from tfser.report.searches import History  # which takes its configurations from here


KEY_COLUMNS = ("database", "database_digest", "protocol", "model", "ablation", "selection", "settings")
"""What ``Configuration.key`` holds, as files name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One row of a table: a database in one state under a protocol, a model with an ablation, how settings were chosen and which."""

    database: str
    """The database's name."""
    database_digest: str = ""
    """Of its utterances, labels and audio; empty where an older store does not tell."""
    protocol: str
    """``speaker`` or ``session``."""
    model: str
    ablation: str
    selection: str
    """How settings and epochs were chosen: ``published`` or ``fixed`` (none chosen), ``nested``, ``global``, ``oracle``."""
    settings: str = ""
    """What was asked for, as a JSON object (``tfser.plan.asked_settings``): every hyperparameter and the epochs; of a search
    its budget and space, and the hyperparameters that it left alone."""
    emotions: tuple[str, ...]
    folds: tuple[str, ...]
    """Every fold that was asked for, done or not."""
    folds_total: int
    """Every fold that the protocol has; more than ``len(folds)`` where --fold left some out."""
    seeds: tuple[int, ...]
    complete: bool = True
    """Whether the database has its published counts."""
    same_texts: bool = False
    """Whether the same texts recur for every speaker."""
    remark: str = ""
    """What has to be said wherever a result on this database is shown."""

    @property
    def protocol_name(self) -> str:
        """The protocol in words, as the papers name it."""
        return {"speaker": "leave-one-speaker-out", "session": "leave-one-session-out"}.get(self.protocol, self.protocol)

    @property
    def unit(self) -> str:
        """What is held out in a fold: ``speaker`` or ``session``."""
        return self.protocol

    @property
    def key(self) -> tuple[str, str, str, str, str, str, str]:
        """Identifies the row, and sorts it."""
        return (self.database, self.database_digest, self.protocol, self.model, self.ablation, self.selection, self.settings)

    @property
    def words(self) -> tuple[str, str, str, str, str]:
        """The row for a person: its key without the digest and the settings."""
        return (self.database, self.protocol, self.model, self.ablation, self.selection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A sweep's rows and the ledger records of its final trials."""

    sweep: str
    """The sweep's name."""
    configurations: tuple[Configuration, ...]
    """Sorted by key."""
    records: Mapping[tuple[Configuration, str, int], Mapping[str, Any]] = field(default_factory=dict)
    """(configuration, fold, seed) to the ledger record of that final trial; a missing key is a missing fold."""
    runs: Mapping[tuple[Configuration, str, int], str] = field(default_factory=dict)
    """(configuration, fold, seed) to the id of that trial's MLflow run, where it has one."""
    row_runs: Mapping[Configuration, str] = field(default_factory=dict)
    """Configuration to the id of its own MLflow run, where it has one."""
    histories: tuple[History, ...] = ()
    """What each study of the sweep tried."""
    command: str = ""
    """The command line that made them, without passwords; empty where it is not known, or where there were several."""

    def __post_init__(self) -> None:
        for record in self.records.values():
            refuse_leaks(record)


def refuse_leaks(record: Mapping[str, Any]) -> None:
    """Let no trial of ``tfser.leaks`` that saw its test utterances get among results.

    Raises:
        TfserError: it is one.
    """
    if leaks := record.get("spec", {}).get("leaks"):
        raise TfserError(
            f"trial {record['trial_id']} was shown its test utterances on purpose ({', '.join(leaks)}); "
            "it can stand in no table but that of python -m tfser.leaks"
        )


def matrix(record: Mapping[str, Any]) -> np.ndarray:
    """The record's utterance-level confusion matrix: int64, shape (emotions, emotions), rows are the truth."""
    return np.asarray(record["confusion"], dtype=np.int64)


def is_done(record: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether that record holds scores: a failed trial's does not, and counts as missing."""
    return record is not None and record.get("status", "done") == "done"
