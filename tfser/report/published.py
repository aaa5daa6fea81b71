"""The two papers' printed figures as values, read from ``published.yaml``.

Knows nothing of our own results. Percent in the file become fractions here, so that everything that
is compared has one unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from tfser.storage import packaged_files, yaml_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row of a paper's comparison table."""

    paper: str
    """The key of the paper that prints it (which is not always the paper that made the method)."""
    database: str
    method: str
    war: float | None
    """Fraction; ``None`` where the paper gives none."""
    uar: float | None
    """Fraction; ``None`` where the paper gives none."""
    own: bool
    """Whether it is the method of that paper."""
    protocol: str | None
    """In words, ``None`` where the paper does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAblation:
    """One row of a paper's ablation table."""

    paper: str
    model: str
    """The key under which tfser knows the model."""
    ablation: str
    parts: Mapping[str, bool]
    """Part of the network to whether this ablation has it, in the paper's order."""
    figures: Mapping[str, tuple[float | None, float | None]]
    """Database to (WAR, UAR), fractions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Everything printed that our tables stand beside."""

    papers: Mapping[str, str]
    """Key to title, in the order in which they are numbered."""
    emotions: Mapping[str, frozenset[str]]
    """Database to the emotions that the papers keep."""
    comparison: tuple[PublishedRow, ...]
    ablations: tuple[PublishedAblation, ...]

    def model_title(self, model: str) -> str:
        """The method's name as its own paper prints it; the key itself for a model that no paper has."""
        papers = {a.paper for a in self.ablations if a.model == model}
        return next((row.method for row in self.comparison if row.own and row.paper in papers), model)

    def row_title(self, model: str, ablation: str) -> str:
        """The method as a table names it: the paper's name, and the ablation where it is not the whole model."""
        title = self.model_title(model)
        return title if self.is_full(model, ablation) else f"{title}, {ablation}"

    def ablations_of(self, model: str) -> tuple[PublishedAblation, ...]:
        """The model's ablations in the paper's order."""
        return tuple(a for a in self.ablations if a.model == model)

    def is_full(self, model: str, ablation: str) -> bool:
        """Whether that ablation is the whole model, nothing taken out."""
        return any(a.ablation == ablation and all(a.parts.values()) for a in self.ablations_of(model))


def _fraction(percent: float | None) -> float | None:
    # Through decimal, so that 72.34 % is 0.7234 and not 0.7233999999999999.
    return None if percent is None else float(Decimal(str(percent)) / 100)


def _ablation(row: Mapping[str, Any]) -> PublishedAblation:
    figures = {
        k: (_fraction(v["war"]), _fraction(v["uar"])) for k, v in row.items() if isinstance(v, dict) and "war" in v
    }
    return PublishedAblation(
        paper=row["paper"], model=row["model"], ablation=row["ablation"], parts=row["parts"], figures=figures
    )


@cache
def load(path: Path | None = None) -> Published:
    """Read the published figures.

    Args:
        path: another file of the same form; by default the one that travels with tfser.
    """
    _, data = yaml_text.read(packaged_files.published() if path is None else path)
    return Published(
        papers={key: paper["title"] for key, paper in data["papers"].items()},
        emotions={name: frozenset(database["emotions"]) for name, database in data["databases"].items()},
        comparison=tuple(
            PublishedRow(
                paper=row["paper"],
                database=row["database"],
                method=row["method"],
                war=_fraction(row["war"]),
                uar=_fraction(row["uar"]),
                own=bool(row.get("own", False)),
                protocol=row.get("protocol"),
            )
            for row in data["comparison"]
        ),
        ablations=tuple(_ablation(row) for row in data["ablations"]),
    )
