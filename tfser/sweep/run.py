"""``python -m tfser.sweep DATABASE ...``: plan, train what is missing, collect.

The command puts the parts together: request, features, schedule, runner, MLflow, tables. It can be
stopped at any moment and typed again; a sweep that is whole trains nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from rich.console import Console

from tfser.errors import RequestError, TfserError, counted, in_a_line
from tfser.execution import rows, trial_work
from tfser.execution.in_process import InProcessRunner
from tfser.execution.results import Results
from tfser.execution.rows import Keeper, Row
from tfser.execution.run_trial import Task, versions
from tfser.execution.runner import Runner
from tfser.execution.schedule import Done, Ended, Key, Schedule
from tfser.execution.worker_usage import Usage
from tfser.features.pack import DAMAGED, Pack
from tfser.features.store import FeatureStore, FrontEnd, audio_digests
from tfser.final_models import mlflow_model
from tfser.planning.configuration import Configuration
from tfser.planning.settings import front_end
from tfser.record import Entry, Failure, Outcome, Record, Status
from tfser.report import write as report_write
from tfser.report.provenance import Provenance
from tfser.report.summary import summarise
from tfser.report.tables import terminal
from tfser.search import history as search_history
from tfser.search.history import History
from tfser.search.study import open_storage
from tfser.storage import leftovers, passwords
from tfser.storage.ledger import Ledger
from tfser.storage.places import absolute, commit_text, exists, read_bytes
from tfser.sweep.identity import recall, remember
from tfser.sweep.progress import View, duration
from tfser.sweep.request import Sweep, memory_place, probe_out
from tfser.sweep.to_mlflow import artifacts_folder, row_metrics
from tfser.tracking import names, outbox, reading
from tfser.tracking import runs as tracking_runs
from tfser.tracking.uri import sqlite_path
from tfser.trial import NUMERICS_VERSION, TrialSpec

ROUNDS = 3
"""How often in one start trials are trained again whose ledger entries are gone by the end, the first look included."""


class Run:
    """One start of a sweep."""

    def __init__(self, sweep: Sweep, console: Console) -> None:
        self.sweep, self.arguments, self.console = sweep, sweep.options, console
        self.ledger = Ledger(sweep.storage / "ledger")
        self.features = FeatureStore(sweep.storage / "features")
        self._packs: dict[tuple[str, FrontEnd], Pack] = {}
        self._handed_out: set[str] = set()
        """Trials that a worker was given since their features were looked at."""
        self._usage = Usage()
        self._started = time.time()
        self._said = False

    def __call__(self) -> int:
        """Train what is missing and write the tables; returns the exit code."""
        try:
            with contextlib.suppress(OSError):  # it can wait; what is wrong with the storage will show soon
                for line in leftovers.clear(self.sweep.storage, self.sweep.out / self.sweep.name, self.ledger):
                    self._say(line)
            return self._run()
        except KeyboardInterrupt:
            self._interrupted()
            return 130

    def _run(self) -> int:
        sweep, console = self.sweep, self.console
        probe_out(sweep)
        memory = recall(sweep)
        journal = sweep.storage / "search" / f"{sweep.name}.journal"
        say = partial(self._say, style="yellow")
        storage = open_storage(journal, self.arguments.optuna_storage, say) if sweep.request.trials else None
        view = View(sweep.plan, console)
        keeper = self._keeper()
        mirror = outbox.Mirror(
            lambda: tracking_runs.Tracker(
                sweep.tracking_uri, sweep.name, artifacts_folder(sweep), self._command, self._log_model
            ),
            lambda text: self._say(text, "yellow"),
            self._say,
        )

        def watch(ended: Ended[Outcome]) -> None:
            view.ended(ended)
            if keeper.is_due and view.schedule is not None:
                with contextlib.suppress(OSError):  # the end of the sweep keeps them too
                    keeper.keep(keeper.rows(_finals(view.schedule)))
            status = ended.outcome.status
            if status == "done" or status == "failed":  # the others leave no entry
                trial_id = ended.spec.trial_id
                mirror.put(partial(self._log, ended.configuration, trial_id, status), f"trial {trial_id}")

        owner = hashlib.sha256(f"{absolute(sweep.storage)} {sweep.name}".encode()).hexdigest()[:8]
        schedule = Schedule(
            sweep.plan,
            self.ledger,
            storage,
            watch=watch,
            retry_failed=self.arguments.retry_failed,
            owner=f" of {sweep.name} {owner}" if self.arguments.optuna_storage else "",
        )
        view.schedule = schedule
        try:
            entries, histories = self._entries(schedule, view, memory, mirror)
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):
                keeper.keep(keeper.rows(_finals(schedule)))
            raise
        kept = keeper.rows(_finals(schedule), histories)
        keeper.keep(kept)
        results = replace(self._results(entries, kept), command=self._command)
        runs = self._mirror_rows(results, mirror)
        mirror.close()
        results = results if mirror.lost else self._with_runs(results)
        folder = sweep.out / sweep.name
        report_write.write(results, folder, made=Provenance(tracking_uri=passwords.redacted(sweep.tracking_uri)))
        self._write_sweep_json(schedule, runs)
        console.print()
        terminal.show(results, console)
        self._say_chosen(histories)
        whole = self._whole(schedule)
        self._say_where(schedule)
        return 0 if whole else 1

    def _log(self, configuration: Configuration, trial_id: str, status: Status, tracker: tracking_runs.Tracker) -> None:
        """Bring a trial to MLflow. Its entry is read when its turn comes, so that those that wait fill no memory."""
        if not tracker.holds(configuration, trial_id, status) and (entry := self.ledger.get(trial_id)) is not None:
            tracker.trial(configuration, entry)

    def _log_model(self, client: Any, run_id: str, record: Record) -> None:
        """Log a final trial's model to its MLflow run, where its weights are there."""
        try:
            weights = read_bytes(self.ledger.weights_path(record.trial_id))
        except FileNotFoundError:
            return
        mlflow_model.log_model(client, run_id, record, weights)

    def _entries(
        self, schedule: Schedule, view: View, memory: Mapping[str, Any], mirror: outbox.Mirror | None
    ) -> tuple[dict[Key, Entry], list[History]]:
        """Train what is missing, and again what is gone by the end; returns what tables are made from, read once.

        Returns:
            The ledger's entries of final trials that are done, of the others what is known of them; and what every study tried.
        """
        if schedule.finished:
            remember(self.sweep, memory)
        else:
            self._train(schedule, view, memory, mirror)
        for left in reversed(range(ROUNDS)):
            gone: set[str] = set()
            entry = partial(self._entry, gone)
            found = {key: entry(end.trial_id) if isinstance(end, Done) else end for key, end in schedule.ends.items()}
            histories = [study.history(entry) for study in schedule.studies]
            schedule.ask_again(gone)
            if schedule.finished or not left:
                break
            self._say(
                f"The ledger lost {counted(schedule.waiting, 'trial')} that had ended; what it lost is trained again",
                "yellow",
            )
            view.again(schedule.waiting)
            self._train(schedule, view, memory, mirror)
        return {key: entry for key, entry in found.items() if entry is not None}, histories

    def _entry(self, gone: set[str], trial_id: str) -> Entry | None:
        """A trial's entry; notes where there is none."""
        entry = self.ledger.get(trial_id)
        if entry is None:
            gone.add(trial_id)
        return entry

    def _train(self, schedule: Schedule, view: View, memory: Mapping[str, Any], mirror: outbox.Mirror | None) -> None:
        runner = self._runner()
        runner.usage = self._usage
        remember(self.sweep, memory)
        # Ray replaces a SIGTERM handler that was there before it; this one ends the sweep as Ctrl-C does.
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            for database in self.sweep.databases.values():
                for wanted in self.sweep.plan.front_ends[database.name]:
                    digests = self.sweep.audio_digests[database.name]
                    self._packs[database.name, wanted] = self.features.ensure(database, digests, wanted, runner.mapper)
            schedule.weigh(trial_work.Work(self._packs))
            runner.settle([self._task(spec, ()) for spec in trial_work.largest(self.sweep.plan.studies)])
            view.workers = runner.workers
            if not self.arguments.deterministic and self.sweep.plan.studies:
                schedule.settings_at_once = -(-runner.workers // len(self.sweep.plan.studies))
            self._say(f"Training, {counted(runner.workers, 'trial')} at once")
            self._handed_out.clear()
            with view:
                runner.run(schedule, lambda spec: self._task(spec, schedule.bar(spec)))
        except BaseException as error:
            # Said before anything is given back: whoever stops a Ray job kills it after three seconds.
            if isinstance(error, KeyboardInterrupt):
                self._interrupted()
            if mirror and (left := mirror.abandon()):
                self._say(f"not yet in MLflow: {counted(left, 'record')}; the next start logs what is missing.")
            raise
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            runner.close()

    def _runner(self) -> Runner:
        a = self.arguments
        if a.in_process:
            return InProcessRunner(a.together)
        from tfser.execution.on_ray.tune_runner import RayTuneRunner

        say = partial(self._say, style="yellow")
        return RayTuneRunner(a.address, trial_cpus=a.trial_cpus, trial_gpus=a.trial_gpus, together=a.together, say=say)

    def _task(self, spec: TrialSpec, bar: tuple[float, ...]) -> Task:
        pack = self._packs[spec.database, front_end(spec.settings)]
        if spec.trial_id in self._handed_out:
            self._look_after(
                pack, front_end(spec.settings)
            )  # it comes back because its worker was lost, or what it reads
        self._handed_out.add(spec.trial_id)
        return Task(
            spec=spec,
            pack=absolute(pack.path),
            storage=absolute(self.sweep.storage),
            checkpoint_s=self.arguments.checkpoint,
            captured=self.arguments.captured,
            bar=bar,
        )

    def _look_after(self, pack: Pack, wanted: FrontEnd) -> None:
        """Make features again that were deleted or damaged since they were made.

        Raises:
            TfserError: their audio has changed too, or they cannot be made.
        """
        try:
            Pack.open(pack.path, pack.database_digest)
            return
        except DAMAGED as error:
            why = in_a_line(error)
        database, digests = self.sweep.databases[pack.database], self.sweep.audio_digests[pack.database]
        self._say(f"The features {pack.path} are gone or damaged ({why}); they are made again", "yellow")
        try:
            if audio_digests(database) != digests:
                raise RequestError(f"database {database.name}", ["its audio is not what it was when this sweep began"])
            self.features.ensure(database, digests, wanted)  # by itself: workers have trials
        except RequestError as error:
            reason = "; ".join(error.problems)
            raise TfserError(
                f"The features {pack.path} cannot be made again: {reason}. What was trained is kept."
            ) from None

    @property
    def _command(self) -> str:
        """What was typed, without passwords."""
        return passwords.redacted("python -m tfser.sweep " + shlex.join(self.arguments.typed))

    def _interrupted(self) -> None:
        """Say how to go on, once."""
        if not self._said:
            self._said = True
            self._say(
                f"Interrupted. What was finished is kept; the same command goes on from there (sweep {self.sweep.name})."
            )

    def _keeper(self) -> Keeper:
        """What keeps the sweep's rows, once it is known that no finished table would be replaced by one that knows less.

        Raises:
            RequestError: the tables that are there hold rows that are neither asked for nor kept.
        """
        sweep = self.sweep
        earlier = rows.read(sweep.storage, sweep.name)
        if not earlier and exists(memory_place(sweep)):
            try:
                earlier = reading.older_rows(sweep.storage, sweep.tracking_uri, sweep.name)
            except TfserError as error:  # what it has is not known then, and tables that hold more are left as they are
                self._say(str(error), "yellow")
        keeper = Keeper(sweep.storage, sweep.name, self._command, sweep.plan.configurations, earlier)
        folder = sweep.out / sweep.name
        planned = {row.configuration: len({*row.configuration.folds, *row.finals}) for row in keeper.rows({})}
        if lost := report_write.lacking(folder, planned):
            what_to_do = "name another sweep with --name, another folder with --out, or remove that one"
            raise RequestError(f"tables in {folder}", [f"{line}; {what_to_do}" for line in lost])
        return keeper

    def _mirror_rows(self, results: Results, mirror: outbox.Mirror) -> dict[str, str]:
        """Bring the runs of the configurations up to date; returns their run ids once the mirror is closed."""
        runs: dict[str, str] = {}
        fixed = {
            s.configuration.key: {**s.base, "epochs": s.epochs} for s in self.sweep.plan.studies if s.space is None
        }
        asked = {c.key for c in self.sweep.plan.configurations}
        for summary in summarise(results):
            c = summary.configuration
            if c.key not in asked:
                continue
            mine = {key: entry for key, entry in results.entries.items() if key[0] == c}
            finals: dict[str, dict[str, str]] = {}
            for (_, fold, seed), entry in mine.items():
                finals.setdefault(fold, {})[str(seed)] = entry.trial_id
            ends = [entry.started_unix + entry.seconds for entry in mine.values() if isinstance(entry, Record)]
            tried = [history for history in results.histories if history.configuration == c]
            row = partial(
                tracking_runs.Tracker.configuration,
                configuration=c,
                finals=finals,
                numbers=row_metrics(summary),
                time_ms=int(1000 * max(ends, default=0)),
                confusion=summary.confusion.tolist(),
                settings=fixed.get(c.key),
                digest=self.sweep.digests[c.database],
                histories=search_history.to_json(tried) if tried else "",
            )

            def write(
                tracker: tracking_runs.Tracker,
                row: Callable[..., str] = row,
                key: str = names.configuration_key(c),
            ) -> None:
                runs[key] = row(tracker)

            mirror.put(write, f"the row {' / '.join(c.words)}")
        return runs

    def _results(self, found: Mapping[Key, Entry], kept: Sequence[Row]) -> Results:
        """What the tables are made from: the ledger's entries; of trials that have none, what is known of them."""
        entries = {entry.trial_id: entry for entry in found.values()}
        for row in kept:
            for trial in (trial for seeds in row.finals.values() for trial in seeds.values()):
                if trial not in entries and (entry := self.ledger.get(trial)) is not None:
                    entries[trial] = entry
        (results,) = rows.assembled(self.sweep.name, kept, entries)
        return results

    def _with_runs(self, results: Results) -> Results:
        """The same with the ids of MLflow's runs, where it can be read: no number comes from there."""
        try:
            return reading.with_runs(results, self.sweep.storage, self.sweep.tracking_uri)
        except RequestError as error:
            self._say(f"The page names no runs, because MLflow cannot be read: {error.problems[0]}", "yellow")
            return results

    def _write_sweep_json(self, schedule: Schedule, runs: Mapping[str, str]) -> None:
        """What differs from run to run; the other files hold only what the numbers fill."""
        values = {
            "sweep": self.sweep.name,
            "command": self._command,
            "request": self.arguments.shown(),
            "versions": {**versions(), **{name: version(name) for name in ("ray", "optuna", "mlflow-skinny")}},
            "numerics": NUMERICS_VERSION,
            "platform": platform.platform(),
            "database_digests": dict(self.sweep.digests),
            "seconds": time.time() - self._started,
            "trained": schedule.trained,
            "workers": {
                "busy_s": self._usage.busy_s,
                "available_s": self._usage.available_s,
                "busy_share": self._usage.share,
            },
            "epochs_spared_by_pruning": schedule.epochs_saved,
            "failed": failures(schedule),
            "tracking_uri": passwords.redacted(self.sweep.tracking_uri),
            "runs": dict(runs),
            "chosen": {
                name: {"settings": c.settings, "validation_uar": c.score} for name, c in schedule.chosen.items()
            },
        }
        commit_text(
            self.sweep.out / self.sweep.name / "sweep.json",
            json.dumps(values, indent=1, sort_keys=True, default=str) + "\n",
        )

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)

    def _say_chosen(self, histories: Sequence[History]) -> None:
        """The setting that each study chose."""
        for history in histories:
            if history.chosen is not None:
                best, c = history.tried[history.chosen], history.configuration
                settings = ", ".join(
                    f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in best.hyperparameters.items()
                )
                folds = history.folds[0] if len(history.folds) == 1 else "all folds"
                score = f"validation UAR {100 * (best.validation_uar or 0):.2f} % at epoch {best.epochs}"
                self._say(f"chosen for {c.database} {folds} {c.ablation}: {settings} ({score})")

    def _whole(self, schedule: Schedule) -> bool:
        """Whether everything that was asked for is there; what happened to the ledger meanwhile is said."""
        for path in tuple(self.ledger.damaged):
            again = (
                "was trained again"
                if self.ledger.get(path.stem)
                else "is trained again by the next start that needs it"
            )
            self._say(f"A damaged ledger entry was set aside as {path}; its trial {again}", "yellow")
        if not schedule.finished:
            left = f"The tables lack {counted(schedule.waiting, 'trial')}, because the ledger lost it again"
            self._say(f"{left}; the same command trains what is missing", "red")
        return schedule.finished and not schedule.failures and not schedule.undecided

    def _say_failure(self, ended: Ended[Failure], what: str) -> None:
        failure = ended.outcome
        log = f"; log: {failure.log}" if failure.log else ""
        self._say(f"{failure.status}: {what}: {failure.reason}{log}", "red")

    def _say_where(self, schedule: Schedule) -> None:
        for ended in schedule.failures:
            spec = ended.spec
            what = (
                f"{spec.database} {spec.fold} {spec.ablation} seed {spec.seed} ({spec.purpose}, trial {spec.trial_id})"
            )
            self._say_failure(ended, what)
        for study in schedule.undecided:
            self._say(f"no setting of {study.name} could be trained, so its folds have no final trial", "red")
        if schedule.failures:
            self._say("--retry-failed trains failed final trials again; lost ones are tried again by the same command.")
        self._say(tally(schedule, time.time() - self._started))
        if self._usage.share is not None:
            self._say(str(self._usage))
        if schedule.epochs_saved:
            self._say(
                f"Pruning ended search trials that fell behind and spared {counted(schedule.epochs_saved, 'epoch')}."
            )
        self._say(f"Tables and figures: {passwords.redacted(str(absolute(self.sweep.out / self.sweep.name)))}")
        self._say(f"Ledger, features, studies: {passwords.redacted(str(absolute(self.sweep.storage)))}")
        uri = passwords.redacted(self.sweep.tracking_uri)
        if sqlite_path(uri) is not None:
            self._say(
                f"Compare runs on http://127.0.0.1:5000: mlflow server --workers 1 --backend-store-uri {shlex.quote(uri)}"
            )
        else:
            self._say(f"Compare runs: {uri}")


