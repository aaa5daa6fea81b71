"""The settings that every search chose, as tables: a line per study or fold, a column per searched setting.

Nothing is chosen here. Where what the studies tried was not kept, the settings are those of the final trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfser.errors import counted
from tfser.evaluation import metrics
from tfser.planning import settings_in_words
from tfser.report.page.gaps import heading
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables.table import Column, Row, Table, Value, percent
from tfser.search.history import ENOUGH, History, finished, in_order

_SEARCHED = ("nested", "global", "oracle")


def tables(summaries: Sequence[Summary], histories: Sequence[History], published: Published) -> list[Table]:
    """Make a table for every row whose settings were searched.

    Args:
        summaries: every row.
        histories: what the studies tried, as far as it was kept.
        published: the titles of methods.
    """
    made: list[Table] = []
    for summary in summaries:
        own = in_order([h for h in histories if h.configuration.key == summary.configuration.key])
        lines = _of_studies(own, summary) if own else _of_records(summary)
        names = list(dict.fromkeys(name for line in lines for name in line["settings"]))
        if names:
            made.append(_table(f"chosen-{len(made) + 1}", summary, lines, names, own, published))
    return made


def _of_studies(histories: Sequence[History], summary: Summary) -> list[dict[str, Any]]:
    """Return a line per study: what it chose, the score of that, and how many settings it tried."""
    lines = []
    for history in histories:
        states = Counter(tried.state for tried in history.tried)
        line: dict[str, Any] = {
            "fold": history.label,
            "settings": {},
            "tried": ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none",
            "test": _test(summary, history.folds),
        }
        if history.chosen is not None:
            best = history.tried[history.chosen]
            line |= {"settings": best.hyperparameters, "validation": best.validation_uar, "epochs": best.epochs}
        lines.append(line)
    return lines


def _of_records(summary: Summary) -> list[dict[str, Any]]:
    """Return a line per final trial: those of its settings that were not asked for, so that a search chose them."""
    c = summary.configuration
    if c.selection not in _SEARCHED or not settings_in_words.recorded(c.settings):
        return []
    asked = settings_in_words.values(c)
    chosen = {name for record in summary.records.values() for name in record.spec.settings if name not in asked}
    wholes = {
        key: settings_in_words.whole(c.model, c.own, record.spec.settings) for key, record in summary.records.items()
    }
    return [
        {
            "fold": fold if len(c.seeds) == 1 else f"{fold}, seed {seed}",
            "settings": {name: value for name, value in wholes[fold, seed].items() if name in chosen},
            "epochs": None if record.fitted else record.epochs,
            "test": metrics.uar(record.scores.matrix),
        }
        for (fold, seed), record in summary.records.items()
    ]


def _test(summary: Summary, folds: Sequence[str]) -> float | None:
    """Return the mean UAR over the seeds of the only fold that a study chose for."""
    if len(folds) != 1 or folds[0] not in summary.done:
        return None
    return float(np.mean([metrics.uar(summary.matrices[folds[0], seed]) for seed in summary.configuration.seeds]))


def _table(
    name: str,
    summary: Summary,
    lines: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    histories: Sequence[History],
    published: Published,
) -> Table:
    columns = [Column(key="fold", title=f"Test {summary.configuration.protocol}")]
    columns += [Column(key=f"setting {setting}", title=setting) for setting in names]
    columns += [
        Column(key="validation", title="Validation UAR (%)", numeric=True),
        Column(key="test", title="Test UAR (%)", numeric=True),
        Column(key="epochs", title="Epochs", numeric=True, form="whole"),
        Column(key="tried", title="Settings tried"),
    ]
    rows = []
    for line in lines:
        values: dict[str, Value] = {key: line.get(key) for key in ("fold", "validation", "test", "epochs", "tried")}
        values |= {f"setting {setting}": _word(line["settings"][setting]) for setting in line["settings"]}
        rows.append(Row(ours=False, values=values))
    there = {key for row in rows for key, value in row.values.items() if value is not None}
    return Table(
        name=name,
        title=heading(summary, published),
        database=summary.configuration.database,
        columns=tuple(column for column in columns if column.key in there),
        rows=tuple(rows),
        notes=tuple(_notes(histories)),
    )


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _notes(histories: Sequence[History]) -> list[str]:
    """Say how much each setting mattered, where enough were tried to tell."""
    if not histories:
        return ["What the studies tried was not kept; these are the settings of the final trials."]
    told = [h for h in histories if h.importances]
    if not told:
        counts = [finished(h) for h in histories]
        said = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        here = f"; here {said}" if len(counts) == 1 else f"; here each finished {said}"
        return [f"How much a setting mattered is told where a study finished {ENOUGH} settings or more{here}."]
    shares: dict[str, list[float]] = {}
    for history in told:
        for setting, share in history.importances.items():
            shares.setdefault(setting, []).append(share)
    means = sorted(((float(np.mean(values)), setting) for setting, values in shares.items()), reverse=True)
    each = ", ".join(f"{setting} {percent(share)} %" for share, setting in means)
    fewest = min(finished(h) for h in told)
    of = f"mean of {counted(len(told), 'study', 'studies')} that finished at least {counted(fewest, 'setting')}"
    return [f"Importance of each setting (PED-ANOVA share of the validation UAR's variance, {of}): {each}."]
