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

from tfser import folds, train
from tfser.databases import counting
from tfser.databases.base import Database
from tfser.errors import RequestError, unknown
from tfser.features import FrontEnd
from tfser.models import MODELS
from tfser.report.result import Configuration
from tfser.space import Space, refusals
from tfser.trial import NUMERICS_VERSION, Hyperparameter, TrialSpec, Value

EPOCHS_WHERE_SILENT = 100
"""Ours: epochs without --epochs for a model whose paper does not state them (ATFNN). Its rows are ``fixed``, not ``published``."""

MOST_SEEDS, MOST_TRIALS, MOST_EPOCHS = 10_000, 1_000_000, 10_000_000
"""Ours: beyond any use, and small enough that a slip of the finger is refused instead of filling the memory with a plan."""

SELECTIONS = ("nested", "global", "oracle")
"""How settings and epochs are chosen. ``oracle`` takes the best epoch on the test fold: it exists to be
compared with literature that does so, and every table and run says it."""


SAMPLERS = ("tpe", "random")
"""Who says which setting to try next. ``random`` is the baseline that a search has to beat: it begins with a
random setting too, not with the published one."""


def hyperparameters(model: str) -> dict[str, Hyperparameter]:
    """Every setting of a model, its front end and its training, with the published defaults."""
    architecture = MODELS[model]
    general = {
        name: Hyperparameter(default=architecture.published.get(name, h.default), low=h.low, high=h.high, choices=h.choices, help=h.help)
        for name, h in train.HYPERPARAMETERS.items()
    }
    return {**general, **architecture.hyperparameters}


def published_settings(model: str) -> dict[str, Value]:
    """Every setting of a model at its published value."""
    return {name: h.default for name, h in hyperparameters(model).items()}


