"""Table of what leaks are worth: an honest row, and the same setting under protocols that show it the test utterances.

Builds the table of what ``measured`` found; ``formats`` and ``terminal`` write it. No other table accepts a leaking
trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from tfser.errors import counted as in_words
from tfser.evaluation import metrics, significance, uncertainty
from tfser.evaluation.uncertainty import FIGURES
from tfser.leaks.measured import Entries, Measured, confusion
from tfser.leaks.plan import (
    EPOCH,
    HONEST,
    HYPERPARAMETERS,
    PER_SPEAKER,
    RANDOM_SPLIT,
    STANDARDISATION,
    TOGETHER,
    Leaks,
)
from tfser.models import Network, of
from tfser.planning.configuration import Configuration
from tfser.planning.settings import published_settings
from tfser.planning.settings_in_words import stated
from tfser.record import Record
from tfser.report.tables import notes
from tfser.report.tables.comparison import label
from tfser.report.tables.formats import csv_text
from tfser.report.tables.notes import of_coverage
from tfser.report.tables.table import (
    DAGGER,
    TRANSDUCTIVE,
    TRANSDUCTIVE_NOTE,
    Beneath,
    Column,
    Row,
    Table,
    Value,
    exact,
    known,
)
from tfser.text.row_names import with_ablation
from tfser.trial import Value as Setting

CSV_COLUMNS = (
    *("row", "leaked", "database", "database_state", "protocol", "model", "ablation", "epochs", "settings_tried"),
    *("folds_done", "folds_total", "seeds", "utterances", "speakers", "paired"),
    *(
        f"{figure}{part}"
        for figure in FIGURES
        for part in ("", "_low", "_high", "_difference", "_difference_low", "_difference_high")
    ),
    *("war_sd", "uar_sd"),
)
"""Columns of leaks.csv.

``_low`` and ``_high`` bound the 95 % interval over held-out speakers. ``_difference`` is this row minus the honest one;
``paired`` tells whether it is taken on the same folds, seeds and utterances. ``_sd`` is over folds.
"""

TRIAL_COLUMNS = (
    "row",
    "fold",
    "seed",
    "counts",
    "war",
    "uar",
    "epoch",
    "hyperparameters",
    "purpose",
    "leaks",
    "trial_id",
)
"""Columns of leaks_trials.csv, which lists every trial of every row.

