"""The trials that can be trained now: those of the plan that the ledger lacks, with no barrier between folds.

A runner asks for the next trial and reports each one that ended. A fold's final trials are ready as soon as its own
study has ended. The schedule keeps little of each trial in memory, and the work after an end does not grow with the
plan, so that it can hold a hundred thousand trials. Knows studies and the ledger; knows nothing of processes, Ray or
MLflow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from optuna.storages import BaseStorage

from tfser.execution.ends import Done, Ended, Key
from tfser.execution.under_way import UnderWay
from tfser.execution.waiting_trials import AGAIN, ANY, FIRST, Ready
from tfser.planning.configuration import Configuration
from tfser.planning.plan import Plan, Study
from tfser.record import Entry, Failure, Outcome, Pruned, Record
from tfser.search.study import Chosen, OpenTrial, StudyRun, best_epoch
from tfser.storage.ledger import Ledger, Stamp
from tfser.trial import TrialSpec, Value

Asked = tuple[TrialSpec, Configuration, Callable[[Outcome], None]]
"""A trial that was asked for, the row it belongs to, and a callback for its outcome."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A trial that is about to be asked for."""

    asked: Asked
    urgency: int = ANY
    """See ``tfser.execution.waiting_trials``."""
    behind: float = 0.0
    """Trainings that have to follow it one after another."""
    again: bool = False
    """Whether it was asked for before, so that the watcher is not told again of an existing entry."""


