"""Estimates how long the rest of a sweep takes, from the trials that ended, those that run, and the ledger.

Trials of different models take different times, so that each kind of trial has its own seconds per epoch. Only
arithmetic: knows nothing of terminals or runners.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfser.execution.schedule import Ended
from tfser.execution.under_way import Running
from tfser.models import Network, of
from tfser.planning.plan import Plan, Study
from tfser.record import Outcome, Pruned, Record
from tfser.trial import TrialSpec

KNOWN_EPOCHS = 2.0
"""How many epochs of this start the seconds per epoch of earlier ones weigh as much as."""

MOST_LAID_OUT = 300
"""Most trials that are laid out on the workers one by one; of more, the sum over the workers is near enough."""

Kind = tuple[str, ...]
"""What trials have in common that take about as long: database, protocol, model and ablation."""


def kind_of(spec: TrialSpec) -> Kind:
    """Return the kind of a trial."""
    return spec.database, spec.protocol, spec.model, spec.source, spec.ablation


@dataclass(slots=True)
class _Sum:
    """Epochs, and the worker seconds that they took."""

    epochs: float = 0.0
    seconds: float = 0.0

    def add(self, epochs: float, seconds: float) -> None:
        self.epochs += epochs
        self.seconds += seconds

    @property
    def rate(self) -> float | None:
        """Seconds per epoch."""
        return self.seconds / self.epochs if self.epochs else None


class _OfKind:
    """What is known of one kind of trial."""

    def __init__(self) -> None:
        self.studies: list[Study] = []
        self.searches, self.finals = 0, 0
        """Trials of the plan that have not ended."""
        self.own, self.earlier = _Sum(), _Sum()
        """Of this start, and of the ledger."""
        self._searched, self._searched_epochs = 0, 0
        self._best: list[int] = []
        self._final_epochs: list[int] = []
        self.places = 0
        """Chains of trainings, one after another, that can run at the same time."""

    def add(self, study: Study) -> None:
        """Add the trials of a study."""
        self.studies.append(study)
        places = len(study.folds) * study.validation_folds
        self.searches += study.trials * places
        self.places += places if study.trials else len(study.folds) * len(study.configuration.seeds)
        self.finals += len(study.folds) * len(study.configuration.seeds)

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Count a trial that ended."""
        searches = spec.purpose == "search"
        if searches:
            self.searches = max(self.searches - 1, 0)
        else:
            self.finals = max(self.finals - 1, 0)
        if isinstance(outcome, (Record, Pruned)):
            epochs = _trained(outcome)
            if not searches:
                self._final_epochs.append(epochs)
                return
            self._searched, self._searched_epochs = self._searched + 1, self._searched_epochs + epochs
            if isinstance(outcome, Record) and outcome.curves.validation_uar:
                curve = outcome.curves.validation_uar
                self._best.append(1 + curve.index(max(curve)))

    @property
    def search_epochs(self) -> float:
        """Epochs of a search trial, those that were pruned included."""
        most = self.studies[0].epochs if isinstance(of(self.studies[0].configuration), Network) else 1
        return self._searched_epochs / self._searched if self._searched else float(most)

    @property
    def final_epochs(self) -> float:
        """Epochs of a final trial, as far as searches and other final trials tell."""
        if not isinstance(of(self.studies[0].configuration), Network):
            return 1.0
        if self._final_epochs:
            return statistics.fmean(self._final_epochs)
        return statistics.fmean(self._best) if self._best else float(self.studies[0].epochs)


def _trained(outcome: Record | Pruned) -> int:
    """Return how many epochs a trial trained; 1 for an estimator."""
    return outcome.epochs if isinstance(outcome, Pruned) else max(len(outcome.curves.train_loss), 1)


@dataclass(frozen=True, slots=True)
class Left:
    """An estimate."""

    seconds: float
    whole: bool
    """Whether it is about all that is left; else some models are not known yet, and it takes longer."""


