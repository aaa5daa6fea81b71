"""Models for use: their model cards, and what to type next. Trains nothing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tfser.execution import rows
from tfser.execution.rows import Row
from tfser.planning.configuration import Configuration
from tfser.record import Record
from tfser.report import model_card
from tfser.report.file_names import row_names
from tfser.report.summary import Summary, summarise
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place, commit_text
from tfser.sweep.printer import Printer
from tfser.sweep.request import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model card that was written."""

    configuration: Configuration
    record: Record
    text: str
    path: Place


def cards(sweep: Sweep, ledger: Ledger, kept: Sequence[Row]) -> list[Card]:
    """Write the model card of every model for use of a sweep: beside its weights, and beside the tables.

    It is written again by every start, because results of folds may have come since.

    Args:
        sweep: the sweep; a model of a database that this start does not read keeps the card that it has.
        ledger: holds its trials.
        kept: its rows.

    Raises:
        OSError: a card cannot be written.
    """
    names = row_names(row.configuration.key for row in kept)
    made = []
    for row in kept:
        c, record = row.configuration, ledger.get(row.deploy) if row.deploy else None
        if not isinstance(record, Record) or c.database not in sweep.databases:
            continue
        database = sweep.databases[c.database]
        summary, sweeps = _results(sweep, ledger, c)
        about = model_card.About(
            record=record,
            configuration=c,
            info=database.info,
            remark=database.remark,
            summary=summary,
            sweeps=sweeps,
            command=row.deployed_by,
        )
        text, path = model_card.text(about), sweep.out / sweep.name / f"model_card_{names[c.key]}.md"
        for place in (ledger.card_path(record.trial_id), path):
            commit_text(place, text)
        made.append(Card(configuration=c, record=record, text=text, path=path))
    return made


def _results(sweep: Sweep, ledger: Ledger, configuration: Configuration) -> tuple[Summary | None, list[str]]:
    """Return the results of folds of a configuration, and the sweeps of this storage that hold them."""
    known = rows.every(sweep.storage)
    alike = [row for row in known if row.configuration.key == configuration.key and row.finals]
    trials = {trial for row in alike for seeds in row.finals.values() for trial in seeds.values()}
    entries = {trial: entry for trial in trials if (entry := ledger.get(trial)) is not None}
    results = rows.assembled(sweep.name, alike, entries)
    return (summarise(results[0])[0] if results else None), sorted({row.sweep for row in alike})


def say_models(printer: Printer, sweep: Sweep, made: Sequence[Card]) -> None:
    """Print where the cards are and how files are scored; the models have no score to print.

    Args:
        printer: prints it.
        sweep: the sweep.
        made: its cards.
    """
    for card in made:
        c = card.configuration
        which = f"{c.model} {c.ablation} on every {c.unit} of {c.database}"
        printer.say(f"Model for use: trial {card.record.trial_id}, {which}")
        printer.say_place("Model card", card.path)
    if made:
        words = [sweep.name, "--purpose", "deploy"] if len(made) == 1 else [made[0].record.trial_id]
        out = [] if sweep.options.out is None else ["--results", str(sweep.out)]
        storage = [] if sweep.options.storage is None else ["--storage", str(sweep.storage)]
        printer.say(f"Score files: {shlex.join(['tfser', 'predict', *words, 'file.wav', *out, *storage])}")
        printer.say("It has no test score; the command without --purpose deploy says what to expect of new speakers.")
