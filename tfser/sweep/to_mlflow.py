"""Brings a sweep to MLflow while it runs. Trains nothing, and no number comes from there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfser.errors import RequestError, counted
from tfser.evaluation import metrics
from tfser.execution.ends import Ended
from tfser.execution.results import Results
from tfser.final_models import mlflow_model
from tfser.planning import settings_in_words
from tfser.planning.configuration import Configuration
from tfser.record import Outcome, Pruned, Record, Status
from tfser.report.summary import Summary, summarise
from tfser.search import history
from tfser.storage.ledger import Ledger
from tfser.storage.local_entries import LocalEntries
from tfser.storage.places import Place, is_remote, read_bytes
from tfser.sweep.deploy import Card
from tfser.sweep.printer import Printer
from tfser.sweep.request import Sweep
from tfser.tracking import names, outbox, reading
from tfser.tracking.runs import Tracker
from tfser.tracking.uri import sqlite_path


class ToMlflow:
    """Brings the trials of one sweep to MLflow as they end, and its rows at the end.

    Args:
        sweep: the sweep.
        ledger: holds its trials.
        printer: says what MLflow lacks.
    """

    def __init__(self, sweep: Sweep, ledger: Ledger, printer: Printer) -> None:
        self._sweep, self._ledger, self._printer = sweep, ledger, printer
        self._outbox = outbox.Outbox(self._tracker, printer.warn, printer.say)
        self._local = LocalEntries() if is_remote(ledger.root) else None
        """What this start trained and MLflow does not have yet."""
        self.experiments: set[str] = set()
        """Ids of the experiments that hold the runs of the rows asked for, as far as MLflow answered."""

    def trial(self, ended: Ended[Outcome]) -> None:
        """Hand over a trial that ended, unless it leaves no entry."""
        status = ended.outcome.status
        if status == "done" or status == "failed":
            trial_id = ended.spec.trial_id
            if self._local is not None and ended.trained and not isinstance(ended.outcome, Pruned):
                self._local.put(ended.outcome)
            self._outbox.put(partial(self._write_trial, ended.configuration, trial_id, status), f"trial {trial_id}")

    def finish(self, results: Results | None, cards: Sequence[Card] = ()) -> tuple[Results | None, dict[str, str]]:
        """Bring the rows up to date and wait until everything is written or given up.

        Args:
            results: of the rows that a table shows; ``None`` where there are none.
            cards: the model cards of deploy trials.

        Returns:
            The results with the ids of their runs, if MLflow has them all; and key to run id of the rows asked for.
        """
        runs: dict[str, str] = {}
        asked = {c.key: c for c in self._sweep.plan.configurations}
        for summary in summarise(results) if results is not None else ():
            if results is not None and asked.pop(summary.configuration.key, None) is not None:
                write = partial(self._write_row, results, summary, runs)
                self._outbox.put(write, f"the row {' / '.join(summary.configuration.words)}")
        for c in asked.values():
            self._outbox.put(partial(self._write_without_results, c, runs), f"the row {' / '.join(c.words)}")
        for card in cards:
            put = partial(self._write_card, card)
            self._outbox.put(put, f"the model card of trial {card.record.trial_id}")
        self._outbox.close()
        return results if self._outbox.lost or results is None else self._with_runs(results), runs

    def abandon(self) -> None:
        """Stop, and say how much the next start has to bring."""
        if left := self._outbox.abandon():
            self._printer.say(f"Not yet in MLflow: {counted(left, 'record')}; the next start logs what is missing.")

    def _tracker(self) -> Tracker:
        sweep = self._sweep
        artifacts = _artifacts_folder(sweep.storage, sweep.tracking_uri)
        log_model = self._log_model if sweep.options.log_models else None
        return Tracker(sweep.tracking_uri, sweep.name, artifacts, sweep.options.command, log_model)

    def _write_trial(self, configuration: Configuration, trial_id: str, status: Status, tracker: Tracker) -> None:
        """Write a trial. Its entry is read only when its turn comes, so that those that wait fill no memory."""
        if not tracker.holds(configuration, trial_id, status):
            entry = self._local.get(trial_id) if self._local is not None else None
            if (entry := entry or self._ledger.get(trial_id)) is not None:
                tracker.trial(configuration, entry)
        if self._local is not None:
            self._local.remove(trial_id)

    def _write_row(self, results: Results, summary: Summary, runs: dict[str, str], tracker: Tracker) -> None:
        """Write a row; note its experiment, and the id of its run in ``runs``."""
        c, plan = summary.configuration, self._sweep.plan
        own = {(fold, seed): entry for (row, fold, seed), entry in results.entries.items() if row == c}
        finals: dict[str, dict[str, str]] = {}
        for (fold, seed), entry in own.items():
            finals.setdefault(fold, {})[str(seed)] = entry.trial_id
        ends = [entry.started_unix + entry.seconds for entry in own.values() if isinstance(entry, Record)]
        own_settings = [(s.configuration, s.base) for s in plan.studies if s.space is None]
        fixed = {row.key: {**base, **settings_in_words.values(row)} for row, base in own_settings}
        tried = [each for each in results.histories if each.configuration == c]
        self.experiments.add(tracker.experiment(c))
        runs[names.configuration_key(c)] = tracker.configuration(
            c,
            finals,
            _numbers(summary),
            int(1000 * max(ends, default=0)),
            confusion=summary.confusion.tolist(),
            settings=fixed.get(c.key),
            digest=self._sweep.digests[c.data],
            histories=history.to_json(tried) if tried else "",
        )

    def _write_without_results(self, c: Configuration, runs: dict[str, str], tracker: Tracker) -> None:
        """Write a row of which no fold was asked for, so that the runs of its trials have a parent that ended."""
        self.experiments.add(tracker.experiment(c))
        runs[names.configuration_key(c)] = tracker.configuration(c, {}, {}, 0, digest=self._sweep.digests[c.database])

    def _write_card(self, card: Card, tracker: Tracker) -> None:
        tracker.card(card.configuration, card.record.trial_id, card.text)

    def _log_model(self, client: Any, run_id: str, record: Record) -> None:
        """Log a final trial's model to its run, if its weights are there."""
        try:
            weights = read_bytes(self._ledger.model_path(record))
        except FileNotFoundError:
            return
        mlflow_model.log_model(client, run_id, record, weights)

    def _with_runs(self, results: Results) -> Results:
        try:
            return reading.with_runs(results, self._sweep.storage, self._sweep.tracking_uri)
        except RequestError as error:
            self._printer.warn(f"The page names no runs, because MLflow cannot be read: {error.problems[0]}")
            return results


