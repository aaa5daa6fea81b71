"""What can be trained now: plan minus ledger, with no barrier between folds.

A runner asks for the next trial and reports each one that ended; final trials of a fold come up as soon
as its own study has ended. Of a plan of a hundred thousand trials it holds specs and a few words on each that
ended, and what it does when one ends does not grow with the plan. Knows studies and the ledger; knows nothing
of processes, Ray or MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from optuna.storages import BaseStorage

from tfser.execution.waiting_trials import AGAIN, ANY, FIRST, Ready
from tfser.planning.configuration import Configuration
from tfser.planning.plan import Plan, Study
from tfser.record import Failure, Outcome, Pruned, Record
from tfser.search.study import Chosen, OpenTrial, StudyRun, best_epoch
from tfser.storage.ledger import Ledger
from tfser.trial import TrialSpec, Value

How = TypeVar("How", bound=Outcome, covariant=True)


@dataclass(frozen=True, slots=True)
class Ended(Generic[How]):
    """One trial that ended, for whoever watches."""

    spec: TrialSpec
    configuration: Configuration
    outcome: How
    trained: bool
    """False where the ledger already held it."""


Key = tuple[Configuration, str, int]
"""Configuration, fold and seed of a final trial."""

Asked = tuple[TrialSpec, Configuration, Callable[[Outcome], None]]
"""A trial that somebody waits for: the trial, the row it belongs to, and who is told."""


@dataclass(frozen=True, slots=True)
class Done:
    """What of a record stays in memory: the rest is in the ledger."""

    trial_id: str
    seconds: float


class Schedule:
    """The trials that are still missing, in the order they can be had.

    What has the most work ahead is handed out first, so that no worker is left with a long training at the end; a
    fold's final trials come before everything else, because its numbers wait for nothing more.

    Args:
        plan: everything that the sweep needs.
        ledger: what is already there.
        storage: where studies are kept; needed where the plan searches.
        settings_at_once: how many settings one study may try at the same time.
        watch: called once for every trial of the plan when it has ended, old ones included.
        retry_failed: train again what failed in an earlier start.
        owner: added to the names of the studies, where several sweeps keep theirs in one database.
        work: how much work a trial is, in any unit; see ``weigh``.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        storage: BaseStorage | None,
        *,
        settings_at_once: int = 1,
        watch: Callable[[Ended[Outcome]], None] = lambda ended: None,
        retry_failed: bool = False,
        owner: str = "",
        work: Callable[[TrialSpec], float] = lambda spec: spec.epochs,
    ) -> None:
        self.plan, self.ledger, self._settings_at_once, self._watch = plan, ledger, settings_at_once, watch
        self._held = ledger.ids()
        self._tried: set[str] = set()
        """Trials that ended since this start: not retried, even where failed ones are."""
        self._retry = retry_failed
        self._ready = Ready(work)
        self._waiting: dict[str, list[Asked]] = {}
        self._running: dict[str, TrialSpec] = {}
        self.finals: dict[Key, TrialSpec] = {}
        """The final trial of every (configuration, fold, seed) whose setting is known."""
        self.ends: dict[Key, Done | Failure] = {}
        """Of every final trial that ended, how."""
        self.chosen: dict[str, Chosen] = {}
        """Study name to what it chose."""
        self.trained = 0
        """Trials trained since this start, pruned ones included, failed and lost ones not."""
        self.there: set[str] = set()
        """Trials that were done when this start began."""
        self.failures: list[Ended[Failure]] = []
        """Trials that failed, in this start or an earlier one."""
        self.epochs_saved = 0
        """Epochs that pruning spared since this start."""
        self.undecided: list[Study] = []
        """Studies that chose nothing: every setting failed, or some were lost."""
        self._bars: dict[str, tuple[float, ...]] = {}
        self.studies: list[StudyRun] = []
        """Every study of the plan, whether it still tries settings or not."""
        self._searching: dict[StudyRun, None] = {}
        """Those that still try settings, in order."""
        self._due: dict[StudyRun, None] = {}
        """Those of them that may have something to ask for or to choose."""
        for study in plan.studies:
            if study.space is None:
                self._want_finals(study, study.base, study.epochs)
            else:
                assert storage is not None
                run = StudyRun(study, storage, owner)
                self.studies.append(run)
                self._searching[run] = None
                gone = self._announce_told(run)
                self._again(run, gone, partial(self._go_on, run))
        self._advance()

    @property
    def finished(self) -> bool:
        """Whether nothing is missing and nothing runs."""
        return not self._ready and not self._running and not self._searching

    @property
    def running(self) -> int:
        """Trials handed out and not ended."""
        return len(self._running)

    @property
    def settings_at_once(self) -> int:
        """How many settings one study may try at the same time."""
        return self._settings_at_once

    @settings_at_once.setter
    def settings_at_once(self, value: int) -> None:
        self._settings_at_once = value
        self._due.update(self._searching)

    @property
    def waiting(self) -> int:
        """Trials that are ready and not handed out."""
        return len(self._ready)

    def weigh(self, work: Callable[[TrialSpec], float]) -> None:
        """Order the trials by another measure of work: who knows the features knows how many segments each trains on."""
        self._ready.weigh(work)

    def ask_again(self, gone: Container[str]) -> None:
        """Ask once more for what has ended and whose entry has gone since: deleted, or found damaged and set aside.

        Args:
            gone: ids of trials without an entry; those that need none are passed over.
        """
        for key, end in self.ends.items():
            if isinstance(end, Done) and end.trial_id in gone:
                self._want((self.finals[key], key[0], partial(self._keep, key)), FIRST, again=True)
        for run in self.studies:
            self._again(run, [spec for spec, left in run.told if left and spec.trial_id in gone])

    def put_back(self, spec: TrialSpec) -> None:
        """A trial that was handed out and left nothing is handed out once more."""
        del self._running[spec.trial_id]
        self._ready.push(spec, AGAIN)

    def bar(self, spec: TrialSpec) -> tuple[float, ...]:
        """Validation UAR that a search trial must have reached by each epoch to go on; empty: it runs to its end."""
        return self._bars.get(spec.trial_id, ())  # kept: a trial that is lost is handed out again

    def next(self) -> TrialSpec | None:
        """The next trial to train, or ``None`` where none is ready until another ends (or all is done)."""
        (spec,) = self._handed_out(None, 1) or (None,)
        return spec

    def next_together(self, key: Callable[[TrialSpec], Hashable], most: int) -> list[TrialSpec]:
        """The next trial, and with it others that are ready and have something in common with it.

        The first is the one that ``next`` would give. Each has to be reported with ``ended`` (or ``put_back``) by itself.

        Args:
            key: what they have in common: trials of equal keys may come together. The same function at every call.
            most: trials at most, 1 or more.

        Returns:
            None at all where none is ready until another ends (or all is done).
        """
        return self._handed_out(key, most)

    def _handed_out(self, key: Callable[[TrialSpec], Hashable] | None, most: int) -> list[TrialSpec]:
        if not self._ready:
            self._advance()
        specs = self._ready.pop_together(key, most)
        self._running.update((spec.trial_id, spec) for spec in specs)
        return specs

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Take in how a trial that was handed out ended."""
        self._running.pop(spec.trial_id, None)
        self._bars.pop(spec.trial_id, None)
        self._tried.add(spec.trial_id)
        self.trained += not isinstance(outcome, Failure)
        for asked in self._waiting.pop(spec.trial_id, []):
            self._told(asked, outcome, True)
        self._advance()

    def _want(self, asked: Asked, urgency: int = ANY, behind: float = 0.0, *, again: bool = False) -> None:
        """Ask for a trial: answered at once from the ledger, else queued (once, however many ask).

        Args:
            asked: the trial and who is told, now or when it has ended.
            urgency: see ``tfser.execution.waiting_trials``.
            behind: trainings that can only come one after another behind it.
            again: it was asked for before, so whoever watches is not told of an entry that is there.
        """
        trial_id = asked[0].trial_id
        if trial_id not in self._waiting and (again or trial_id in self._held or trial_id in self._tried):
            entry = self.ledger.get(trial_id)
            if isinstance(entry, Record) or (entry is not None and (trial_id in self._tried or not self._retry)):
                if again:
                    asked[2](entry)  # it has been announced before
                else:
                    self._told(asked, entry, False)
                return
        if trial_id in self._waiting:
            self._waiting[trial_id].append(asked)
            return
        self._waiting[trial_id] = [asked]
        self._ready.push(asked[0], urgency, behind)

    def _told(self, asked: Asked, outcome: Outcome, trained: bool) -> None:
        """Pass on how a trial ended to who watches and to who asked."""
        spec, configuration, then = asked
        if isinstance(outcome, Failure):
            self.failures.append(Ended(spec, configuration, outcome, trained))
        elif not trained and spec.trial_id not in self._tried:
            self.there.add(spec.trial_id)
        self.epochs_saved += spec.epochs - outcome.epochs if isinstance(outcome, Pruned) else 0
        self._watch(Ended(spec, configuration, outcome, trained))
        then(outcome)

    def _announce_told(self, run: StudyRun) -> list[TrialSpec]:
        """Who watches may have missed what ended in an earlier start; what failed there is a failure of this one too.

        Returns:
            Trials that the study was told of and whose entries are gone since.
        """
        gone = []
        for spec, left in run.told:
            entry = self.ledger.get(spec.trial_id)
            if entry is not None:
                if isinstance(entry, Failure):
                    self.failures.append(Ended(spec, run.study.configuration, entry, False))
                else:
                    self.there.add(spec.trial_id)
                self._watch(Ended(spec, run.study.configuration, entry, False))
            elif left:
                gone.append(spec)
        return gone

    def _again(self, run: StudyRun, specs: Sequence[TrialSpec], then: Callable[[], None] = lambda: None) -> None:
        """Train search trials again that a study was told of, for the ledger; Optuna keeps what it was told.

        Args:
            run: the study.
            specs: the trials.
            then: called when all of them have ended.
        """
        left = {spec.trial_id for spec in specs}
        self.failures = [failed for failed in self.failures if failed.spec.trial_id not in left]

        def ended(outcome: Outcome) -> None:
            left.discard(outcome.trial_id)
            if not left:
                then()

        for spec in specs:
            self._want((spec, run.study.configuration, ended), FIRST, again=True)
        if not specs:
            then()

    def _go_on(self, run: StudyRun) -> None:
        """Take up a study: settings that were being tried, then new ones. The bars of both come from entries of earlier ones."""
        for opened in list(run.open.values()):
            self._want_setting(run, opened)
        self._due[run] = None

    def _want_finals(self, study: Study, settings: Mapping[str, Value], epochs: int, urgency: int = ANY) -> None:
        configuration = study.configuration
        for (fold, seed), spec in study.final_specs(settings, epochs).items():
            key = (configuration, fold, seed)
            self.finals[key] = spec
            self._want((spec, configuration, partial(self._keep, key)), urgency)

    def _keep(self, key: Key, outcome: Outcome) -> None:
        assert not isinstance(outcome, Pruned)  # only search trials are
        self.ends[key] = Done(outcome.trial_id, outcome.seconds) if isinstance(outcome, Record) else outcome

    def _want_setting(self, run: StudyRun, opened: OpenTrial) -> None:
        self._bars.update(
            (s.trial_id, b) for s, b in zip(opened.specs, run.bars(self.ledger.get), strict=True) if any(b)
        )
        behind = 1 + run.left / self.settings_at_once  # the fold's final trial, and the settings before it
        for spec in {spec.trial_id: spec for spec in opened.specs}.values():
            self._want((spec, run.study.configuration, partial(self._setting_ended, run, opened)), ANY, behind)

    def _setting_ended(self, run: StudyRun, opened: OpenTrial, outcome: Outcome) -> None:
        run.ended_trial(opened, outcome)
        if run in self._searching:
            self._due[run] = None

    def _advance(self) -> None:
        """Ask studies for settings, and finished ones for their final trials, until nothing more follows."""
        while self._due:
            run = next(iter(self._due))
            del self._due[run]
            while run.can_ask(self.settings_at_once):
                self._want_setting(run, run.ask())
            if run.finished and not run.open and run in self._searching:
                del self._searching[run]
                chosen = run.chosen()
                if chosen is None or run.lost:
                    self.undecided.append(run.study)
                else:
                    self._choose(run.study, chosen)

    def _choose(self, study: Study, chosen: Chosen) -> None:
        """Take the epochs from the curves of the chosen setting, then ask for its final trials.

        The curves come from the ledger; one that was damaged since is trained again first.
        """
        self.chosen[study.name] = chosen
        specs = {spec.trial_id: spec for spec in chosen.specs}
        curves: dict[str, Sequence[float]] = {}

        def take(outcome: Outcome) -> None:
            if isinstance(outcome, Record):
                curves[outcome.trial_id] = outcome.curves.validation_uar
                if len(curves) == len(specs):
                    epochs, _ = best_epoch([curves[spec.trial_id] for spec in chosen.specs])
                    self._want_finals(study, chosen.settings, epochs, FIRST)

        for spec in specs.values():
            self._want((spec, study.configuration, take), FIRST, again=True)
