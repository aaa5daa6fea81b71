"""One start of ``tfser.leaks``: train what is missing, write the table.

Ledger, trainer and resumption are a sweep's, so that honest trials are shared with sweeps. MLflow is left out on
purpose: other tables are collected from there, and a trial that saw its test utterances must get into none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from tfser.execution.ends import Key
from tfser.execution.schedule import Schedule
from tfser.leaks import table as report
from tfser.leaks.measured import measure
from tfser.leaks.plan import Leaks
from tfser.record import Entry
from tfser.report.tables import formats, terminal
from tfser.report.tables.table import Table
from tfser.storage.ledger import Ledger
from tfser.storage.places import commit_text
from tfser.sweep import wrap_up
from tfser.sweep.identity import recall, remember
from tfser.sweep.printer import Printer
from tfser.sweep.progress import View
from tfser.sweep.request import Sweep, probe_out
from tfser.sweep.trainer import Trainer


def run(sweep: Sweep, leaks: Leaks, printer: Printer) -> int:
    """Train what is missing, write the table, and return the exit code.

    Args:
        sweep: the request, with the plan of the honest row alone; the caller holds its lease.
        leaks: the rows.
        printer: says what happens.
    """
    started = time.time()
    probe_out(sweep)
    begin = partial(remember, sweep, recall(sweep))
    view = View(leaks.plan, printer.console)
    ledger, again = Ledger(sweep.storage / "ledger"), sweep.options.retry_failed
    schedule = Schedule(leaks.plan, ledger, None, watch=view.ended, retry_failed=again)
    trainer = Trainer(replace(sweep, plan=leaks.plan), schedule, view, printer, begin)
    entries, _ = trainer.finish()
    table = _write(sweep, leaks, schedule, entries, started)
    printer.console.print()
    terminal.show_tables([table], printer.console)
    wrap_up.say_damaged(printer, schedule)
    wrap_up.say_trials(printer, schedule, trainer.usage, time.time() - started)
    printer.say_place("Table", sweep.out / sweep.name)
    printer.say_place("Ledger, features", sweep.storage)
    return 0 if wrap_up.is_whole(schedule) else 1


def _write(sweep: Sweep, leaks: Leaks, schedule: Schedule, entries: Mapping[Key, Entry], started: float) -> Table:
    """Write every file, and return the table."""
    folder, measured = sweep.out / sweep.name, measure(leaks, entries)
    table = report.table(leaks, measured)
    files = {
        "leaks.csv": formats.to_csv(report.CSV_COLUMNS, [table]),
        "leaks.md": formats.to_markdown("What leaks are worth", [table]),
        "leaks.tex": formats.to_latex([table]),
        "leaks_trials.csv": report.trials_csv(leaks, measured, entries),
    }
    for name, text in files.items():
        commit_text(folder / name, text)
    values = {
        "name": sweep.name,
        "cpus": os.cpu_count(),
        "training_seconds": sum(end.seconds for end in schedule.ends.values()),
    }
    wrap_up.write_json(folder / "leaks.json", {**wrap_up.facts(sweep, schedule, time.time() - started), **values})
    return table
