"""Optuna studies on the driver: which setting to try next, and which one is chosen.

Selection sees validation scores of search trials and nothing else. A search trial's data hold no test utterance, so
nothing here can see the test speaker. Knows nothing of Ray.

The sampler is seeded anew for every ask, from the request and the number of settings asked so far. So an interrupted
study goes on as if it had not been interrupted, and a study that tries one setting at a time does not depend on the
order in which other studies' trials end.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from tfser.planning.plan import Study
from tfser.record import Entry, Outcome, Record, Status
from tfser.search.history import History, Tried
from tfser.search.kept import close_storage as close_storage
from tfser.search.kept import open_storage as open_storage
from tfser.training.determinism import derived_seed
from tfser.trial import TrialSpec, Value

METRIC = "validation UAR"
"""Name of a study's objective in Optuna's dashboard."""

STARTUP_TRIALS = 4
"""Settings that are tried, the published one among them, before the sampler models scores and trials can be pruned."""


_STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
"""How a trial that has ended is called in a history."""


@dataclass(frozen=True, slots=True)
class _Steps:
    """Running maximum of a validation curve, run-length encoded, because a study keeps one per setting."""

    begin: np.ndarray
    """int32: the epoch, from 0, at which each run begins."""
    height: np.ndarray
    """float64: the maximum in each run."""
    epochs: int

    @classmethod
    def of(cls, curve: Sequence[float]) -> _Steps:
        """Encode a curve."""
        best = np.maximum.accumulate(curve)
        begin = np.flatnonzero(np.diff(best, prepend=-np.inf))
        return cls(begin.astype(np.int32), best[begin], len(best))

    def whole(self) -> np.ndarray:
        """Return the maximum by each epoch: float64, shape (epochs,)."""
        return np.repeat(self.height, np.diff(self.begin, append=self.epochs))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The setting that a study chose."""

    settings: dict[str, Value]
    """Every setting of the best trial."""
    score: float
    """Its highest mean validation UAR, in [0, 1]."""
    specs: tuple[TrialSpec, ...]
    """Its search trials; their curves say how many epochs to train."""
    epochs: int | None
    """That number; ``None`` where this start has not seen all of the curves."""


@dataclass(slots=True)
class OpenTrial:
    """A setting that is being tried: the trials it needs and those that have ended."""

    number: int
    specs: tuple[TrialSpec, ...]
    ends: dict[str, tuple[Status, Sequence[float]]] = field(default_factory=dict)
    """Trial id to its status and its validation UAR after each epoch (empty unless it is done)."""