class Schedule:
    """The trials that are still missing, in the order in which they are handed out.

    The trial with the most work ahead comes first, so that no worker is left with a long training at the end. The final
    trials of a fold whose study has ended come before everything else, because its numbers wait only for them.

    Args:
        plan: everything that the sweep needs.
        ledger: the entries that exist.
        storage: holds the studies; needed where the plan searches.
        settings_at_once: how many settings one study may try at the same time.
        watch: called once for every trial of the plan that has ended, also in an earlier start.
        retry_failed: whether to train trials again that failed in an earlier start.
        owner: added to the names of the studies, for a database that holds those of several sweeps.
        work: returns how much work a trial is, in any unit; see ``weigh``.
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
        """Trials that ended in this start, which are never retried."""
        self._retry = retry_failed
        self._ready = Ready(work)
        self._seen: dict[str, tuple[Entry, Stamp | None]] | None = {}
        """The entries that this start has read, until the first trial is missing; for ``entries``."""
        self._waiting: dict[str, list[Asked]] = {}
        self._running: dict[str, TrialSpec] = {}
        self.under_way = UnderWay()
        """Those of the trials handed out that have a worker; the runner says which begin."""
        self.finals: dict[Key, TrialSpec] = {}
        """The final trial of every (configuration, fold, seed) whose setting is known."""
        self.ends: dict[Key, Done | Failure] = {}
        """How each final trial ended, of those that have ended."""
        self.chosen: dict[str, Chosen] = {}
        """Study name to what it chose."""
        self.trained = 0
        """Trials trained in this start; includes pruned ones, not failed or lost ones."""
        self.there: set[str] = set()
        """Trials that were done when this start began."""
        self.failures: list[Ended[Failure]] = []
        """Trials that failed, in this start or an earlier one."""
        self.epochs_saved = 0
        """Epochs that pruning saved in this start."""
        self.undecided: list[Study] = []
        """Studies that chose nothing: every setting failed, or some were lost."""
        self._bars: dict[str, tuple[float, ...]] = {}
        self.studies: list[StudyRun] = []
        """Every study of the plan that searches."""
        self._searching: dict[StudyRun, None] = {}
        """Studies that still try settings, in order."""
        self._resumed: dict[StudyRun, list[OpenTrial]] = {}
        """Settings that were being tried when an earlier start ended."""
        self._due: dict[StudyRun, None] = {}
        """Studies among them that may ask for a setting, or choose one."""
        fixed = (study for study in plan.studies if study.space is None)
        self._want(one for study in fixed for one in self._finals(study, study.base, study.epochs))
        for study in plan.studies:
            if study.space is not None:
                assert storage is not None
                self.studies.append(StudyRun(study, storage, owner))
        self._searching.update(dict.fromkeys(self.studies))
        for run, gone in self._announce_told():
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
    def missing(self) -> list[tuple[TrialSpec, Configuration]]:
        """Trials that were asked for and have not ended, each with every row that waits for it."""
        return [(spec, row) for asked in self._waiting.values() for spec, row, _ in asked]

    @property
    def searching(self) -> tuple[StudyRun, ...]:
        """Studies that still try settings."""
        return tuple(self._searching)

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
        """Order the trials by another measure of work, once the features tell how many segments each trains on."""
        self._ready.weigh(work)

    def entries(self, trial_ids: Iterable[str]) -> Iterator[Entry | None]:
        """Yield the entries of trials that have ended, each ``None`` where there is none.

        A start that finds everything there has them in memory, so that it reads none twice. In a folder it looks again
        at each file, and reads those that were changed, deleted or damaged meanwhile.
        """
        seen, self._seen = self._seen, None
        if seen is None:
            return self.ledger.each(trial_ids)
        return map(partial(self._seen_or_read, seen), trial_ids)

    def _seen_or_read(self, seen: Mapping[str, tuple[Entry, Stamp | None]], trial_id: str) -> Entry | None:
        entry, stamp = seen.get(trial_id, (None, None))
        return entry if stamp == self.ledger.stamp(trial_id) else self.ledger.get(trial_id)

    def ask_again(self, gone: Container[str]) -> None:
        """Train trials again that have ended and whose entry is gone: deleted, or damaged and moved away.

        Args:
            gone: ids of trials without an entry; trials that need none are skipped.
        """
        for key in [key for key, end in self.ends.items() if isinstance(end, Done) and end.trial_id in gone]:
            self._want([_Wanted((self.finals[key], key[0], partial(self._keep, key)), FIRST, again=True)])
        for run in self.studies:
            self._again(run, [spec for spec, left in run.told if left and spec.trial_id in gone])

    def put_back(self, spec: TrialSpec) -> None:
        """Hand a trial out again that was handed out and lost."""
        del self._running[spec.trial_id]
        self.under_way.end(spec.trial_id)
        self._ready.push(spec, AGAIN)

    def bar(self, spec: TrialSpec) -> tuple[float, ...]:
        """Return the validation UAR that a search trial has to reach by each epoch; empty where it is never pruned."""
        return self._bars.get(spec.trial_id, ())  # kept: a trial that is lost is handed out again

    def next(self) -> TrialSpec | None:
        """Return the next trial to train; ``None`` where all is done or none is ready until another ends."""
        (spec,) = self._handed_out(None, 1) or (None,)
        return spec

    def next_together(self, key: Callable[[TrialSpec], Hashable], most: int) -> list[TrialSpec]:
        """Return the next trial together with ready ones that have the same key.

        The first is the one that ``next`` would return. Report each by itself with ``ended`` or ``put_back``.

        Args:
            key: returns a trial's key. Pass the same function at every call.
            most: largest number of trials, at least 1.

        Returns:
            The trials; an empty list where all is done or none is ready until another ends.
        """
        return self._handed_out(key, most)

    def _handed_out(self, key: Callable[[TrialSpec], Hashable] | None, most: int) -> list[TrialSpec]:
        if not self._ready:
            self._advance()
        specs = self._ready.pop_together(key, most)
        self._running.update((spec.trial_id, spec) for spec in specs)
        return specs

    def ended(self, spec: TrialSpec, outcome: Outcome) -> None:
        """Take in the outcome of a trial that was handed out."""
        self._running.pop(spec.trial_id, None)
        took_s = self.under_way.end(spec.trial_id)
        self._bars.pop(spec.trial_id, None)
        self._tried.add(spec.trial_id)
        self.trained += not isinstance(outcome, Failure)
        for asked in self._waiting.pop(spec.trial_id, []):
            self._pass_on(asked, outcome, True, took_s)
        self._advance()

    def _want(self, wanted: Iterable[_Wanted]) -> None:
        """Ask for trials; their entries are fetched side by side, as far as the ledger may hold them."""
        ahead, each = itertools.tee((one, self._may_be_there(one)) for one in wanted)
        entries = self.ledger.each(one.asked[0].trial_id for one, there in ahead if there)
        for one, there in each:
            self._ask_for(one, next(entries) if there else None)

    def _may_be_there(self, wanted: _Wanted) -> bool:
        trial_id = wanted.asked[0].trial_id
        known = wanted.again or trial_id in self._held or trial_id in self._tried
        return known and trial_id not in self._waiting

    def _ask_for(self, wanted: _Wanted, entry: Entry | None) -> None:
        """Answer from the ledger at once, else queue the trial, only once however often it is asked for."""
        asked, trial_id = wanted.asked, wanted.asked[0].trial_id
        self._keep_seen(entry)
        if trial_id in self._waiting:
            self._waiting[trial_id].append(asked)
        elif isinstance(entry, Record) or (entry is not None and (trial_id in self._tried or not self._retry)):
            if wanted.again:
                asked[2](entry)
            else:
                self._pass_on(asked, entry, False)
        else:
            self._seen = None
            self._waiting[trial_id] = [asked]
            self._ready.push(asked[0], wanted.urgency, wanted.behind)

    def _keep_seen(self, entry: Entry | None) -> None:
        if self._seen is not None and entry is not None:
            self._seen[entry.trial_id] = entry, self.ledger.stamp(entry.trial_id)

    def _pass_on(self, asked: Asked, outcome: Outcome, trained: bool, took_s: float | None = None) -> None:
        """Pass an outcome on to the watcher and to the callback."""
        spec, configuration, then = asked
        if isinstance(outcome, Failure):
            self.failures.append(Ended(spec, configuration, outcome, trained))
        elif not trained and spec.trial_id not in self._tried:
            self.there.add(spec.trial_id)
        self.epochs_saved += spec.epochs - outcome.epochs if isinstance(outcome, Pruned) else 0
        self._watch(Ended(spec, configuration, outcome, trained, took_s))
        then(outcome)

    def _announce_told(self) -> Iterator[tuple[StudyRun, list[TrialSpec]]]:
        """Tell the watcher of the studies' trials that ended in an earlier start; those that failed count as failures.

        Yields:
            Each study, and the trials of its ended settings whose entries are gone.
        """
        ahead, each = itertools.tee((run, run.told) for run in self.studies)
        entries = self.ledger.each(spec.trial_id for _, specs in ahead for spec, _ in specs)
        for run, specs in each:
            gone = []
            for spec, left in specs:
                entry = next(entries)
                self._keep_seen(entry)
                if entry is not None:
                    run.saw(entry)
                    if isinstance(entry, Failure):
                        self.failures.append(Ended(spec, run.study.configuration, entry, False))
                    else:
                        self.there.add(spec.trial_id)
                    self._watch(Ended(spec, run.study.configuration, entry, False))
                elif left:
                    gone.append(spec)
            yield run, gone

    def _again(self, run: StudyRun, specs: Sequence[TrialSpec], then: Callable[[], None] = lambda: None) -> None:
        """Train search trials of ended settings again, for the ledger; Optuna keeps the scores that it has.

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

        self._want(_Wanted((spec, run.study.configuration, ended), FIRST, again=True) for spec in specs)
        if not specs:
            then()

    def _go_on(self, run: StudyRun) -> None:
        """Resume a study: first the settings that were being tried, then new ones."""
        self._resumed[run] = [*run.open.values()]
        self._due[run] = None

    def _finals(
        self, study: Study, settings: Mapping[str, Value], epochs: int, urgency: int = ANY
    ) -> Iterator[_Wanted]:
        """Return a study's final trials, which are known from now on."""
        configuration = study.configuration
        for (fold, seed), spec in study.final_specs(settings, epochs).items():
            key = (configuration, fold, seed)
            self.finals[key] = spec
            yield _Wanted((spec, configuration, partial(self._keep, key)), urgency)

    def _keep(self, key: Key, outcome: Outcome) -> None:
        assert not isinstance(outcome, Pruned)  # only search trials are pruned
        self.ends[key] = Done(outcome.trial_id, outcome.seconds) if isinstance(outcome, Record) else outcome

    def _setting(self, run: StudyRun, opened: OpenTrial) -> Iterator[_Wanted]:
        """Return the trials of a setting."""
        bars = zip(opened.specs, run.bars(self.ledger.get), strict=True)
        self._bars.update((spec.trial_id, bar) for spec, bar in bars if any(bar))
        behind = 1 + run.left / self.settings_at_once  # the settings to come, then the fold's final trial
        for spec in {spec.trial_id: spec for spec in opened.specs}.values():
            yield _Wanted((spec, run.study.configuration, partial(self._setting_ended, run, opened)), ANY, behind)

    def _setting_ended(self, run: StudyRun, opened: OpenTrial, outcome: Outcome) -> None:
        run.ended_trial(opened, outcome)
        if run in self._searching:
            self._due[run] = None

    def _advance(self) -> None:
        """Ask studies for settings, and for the final trials of finished ones, until no study has more to ask."""
        while self._due:
            due, self._due = self._due, {}
            self._want(one for run in due for one in self._next_of(run))

    def _next_of(self, run: StudyRun) -> Iterator[_Wanted]:
        """Return the trials that a study needs next."""
        for opened in self._resumed.pop(run, ()):
            yield from self._setting(run, opened)
        while run.can_ask(self.settings_at_once):
            yield from self._setting(run, run.ask())
        if run.finished and not run.open and run in self._searching:
            del self._searching[run]
            chosen = run.chosen()
            if chosen is None or run.lost:
                self.undecided.append(run.study)
            else:
                yield from self._of_chosen(run, chosen)

    def _of_chosen(self, run: StudyRun, chosen: Chosen) -> Iterator[_Wanted]:
        """Return the final trials of a study, or first the trials that tell how many epochs they train.

        An earlier version's study may not know the epochs. Their curves come from the ledger. A trial whose entry is
        gone or damaged is trained again first.
        """
        study = run.study
        self.chosen[study.name] = chosen
        if chosen.epochs is not None:
            yield from self._finals(study, chosen.settings, chosen.epochs, FIRST)
            return
        specs = {spec.trial_id: spec for spec in chosen.specs}
        curves: dict[str, Sequence[float]] = {}

        def take(outcome: Outcome) -> None:
            if isinstance(outcome, Record):
                curves[outcome.trial_id] = outcome.validation_uar
                if len(curves) == len(specs):
                    epochs, _ = best_epoch([curves[spec.trial_id] for spec in chosen.specs])
                    self._want(self._finals(study, chosen.settings, epochs, FIRST))

        for spec in specs.values():
            yield _Wanted((spec, study.configuration, take), FIRST, again=True)
