"""What a study tried and chose, as a value and as JSON. Knows no Optuna."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tfser.planning.configuration import Configuration, from_dict, to_dict

ENOUGH = 30
"""Ours: fewest finished settings from which importances are told.

They compare the best tenth of the settings with the rest, and below that the tenth is one or two.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One setting that a study tried."""

    state: str
    """``finished``, ``pruned`` or ``failed``."""
    validation_uar: float | None
    """Highest mean validation UAR, in [0, 1]; ``None`` unless finished."""
    epochs: int | None
    """The epoch of that UAR; ``None`` unless finished, and for an estimator, which has none."""
    hyperparameters: Mapping[str, Any]
    """Values of the searched settings."""
    seconds: float | None = None
    """Training time of its trials; ``None`` where that was not kept (a pruned trial leaves no entry)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One study, in the order in which its settings were tried."""

    configuration: Configuration
    folds: tuple[str, ...]
    """The test folds that use what it chose."""
    tried: tuple[Tried, ...]
    importances: Mapping[str, float]
    """Share of the validation UAR's variance that each searched setting explains; empty where it is unknown."""
    curve: tuple[float, ...] = ()
    """Mean validation UAR after each epoch of the chosen setting, in [0, 1]; empty where it was not kept."""

    @property
    def label(self) -> str:
        """Name of the test fold that the study chooses for, or ``all folds``; ``deploy`` where it holds none out."""
        return self.folds[0] if len(self.folds) == 1 else "all folds" if self.folds else "deploy"

    @property
    def chosen(self) -> int | None:
        """Index of the best setting, the first on ties; ``None`` where none finished."""
        scores = [-1.0 if t.validation_uar is None else t.validation_uar for t in self.tried]
        return int(np.argmax(scores)) if scores and max(scores) >= 0 else None


def to_json(histories: Sequence[History]) -> str:
    """Return histories as JSON, which ``from_json`` reads."""

    def value(history: History) -> dict[str, Any]:
        return {
            "configuration": to_dict(history.configuration),
            "folds": list(history.folds),
            "tried": [asdict(tried) for tried in history.tried],
            "importances": dict(history.importances),
            "curve": list(history.curve),
        }

    return json.dumps([value(history) for history in in_order(histories)], sort_keys=True, ensure_ascii=False)


def from_json(text: str) -> list[History]:
    """Read what ``to_json`` returned.

    Raises:
        ValueError, KeyError, TypeError: the text is something else.
    """

    def history(value: Mapping[str, Any]) -> History:
        return History(
            configuration=from_dict(value["configuration"]),
            folds=tuple(value["folds"]),
            tried=tuple(Tried(**tried) for tried in value["tried"]),
            importances=value["importances"],
            curve=tuple(value["curve"]),
        )

    return [history(value) for value in json.loads(text)]


def in_order(histories: Sequence[History]) -> list[History]:
    return sorted(histories, key=lambda h: (h.configuration.key, h.folds))


def finished(history: History) -> int:
    """Return how many settings a study trained to their end."""
    return sum(tried.state == "finished" for tried in history.tried)


def with_told_importances(histories: Sequence[History]) -> tuple[History, ...]:
    """Return the histories, without the importances of those that finished too few settings to tell any."""
    return tuple(h if finished(h) >= ENOUGH else replace(h, importances={}) for h in histories)
