"""How a trial ended: what the watcher is told of it, and what stays in memory of a final one.

Knows nothing of the ledger, of studies or of what is still to be trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from tfser.planning.configuration import Configuration
from tfser.record import Outcome
from tfser.trial import TrialSpec

How = TypeVar("How", bound=Outcome, covariant=True)


@dataclass(frozen=True, slots=True)
class Ended(Generic[How]):
    """A trial that ended, as the watcher is told of it."""

    spec: TrialSpec
    configuration: Configuration
    outcome: How
    trained: bool
    """``False`` where the ledger already held its entry."""
    took_s: float | None = None
    """The worker's seconds that went into it in this start, as the driver saw it."""


Key = tuple[Configuration, str, int]
"""Configuration, fold and seed of a final trial."""


@dataclass(frozen=True, slots=True)
class Done:
    """The part of a record that stays in memory; the rest is in the ledger."""

    trial_id: str
    seconds: float
