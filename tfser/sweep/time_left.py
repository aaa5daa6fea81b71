"""Estimates how long the rest of a sweep takes, from the trials that ended, those that run, and the ledger.

Trials of different models take different times, so that each kind of trial has its own seconds per epoch. Only
arithmetic: knows nothing of terminals or runners.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfser.execution.ends import Ended
from tfser.execution.under_way import Running
from tfser.models import Network, of
from tfser.planning.plan import Plan, Study
from tfser.record import Outcome, Pruned, Record
from tfser.search.study import STARTUP_TRIALS
from tfser.trial import TrialSpec

KNOWN_EPOCHS = 2.0
"""How many epochs of this start the seconds per epoch of earlier ones weigh as much as."""

PRUNED_SHARE, PRUNED_TRIALS = 0.8, 3
"""The share of their epochs that search trials are thought to train, and how many trials that weighs as much as.

The first ones of a study are never pruned, so that they alone would say too much.
"""

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
        self.searches = 0
        """Search trials of the plan that have not ended."""
        self.finals: Counter[str] = Counter()
        """Final trials that have not ended, by fold."""
        self.own, self.earlier = _Sum(), _Sum()
        """Of this start, and of the ledger."""
        self._searched, self._searched_epochs = 0, 0
        self._best: dict[str, tuple[float, int]] = {}
        """Of each study by its fold, "" for all folds: the best validation UAR so far, and its epoch."""
        self._final_epochs: list[int] = []
        self.chains: dict[str, tuple[float, int]] = {}
        """Of each study by its fold, "" for all folds: search trials that have not ended, and trials of a setting."""

    def add(self, study: Study) -> None:
        """Add the trials of a study."""
        self.studies.append(study)
        places = len(study.searched_folds) * study.validation_folds
        self.searches += study.trials * places
        if study.trials:
            self.chains[study.folds[0] if len(study.folds) == 1 else ""] = study.trials * places, places
        self.finals.update(fold for fold, _ in study.final_keys)

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Count a trial that ended."""
        searches = spec.purpose == "search"
        if searches:
            self.searches = max(self.searches - 1, 0)
            self.shorten(self.chains, spec, 1.0)
        else:
            self.finals[spec.fold] -= 1
        if isinstance(outcome, (Record, Pruned)):
            epochs = _trained(outcome)
            if not searches:
                self._final_epochs.append(epochs)
                return
            self._searched, self._searched_epochs = self._searched + 1, self._searched_epochs + epochs
            if isinstance(outcome, Record) and outcome.curves.validation_uar:
                curve, name = outcome.curves.validation_uar, spec.fold if spec.fold in self.chains else ""
                reached = max(curve), 1 + curve.index(max(curve))
                self._best[name] = max(self._best.get(name, reached), reached)

    @staticmethod
    def shorten(chains: dict[str, tuple[float, int]], spec: TrialSpec, by: float) -> None:
        """Take a share of a search trial from the chain of its study."""
        name = spec.fold if spec.fold in chains else ""
        if name in chains:
            left, places = chains[name]
            chains[name] = max(left - by, 0.0), places

    @property
    def search_epochs(self) -> float:
        """Epochs of a search trial, those that were pruned included."""
        study = self.studies[0]
        most = study.epochs if isinstance(of(study.configuration), Network) else 1
        if study.prune and study.trials > STARTUP_TRIALS:
            expected = self._searched_epochs + PRUNED_TRIALS * PRUNED_SHARE * most
            return expected / (self._searched + PRUNED_TRIALS)
        return self._searched_epochs / self._searched if self._searched else float(most)

    def final_epochs(self, fold: str) -> float:
        """Return the epochs of a final trial of a fold: those that its search would choose now, where it has begun."""
        study = self.studies[0]
        if not isinstance(of(study.configuration), Network):
            return 1.0
        if not self.chains:
            return statistics.fmean(self._final_epochs) if self._final_epochs else float(study.epochs)
        if not self._best or study.configuration.selection == "oracle":  # oracle trials run all epochs
            return float(study.epochs)
        mine = self._best.get(fold) or self._best.get("")
        return float(mine[1]) if mine else statistics.fmean(epoch for _, epoch in self._best.values())


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
        self.weigh(work)
        self._kinds: dict[Kind, _OfKind] = {}
        for study in plan.studies:
            c = study.configuration
            key = c.database, c.protocol, c.model, c.source, c.ablation
            self._kinds.setdefault(key, _OfKind()).add(study)

    def weigh(self, work: Callable[[TrialSpec], float]) -> None:
        """Take another measure of work."""
        self._measure = work
        self._work_of: dict[Kind, float] = {}

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
        whole, searching, finishing = True, Counter[Kind](), Counter[tuple[Kind, str]]()
        packs: dict[int, float] = {}
        chains = {key: dict(kind.chains) for key, kind in self._kinds.items()}
        for trial in running:
            key = kind_of(trial.spec)
            if (kind := self._kinds.get(key)) is None:
                continue
            if trial.spec.purpose == "search":
                searching[key] += 1
                kind.shorten(chains[key], trial.spec, min(trial.epoch / kind.search_epochs, 1.0))
            else:
                finishing[key, trial.spec.fold] += 1
            if (rate := trial.epoch_s or rates.get(key)) is not None:
                packs[trial.pack] = packs.get(trial.pack, 0.0) + rate * self._epochs_left(trial)
        waiting: list[tuple[int, float]] = []
        longest = 0.0
        for key, kind in self._kinds.items():
            searches = max(kind.searches - searching[key], 0)
            finals = {fold: max(count - finishing[key, fold], 0) for fold, count in kind.finals.items()}
            if not searches and not any(finals.values()):
                continue
            rate = rates.get(key)
            if rate is None:
                whole = False
                continue
            search_s = rate * kind.search_epochs
            waiting += [(searches, search_s), *((n, rate * kind.final_epochs(fold)) for fold, n in finals.items())]
            for fold, (count, places) in chains[key].items():
                steps = count / places / max(at_once, 1)
                longest = max(longest, steps * search_s + rate * kind.final_epochs(fold) if steps else 0.0)
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
            weighed = _Sum(mine.epochs, mine.seconds)
            if before is not None:  # perhaps of another machine
                weighed.add(KNOWN_EPOCHS, KNOWN_EPOCHS * before * slower)
            if weighed.rate is not None:
                rates[key] = weighed.rate
        return rates | self._guessed(rates, own)

    def _guessed(self, rates: dict[Kind, float], own: dict[Kind, _Sum]) -> dict[Kind, float]:
        """Return the seconds per epoch of kinds that have not run, from their work compared with those that have."""
        if len(rates) == len(self._kinds):
            return {}
        if not self._work_of:
            self._work_of = {key: self._work(kind) for key, kind in self._kinds.items()}
        work = self._work_of
        here = {key for key in rates if own[key].epochs} or {*rates}  # the ledger may be of another machine
        known = [math.log(rates[key] / work[key]) for key in here if work[key] and rates[key] > 0]
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
        return self._measure(spec) / spec.epochs


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
