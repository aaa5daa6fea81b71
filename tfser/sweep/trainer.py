"""Trains a schedule to its end, and again what the ledger loses meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

from tfser.errors import RequestError, counted
from tfser.execution import left_behind, trial_work
from tfser.execution.ends import Key
from tfser.execution.in_process import InProcessRunner
from tfser.execution.run_trial import Task
from tfser.execution.runner import Runner
from tfser.execution.schedule import Schedule
from tfser.execution.task import DeviceKind
from tfser.execution.worker_usage import Usage
from tfser.models import Network, of
from tfser.record import Entry
from tfser.search.history import History
from tfser.storage.passwords import redacted
from tfser.storage.places import absolute
from tfser.sweep.features import Features
from tfser.sweep.picture import Picture
from tfser.sweep.printer import Printer
from tfser.sweep.progress import View
from tfser.sweep.request import Sweep
from tfser.trial import TrialSpec

ROUNDS = 3
"""How often one start looks for ledger entries that are gone, and trains those trials again."""


class Trainer:
    """Trains what a start of a sweep is to train.

    Args:
        sweep: the sweep.
        schedule: hands out its trials.
        view: shows them.
        printer: says everything else.
        begin: called before anything is trained, once nothing can be wrong with the request any more.
        stopped: called when training is interrupted or fails, while workers still run.
    """

    def __init__(
        self,
        sweep: Sweep,
        schedule: Schedule,
        view: View,
        printer: Printer,
        begin: Callable[[], None],
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        self.schedule = schedule
        self.usage = Usage()
        """What the workers' time went into."""
        self._sweep, self._view, self._printer, self._begin, self._stopped = sweep, view, printer, begin, stopped
        self._features = Features(sweep, printer)
        self._device: DeviceKind = "any"

    def finish(self) -> tuple[dict[Key, Entry], list[History]]:
        """Train what is missing, and again what is gone by the end.

        Returns:
            What is known of the final trials, read from the ledger if they are done; and what every study tried.
        """
        schedule = self.schedule
        if schedule.finished:
            self._begin()
        else:
            self._train()
        for left in reversed(range(ROUNDS)):
            found, histories, gone = left_behind.read(schedule)
            schedule.ask_again(gone)
            if schedule.finished or not left:
                break
            lost = f"The ledger lost {counted(schedule.waiting, 'trial')} that had ended"
            self._printer.warn(f"{lost}; what it lost is trained again")
            self._view.again(schedule.waiting)
            self._train()
        return found, histories

    def _train(self) -> None:
        """Train until the schedule is finished.

        Raises:
            RequestError: this machine lacks something for that; nothing was trained.
        """
        if self._sweep.lacking:
            raise RequestError("tfser sweep", list(self._sweep.lacking))
        schedule, studies, doing = self.schedule, self._sweep.plan.studies, self._printer.live.doing
        runner = self._runner()
        runner.usage, self._device = self.usage, runner.device
        self._begin()
        # Ray replaces a SIGTERM handler that was there before it; this one ends the sweep as Ctrl-C does.
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            self._features.make(runner.mapper)
            work = trial_work.Work(self._features.packs)
            schedule.weigh(work)
            self._view.left.weigh(work)
            doing("looking for what a trial needs of a machine")
            runner.choose_share([self._task(spec) for spec in trial_work.largest(studies)])
            if studies and not self._sweep.options.deterministic:
                schedule.settings_at_once = -(-runner.workers // len(studies))
            self._printer.say(f"Training, {counted(runner.workers, 'trial')} at once")
            with self._printer.live.showing(Picture(self._view, schedule, partial(_at_once, runner))):
                runner.run(schedule, partial(self._handed_out, set()))
        except BaseException as error:
            # Said before anything is given back: whoever stops a Ray job kills it after three seconds.
            if isinstance(error, KeyboardInterrupt):
                done = f"{self._view.done} of {counted(self._view.total, 'trial')} are done."
                self._printer.say_interrupted(self._sweep.name, done)
            self._stopped()
            raise
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            runner.close()

    def _runner(self) -> Runner:
        o, say = self._sweep.options, self._printer.warn
        if o.in_process:
            return InProcessRunner(o.together, "cpu" if o.trial_gpus == 0 else "any")
        where = f"joining the Ray cluster at {redacted(o.address)}" if o.address else "starting Ray on this machine"
        self._printer.live.doing(where)
        from tfser.execution.on_ray.tune_runner import RayTuneRunner

        networks = any(isinstance(of(c), Network) for c in self._sweep.plan.configurations)
        return RayTuneRunner(
            o.address,
            trial_cpus=o.trial_cpus,
            trial_gpus=o.trial_gpus if networks or o.trial_gpus is not None else 0.0,  # estimators alone need none
            together=o.together,
            sources=self._sweep.sources,
            only_gpus=o.fast,
            say=say,
        )

    def _handed_out(self, before: set[str], spec: TrialSpec) -> Task:
        """Return the task of a trial, and add it to those that were handed out before.

        A trial comes back because its worker was lost, or the features that it reads.
        """
        if spec.trial_id in before:
            self._features.repair(spec)
        before.add(spec.trial_id)
        return self._task(spec, self.schedule.bar(spec))

    def _task(self, spec: TrialSpec, bar: tuple[float, ...] = ()) -> Task:
        return Task(
            spec=spec,
            pack=absolute(self._features.of(spec).path),
            storage=absolute(self._sweep.storage),
            checkpoint_s=self._sweep.options.checkpoint,
            device=self._device,
            captured=self._sweep.options.captured,
            limit_s=self._sweep.options.trial_timeout,
            bar=bar,
        )


def _at_once(runner: Runner) -> int:
    """Return how many trials can run at once now: nodes of a cluster come and go."""
    looks = runner.usage.looks
    return looks[-1][1] if looks else runner.workers


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
