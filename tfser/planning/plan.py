"""A request to the full list of what has to be trained, every problem found before anything starts.

A plan is computed from the request and the databases alone, the same at every start; what the ledger
already holds is subtracted later. Knows nothing of how trials run or where results lie.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfser.databases import published_counts
from tfser.databases.base import Database
from tfser.errors import RequestError
from tfser.evaluation import folds
from tfser.features.store import FrontEnd
from tfser.planning.configuration import Configuration
from tfser.planning.request import (
    Request,
    ablations_of,
    asked_settings,
    base_settings,
    epochs_of,
    fold_problems,
    selection_of,
)
from tfser.planning.search_space import Space
from tfser.planning.settings import front_end
from tfser.trial import NUMERICS_VERSION, TrialSpec, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is chosen together: the folds of one configuration whose final trials use one chosen setting.

    Nested selection has a study for every fold; with --trials 0 nothing is chosen and the study holds only
    what its final trials need.
    """

    configuration: Configuration
    database_digest: str
    folds: tuple[str, ...]
    """The test folds whose final trials follow from this study."""
    all_folds: tuple[str, ...]
    base: Mapping[str, Value]
    """Every setting: published, then --set."""
    space: Space | None
    trials: int
    epochs: int
    """Epochs of a search trial, and the most that can be chosen; without a search, of the final trial."""
    validation_folds: int
    prune: bool
    """Whether search trials that fall behind their study are ended early."""
    sampler: str
    """One of ``SAMPLERS``."""
    search_seed: int
    """Another one gives another sequence of settings."""

    @property
    def name(self) -> str:
        """Readable, and different for every difference that could change what is chosen."""
        c = self.configuration
        digest = hashlib.sha256(f"{self.database_digest} {NUMERICS_VERSION} {self.question}".encode()).hexdigest()[:10]
        label = self.folds[0] if len(self.folds) == 1 else "all folds"
        return f"{c.database} {c.protocol} {c.model} {c.ablation} {label} {digest}"

    @property
    def question(self) -> str:
        """What the sampler's random numbers are drawn from: the request alone.

        The database's digest is left out on purpose. It covers the test speakers' labels, and those must
        not change which settings are tried.
        """
        c = self.configuration
        parts = [
            c.database, c.protocol, c.model, c.ablation, c.selection, list(self.folds), sorted(self.base.items()),
            self.space.digest if self.space else None, self.epochs, self.validation_folds, self.prune, self.sampler, self.search_seed,
        ]  # fmt: skip
        return json.dumps(parts)

    def search_specs(self, settings: Mapping[str, Value]) -> list[TrialSpec]:
        """The trials whose mean validation UAR is the score of a setting. No test utterance is in any of them."""
        hyperparameters = tuple(sorted(settings.items()))
        return [
            self._spec(
                fold,
                0,
                hyperparameters,
                self.epochs,
                "search",
                (folds.validation_group(self.all_folds, fold, rotation),),
            )
            for fold in self.folds
            for rotation in range(self.validation_folds)
        ]

    def final_specs(self, settings: Mapping[str, Value], epochs: int) -> dict[tuple[str, int], TrialSpec]:
        """(fold, seed) to the trial that goes into the table.

        Args:
            settings: the chosen ones.
            epochs: the chosen number; an oracle trial runs all and looks for its best itself.
        """
        oracle = self.configuration.selection == "oracle"
        hyperparameters = tuple(sorted(settings.items()))
        return {
            (fold, seed): self._spec(
                fold, seed, hyperparameters, self.epochs if oracle else epochs, "oracle" if oracle else "final", ()
            )
            for fold in self.folds
            for seed in self.configuration.seeds
        }

    def _spec(
        self,
        fold: str,
        seed: int,
        hyperparameters: tuple[tuple[str, Value], ...],
        epochs: int,
        purpose: str,
        validation: tuple[str, ...],
    ) -> TrialSpec:
        c = self.configuration
        return TrialSpec(
            database=c.database,
            database_digest=self.database_digest,
            protocol=c.protocol,
            fold=fold,
            purpose=purpose,
            validation=validation,
            model=c.model,
            ablation=c.ablation,
            seed=seed,
            epochs=epochs,
            hyperparameters=hyperparameters,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a sweep needs, whether or not it has been trained before."""

    configurations: tuple[Configuration, ...]
    studies: tuple[Study, ...]
    front_ends: Mapping[str, tuple[FrontEnd, ...]] = field(default_factory=dict)
    """Database name to every front end that a trial of it can ask for."""

    @property
    def search_trials(self) -> int:
        """Upper bound of search trials."""
        return sum(s.trials * len(s.folds) * s.validation_folds for s in self.studies)

    @property
    def final_trials(self) -> int:
        """Final trials."""
        return sum(len(s.folds) * len(s.configuration.seeds) for s in self.studies)


def make(
    request: Request, databases: Sequence[Database], digest: Callable[[Database], str], spaces: Mapping[str, Space]
) -> Plan:
    """The full plan.

    Args:
        request: checked with ``problems``.
        databases: what was loaded.
        digest: the database's digest, which every trial's id holds.
        spaces: model to its search space; none where --trials is 0.

    Raises:
        RequestError: all ``fold_problems``.
    """
    found = [problem for database in databases for problem in fold_problems(request, database)]
    if found:
        raise RequestError("tfser sweep", found)
    configurations: list[Configuration] = []
    studies: list[Study] = []
    front_ends: dict[str, tuple[FrontEnd, ...]] = {}
    for database in databases:
        wanted: dict[FrontEnd, None] = {}
        for model in request.models:
            space, base = spaces.get(model), base_settings(model, request)
            wanted |= {front_end(settings): None for settings in _front_end_settings(space, base)}
            searched = space if request.trials else None
            for row in _configurations(request, database, digest(database), model, searched):
                configurations.append(row)
                studies += _studies(request, database, row, base, searched)
        front_ends[database.name] = tuple(wanted)
    return Plan(
        configurations=tuple(sorted(configurations, key=lambda c: c.key)),
        studies=tuple(studies),
        front_ends=front_ends,
    )


def _configurations(
    request: Request, database: Database, digest: str, model: str, space: Space | None
) -> list[Configuration]:
    """Return the rows of one model on one database: one per ablation."""
    every = folds.folds(database.utterances, request.protocol, database.name)
    remark = "; ".join([database.remark] * bool(database.remark) + _alone(request.protocol, database))
    return [
        Configuration(
            database=database.name,
            protocol=request.protocol,
            model=model,
            ablation=ablation,
            database_digest=digest,
            selection=selection_of(request, model),
            settings=asked_settings(request, model, space),
            emotions=database.emotions,
            folds=tuple(fold for fold in every if not request.folds or fold in request.folds),
            folds_total=len(every),
            seeds=tuple(range(request.seeds)),
            complete=database.complete,
            same_texts=database.info.same_texts,
            remark=remark,
        )
        for ablation in ablations_of(request, model)
    ]


def _studies(
    request: Request, database: Database, row: Configuration, base: Mapping[str, Value], space: Space | None
) -> list[Study]:
    """Return the studies of one row: one for all folds where selection is global, else one per fold."""
    together = bool(request.trials) and request.selection == "global"
    groups = [row.folds] if together else [(fold,) for fold in row.folds]
    return [
        Study(
            configuration=row,
            database_digest=row.database_digest,
            folds=group,
            all_folds=folds.folds(database.utterances, request.protocol, database.name),
            base=base,
            space=space,
            trials=request.trials,
            epochs=epochs_of(request, row.model),
            validation_folds=request.validation_folds,
            prune=request.prune,
            sampler=request.sampler,
            search_seed=request.search_seed,
        )
        for group in groups
        if group
    ]


def _alone(protocol: str, database: Database) -> list[str]:
    """Return what tables say of emotions that are trained on in no trial that tests them."""
    alone = published_counts.alone(database.utterances, lambda utterance: folds.group(utterance, protocol))
    why = f"its recall is 0 by construction where that {protocol} is held out"
    return [f"{fold} alone has {emotion}: {why}" for emotion, fold in alone.items()]


def _front_end_settings(space: Space | None, base: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Every combination of front-end settings that a trial can have; other settings are left at their base."""
    combinations: list[dict[str, Any]] = [{**base, **(space.fixed if space else {})}]
    for dimension in space.dimensions if space else ():
        if dimension.name in ("n_mels", "preemphasis"):
            values = dimension.listed()
            combinations = [
                {**c, dimension.name: value} for c in combinations for value in (*values, c[dimension.name])
            ]
    return combinations
