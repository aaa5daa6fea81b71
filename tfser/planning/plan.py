"""The full list of what a request trains.

A plan is computed from the request and the databases alone, so that it is the same at every start. The schedule later
leaves out what the ledger already holds. Knows nothing of how trials run or where results lie.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tfser.databases import published_counts
from tfser.databases.base import Database
from tfser.databases.combined import Combined, row_name
from tfser.errors import RequestError
from tfser.evaluation import folds
from tfser.features import augmentation
from tfser.features.base import Extractor
from tfser.models import MODELS, of
from tfser.planning import fold_checks, own_models
from tfser.planning.configuration import Configuration
from tfser.planning.request import (
    Request,
    Sampler,
    ablations_of,
    asked_settings,
    base_settings,
    epochs_of,
    selection_of,
    transductive,
)
from tfser.planning.search_space import Space
from tfser.planning.settings import extracted, extractors, feature_problems, hashed, missing_here
from tfser.trial import NUMERICS_SETTINGS, ProtocolName, Purpose, TrialSpec, Value, numerics_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One choice of settings: the folds of one configuration whose final trials all use the setting that is chosen.

    Nested selection has a study for every fold. With --trials 0 nothing is chosen, and the study holds only what its
    final trials need.
    """

    configuration: Configuration
    database_digest: str
    folds: tuple[str, ...]
    """Test folds whose final trials use the chosen setting, or whose search trials choose for ``deploy``."""
    all_folds: tuple[str, ...]
    validators: tuple[str, ...] = ()
    """What validates, in this order, where that is not the other folds: corpora or speakers of the training side."""
    base: Mapping[str, Value]
    """Every setting: the published ones, then those of --set."""
    space: Space | None
    trials: int
    epochs: int
    """Epochs of a search trial, and the most that can be chosen; without a search, those of the final trial."""
    validation_folds: int
    prune: bool
    """Whether search trials that fall behind the others of their study are ended early."""
    sampler: Sampler
    """One of ``SAMPLERS``."""
    search_seed: int
    """Seed of the sampler: another one gives another sequence of settings."""
    deploy: bool = False
    """Whether the choice is for one model that is trained on every speaker, instead of for the folds.

    Its search trials hold no test fold out, and the validation speakers are the first ones of all; under ``global``
    selection it is the study of all folds, which the sweep's own start shares.
    """

    @property
    def name(self) -> str:
        """Name in Optuna's storage: readable, and different wherever something differs that could change the choice."""
        c = self.configuration
        asked = f"{self.database_digest} {self._numerics} {self.question}{c.source and f' {c.source}'}"
        digest = hashlib.sha256(asked.encode()).hexdigest()[:10]
        label = self.folds[0] if len(self.folds) == 1 else "all folds" if self.folds else "deploy"
        return f"{c.database} {c.protocol} {c.model} {c.ablation} {label} {digest}"

    @property
    def given(self) -> dict[str, Value]:
        """Every setting as it was given: ``base``, then what the search space holds fixed. A search samples over it."""
        return {**self.base, **(self.space.fixed if self.space else {})}

    @property
    def _numerics(self) -> int:
        """The latest numerics version of the trials that it may try."""
        searched = [d for d in (self.space.dimensions if self.space else ()) if d.name in NUMERICS_SETTINGS]
        return max(
            numerics_of({**self.given, **{d.name: value for d, value in zip(searched, values, strict=True)}})
            for values in itertools.product(*(d.values for d in searched))
        )

    @property
    def question(self) -> str:
        """Text that seeds the sampler: the request alone.

        The database's digest is left out on purpose. It covers the test speakers' labels, which must not change which
        settings are tried. So is the digest of a model's source.
        """
        c = self.configuration
        parts = [
            c.database, c.protocol, c.model, c.ablation, c.selection, list(self.folds),
            sorted(hashed(of(c), self.base).items()), self.space.digest if self.space else None,
            self.epochs, self.validation_folds, self.prune, self.sampler, self.search_seed,
        ]  # fmt: skip
        return json.dumps(parts)

    @property
    def searched_folds(self) -> tuple[str, ...]:
        """The folds of its search trials; one empty name where they hold no test fold out."""
        return self.folds or ("",)

    @property
    def final_keys(self) -> tuple[tuple[str, int], ...]:
        """Fold and seed of every final trial; that of ``deploy`` has no fold and seed 0."""
        if self.deploy:
            return (("", 0),)
        return tuple((fold, seed) for fold in self.folds for seed in self.configuration.seeds)

    @property
    def finals(self) -> int:
        """Number of final trials, or 1 for ``deploy``."""
        return len(self.final_keys)

    def search_specs(self, settings: Mapping[str, Value]) -> list[TrialSpec]:
        """Return the trials whose mean validation UAR is a setting's score. None of them holds a test utterance."""
        hyperparameters = self._hyperparameters(settings)
        return [
            self._spec(
                fold,
                0,
                hyperparameters,
                self.epochs,
                "search",
                (self._validation(fold, rotation),),
            )
            for fold in self.searched_folds
            for rotation in range(self.validation_folds)
        ]

    def _validation(self, fold: str, rotation: int) -> str:
        """Return what validates a search trial; never the test fold."""
        return self.validators[rotation] if self.validators else folds.validation_group(self.all_folds, fold, rotation)

    def final_specs(self, settings: Mapping[str, Value], epochs: int) -> dict[tuple[str, int], TrialSpec]:
        """Return the trials that go into the table, or the model of ``deploy``, by ``final_keys``.

        Args:
            settings: the chosen settings.
            epochs: the chosen number; an oracle trial runs all epochs and looks for its best itself.
        """
        oracle = self.configuration.selection == "oracle"
        purpose: Purpose = "deploy" if self.deploy else "oracle" if oracle else "final"
        hyperparameters = self._hyperparameters(settings)
        return {
            (fold, seed): self._spec(fold, seed, hyperparameters, self.epochs if oracle else epochs, purpose, ())
            for fold, seed in self.final_keys
        }

    def _hyperparameters(self, settings: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
        return tuple(sorted(hashed(of(self.configuration), settings).items()))

    def _spec(
        self,
        fold: str,
        seed: int,
        hyperparameters: tuple[tuple[str, Value], ...],
        epochs: int,
        purpose: Purpose,
        validation: tuple[str, ...],
    ) -> TrialSpec:
        c = self.configuration
        return TrialSpec(
            database=c.data,
            database_digest=self.database_digest,
            protocol=c.protocol,
            fold=fold,
            purpose=purpose,
            validation=validation,
            model=c.model,
            source=c.source,
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
    features: Mapping[str, tuple[Extractor, ...]] = field(default_factory=dict)
    """All features that a trial can ask for, by database; without those that this machine cannot make (``lacking``)."""

    @property
    def search_trials(self) -> int:
        """Largest possible number of search trials."""
        return sum(s.trials * len(s.searched_folds) * s.validation_folds for s in self.studies)

    @property
    def final_trials(self) -> int:
        """Number of final trials, or of models for use."""
        return sum(study.finals for study in self.studies)


def make(
    request: Request, databases: Sequence[Database], digest: Callable[[Database], str], spaces: Mapping[str, Space]
) -> Plan:
    """Plan everything that a request needs.

    Args:
        request: checked with ``problems``.
        databases: those asked for, loaded.
        digest: returns a database's digest, which is part of every trial id.
        spaces: search spaces by model; empty where --trials is 0.

    Raises:
        RequestError: all that ``fold_checks`` finds.
    """
    found = [problem for database in databases for problem in fold_checks.problems(request, database, spaces)]
    if found:
        raise RequestError("tfser sweep", found)
    configurations: list[Configuration] = []
    studies: list[Study] = []
    features: dict[str, tuple[Extractor, ...]] = {}
    for database in databases:
        wanted: dict[Extractor, None] = {}
        for model in request.models:
            space, base = spaces.get(model), base_settings(model, request)
            for settings in _feature_settings(request, model, space):
                if not missing_here(MODELS[model], settings):
                    wanted.update(dict.fromkeys(extractors(MODELS[model], settings)))
            searched = space if request.trials else None
            mine = request if searched else replace(request, trials=0)  # nothing is searched where no space is
            for row in _configurations(mine, database, digest(database), model, searched):
                configurations.append(row)
                studies += _studies(mine, database, row, base, searched)
        features[database.name] = tuple(wanted)
    return Plan(
        configurations=tuple(sorted(configurations, key=lambda c: c.key)),
        studies=tuple(studies),
        features=features,
    )


def lacking(request: Request, spaces: Mapping[str, Space], *, elsewhere: bool = False) -> list[str]:
    """Return what this machine lacks to train what a request asks for, in words; finished trials do not need it.

    Args:
        request: checked with ``problems``.
        spaces: search spaces by model; empty where --trials is 0.
        elsewhere: whether trials run on other machines, whose workers look at what they lack themselves.
    """
    found = [request.gone[model] for model in request.models if model in request.gone]
    for model in request.models:
        if model not in request.gone:
            for settings in _feature_settings(request, model, spaces.get(model)):
                found += [f"{model}: {line}" for line in missing_here(MODELS[model], settings)]
            if not elsewhere:
                found += [f"{model}: {line}" for line in _training_lacks(request, model, spaces.get(model))]
    return list(dict.fromkeys(found))


def _training_lacks(request: Request, model: str, space: Space | None) -> list[str]:
    """Return what this machine lacks to train a model with settings that are fixed or searched."""
    fixed = {**base_settings(model, request), **(space.fixed if space else {})}
    searched = [{d.name: value} for d in (space.dimensions if space else ()) for value in d.values]
    ablations = ablations_of(request, model)
    return [line for a in ablations for own in ({}, *searched) for line in MODELS[model].missing(a, {**fixed, **own})]


def _configurations(
    request: Request, database: Database, digest: str, model: str, space: Space | None
) -> list[Configuration]:
    """Return the rows of one model on one database: one per ablation, and per test corpus where those are held out."""
    every = folds.folds(database.utterances, request.protocol, database.name)
    asked = tuple(fold for fold in every if not request.folds or fold in request.folds)
    asked = () if request.purpose == "deploy" else asked
    remark = "; ".join([database.remark] * bool(database.remark) + _alone(request.protocol, database))
    whole = [
        Configuration(
            database=database.name,
            protocol=request.protocol,
            model=model,
            source=request.sources.get(model, ""),
            own=own_models.told(model, request.sources.get(model, "")),
            ablation=ablation,
            database_digest=digest,
            selection=selection_of(request, model),
            settings=asked_settings(request, model, space),
            emotions=database.emotions,
            folds=asked,
            folds_total=len(every),
            seeds=tuple(range(request.seeds)),
            complete=database.complete,
            same_texts=database.info.same_texts,
            remark=remark,
            transductive=transductive(request, model, space),
        )
        for ablation in ablations_of(request, model)
    ]
    if not isinstance(database, Combined):
        return whole
    return [_of_corpus(row, database, corpus) for row in whole for corpus in row.folds]


def _of_corpus(row: Configuration, database: Combined, corpus: str) -> Configuration:
    """Return the part of a row that tests on one corpus: corpora differ too much for a figure over several of them."""
    only = [said for said in _alone(row.protocol, database) if said.startswith(f"{corpus} alone ")]
    return replace(
        row,
        database=row_name(database.corpora, corpus),
        pool=database.name,
        folds=(corpus,),
        folds_total=1,
        remark="; ".join([database.remark_of(corpus), *only]),
    )


def _studies(
    request: Request, database: Database, row: Configuration, base: Mapping[str, Value], space: Space | None
) -> list[Study]:
    """Return the studies of one row: one for all folds where selection is global, else one per fold.

    A row of ``deploy`` has one study, without test folds unless selection is global.
    """
    every = folds.folds(database.utterances, request.protocol, database.name)
    together, deploy = bool(request.trials) and request.selection == "global", request.purpose == "deploy"
    groups: list[tuple[str, ...]] = [(fold,) for fold in row.folds]
    if together or deploy:
        groups = [every if deploy and together else row.folds]
    return [
        Study(
            configuration=row,
            database_digest=row.database_digest,
            folds=group,
            all_folds=every,
            validators=folds.validators(database.utterances, group[0]) if request.protocol == "corpus" else (),
            base=base,
            space=space,
            trials=request.trials,
            epochs=epochs_of(request, row.model),
            validation_folds=request.validation_folds,
            prune=request.prune,
            sampler=request.sampler,
            search_seed=request.search_seed,
            deploy=deploy,
        )
        for group in groups
        if group or deploy
    ]


def _alone(protocol: ProtocolName, database: Database) -> list[str]:
    """Return a remark for each emotion that only one fold has, so that no trial is both trained and tested on it."""
    alone = published_counts.alone(database.utterances, lambda utterance: folds.group(utterance, protocol))
    why = f"its recall is 0 by construction where that {protocol} is held out"
    return [f"{fold} alone has {emotion}: {why}" for emotion, fold in alone.items()]


def _feature_settings(request: Request, model: str, space: Space | None) -> list[dict[str, Value]]:
    """Return every combination of the features' settings that a trial can have; other settings stay at their base.

    Args:
        request: the whole request.
        model: one of its models.
        space: what is searched, if anything is.
    """
    declared, base = MODELS[model], base_settings(model, request)
    names = extracted(declared)
    combinations: list[dict[str, Any]] = [{**base, **(space.fixed if space else {})}]
    for dimension in space.dimensions if space else ():
        if dimension.name in names:
            values = dimension.listed()
            combinations = [
                {**c, dimension.name: value} for c in combinations for value in (*values, c[dimension.name])
            ]
    # No trial has others: when: sees to that.
    return [c for c in combinations if not feature_problems(declared, c) and not augmentation.problems(c)]
