"""The trials that measure what leaks are worth: one setting under the honest protocol and under wrong ones.

Only this module plans trials that see their test utterances. Knows nothing of how trials run or where results lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from tfser.errors import RequestError
from tfser.evaluation import leaky_protocols
from tfser.features.standardise import TRANSDUCTIVE
from tfser.models import MODELS, Network, of
from tfser.planning.configuration import Configuration
from tfser.planning.own_models import asked as asked_model
from tfser.planning.plan import Plan, Study
from tfser.planning.settings import extractors, hyperparameters, is_transductive, missing_here
from tfser.trial import LEAKS, Leak, Purpose, TrialSpec, Value

HONEST, EPOCH, HYPERPARAMETERS, STANDARDISATION, PER_SPEAKER, RANDOM_SPLIT, TOGETHER = (
    "honest",
    "epoch",
    "hyperparameters",
    "standardisation",
    "standardisation_per_speaker",
    "random_split",
    "together",
)
ROWS = (HONEST, EPOCH, HYPERPARAMETERS, STANDARDISATION, PER_SPEAKER, RANDOM_SPLIT, TOGETHER)
"""The rows of the table, in its order. The first is always there.

``PER_SPEAKER`` is no leak of a protocol but a setting, which a sweep may have too, marked as transductive.
"""

LEARNING_RATES = (0.3, 3.0)
"""Factors of the honest row's learning rate, which give the other settings where no search space is asked for.

Ours: about half a decade up and down, which a person would try by hand.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakConfiguration(Configuration):
    """The configuration of one of the studies, which only their names tell apart."""

    name: str

    @property
    def label(self) -> str:
        """The study's name."""
        return self.name