def _numbers(summary: Summary) -> dict[str, float]:
    """Return the figures of a row as metrics: pooled, mean of folds, by fold and by emotion, as far as they exist.

    A fold's UAR is a mean over its seeds. An emotion's recall is over all done folds and seeds.
    """
    numbers = {"folds_done": float(len(summary.done)), "folds_total": float(summary.configuration.folds_total)}
    if summary.figures is not None:
        for name in ("war_pooled", "uar_pooled", "war_mean", "war_sd", "uar_mean", "uar_sd"):
            numbers[f"test/{name}"] = getattr(summary.figures, name)
    for fold in summary.done:
        each = [metrics.uar(summary.matrices[fold, seed]) for seed in summary.configuration.seeds]
        numbers[names.by_fold("test", fold)] = float(np.mean(each))
    recalls = metrics.recalls(summary.confusion).tolist()
    for emotion, value in zip(summary.configuration.emotions, recalls, strict=True):
        numbers[names.recall("test", emotion)] = value
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def _artifacts_folder(storage: Place, uri: str) -> Path:
    """Return where artifacts of a local MLflow go: beside the ledger, or beside the database of a remote ledger."""
    if isinstance(storage, Path):
        return storage / "mlartifacts"
    database = sqlite_path(uri)
    return (database.parent if database else Path()) / "mlartifacts"  # a server's artifacts are the server's