``counts`` tells whether the row's numbers come from this trial or from another setting of the same fold and seed.
``epoch`` is the one that was scored.
"""


def table(leaks: Leaks, measured: list[Measured]) -> Table:
    """Make the table.

    Args:
        leaks: what was asked for.
        measured: the rows' numbers, from ``measured.measure``.
    """
    c = leaks.configuration
    return Table(
        name=label("leaks", c.database, c.protocol, c.model, c.ablation),
        title=f"What leaks are worth: {with_ablation(of(c).title, c.ablation)} on {c.database}, in percent",
        database=c.database,
        columns=_columns(),
        rows=tuple(_row(one, measured[0], leaks) for one in measured),
        notes=tuple(_notes(leaks, measured)),
    )


def titles(leaks: Leaks) -> dict[str, str]:
    """Return the printed title of each row, by its name; that of a transductive one is marked."""
    c, marked = leaks.configuration, {PER_SPEAKER, *(row.name for row in leaks.rows if row.transductive)}
    together = ["epoch"] * isinstance(of(c), Network) + ["hyperparameters"]
    together += ["standardisation"] * _leaks_statistics(leaks)
    made = {
        HONEST: f"nothing (honest, {c.protocol_name})",
        EPOCH: "epoch chosen on the test fold",
        HYPERPARAMETERS: "hyperparameters chosen on the test fold",
        STANDARDISATION: f"standardisation over all {c.unit}s",
        PER_SPEAKER: "standardisation per speaker",
        RANDOM_SPLIT: "random split over utterances",
        TOGETHER: f"{', '.join(together)} and split together",
    }
    return {name: title + (TRANSDUCTIVE if name in marked else "") for name, title in made.items()}


def _leaks_statistics(leaks: Leaks) -> bool:
    """Tell whether the statistics of all utterances are among what the last row leaks."""
    return any(settings["standardisation"] == "training" for settings in leaks.settings)


def _columns() -> tuple[Column, ...]:
    def figure(key: str, title: str, group: str, *, spread: str = "", paper: bool = True) -> Column:
        return Column(
            key=key,
            title=title,
            group=group,
            numeric=True,
            spread=spread,
            paper=paper,
            terminal=not paper,
            width=0 if paper else 10,
            beneath=(
                Beneath(text="[{}, {}]", keys=(f"{key}_low", f"{key}_high")),
                Beneath(text="{} to honest", keys=(f"{key}_difference",), form="points"),
                Beneath(text="[{}, {}]", keys=(f"{key}_difference_low", f"{key}_difference_high"), form="points"),
            ),
        )

    return (
        Column(key="leaked", title="What leaked", width=26),
        Column(key="folds", title="Folds", width=9),
        Column(key="printed_seeds", title="Seeds", terminal=False),
        figure("war_pooled", "WAR", "Pooled"),
        figure("uar_pooled", "UAR", "Pooled"),
        figure("war_mean", "WAR", "Mean of folds", spread="war_sd"),
        figure("uar_mean", "UAR", "Mean of folds", spread="uar_sd"),
        figure("uar_pooled", "UAR pooled", "", paper=False),
        figure("uar_mean", "UAR mean of folds", "", spread="uar_sd", paper=False),
    )


def _row(one: Measured, honest: Measured, leaks: Leaks) -> Row:
    c, done = leaks.configuration, len(one.done)
    values: dict[str, Value] = {
        "row": one.row.name,
        "leaked": titles(leaks)[one.row.name],
        "database": c.database,
        "database_state": "complete" if c.complete else "incomplete",
        "protocol": c.protocol_name if one.row.paired else RANDOM_SPLIT,
        "model": c.model,
        "ablation": c.ablation,
        "epochs": leaks.epochs if isinstance(of(c), Network) else None,
        "settings_tried": len(one.row.studies),
        "folds_done": done,
        "folds_total": c.folds_total,
        "folds": f"{done} of {c.folds_total}" + (DAGGER if done < c.folds_total else ""),
        "seeds": len(c.seeds),
        "printed_seeds": str(len(c.seeds)),
        "paired": one.row.paired,
    }
    if one.figures is not None and one.scores is not None:
        values |= {
            "utterances": len(one.scores.keys),
            "speakers": len({speaker for _, _, speaker, _ in one.scores.keys}),
        }
        for name in FIGURES:
            values[name] = getattr(one.figures, name)
            if name in one.intervals:
                values |= {f"{name}_low": one.intervals[name].low, f"{name}_high": one.intervals[name].high}
            if one is not honest:
                values |= _difference(name, one, honest, c)
        values |= {"war_sd": one.figures.war_sd, "uar_sd": one.figures.uar_sd}
    return Row(ours=True, values=values, marked=done < c.folds_total)


def _difference(figure: str, one: Measured, honest: Measured, c: Configuration) -> dict[str, Value]:
    """Return this row minus the honest one.

    It is taken on the folds that both have, or between whole rows where their folds are not the same.
    """
    if one.scores is None or honest.scores is None or one.figures is None or honest.figures is None:
        return {}
    if not one.row.paired:
        whole = len(one.done) == len(honest.done) == c.folds_total
        return {f"{figure}_difference": getattr(one.figures, figure) - getattr(honest.figures, figure)} if whole else {}
    if not set(one.done) & set(honest.done):
        return {}
    made = significance.compare(*significance.shared(one.scores, honest.scores), figure)
    return {
        f"{figure}_difference": made.difference,
        f"{figure}_difference_low": made.interval.low,
        f"{figure}_difference_high": made.interval.high,
    }


def _notes(leaks: Leaks, measured: list[Measured]) -> list[str]:
    c, named = leaks.configuration, {one.row.name: one for one in measured}
    said = [
        "Only the first row is a result. The others were shown their test utterances on purpose, so that published "
        "numbers whose protocol is known or suspected can be placed. They stand in no other table."
    ]
    if c.remark:
        said.append(f"{c.database}: {c.remark}")
    said.append(
        f"{c.database}: the database is complete."
        if c.complete
        else f"{c.database}: incomplete; it lacks its published counts."
    )
    if c.same_texts:
        said.append(
            f"{c.database}: speaker-independent at best, not text-independent; the same texts recur for every speaker."
        )
    if leaks.configuration.source:
        said.append(notes.of_source(leaks.configuration, of(leaks.configuration).title))
    said += [notes.AVERAGING, *(f"{titles(leaks)[name]}: {_sentence(name, leaks)}" for name in named)]
    if PER_SPEAKER in named or any(one.row.transductive for one in measured):
        said.append(TRANSDUCTIVE_NOTE)
    said += [f"Without a row for {titles(leaks)[name]}: {why}." for name, why in leaks.left_out.items()]
    if HYPERPARAMETERS in named or TOGETHER in named:
        listed = "; ".join(
            f"({i}) {_words(values, leaks.settings[0])}" for i, values in enumerate(leaks.settings[1:], start=2)
        )
        said.append(
            f"Settings tried: (1) that of the first row; {listed} ({leaks.origin}). More settings would be worth more."
        )
    if {EPOCH, HYPERPARAMETERS} & named.keys():
        said.append(
            "What is chosen by the test fold's UAR cannot have a lower mean of folds than the honest row: the last "
            "epoch and the first setting are among the choices."
        )
    said += _of_intervals(measured, c)
    if len(c.seeds) > 1:
        said.append(
            f"{len(c.seeds)} seeds: means over the seeds; a choice on the test fold is made for each seed by itself."
        )
    else:
        said.append("One seed: how much another seed would change is not known.")
    said += [text for one in measured for text in _gaps(one, leaks)]
    return said


def _sentence(name: str, leaks: Leaks) -> str:
    """Return the note that explains a row."""
    c, epochs, count = leaks.configuration, leaks.epochs, len(leaks.settings)
    setting = _words(leaks.settings[0], published_settings(c.model))
    kind, network = leaks.settings[0]["standardisation"], isinstance(of(c), Network)
    in_epochs = in_words(epochs, "epoch")
    each = f"each of the {in_epochs}" if epochs > 1 else "the one epoch"
    standardised = f"standardised with the training {c.unit}s" if kind == "training" else f"standardisation: {kind}"
    shares = (
        f"{c.folds_total} equal shares of the shuffled utterances, one held out per fold, so that its {c.unit}s are "
        "trained on too"
    )
    best = f"the best of {in_words(count, 'setting')}{' x ' + in_epochs if network else ''} per"
    leaky = [settings["standardisation"] == "training" for settings in leaks.settings]
    statistics = "standardisation over every utterance" + (", " if all(leaky) else " where it is over the training's, ")
    trained = f"{in_epochs}, the last one counts; {standardised}; " if network else ""
    return {
        HONEST: f"{trained}{setting}; nothing chosen on data.",
        EPOCH: f"as the first row, but scored on the test fold after {each}; the one with the best UAR counts.",
        HYPERPARAMETERS: f"as the first row, but with {in_words(count, 'setting')}; for each fold the one with the "
        "best UAR on the test fold counts.",
        STANDARDISATION: f"as the first row, but mean and deviation of each {'band' if network else 'value'} are those "
        "of every utterance, the test fold's among them.",
        PER_SPEAKER: "as the first row, but each speaker is standardised with all of that speaker's utterances, the "
        "test speaker's unlabelled audio among them.",
        RANDOM_SPLIT: f"as the first row, but with {shares}; one shuffle, stratified by nothing.",
        TOGETHER: f"random split, {statistics if any(leaky) else ''}and {best} fold.",
    }[name]


def _words(values: Mapping[str, Setting], usual: Mapping[str, Setting]) -> str:
    """Describe a setting by its values that are not the usual ones."""
    other = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if usual[name] != value
    ]
    return ", ".join(other) if other else "settings as published"


def _of_intervals(measured: list[Measured], c: Configuration) -> Iterator[str]:
    of_figures = [interval for one in measured for interval in one.intervals.values()]
    yield from dict.fromkeys(f"No interval is given {interval.reason}." for interval in of_figures if interval.reason)
    given = [interval for interval in of_figures if not interval.reason]
    if given:
        yield f"In brackets below a figure: 95 % interval ({uncertainty.METHODS[given[0].method]})."
    yield from of_coverage((c.unit, interval) for interval in given)
    if any(one.row.paired for one in measured[1:]):
        yield (
            "To honest: difference to the first row in percentage points, paired on the same folds, seeds and "
            f"utterances, with its 95 % interval over held-out {c.unit}s."
        )
    if any(not one.row.paired for one in measured):
        yield (
            f"Where utterances are split at random no interval over {c.unit}s can be given, since none is held out; "
            "± is over the shares, and the difference to the first row is unpaired, of whole rows only."
        )


def _gaps(one: Measured, leaks: Leaks) -> Iterator[str]:
    c, name = leaks.configuration, titles(leaks)[one.row.name]
    if one.failed:
        yield f"{name}: {one.failed} trainings failed, and another setting was chosen there."
    parts = ["missing " + "; ".join(f"{fold} ({why})" for fold, why in one.missing.items())] if one.missing else []
    if len(one.row.folds) < c.folds_total:
        parts.append(f"{c.folds_total - len(one.row.folds)} not asked for")
    if parts:
        yield f"{DAGGER} {name}: {len(one.done)} of {c.folds_total} folds, not the whole; {', '.join(parts)}."


def trials_csv(leaks: Leaks, measured: list[Measured], entries: Entries) -> str:
    """Return the content of leaks_trials.csv."""
    rows: list[list[Value]] = []
    for one in measured:
        counted = {record.trial_id for record in one.counted.values()}
        for study in one.row.studies:
            for (fold, seed), spec in study.final_specs(study.base, study.epochs).items():
                entry = entries.get((study.configuration, fold, seed))
                record = entry if isinstance(entry, Record) else None
                matrix = confusion(record, leaks.configuration) if record else None
                war, uar = (math.nan, math.nan) if matrix is None else (metrics.war(matrix), metrics.uar(matrix))
                scored = record.epochs if record and record.fitted is None else None
                told = stated(spec.model, study.configuration.own, spec.settings)
                settings = json.dumps(told, sort_keys=True, ensure_ascii=False)
                rows.append(
                    [
                        one.row.name,
                        fold,
                        seed,
                        spec.trial_id in counted,
                        *(exact(v) if known(v) else None for v in (war, uar)),
                        scored,
                    ]
                    + [settings, spec.purpose, " ".join(spec.leaks), spec.trial_id]
                )
    return csv_text(TRIAL_COLUMNS, rows)