class StudyRun:
    """One study under way."""

    def __init__(self, study: Study, storage: BaseStorage, owner: str = "") -> None:
        assert study.space is not None
        self.study, self.space = study, study.space
        self._optuna = optuna.create_study(
            study_name=study.name + owner, storage=storage, direction="maximize", load_if_exists=True
        )
        self._name_metric()
        self.open: dict[int, OpenTrial] = {}
        self.lost = 0
        """Settings whose trials were lost with a worker, a disk or a memory; the next start takes them up."""
        self._reached: dict[int, _Steps | None] = {}
        """Trial number to the running maximum of its validation UAR; ``None`` where its entry is gone."""
        self._numbers: dict[str, list[int]] = {}
        """Trial id to the settings whose ``_reached`` is to be filled from its entry."""
        self._best: tuple[float, int, int | None] = float("-inf"), 0, None
        """Score of the best setting, its number times -1, and its epoch, if this start knows that."""
        self._awaited: dict[str, Sequence[float] | None] = {}
        """The trials of a best setting of an earlier start, to the curves that were seen."""
        self.ended = len(self._ended_trials())
        """Settings that have a score, were pruned or failed. Counted here: Optuna goes through all of them to count."""
        self._go_on()

    def _name_metric(self) -> None:
        """Name what the trials' values are, for dashboards; an earlier version's study gets the name too."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self._optuna.metric_names != [METRIC]:
                self._optuna.set_metric_names([METRIC])

    def _go_on(self) -> None:
        """Take up what a killed driver left running; begin a new study with the published setting."""
        trials = self._optuna.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                if "settings" in trial.user_attrs:
                    self._opened(trial.number, self._settings(trial))
                else:  # the driver was killed while it asked
                    self._optuna.tell(trial.number, state=TrialState.FAIL)
        begun = any("settings" in t.user_attrs or t.state == TrialState.WAITING for t in trials)
        if self.study.sampler != "random" and not begun:
            self._optuna.enqueue_trial(self.space.first(self.study.base))

    def _ended_trials(self) -> list[optuna.trial.FrozenTrial]:
        """Return Optuna's trials of the settings that have ended, in order."""
        trials = self._optuna.get_trials(deepcopy=False, states=tuple(_STATES))
        return [trial for trial in trials if "settings" in trial.user_attrs]

    def _settings(self, trial: optuna.trial.FrozenTrial) -> dict[str, Value]:
        """Return every setting of a trial; stored are those that differ from the study's base."""
        return {**self.study.base, **trial.user_attrs["settings"]}

    @property
    def left(self) -> int:
        """Settings that have not been asked for."""
        return max(self.study.trials - self.ended - self.lost - len(self.open), 0)

    @property
    def finished(self) -> bool:
        """Whether every setting has been tried, or been lost in this start."""
        return self.ended + self.lost >= self.study.trials

    @property
    def told(self) -> list[tuple[TrialSpec, bool]]:
        """Trials of settings that have ended, each once, and whether it has to have an entry; a pruned one has none.

        Those of an earlier start are noted, so that ``saw`` knows which entries tell something.
        """
        # What left an entry comes last, so that it counts where two settings are the same.
        ended = sorted(self._ended_trials(), key=lambda t: t.state != TrialState.PRUNED)
        each: dict[str, tuple[TrialSpec, bool]] = {}
        for trial in ended:
            specs = self.study.search_specs(self._settings(trial))
            each.update((spec.trial_id, (spec, trial.state != TrialState.PRUNED)) for spec in specs)
            if trial.state == TrialState.COMPLETE:
                if self.study.prune and len(specs) == 1 and trial.number not in self._reached:
                    self._numbers.setdefault(specs[0].trial_id, []).append(trial.number)
                if (trial.value, -trial.number) > self._best[:2]:
                    self._best = float(trial.value or 0.0), -trial.number, None
                    self._awaited = dict.fromkeys(spec.trial_id for spec in specs)
        return list(each.values())

    @property
    def ended_ids(self) -> list[str]:
        """The trials of settings that have ended, in order; what ``history`` asks for."""
        each = (self.study.search_specs(self._settings(trial)) for trial in self._ended_trials())
        return [spec.trial_id for specs in each for spec in specs]

    def saw(self, entry: Entry) -> None:
        """Take what is needed of the entry of a setting that ended in an earlier start, so that none is read twice."""
        curve = entry.validation_uar if isinstance(entry, Record) else None
        for number in self._numbers.pop(entry.trial_id, ()):
            self._reached[number] = None if curve is None else _Steps.of(curve)
        if entry.trial_id in self._awaited:
            self._awaited[entry.trial_id] = curve
            curves = [each for each in self._awaited.values() if each is not None]
            if len(curves) == len(self._awaited):
                self._best, self._awaited = (*self._best[:2], best_epoch(curves)[0]), {}

    def can_ask(self, at_once: int) -> bool:
        """Return whether another setting may be tried now."""
        return len(self.open) < at_once and self.left > 0

    def ask(self) -> OpenTrial:
        """Open the next setting to try."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._optuna.sampler = self._sampler(self.ended + self.lost + len(self.open))
            trial = self._optuna.ask()
            settings = self.space.sample(trial, self.study.base)
        base = self.study.base
        own = {k: v for k, v in settings.items() if k not in base or v != base[k] or type(v) is not type(base[k])}
        trial.set_user_attr("settings", own)
        return self._opened(trial.number, settings)

    def _sampler(self, asked: int) -> optuna.samplers.BaseSampler:
        """Return the sampler for one ask.

        Args:
            asked: settings asked for before.
        """
        seed = derived_seed(self.study.question, asked) % 2**32
        if self.study.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)

    def bars(self, entry_of: Callable[[str], Entry | None]) -> list[tuple[float, ...]]:
        """Return the bar of each search trial of a setting: the validation UAR to reach by each epoch, to go on.

        The bar is the lower quartile, over the settings of this study that were trained to the end, of the best UAR
        reached by that epoch. It is known before the trial starts, so that a worker needs no word from the driver.

        Their median ended 34 of 40 settings on EmoDB (results/2026-11-22-emodb-first-2s-nested); Optuna's
        MedianPruner is less strict, because it counts pruned settings too.

        Ours: there is no bar before a quarter of the epochs, nor before ``STARTUP_TRIALS`` settings have ended, nor
        where a setting is several trials (global selection, several validation folds), because one bad fold says
        little about their mean.

        Args:
            entry_of: trial id to its ledger entry.
        """
        free = (0.0,) * self.study.epochs
        complete = self._optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        places = len(self.study.search_specs(self.study.base))
        if not self.study.prune or places > 1 or len(complete) < STARTUP_TRIALS:
            return [free] * places
        for trial in complete:
            if trial.number not in self._reached:  # of an earlier start
                entry = entry_of(self.study.search_specs(self._settings(trial))[0].trial_id)
                curve = entry.validation_uar if isinstance(entry, Record) else None
                self._reached[trial.number] = None if curve is None else _Steps.of(curve)
        curves = [steps.whole() for trial in complete if (steps := self._reached[trial.number]) is not None]
        warm_up = -(-self.study.epochs // 4)
        return [(*free[:warm_up], *np.quantile(curves, 0.25, axis=0)[warm_up:].tolist())] if curves else [free]

    def _opened(self, number: int, settings: Mapping[str, Value]) -> OpenTrial:
        opened = OpenTrial(number, tuple(self.study.search_specs(settings)))
        self.open[number] = opened
        return opened

    def ended_trial(self, opened: OpenTrial, outcome: Outcome) -> None:
        """Take in one ended trial of a setting; tell Optuna when the last one has ended."""
        curve = outcome.validation_uar if isinstance(outcome, Record) else ()
        opened.ends[outcome.trial_id] = outcome.status, curve
        if len(opened.ends) >= len({spec.trial_id for spec in opened.specs}):
            self._tell(opened)
            del self.open[opened.number]

    def _tell(self, opened: OpenTrial) -> None:
        """Tell Optuna how a setting ended; one that was lost stays open there, for the next start."""
        ends = [opened.ends[spec.trial_id] for spec in opened.specs]
        states = {status for status, _ in ends}
        if "lost" in states:
            self.lost += 1
            return
        if "failed" in states:
            self._optuna.tell(opened.number, state=TrialState.FAIL)
        elif "pruned" in states:
            self._optuna.tell(opened.number, state=TrialState.PRUNED)
        else:
            curves = [curve for _, curve in ends]
            if self.study.prune and len(curves) == 1:
                self._reached[opened.number] = _Steps.of(curves[0])
            epochs, score = best_epoch(curves)
            if (score, -opened.number) > self._best[:2]:
                self._best, self._awaited = (score, -opened.number, epochs), {}
            self._optuna.tell(opened.number, score)
        self.ended += 1

    def chosen(self) -> Chosen | None:
        """Return the best setting, the first on ties; ``None`` when every one failed."""
        complete = self._optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            return None
        best = max(complete, key=lambda t: (t.value, -t.number))
        settings = self._settings(best)
        epochs = self._best[2] if self._best[1] == -best.number else None
        return Chosen(settings, float(best.value or 0.0), tuple(self.study.search_specs(settings)), epochs)

    def history(self, entry_of: Callable[[str], Entry | None]) -> History:
        """Return every setting that was tried, in order, and which settings mattered.

        Args:
            entry_of: trial id to its ledger entry.
        """
        tried: list[Tried] = []
        means: list[tuple[float, ...]] = []
        for trial in self._ended_trials():
            settings = self._settings(trial)
            entries = [entry_of(spec.trial_id) for spec in self.study.search_specs(settings)]
            whole = [entry for entry in entries if entry is not None] if all(entries) else []
            complete = trial.state == TrialState.COMPLETE
            records = [entry for entry in whole if complete and isinstance(entry, Record)]
            curves = [r.curves.validation_uar for r in records if r.fitted is None]
            tried.append(
                Tried(
                    state=_STATES[trial.state],
                    validation_uar=trial.value,
                    epochs=best_epoch(curves)[0] if curves else None,
                    hyperparameters={d.name: settings[d.name] for d in self.space.dimensions},
                    seconds=sum(entry.seconds for entry in whole) if whole else None,
                )
            )
            means.append(tuple(np.mean(curves, axis=0).tolist()) if curves else ())
        c, importances = self.study.configuration, self._importances()
        history = History(configuration=c, folds=self.study.folds, tried=tuple(tried), importances=importances)
        return history if history.chosen is None else replace(history, curve=means[history.chosen])

    def _importances(self) -> dict[str, float]:
        """Return how much each searched setting mattered; empty where that cannot be told."""
        with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError):
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(self._optuna))
        return {}


def best_epoch(curves: Sequence[Sequence[float]]) -> tuple[int, float]:
    """Return the epoch with the highest mean validation UAR, counted from 1, the first on ties; and that mean.

    Args:
        curves: one UAR curve per validation trial of a setting, equally long.

    >>> best_epoch([[0.2, 0.6, 0.6], [0.4, 0.4, 0.4]])
    (2, 0.5)
    """
    mean = np.mean(np.asarray(curves, dtype=np.float64), axis=0)
    epoch = int(mean.argmax())
    return epoch + 1, float(mean[epoch])
