"""The ablation tables, as table 5 of the first paper and table III of the second: parts, published figures, ours.

Builds values only; ``formats`` writes them. One table per database, protocol, model and selection: figures of
several corpora side by side, as the papers print them, leave no room for ours beside theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tfser.report import notes
from tfser.report.comparison import comparable, label
from tfser.report.published import Published, PublishedAblation
from tfser.report.summary import Summary
from tfser.report.table import DAGGER, Column, Row, Table, Value, with_best

_BEFORE_PARTS = ("database", "protocol", "model", "ablation", "selection")
_AFTER_PARTS = (
    "paper",
    "war_published",
    "uar_published",
    "war_pooled",
    "uar_pooled",
    "war_mean",
    "war_sd",
    "uar_mean",
    "uar_sd",
    "folds_done",
    "folds_total",
    "seeds",
)


def csv_columns(published: Published) -> tuple[str, ...]:
    """Of ablation.csv: every part of every model has a column, empty for a model that has no such part."""
    parts = dict.fromkeys(part for ablation in published.ablations for part in ablation.parts)
    return (*_BEFORE_PARTS, *parts, *_AFTER_PARTS)


def part_title(part: str) -> str:
    """``tf_trans`` as the papers print it: ``TF-Trans``; ``attention``: ``Attention``."""
    words = part.split("_")
    return "-".join(word.upper() if len(word) <= 2 else word.capitalize() for word in words)


def tables(summaries: Sequence[Summary], published: Published) -> list[Table]:
    """One table per database, protocol, model and selection, in that order."""

    def group(summary: Summary) -> tuple[str, str, str, str]:
        configuration = summary.configuration
        return (configuration.database, configuration.protocol, configuration.model, configuration.selection)

    return [_table(list(members), published) for _, members in groupby(sorted(summaries, key=group), key=group)]


def _table(summaries: list[Summary], published: Published) -> Table:
    first = summaries[0].configuration
    ours = {s.configuration.ablation: s for s in summaries}
    known = {a.ablation: a for a in published.ablations_of(first.model)}
    # The papers' order; rows that were not run appear only where there is a figure to show for them.
    printed = [name for name, a in known.items() if first.database in a.figures or name in ours]
    names = printed + sorted(ours.keys() - known.keys())
    has_published = any(first.database in a.figures for a in known.values())
    rows = [_row(name, ours.get(name), known.get(name), summaries[0]) for name in names]
    columns = _columns(known, has_published)
    return Table(
        name=label("ablation", *(first.database, first.protocol, first.model, first.selection)),
        title=f"Ablations of {published.model_title(first.model)} on {first.database}, {first.protocol_name}, in percent",
        columns=columns,
        rows=with_best(rows, columns, "ablation"),
        notes=tuple(_notes(summaries, known, has_published, published)),
        best_note=notes.BEST,
    )


def _columns(known: dict[str, PublishedAblation], has_published: bool) -> tuple[Column, ...]:
    parts = dict.fromkeys(part for ablation in known.values() for part in ablation.parts)
    theirs = [
        Column(key="war_published", title="WAR", group="Published", numeric=True, published=True),
        Column(key="uar_published", title="UAR", group="Published", numeric=True, published=True),
    ]
    return (
        Column(key="ablation", title="Architecture"),
        *(Column(key=part, title=part_title(part)) for part in parts),
        *(theirs if has_published else []),
        Column(key="war_pooled", title="WAR", group="Ours, pooled", numeric=True),
        Column(key="uar_pooled", title="UAR", group="Ours, pooled", numeric=True),
        Column(key="war_mean", title="WAR", group="Ours, mean of folds", numeric=True, spread="war_sd"),
        Column(key="uar_mean", title="UAR", group="Ours, mean of folds", numeric=True, spread="uar_sd"),
        Column(key="folds", title="Folds"),
    )


def _row(name: str, summary: Summary | None, known: PublishedAblation | None, sibling: Summary) -> Row:
    configuration = sibling.configuration
    values: dict[str, Value] = {
        "database": configuration.database,
        "protocol": configuration.protocol_name,
        "model": configuration.model,
        "ablation": name,
        "selection": configuration.selection,
        "folds": "not run",
    }
    if known is not None:
        values |= known.parts
        war, uar = known.figures.get(configuration.database, (None, None))
        if (war, uar) != (None, None):
            values |= {"paper": known.paper, "war_published": war, "uar_published": uar}
    if summary is None:
        return Row(ours=True, values=values, comparable=False)
    values |= {
        "folds": f"{summary.folds}{DAGGER}" if summary.incomplete else summary.folds,
        "folds_done": len(summary.done),
        "folds_total": summary.configuration.folds_total,
        "seeds": len(summary.configuration.seeds),
    }
    if summary.figures is not None:
        figures = summary.figures
        values |= {"war_pooled": figures.war_pooled, "uar_pooled": figures.uar_pooled}
        values |= {"war_mean": figures.war_mean, "war_sd": figures.war_sd, "uar_mean": figures.uar_mean, "uar_sd": figures.uar_sd}
    return Row(ours=True, values=values, marked=summary.incomplete, comparable=comparable(summary))


def _notes(summaries: list[Summary], known: dict[str, PublishedAblation], has_published: bool, published: Published) -> list[str]:
    database = summaries[0].configuration.database
    said = notes.of_database(summaries, published)
    if has_published:
        paper = next(a.paper for a in known.values())
        said.append(
            f"Published: {paper}, {published.papers[paper]}; leave-one-speaker-out, as printed; how it averages over folds is not stated."
        )
    else:
        said.append(f"No ablation figure is published for {database}: the rows are ours only.")
    return said + notes.of_measurement(summaries, published)
