"""The two papers' printed figures as values, read from ``published.yaml`` and from files of a person's own.

This module knows nothing of our own results. A model without a paper in that file says itself which parts it has.
Percent in the file become fractions here, so that all figures have one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any

from tfser.databases import KNOWN
from tfser.errors import RequestError
from tfser.evaluation import possible_shares
from tfser.evaluation.possible_shares import Share
from tfser.planning.configuration import Configuration
from tfser.report import published_file
from tfser.report.published_file import Data
from tfser.storage import packaged_files
from tfser.storage.places import Place

Shares = Mapping[str, Share]
"""``war`` and ``uar``, as far as printed and checked, to what each is of its number of utterances."""


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
    same_as: str | None = None
    """Another name of the same method, in a row of the same database."""
    only_cited: str | None = None
    """Why the method is not run again; ``None`` for one that can be."""
    shares: Shares = field(default_factory=dict)


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
    shares: Mapping[str, Shares] = field(default_factory=dict)
    """The same by database."""


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
    reruns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Model to the cited methods that it runs again; of models that are built in too, once a row's model is."""

    def beside(self, models: Iterable[str]) -> Published:
        """Return these figures with the title and the parts that each model without a paper here declares."""
        printed = {(a.model, a.ablation) for a in self.ablations}
        missing = {model for model in models if not self._own_title(model)}
        if not missing:
            return self
        from tfser.models import BUILT_IN, MODELS  # here, because it imports torch

        declared = [MODELS[model] for model in sorted(missing) if model in MODELS]
        return replace(
            self,
            titles={**self.titles, **{model.name: model.title for model in declared}},
            reruns={**self.reruns, **{model.name: model.reruns for model in (*BUILT_IN, *declared) if model.reruns}},
            ablations=(
                *self.ablations,
                *(
                    PublishedAblation(
                        paper="", model=m.name, ablation=ablation, parts=m.parts.get(ablation, {}), figures={}
                    )
                    for m in declared
                    for ablation in m.ablations
                    if (m.name, ablation) not in printed
                ),
            ),
        )

    def of_rows(self, configurations: Iterable[Configuration]) -> Published:
        """Return these figures with what rows say of models that are not built in, and see ``beside``."""
        rows = list(configurations)
        own = {c.model: c.own for c in rows if c.own is not None}
        made = self.beside(c.model for c in rows if c.model not in own)
        printed = {(a.model, a.ablation) for a in self.ablations}
        return replace(
            made,
            titles={**made.titles, **{model: told.title for model, told in own.items()}},
            reruns={**made.reruns, **{model: told.reruns for model, told in own.items() if told.reruns}},
            ablations=(
                *made.ablations,
                *(
                    PublishedAblation(paper="", model=model, ablation=ablation, parts=dict(parts), figures={})
                    for model, told in sorted(own.items())
                    for ablation, parts in told.parts
                    if (model, ablation) not in printed
                ),
            ),
        )

    def names_of(self, method: str) -> tuple[str, ...]:
        """Return every name under which a cited method stands, in the order of the rows; itself among them."""
        names, before = {method}, 0
        while len(names) > before:
            before = len(names)
            for row in self.comparison:
                if row.same_as and names & {row.method, row.same_as}:
                    names |= {row.method, row.same_as}
        return (*dict.fromkeys(row.method for row in self.comparison if row.method in names),) or (method,)

    def why_only_cited(self, method: str) -> str | None:
        """Return why a method is not run again, under whichever of its names that stands; ``None`` if it can be."""
        names = self.names_of(method)
        return next((row.only_cited for row in self.comparison if row.method in names and row.only_cited), None)

    def only_cited(self) -> dict[tuple[str, ...], str]:
        """Return the methods that are not run again, each with all of its names, and why."""
        every = {self.names_of(row.method): row.method for row in self.comparison}
        return {names: why for names, method in every.items() if (why := self.why_only_cited(method))}

    def run_again_by(self, method: str) -> frozenset[str]:
        """Return the models that run a cited method again, under any of its names; a paper's own model is one."""
        names = {*self.names_of(method)}
        own = {a.model for a in self.ablations if self._own_title(a.model) in names}
        return frozenset(own | {model for model, methods in self.reruns.items() if names & {*methods}})

    def _own_title(self, model: str) -> str:
        """Return the method's name in its own paper; empty without such a paper."""
        papers = {a.paper for a in self.ablations if a.model == model}
        return next((row.method for row in self.comparison if row.own and row.paper in papers), "")

    def model_title(self, model: str) -> str:
        """Return the method's name in its own paper, else the one that it declares, else its key."""
        return self._own_title(model) or self.titles.get(model, model)

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