def tally(schedule: Schedule, seconds: float) -> str:
    """Return how many trials this start trained, how many failed, and how many were there when it began."""
    failed, earlier = ({e.spec.trial_id for e in schedule.failures if e.trained is now} for now in (True, False))
    lost = {e.spec.trial_id for e in schedule.failures if e.outcome.status == "lost"}
    said = [f"Trained {counted(schedule.trained, 'trial')} in {duration(seconds)}"]
    said += [f"{len(failed - lost)} failed"] if failed - lost else []
    said += [f"{len(lost)} {_was(lost)} lost"] if lost else []
    said += [f"{len(earlier)} had failed before"] if earlier else []
    said += [f"{len(schedule.there)} {_was(schedule.there)} there already"] if schedule.there else []
    return "; ".join(said) + "."


def failures(schedule: Schedule) -> list[dict[str, str | None]]:
    """Return the failures of this start for a JSON file."""
    each = ((ended.spec.trial_id, ended.outcome) for ended in schedule.failures)
    return [{"trial_id": trial_id, "reason": f.reason, "log": f.log or None} for trial_id, f in each]


def _was(trials: Sized) -> str:
    return "was" if len(trials) == 1 else "were"


def _finals(schedule: Schedule) -> dict[Key, str]:
    """The final trials that are known, by row, fold and seed."""
    return {key: spec.trial_id for key, spec in schedule.finals.items()}


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
