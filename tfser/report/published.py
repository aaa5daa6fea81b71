"""The two papers' printed figures as values, read from ``published.yaml``.

This module knows nothing of our own results. A model without a paper in that file says itself which parts it has.
Percent in the file become fractions here, so that all figures have one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from tfser.planning.configuration import Configuration
from tfser.storage import packaged_files, yaml_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row of a paper's comparison table."""

    paper: str
    """Key of the paper that prints it, which need not be the paper of the method."""
    database: str
    method: str
    war: float | None
    """Fraction; ``None`` if the paper gives none."""
    uar: float | None
    """Fraction; ``None`` if the paper gives none."""
    own: bool
    """Whether the method is that paper's own."""
    protocol: str | None
    """The protocol in words; ``None`` if the paper does not state it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAblation:
    """One row of a paper's ablation table."""

    paper: str
    """Key of the paper; empty where only the model itself declares the row."""
    model: str
    """Key of the model in tfser."""
    ablation: str
    parts: Mapping[str, bool]
    """Parts of the network, in the paper's order, and whether this ablation has them."""
    figures: Mapping[str, tuple[float | None, float | None]]
    """Database to (WAR, UAR), fractions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """All printed figures that stand beside ours."""

    papers: Mapping[str, str]
    """Key to title, in the order of their numbers."""
    emotions: Mapping[str, frozenset[str]]
    """Database to the emotions that the papers keep."""
    comparison: tuple[PublishedRow, ...]
    ablations: tuple[PublishedAblation, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    """Names of models that no paper here names."""

    def beside(self, models: Iterable[str]) -> Published:
        """Return these figures with the title and the parts that each model without a paper here declares."""
        missing = {*models} - {a.model for a in self.ablations}
        if not missing:
            return self
        from tfser.models import MODELS  # here, because it imports torch

        declared = [MODELS[model] for model in sorted(missing) if model in MODELS]
        return replace(
            self,
            titles={**self.titles, **{model.name: model.title for model in declared}},
            ablations=(
                *self.ablations,
                *(
                    PublishedAblation(
                        paper="", model=m.name, ablation=ablation, parts=m.parts.get(ablation, {}), figures={}
                    )
                    for m in declared
                    for ablation in m.ablations
                ),
            ),
        )

    def of_rows(self, configurations: Iterable[Configuration]) -> Published:
        """Return these figures with what rows say of models that are not built in, and see ``beside``."""
        rows = list(configurations)
        own = {c.model: c.own for c in rows if c.own is not None}
        made = self.beside(c.model for c in rows if c.model not in own)
        return replace(
            made,
            titles={**made.titles, **{model: told.title for model, told in own.items()}},
            ablations=(
                *made.ablations,
                *(
                    PublishedAblation(paper="", model=model, ablation=ablation, parts=dict(parts), figures={})
                    for model, told in sorted(own.items())
                    for ablation, parts in told.parts
                ),
            ),
        )

    def model_title(self, model: str) -> str:
        """Return the method's name in its own paper, else the one that it declares, else its key."""
        papers = {a.paper for a in self.ablations if a.model == model}
        titles = (row.method for row in self.comparison if row.own and row.paper in papers)
        return next(titles, self.titles.get(model, model))

    def row_title(self, model: str, ablation: str) -> str:
        """Return the method's name for tables: the paper's name, and the ablation unless it is the whole model."""
        title = self.model_title(model)
        return title if self.is_full(model, ablation) else f"{title}, {ablation}"

    def ablations_of(self, model: str) -> tuple[PublishedAblation, ...]:
        """Return the model's ablations in the paper's order."""
        return tuple(a for a in self.ablations if a.model == model)

    def is_full(self, model: str, ablation: str) -> bool:
        """Tell whether that ablation is the whole model."""
        rows = self.ablations_of(model)
        return any(
            row.ablation == ablation and (all(row.parts.values()) if row.parts else row is rows[0]) for row in rows
        )


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