def _fraction(percent: str | None) -> float | None:
    # Through decimal, so that 72.34 % is 0.7234 and not 0.7233999999999999.
    return None if percent is None else float(Decimal(percent) / 100)


def _shares(figures: Mapping[str, Any], classes: Sequence[int], utterances: int | None = None) -> Shares:
    """Return what printed figures are of the database's utterances; empty where those are not known.

    Args:
        figures: ``war`` and ``uar`` as printed.
        classes: number of utterances of each emotion.
        utterances: their number where the row says another one than the database; the UAR is not checked then.
    """
    of = {"war": utterances or sum(classes)}
    if classes and not utterances:
        of["uar"] = possible_shares.steps_of_mean_recall(classes)
    return {
        measure: replace(possible_shares.of(figures[measure], n), of_recalls=n != of["war"])
        for measure, n in of.items()
        if n and figures[measure] is not None
    }


def _classes(database: str, data: Data) -> Sequence[int]:
    """Return the utterances of each emotion that a file gives, else those of the corpus as it is published."""
    if database in data.counts:
        return list(data.counts[database].values())
    return list(KNOWN[database].info.expected_emotions.values()) if database in KNOWN else []


def _row(row: Mapping[str, Any], data: Data) -> PublishedRow:
    return PublishedRow(
        paper=row["paper"],
        database=row["database"],
        method=row["method"],
        war=_fraction(row["war"]),
        uar=_fraction(row["uar"]),
        own=bool(row.get("own", False)),
        protocol=row["protocol"],
        same_as=row["same_as"],
        only_cited=row["only_cited"],
        shares=_shares(row, _classes(row["database"], data), row.get("utterances")),
    )


def _ablation(row: Mapping[str, Any], data: Data) -> PublishedAblation:
    figures: Mapping[str, Mapping[str, str | None]] = row["figures"]
    return PublishedAblation(
        paper=row["paper"],
        model=row["model"],
        ablation=row["ablation"],
        parts=row["parts"],
        figures={name: (_fraction(f["war"]), _fraction(f["uar"])) for name, f in figures.items()},
        shares={name: _shares(f, _classes(name, data)) for name, f in figures.items()},
    )


def load(*more: Place) -> Published:
    """Read the published figures.

    Args:
        more: files of the same form, whose figures stand behind those that travel with tfser.

    Raises:
        RequestError: every problem of all files.
    """
    if not more:
        return _shipped()
    data = _shipped_data()
    problems: list[RequestError] = []
    for path in more:
        try:
            data = data.and_then(published_file.read(path, data))
        except RequestError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise RequestError("--published", [line for error in problems for line in error.named])
    return _values(data)


@cache
def _shipped_data() -> Data:
    return published_file.read(packaged_files.published(), Data())


@cache
def _shipped() -> Published:
    return _values(_shipped_data())


def _values(data: Data) -> Published:
    return Published(
        papers=data.papers,
        emotions={name: frozenset(counts) for name, counts in data.counts.items()},
        comparison=tuple(_row(row, data) for row in data.comparison),
        ablations=tuple(_ablation(row, data) for row in data.ablations),
    )
