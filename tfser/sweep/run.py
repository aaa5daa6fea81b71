"""One start of a sweep: plan, train what is missing, write the tables.

Puts the parts together: schedule, trainer, MLflow, tables. It can be stopped at any moment and started again; a sweep
that is whole trains nothing.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version

from optuna.storages import BaseStorage

from tfser.errors import RequestError, TfserError
from tfser.execution import rows
from tfser.execution.ends import Ended, Key
from tfser.execution.results import Results
from tfser.execution.rows import Keeper, Row
from tfser.execution.schedule import Schedule
from tfser.record import Entry, Outcome
from tfser.report import write as report_write
from tfser.report.provenance import Provenance
from tfser.report.tables import terminal
from tfser.search.study import close_storage, open_storage
from tfser.storage.ledger import Ledger
from tfser.storage.passwords import redacted
from tfser.storage.places import exists
from tfser.storage.sweep_lock import LostError
from tfser.sweep import deploy, saved, wrap_up
from tfser.sweep.identity import journal_place, recall, remember, study_owner
from tfser.sweep.printer import Printer
from tfser.sweep.progress import View
from tfser.sweep.request import Sweep, memory_place, probe_out
from tfser.sweep.to_mlflow import ToMlflow
from tfser.sweep.trainer import Trainer
from tfser.tracking import pages, reading


class Run:
    """One start of a sweep.

    Args:
        sweep: the sweep, whose lease the caller holds.
        printer: says what happens.
    """

    def __init__(self, sweep: Sweep, printer: Printer) -> None:
        self._sweep, self._printer = sweep, printer
        self._ledger = Ledger(sweep.storage / "ledger")
        self._folder = sweep.out / sweep.name
        self._uri = redacted(sweep.tracking_uri)

    def __call__(self) -> int:
        """Train what is missing, write the tables, and return the exit code."""
        sweep, printer, started = self._sweep, self._printer, time.time()
        probe_out(sweep)
        memory = recall(sweep)
        keeper = self._keeper()
        mlflow = ToMlflow(sweep, self._ledger, printer)
        view = View(sweep.plan, printer.console)
        with self._studies() as studies:
            schedule = self._schedule(studies, view, keeper, mlflow)
            trainer = Trainer(sweep, schedule, view, printer, partial(remember, sweep, memory), mlflow.abandon)
            try:
                entries, histories = trainer.finish()
            except KeyboardInterrupt as stop:
                if not isinstance(stop, LostError):
                    _keep_early(keeper, schedule)
                raise
        printer.live.doing("writing the tables")
        kept = keeper.rows(_finals(schedule), histories)
        keeper.keep(kept)
        cards = deploy.cards(sweep, self._ledger, kept)
        results, runs = mlflow.finish(self._results(entries, kept), cards)
        deploys = sweep.request.purpose == "deploy"
        if not deploys:
            assert results is not None
            self._write_tables(results)
        self._write_json("deploy" if deploys else "sweep", schedule, trainer, runs, time.time() - started)
        wrap_up.say_chosen(printer, histories)
        wrap_up.say_damaged(printer, schedule)
        if deploys:
            deploy.say_models(printer, sweep, cards)
        else:
            printer.say_place("Report", self._folder / "report.html")
        wrap_up.say_trials(printer, schedule, trainer.usage, time.time() - started)
        self._say_places(mlflow.experiments)
        return 0 if wrap_up.is_whole(schedule) else 1

    def _keeper(self) -> Keeper:
        """Return what keeps the sweep's rows.

        Raises:
            RequestError: the tables that are there hold rows that are neither asked for nor kept.
        """
        sweep = self._sweep
        earlier = rows.read(sweep.storage, sweep.name)
        if not earlier and exists(memory_place(sweep)):
            try:
                earlier = reading.older_rows(sweep.storage, sweep.tracking_uri, sweep.name)
            except TfserError as error:  # tables that hold more than is known then are refused below
                self._printer.warn(str(error))
        command, asked = sweep.options.command, sweep.plan.configurations
        keeper = Keeper(sweep.storage, sweep.name, command, asked, earlier, saved.shown(sweep.options))
        planned = {row.configuration: len({*row.configuration.folds, *row.finals}) for row in keeper.rows({})}
        if lost := report_write.lacking(self._folder, planned):
            what_to_do = "name another sweep with --name, another folder with --out, or remove that one"
            raise RequestError(f"tables in {self._folder}", [f"{line}; {what_to_do}" for line in lost])
        return keeper

    @contextlib.contextmanager
    def _studies(self) -> Iterator[BaseStorage | None]:
        """Open what holds the studies, if the sweep searches."""
        sweep, url, studies, ours = self._sweep, self._sweep.options.optuna_storage, None, True
        if sweep.request.trials:
            studies = open_storage(journal_place(sweep), url, self._printer.warn)
        try:
            yield studies
        except LostError:
            ours = False
            raise
        finally:
            close_storage(studies, store=ours)

    def _schedule(self, studies: BaseStorage | None, view: View, keeper: Keeper, mlflow: ToMlflow) -> Schedule:
        """Return what hands out the trials, and tells the view, the keeper and MLflow of each that ended."""
        sweep = self._sweep
        schedule: Schedule | None = None

        def watch(ended: Ended[Outcome]) -> None:
            view.ended(ended)
            if schedule is not None and keeper.is_due:
                _keep_early(keeper, schedule)
            mlflow.trial(ended)

        schedule = Schedule(
            sweep.plan,
            self._ledger,
            studies,
            watch=watch,
            retry_failed=sweep.options.retry_failed,
            owner=study_owner(sweep),
        )
        return schedule

    def _write_tables(self, results: Results) -> None:
        """Write the tables, figures and the page, and print the tables."""
        more, averaging = self._sweep.options.published, self._sweep.options.averaging
        made = Provenance(tracking_uri=self._uri)
        report_write.write(results, self._folder, made=made, more=more, averaging=averaging)
        self._printer.console.print()
        terminal.show(results, self._printer.console, more, averaging)

    def _results(self, entries: Mapping[Key, Entry], kept: Sequence[Row]) -> Results | None:
        """Return what the tables are made from, trials of earlier starts included; ``None`` where no fold was asked."""
        known = {entry.trial_id: entry for entry in entries.values()}
        finals = (trial for row in kept for seeds in row.finals.values() for trial in seeds.values())
        earlier = [trial for trial in dict.fromkeys(finals) if trial not in known]
        read = zip(earlier, self._ledger.each(earlier), strict=True)
        known |= {trial: entry for trial, entry in read if entry is not None}
        results = rows.assembled(self._sweep.name, kept, known)
        return results[0] if results else None

    def _write_json(
        self, name: str, schedule: Schedule, trainer: Trainer, runs: Mapping[str, str], seconds: float
    ) -> None:
        values, usage = wrap_up.facts(self._sweep, schedule, seconds), trainer.usage
        values["versions"] |= {name: version(name) for name in ("ray", "optuna", "mlflow-skinny")}
        values |= {
            "sweep": self._sweep.name,
            "sweep_file": saved.shown(self._sweep.options),
            "workers": {"busy_s": usage.busy_s, "available_s": usage.available_s, "busy_share": usage.share},
            "epochs_spared_by_pruning": schedule.epochs_saved,
            "tracking_uri": self._uri,
            "runs": dict(runs),
            "chosen": {
                name: {"settings": c.settings, "validation_uar": c.score} for name, c in schedule.chosen.items()
            },
        }
        wrap_up.write_json(self._folder / f"{name}.json", values)

    def _say_places(self, experiments: Collection[str]) -> None:
        self._printer.say_place("Tables and figures", self._folder)
        self._printer.say_place("Ledger, features, studies", self._sweep.storage)
        if (base := pages.server(self._uri)) or self._uri.startswith("databricks"):
            self._printer.say(f"Compare runs: {pages.runs(base, experiments) if base else self._uri}")
            return
        server = f"mlflow server --workers 1 --backend-store-uri {shlex.quote(self._uri)}"
        self._printer.say(f"Compare runs: {server}")
        self._printer.say(f"  then open {pages.runs(pages.LOCAL, experiments)}")


def _finals(schedule: Schedule) -> dict[Key, str]:
    """Return the final trials that are known, by row, fold and seed."""
    return {key: spec.trial_id for key, spec in schedule.finals.items()}


def _keep_early(keeper: Keeper, schedule: Schedule) -> None:
    """Keep the rows as far as they are known. A fault can wait: the end of the sweep keeps them too."""
    with contextlib.suppress(OSError):
        keeper.keep(keeper.rows(_finals(schedule)))
