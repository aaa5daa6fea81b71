"""What can be trained now: plan minus ledger, with no barrier between folds.

A runner asks for the next trial and reports each one that ended; final trials of a fold come up as soon
as its own study has ended. Knows studies and the ledger; knows nothing of processes, Ray or MLflow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage

from tfser.ledger import Ledger
from tfser.plan import Plan, Study
from tfser.report.result import Configuration
from tfser.search import Chosen, OpenTrial, StudyRun, best_epoch
from tfser.trial import TrialSpec

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """One trial that ended, for whoever watches."""

    spec: TrialSpec
    configuration: Configuration
    record: Record
    """The ledger entry; of a trial that could not be recorded, its status and reason alone."""
    trained: bool
    """False where the ledger already held it."""


class Schedule:
    """The trials that are still missing, in the order they can be had.

    Args:
        plan: everything that the sweep needs.
        ledger: what is already there.
        storage: where studies are kept; needed where the plan searches.
        settings_at_once: how many settings one study may try at the same time.
        watch: called once for every trial of the plan when it has ended, old ones included.
        retry_failed: train again what failed in an earlier start.
        owner: added to the names of the studies, where several sweeps keep theirs in one database.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        storage: BaseStorage | None,
        *,
        settings_at_once: int = 1,
        watch: Callable[[Ended], None] = lambda ended: None,
        retry_failed: bool = False,
        owner: str = "",
    ) -> None:
        self.plan, self.ledger, self.settings_at_once, self._watch = plan, ledger, settings_at_once, watch
        self._held = ledger.ids()
        self._tried: set[str] = set()
        """Trials that ended since this start: not retried, even where failed ones are."""
        self._retry = retry_failed
        self._ready: deque[TrialSpec] = deque()
        self._waiting: dict[str, list[Callable[[Record], None]]] = {}
        self._running: dict[str, TrialSpec] = {}
        self.finals: dict[tuple[Configuration, str, int], TrialSpec] = {}
        """The final trial of every (configuration, fold, seed) whose setting is known."""
        self.records: dict[tuple[Configuration, str, int], Record] = {}
        """What every final trial that ended left: its ledger entry, or why it failed."""
        self.chosen: dict[str, Chosen] = {}
        """Study name to what it chose."""
        self.trained = 0
        """Trials trained since this start."""
        self.failures: list[Ended] = []
        """Trials that failed, in this start or an earlier one."""
        self.epochs_saved = 0
        """Epochs that pruning spared since this start."""
        self.undecided: list[Study] = []
        """Studies that chose nothing: every setting failed, or some were lost."""
        self._bars: dict[str, tuple[float, ...]] = {}
        self.studies: list[StudyRun] = []
        """Every study of the plan, whether it still tries settings or not."""
        self._searching: list[StudyRun] = []
        for study in plan.studies:
            if study.space is None:
                self._want_finals(study, study.base, study.epochs)
            else:
                assert storage is not None
                run = StudyRun(study, storage, owner)
                self.studies.append(run)
                self._searching.append(run)
                self._announce_told(run)
                for opened in list(run.open.values()):
                    self._want_setting(run, opened)
        self._advance()

    @property
    def finished(self) -> bool:
        """Whether nothing is missing and nothing runs."""
        return not self._ready and not self._running and not self._searching

    @property
    def running(self) -> int:
        """Trials handed out and not ended."""
        return len(self._running)

    def put_back(self, spec: TrialSpec) -> None:
        """A trial that was handed out and left nothing is handed out once more."""
        del self._running[spec.trial_id]
        self._ready.appendleft(spec)

    def bar(self, spec: TrialSpec) -> tuple[float, ...]:
        """Validation UAR that a search trial must have reached by each epoch to go on; empty: it runs to its end."""
        return self._bars.get(spec.trial_id, ())  # kept: a trial that is lost is handed out again

    def next(self) -> TrialSpec | None:
        """The next trial to train, or ``None`` where none is ready until another ends (or all is done)."""
        if not self._ready:
            self._advance()
        if not self._ready:
            return None
        spec = self._ready.popleft()
        self._running[spec.trial_id] = spec
        return spec

    def ended(self, spec: TrialSpec, record: Record) -> None:
        """A trial ended.

        Args:
            spec: the trial.
            record: its ledger entry; or ``failed``, ``lost`` (it may do better elsewhere or later) or ``pruned``
                as ``status``, with a ``reason``, where it left none.
        """
        self._running.pop(spec.trial_id, None)
        self._bars.pop(spec.trial_id, None)
        self._tried.add(spec.trial_id)
        self.trained += 1
        for then in self._waiting.pop(spec.trial_id, []):
            then({"trial_id": spec.trial_id, **record})
        self._advance()

    def _want(
        self,
        spec: TrialSpec,
        configuration: Configuration,
        then: Callable[[Record], None],
        *,
        first: bool = False,
        again: bool = False,
    ) -> None:
        """Ask for a trial: answered at once from the ledger, else queued (once, however many ask).

        Args:
            spec: the trial.
            configuration: the row it belongs to.
            then: told the record, now or when the trial has ended.
            first: put it before what is queued.
            again: it was asked for before, so whoever watches is not told of an entry that is there.
        """
        trial_id = spec.trial_id

        def told(record: Record, trained: bool) -> None:
            if again and not trained:
                then(record)  # it has been announced before
                return
            ended = Ended(spec, configuration, record, trained)
            if record["status"] in ("failed", "lost"):
                self.failures.append(ended)
            self.epochs_saved += spec.epochs - record["epochs"] if record["status"] == "pruned" else 0
            self._watch(ended)
            then(record)

        if trial_id not in self._waiting and (again or trial_id in self._held or trial_id in self._tried):
            record = self.ledger.get(trial_id)
            if record is not None and (record["status"] == "done" or trial_id in self._tried or not self._retry):
                told(record, False)
                return
        if trial_id in self._waiting:
            self._waiting[trial_id].append(lambda record: told(record, True))
            return
        self._waiting[trial_id] = [lambda record: told(record, True)]
        (self._ready.appendleft if first else self._ready.append)(spec)

    def _announce_told(self, run: StudyRun) -> None:
        """Who watches may have missed what ended in an earlier start; what failed there is a failure of this one too."""
        for spec in run.told:
            record = self.ledger.get(spec.trial_id)
            if record is not None:
                ended = Ended(spec, run.study.configuration, record, False)
                if record["status"] == "failed":
                    self.failures.append(ended)
                self._watch(ended)

    def _want_finals(self, study: Study, settings: Mapping[str, Any], epochs: int, *, first: bool = False) -> None:
        configuration = study.configuration
        for (fold, seed), spec in study.final_specs(settings, epochs).items():
            key = (configuration, fold, seed)
            self.finals[key] = spec

            def keep(record: Record, key: tuple[Configuration, str, int] = key) -> None:
                self.records[key] = record

            self._want(spec, configuration, keep, first=first)

    def _want_setting(self, run: StudyRun, opened: OpenTrial) -> None:
        self._bars.update((s.trial_id, b) for s, b in zip(opened.specs, run.bars(self.ledger.get), strict=True) if any(b))
        for spec in {spec.trial_id: spec for spec in opened.specs}.values():
            self._want(spec, run.study.configuration, lambda record: run.ended_trial(opened, record))

    def _advance(self) -> None:
        """Ask studies for settings, and finished ones for their final trials, until nothing more follows."""
        moved = True
        while moved:
            moved = False
            for run in list(self._searching):
                while run.can_ask(self.settings_at_once):
                    self._want_setting(run, run.ask())
                    moved = True
                if run.finished and not run.open:
                    self._searching.remove(run)
                    moved = True
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
        curves: dict[str, list[float]] = {}

        def take(record: Record) -> None:
            if record["status"] == "done":
                curves[record["trial_id"]] = record["curves"]["validation_uar"]
                if len(curves) == len(specs):
                    epochs, _ = best_epoch([curves[spec.trial_id] for spec in chosen.specs])
                    self._want_finals(study, chosen.settings, epochs, first=True)

        for spec in specs.values():
            self._want(spec, study.configuration, take, first=True, again=True)