class TimeLeft:
    """The estimate, kept up to date.

    Args:
        plan: what is to be trained.
        work: returns how much work a trial is, compared with others; 0 where that is not known. It says how long the
            models take of which no trial has run yet.
    """

    def __init__(self, plan: Plan, work: Callable[[TrialSpec], float] = lambda spec: 0.0) -> None:
        self.work = work
        self._kinds: dict[Kind, _OfKind] = {}
        for study in plan.studies:
            c = study.configuration
            key = c.database, c.protocol, c.model, c.source, c.ablation
            self._kinds.setdefault(key, _OfKind()).add(study)

    def ended(self, ended: Ended[Outcome]) -> None:
        """Take in a trial that ended, in this start or an earlier one."""
        spec, outcome = ended.spec, ended.outcome
        kind = self._kinds.get(kind_of(spec))
        if kind is None:
            return
        kind.ended(spec, outcome)
        if isinstance(outcome, Pruned):
            if ended.took_s is not None:
                kind.own.add(outcome.epochs, ended.took_s)
        elif isinstance(outcome, Record):
            if not ended.trained:
                kind.earlier.add(_trained(outcome), outcome.seconds)
            elif ended.took_s is not None:
                kind.own.add(max(_trained(outcome) - outcome.resumed_at_epoch, 1), ended.took_s)

    def __call__(self, running: Sequence[Running], workers: int, at_once: int = 1) -> Left | None:
        """Return how long the rest takes; ``None`` where nothing is known yet.

        Args:
            running: the trials that have a worker.
            workers: trials at once.
            at_once: settings that one study tries at the same time.
        """
        rates = self._rates(running)
        whole, running_of = True, dict.fromkeys(self._kinds, (0, 0))
        packs: dict[int, float] = {}
        for trial in running:
            key = kind_of(trial.spec)
            searches, finals = running_of.get(key, (0, 0))
            is_search = trial.spec.purpose == "search"
            running_of[key] = searches + is_search, finals + (not is_search)
            rate = trial.epoch_s or rates.get(key)
            if key in self._kinds and rate is not None:
                packs[trial.pack] = packs.get(trial.pack, 0.0) + rate * self._epochs_left(trial)
        waiting: list[tuple[int, float]] = []
        longest = 0.0
        for key, kind in self._kinds.items():
            searches = max(kind.searches - running_of[key][0], 0)
            finals = max(kind.finals - running_of[key][1], 0)
            if not searches + finals:
                continue
            rate = rates.get(key)
            if rate is None:
                whole = False
                continue
            search_s, final_s = rate * kind.search_epochs, rate * kind.final_epochs
            waiting += [(searches, search_s), (finals, final_s)]
            if searches:
                longest = max(longest, math.ceil(searches / kind.places / max(at_once, 1)) * search_s + final_s)
        busy = [*packs.values()]
        if not busy and not any(count for count, _ in waiting):
            return None
        return Left(max(_laid_out(busy, waiting, max(workers, 1)), longest), whole)

    def _epochs_left(self, trial: Running) -> float:
        """Return how many epochs a trial that runs has left, at the share of its epochs that its kind trains."""
        asked = trial.spec.epochs
        if trial.epoch_s is None and not isinstance(of(trial.spec), Network):
            return 1.0
        kind = self._kinds[kind_of(trial.spec)]
        share = min(kind.search_epochs / asked, 1.0) if trial.spec.purpose == "search" else 1.0
        return max(asked - trial.epoch, 0) * share

    def _rates(self, running: Sequence[Running]) -> dict[Kind, float]:
        """Return the seconds per epoch of every kind of which they can be known."""
        own = {key: _Sum(kind.own.epochs, kind.own.seconds) for key, kind in self._kinds.items()}
        for trial in running:
            if trial.epoch_s is not None and (key := kind_of(trial.spec)) in own:
                own[key].add(trial.trained, trial.epoch_s * trial.trained)
        both = [(own[key].rate, kind.earlier.rate) for key, kind in self._kinds.items()]
        slower = statistics.median([mine / before for mine, before in both if mine and before] or [1.0])
        rates: dict[Kind, float] = {}
        for key, kind in self._kinds.items():
            mine, before = own[key], kind.earlier.rate
            if before is not None:  # perhaps of another machine
                mine.add(KNOWN_EPOCHS, KNOWN_EPOCHS * before * slower)
            if mine.rate is not None:
                rates[key] = mine.rate
        return rates | self._guessed(rates)

    def _guessed(self, rates: dict[Kind, float]) -> dict[Kind, float]:
        """Return the seconds per epoch of kinds that have not run, from their work compared with those that have."""
        if len(rates) == len(self._kinds):
            return {}
        work = {key: self._work(kind) for key, kind in self._kinds.items()}
        known = [math.log(rate / work[key]) for key, rate in rates.items() if work[key] and rate > 0]
        if not known:
            return {}
        second = math.exp(statistics.fmean(known))
        return {key: second * work[key] for key in self._kinds if key not in rates and work[key]}

    def _work(self, kind: _OfKind) -> float:
        """Return the work of an epoch; 0 where nobody says what the model costs."""
        study = kind.studies[0]
        c = study.configuration
        if c.ablation not in of(c).cost:
            return 0.0
        spec = next(iter(study.final_specs(study.base, study.epochs).values()))
        return self.work(spec) / spec.epochs


def _laid_out(busy: Sequence[float], waiting: Sequence[tuple[int, float]], workers: int) -> float:
    """Return when the last worker is done.

    Args:
        busy: seconds that each worker with trials has left.
        waiting: (number, seconds of each) of the trials that wait.
        workers: number of workers.
    """
    total = sum(busy) + sum(count * seconds for count, seconds in waiting)
    if sum(count for count, _ in waiting) > MOST_LAID_OUT:
        return max(total / workers, *busy, 0.0)
    free = [*busy, *[0.0] * max(workers - len(busy), 0)]
    heapq.heapify(free)
    for seconds in sorted((seconds for count, seconds in waiting for _ in range(count)), reverse=True):
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def about(seconds: float) -> str:
    """Return an estimate in words that claim no more than it knows.

    >>> [about(s) for s in (3, 47, 200, 1500, 5000, 9300, 40000, 400000)]
    ['a few seconds', '50 s', '3 min', '25 min', '1.5 h', '2.5 h', '11 h', '5 days']
    """
    if seconds < 8:
        return "a few seconds"
    if seconds < 55:
        return f"{10 * max(round(seconds / 10), 1)} s"
    minutes = seconds / 60
    if minutes < 55:
        return f"{max(round(minutes), 1) if minutes < 10 else 5 * round(minutes / 5)} min"
    hours = minutes / 60
    if hours < 3.75:
        return f"{round(2 * hours) / 2:g} h"
    return f"{round(hours)} h" if hours < 47.5 else f"{round(hours / 24)} days"