def front_end(settings: Mapping[str, Value]) -> FrontEnd:
    """The front end that these settings describe."""
    return FrontEnd(n_mels=int(settings["n_mels"]), preemphasis=float(settings["preemphasis"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for, after parsing and before checking."""

    models: tuple[str, ...] = tuple(MODELS)
    ablations: tuple[str, ...] = ()
    """Empty: each model's full form; ``all``: every one."""
    protocol: str = "speaker"
    folds: tuple[str, ...] = ()
    """Empty: every fold."""
    seeds: int = 1
    trials: int = 0
    """Optuna trials per study; 0 trains the published setting."""
    epochs: int | None = None
    selection: str = "nested"
    validation_folds: int = 1
    prune: bool = True
    sampler: str = "tpe"
    search_seed: int = 0
    fixed: tuple[tuple[str, str], ...] = ()
    """--set, as typed."""


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
            self._spec(fold, 0, hyperparameters, self.epochs, "search", (folds.validation_group(self.all_folds, fold, rotation),))
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
            (fold, seed): self._spec(fold, seed, hyperparameters, self.epochs if oracle else epochs, "oracle" if oracle else "final", ())
            for fold in self.folds
            for seed in self.configuration.seeds
        }

    def _spec(
        self, fold: str, seed: int, hyperparameters: tuple[tuple[str, Value], ...], epochs: int, purpose: str, validation: tuple[str, ...]
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


def problems(request: Request, spaces: Mapping[str, Space]) -> list[str]:
    """Everything wrong with a request that can be said without a database."""
    found = []
    for model in request.models:
        if model not in MODELS:
            found.append(unknown("--model", model, MODELS))
    models = [m for m in request.models if m in MODELS]
    of_any = models or list(MODELS)
    known_ablations = [a for m in of_any for a in MODELS[m].ablations]
    for ablation in request.ablations:
        if ablation != "all" and ablation not in known_ablations:
            found.append(unknown("--ablation", ablation, [*known_ablations, "all"]))
    if request.protocol not in folds.PROTOCOLS:
        found.append(unknown("--protocol", request.protocol, folds.PROTOCOLS))
    if request.sampler not in SAMPLERS:
        found.append(unknown("--sampler", request.sampler, SAMPLERS))
    if request.selection not in SELECTIONS:
        found.append(unknown("--selection", request.selection, SELECTIONS))
    for name, value, low, high in (
        ("--seeds", request.seeds, 1, MOST_SEEDS),
        ("--trials", request.trials, 0, MOST_TRIALS),
        ("--validation-folds", request.validation_folds, 1, MOST_SEEDS),
        ("--epochs", 1 if request.epochs is None else request.epochs, 1, MOST_EPOCHS),
    ):
        if value < low:
            found.append(f"{name}: {value} is below {low}")
        elif value > high:
            found.append(f"{name}: {value} is above {high}, the most that is planned")
    typed = dict(request.fixed)
    for name in typed:
        if not any(name in hyperparameters(m) for m in of_any):
            found.append(unknown("--set", name, {h for m in of_any for h in hyperparameters(m)}))
    for model in models:
        known = hyperparameters(model)
        for name, text in typed.items():
            if name in known:
                try:
                    known[name].parse(text)
                except ValueError as error:
                    found.append(f"--set {name}: {error}")
        if not any(problem.startswith("--set") for problem in found):
            for ablation in _ablations(request, model):
                found.extend(_setting_problems(model, ablation, request, spaces.get(model)))
    return list(dict.fromkeys(found))


def _setting_problems(model: str, ablation: str, request: Request, space: Space | None) -> list[str]:
    base, architecture = _base(model, request), MODELS[model]
    if space is None:
        return [f"{model} {ablation}: {problem}" for problem in architecture.problems(ablation, base)]
    return refusals(space, base, lambda settings: architecture.problems(ablation, settings))


def _base(model: str, request: Request) -> dict[str, Value]:
    known = hyperparameters(model)
    return {**published_settings(model), **{n: known[n].parse(t) for n, t in request.fixed if n in known}}


def _ablations(request: Request, model: str) -> tuple[str, ...]:
    architecture = MODELS[model]
    if not request.ablations:
        return architecture.ablations[:1]
    if "all" in request.ablations:
        return architecture.ablations
    return tuple(a for a in architecture.ablations if a in request.ablations)


def fold_problems(request: Request, database: Database) -> list[str]:
    """Everything wrong with a request that only shows beside a database: its folds and how many there are."""
    if request.protocol not in folds.PROTOCOLS:
        return []
    try:
        every = folds.folds(database.utterances, request.protocol, database.name)
    except RequestError as error:
        return [f"{database.name}: {problem}" for problem in error.problems]
    found = [f"{database.name}: {unknown('--fold', fold, every)}" for fold in request.folds if fold not in every]
    if request.trials > 0 and len(every) < 2 + request.validation_folds:
        found.append(
            f"{database.name}: it has {len(every)} {request.protocol}s; a search needs {request.validation_folds} to validate, "
            "one to test and one to train on. Use --trials 0 or fewer --validation-folds"
        )
    return found


def make(request: Request, databases: Sequence[Database], digest: Callable[[Database], str], spaces: Mapping[str, Space]) -> Plan:
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
    front_ends: dict[str, list[FrontEnd]] = {}
    for database in databases:
        every = folds.folds(database.utterances, request.protocol, database.name)
        chosen = tuple(f for f in every if not request.folds or f in request.folds)
        remark = "; ".join([database.remark] * bool(database.remark) + _alone(request.protocol, database))
        for model in request.models:
            space, base = spaces.get(model), _base(model, request)
            for settings in _front_end_settings(space, base):
                if front_end(settings) not in front_ends.setdefault(database.name, []):
                    front_ends[database.name].append(front_end(settings))
            for ablation in _ablations(request, model):
                configuration = Configuration(
                    database=database.name,
                    protocol=request.protocol,
                    model=model,
                    ablation=ablation,
                    database_digest=digest(database),
                    selection=_selection(request, model),
                    settings=asked_settings(request, model, space if request.trials else None),
                    emotions=database.emotions,
                    folds=chosen,
                    folds_total=len(every),
                    seeds=tuple(range(request.seeds)),
                    complete=database.complete,
                    same_texts=database.info.same_texts,
                    remark=remark,
                )
                configurations.append(configuration)
                together = [chosen] if request.trials and request.selection == "global" else [(fold,) for fold in chosen]
                studies.extend(
                    Study(
                        configuration=configuration,
                        database_digest=digest(database),
                        folds=group,
                        all_folds=every,
                        base=base,
                        space=space if request.trials else None,
                        trials=request.trials,
                        epochs=_epochs(request, model),
                        validation_folds=request.validation_folds,
                        prune=request.prune,
                        sampler=request.sampler,
                        search_seed=request.search_seed,
                    )
                    for group in together
                    if group
                )
    return Plan(
        configurations=tuple(sorted(configurations, key=lambda c: c.key)),
        studies=tuple(studies),
        front_ends={name: tuple(values) for name, values in front_ends.items()},
    )


def _epochs(request: Request, model: str) -> int:
    if request.epochs is not None:
        return request.epochs
    return MODELS[model].published_epochs or EPOCHS_WHERE_SILENT


def _alone(protocol: str, database: Database) -> list[str]:
    """Return what tables say of emotions that are trained on in no trial that tests them."""
    alone = counting.alone(database.utterances, lambda utterance: folds.group(utterance, protocol))
    why = f"its recall is 0 by construction where that {protocol} is held out"
    return [f"{fold} alone has {emotion}: {why}" for emotion, fold in alone.items()]


def _selection(request: Request, model: str) -> str:
    """What a table says of how the settings came about."""
    if request.trials or request.selection == "oracle":
        return request.selection
    return "published" if is_published(model, asked_settings(request, model, None)) else "fixed"


def is_published(model: str, settings: str) -> bool:
    """Whether settings, as ``fixed_settings`` writes them, are the paper's throughout; where it states no epochs, none are."""
    epochs = MODELS[model].published_epochs if model in MODELS else None
    return epochs is not None and settings == fixed_settings(published_settings(model), epochs)


def fixed_settings(settings: Mapping[str, Value], epochs: int) -> str:
    """What a row's settings are where nothing is searched: every hyperparameter and the epochs, as canonical JSON."""
    return json.dumps({**settings, "epochs": epochs}, sort_keys=True, ensure_ascii=False)


def asked_settings(request: Request, model: str, space: Space | None) -> str:
    """What tells a row from one of another request: two that differ in anything that was asked for never take each other's place.

    Args:
        request: the whole.
        model: of the row.
        space: what is searched; ``None`` where nothing is.
    """
    base, epochs = _base(model, request), _epochs(request, model)
    if space is None:
        return fixed_settings(base, epochs)
    searched = {dimension.name for dimension in space.dimensions}
    left = {name: value for name, value in {**base, **space.fixed}.items() if name not in searched}
    search: dict[str, Value] = {
        "trials": request.trials,
        "space": space.digest,
        "validation_folds": request.validation_folds,
        "pruning": request.prune,
        "sampler": request.sampler,
        "search_seed": request.search_seed,
    }
    return json.dumps({**left, "epochs": epochs, **search}, sort_keys=True, ensure_ascii=False)


def _front_end_settings(space: Space | None, base: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Every combination of front-end settings that a trial can have; other settings are left at their base."""
    combinations: list[dict[str, Any]] = [{**base, **(space.fixed if space else {})}]
    for dimension in space.dimensions if space else ():
        if dimension.name in ("n_mels", "preemphasis"):
            values = dimension.listed()
            combinations = [{**c, dimension.name: value} for c in combinations for value in (*values, c[dimension.name])]
    return combinations