def _told_apart(
    configuration: Configuration, name: str, folds: tuple[str, ...], transductive: bool
) -> LeakConfiguration:
    values = {field.name: getattr(configuration, field.name) for field in fields(configuration)}
    return LeakConfiguration(**{**values, "folds": folds, "transductive": transductive}, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakStudy(Study):
    """Every fold and seed under one protocol with one setting; the name of its configuration is unique."""

    purpose: Purpose = "final"
    """``oracle`` where the epoch is chosen on the test fold, else ``final``."""
    leaks: tuple[Leak, ...] = ()
    """Members of ``tfser.trial.LEAKS``. With none and purpose ``final``, the trials and their ids are a sweep's."""

    def final_specs(self, settings: Mapping[str, Value], epochs: int) -> dict[tuple[str, int], TrialSpec]:
        """Return the trial of each (fold, seed)."""
        # Not super(): a dataclass with slots is another class than the one that this function was defined in.
        honest = Study.final_specs(self, settings, epochs)
        return {key: replace(spec, purpose=self.purpose, leaks=self.leaks) for key, spec in honest.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakRow:
    """One row of the table."""

    name: str
    """One of ``ROWS``."""
    studies: tuple[LeakStudy, ...]
    """For each fold and seed, the trial with the best UAR on the test fold counts; on ties, that of the first study."""

    @property
    def paired(self) -> bool:
        """Whether it is scored on the same folds as the honest row."""
        return all("random_split" not in study.leaks for study in self.studies)

    @property
    def folds(self) -> tuple[str, ...]:
        """Every fold that was asked for."""
        return self.studies[0].folds

    @property
    def transductive(self) -> bool:
        """Whether one of its settings lets scores depend on what is scored beside an utterance."""
        return any(study.configuration.transductive for study in self.studies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """Everything that the table needs, whether or not it has been trained before."""

    configuration: Configuration
    """The honest row's, the same as that of a sweep of its setting."""
    settings: tuple[Mapping[str, Value], ...]
    """The honest row's setting, then the others that rows can choose among."""
    epochs: int
    rows: tuple[LeakRow, ...]
    origin: str
    """Where the other settings come from, as printed."""

    @property
    def left_out(self) -> dict[str, str]:
        """The rows that would say nothing, and why."""
        return left_out(self.configuration.model, len(self.settings) > 1, self.settings[0])

    @property
    def plan(self) -> Plan:
        """Every study, each once, as a plan."""
        studies = {study.configuration: study for row in self.rows for study in row.studies}
        model = of(self.configuration)
        bases = [study.base for study in studies.values() if not missing_here(model, study.base)]
        features = tuple(dict.fromkeys(wanted for base in bases for wanted in extractors(model, base)))
        return Plan(
            configurations=tuple(studies),
            studies=tuple(studies.values()),
            features={self.configuration.database: features},
        )


def make(asked: Plan, names: Sequence[str]) -> Leaks:
    """Plan the rows and everything that has to be trained for them.

    Args:
        asked: a sweep's plan of one configuration. Its ``trials`` say how many settings are drawn from its space; with
            0, the settings are those of ``LEARNING_RATES``.
        names: which of ``ROWS``, beside the honest one; those that are ``left_out`` are none.

    Raises:
        RequestError: the model cannot be built with one of the settings.
    """
    (configuration,), first = asked.configurations, asked.studies[0]
    model = of(configuration)
    settings, origin = _settings(first)
    # The plan's says what its space may choose; the honest row has one setting.
    configuration = replace(configuration, transductive=is_transductive(model, settings[0]))
    parts = leaky_protocols.parts(configuration.folds_total)
    shares = tuple(parts[first.all_folds.index(fold)] for fold in configuration.folds)

    def study(
        name: str, values: Mapping[str, Value], purpose: Purpose = "final", leaks: tuple[Leak, ...] = ()
    ) -> LeakStudy:
        folds = shares if "random_split" in leaks else configuration.folds
        return LeakStudy(
            configuration=_told_apart(configuration, name, folds, is_transductive(model, values)),
            database_digest=first.database_digest,
            folds=folds,
            all_folds=parts if "random_split" in leaks else first.all_folds,
            base=values,
            space=None,
            trials=0,
            epochs=first.epochs,
            validation_folds=first.validation_folds,
            prune=False,
            sampler=first.sampler,
            search_seed=first.search_seed,
            purpose=purpose,
            leaks=leaks,
        )

    def every(values: Mapping[str, Value]) -> tuple[Leak, ...]:
        return LEAKS if _uses_training(values) else ("random_split",)

    base, left = settings[0], left_out(configuration.model, len(settings) > 1, settings[0])
    best: Purpose = "oracle" if isinstance(model, Network) else "final"
    tried = tuple(study(f"setting {i}" if i else HONEST, values) for i, values in enumerate(settings))
    rows = {
        HONEST: tried[:1],
        EPOCH: (study(EPOCH, base, purpose="oracle"),),
        HYPERPARAMETERS: tried,
        STANDARDISATION: (study(STANDARDISATION, base, leaks=("standardisation",)),),
        PER_SPEAKER: (study(PER_SPEAKER, {**base, "standardisation": TRANSDUCTIVE}),),
        RANDOM_SPLIT: (study(RANDOM_SPLIT, base, leaks=("random_split",)),),
        TOGETHER: tuple(
            study(f"{TOGETHER}, setting {i}", values, best, every(values)) for i, values in enumerate(settings)
        ),
    }
    return Leaks(
        configuration=configuration,
        settings=settings,
        epochs=first.epochs,
        rows=tuple(
            LeakRow(name=name, studies=rows[name])
            for name in ROWS
            if name == HONEST or (name in names and name not in left)
        ),
        origin=origin,
    )


def left_out(model: str, searched: bool, base: Mapping[str, Value] | None) -> dict[str, str]:
    """Return the rows that would say nothing, and why.

    Args:
        model: the model's name.
        searched: whether settings are drawn from a space.
        base: the honest row's setting; ``None`` where it cannot be read.
    """
    why = {}
    if not isinstance(MODELS[model], Network):
        lacking = {EPOCH: "there are no epochs to choose among"}
        if not searched:
            others = "there is no learning rate to vary; draw settings with --space FILE --trials N"
            lacking |= {HYPERPARAMETERS: others, TOGETHER: others}
        why = {name: f"{model} is an estimator, and {reason}" for name, reason in lacking.items()}
    if base is not None and not _uses_training(base):
        why[STANDARDISATION] = (
            f"standardisation is {base['standardisation']} in the first row, so that no statistics of training "
            "utterances are used which test utterances could enter; --set standardisation=training uses them"
        )
    if base is not None and base["standardisation"] == TRANSDUCTIVE:
        why[PER_SPEAKER] = "the first row has it already"
    return why


def _uses_training(settings: Mapping[str, Value]) -> bool:
    """Return whether features are standardised with statistics of the training utterances."""
    return settings["standardisation"] == "training"


def _settings(study: Study) -> tuple[tuple[Mapping[str, Value], ...], str]:
    """Return the honest row's setting, then the others, each once; and where the others come from, as printed."""
    if study.space is None:
        base = dict(study.base)
        if not isinstance(of(study.configuration), Network):
            return (base,), "there is one"
        known = hyperparameters(study.configuration.model)["learning_rate"]
        others = [
            {**base, "learning_rate": float(f"{float(base['learning_rate']) * factor:.12g}")}
            for factor in LEARNING_RATES
        ]
        others = [values for values in others if known.problem(values["learning_rate"]) is None]
        origin = f"learning rates {' and '.join(f'{factor:g}' for factor in LEARNING_RATES)} times that of the first"
    else:
        import optuna  # a machine that only trains lacks it

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        base = study.given
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.search_seed))
        others = [study.space.sample(drawn.ask(), study.base) for _ in range(study.trials)]
        origin = f"{study.trials} random draws from the search space, seed {study.search_seed}"
    once: list[Mapping[str, Value]] = []
    for values in [base, *others]:
        if values not in once:
            once.append(values)
    c = study.configuration
    problems = [problem for values in once for problem in asked_model(of(c), c.ablation, values)]
    if problems:
        source = f"{study.space.source}: " if study.space else ""
        raise RequestError(
            "tfser leaks", [f"{source}{c.model} {c.ablation}: {problem}" for problem in dict.fromkeys(problems)]
        )
    return tuple(once), origin
