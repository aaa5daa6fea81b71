"""The ablation tables, as table 5 of the first paper and table III of the second: parts, published figures, ours.

This module only builds values; ``formats`` writes them. There is one table per database, protocol, model, selection and
settings: several corpora side by side, as the papers print them, would leave no room for ours beside theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tfser.execution.results import KEY_COLUMNS
from tfser.report.published import Published, PublishedAblation, Shares
from tfser.report.summary import Summary
from tfser.report.tables import notes, printed_figures
from tfser.report.tables.comparison import beneath, comparable, label
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed_figures import Printed
from tfser.report.tables.table import DAGGER, NO_SHARE, TRANSDUCTIVE_NOTE, Beneath, Column, Row, Table, Value, with_best
from tfser.report.tables.table import TRANSDUCTIVE as MARK

_BEFORE_PARTS = KEY_COLUMNS
_FIGURES = tuple(
    f"{name}_{kind}{what}"
    for kind in ("pooled", "mean")
    for name in ("war", "uar")
    for what in ("", "_seed_sd", "_low", "_high")
)
_DIFFERENCES = tuple(
    f"{name}_{what}"
    for name in ("uar", "war")
    for what in ("difference", "difference_low", "difference_high", "p", "p_holm")
)
_AFTER_PARTS = (
    "database_state",
    "paper",
    "war_published",
    "uar_published",
    *_FIGURES,
    "war_sd",
    "uar_sd",
    "uar_mean_zeros",
    "uar_sd_zeros",
    "folds_done",
    "folds_total",
    "seeds",
    "utterances",
    "speakers",
    "compared_with",
    "folds_compared",
    "seeds_compared",
    *_DIFFERENCES,
)
"""Columns of ablation.csv around those of the parts.

``_sd`` is over folds, ``_seed_sd`` over seeds; ``_low`` and ``_high`` bound the 95 % interval; ``uar_mean_zeros``
counts absent emotions as a recall of 0. Differences are of the means of folds, this row minus ``compared_with``.
"""


def csv_columns(published: Published) -> tuple[str, ...]:
    """Return the columns of ablation.csv; every part of every model has one, empty for models without it."""
    parts = dict.fromkeys(part for ablation in published.ablations for part in ablation.parts)
    return (*_BEFORE_PARTS, *parts, *_AFTER_PARTS)


def part_title(part: str) -> str:
    """Write a part as the papers print it: ``tf_trans`` as ``TF-Trans``, ``attention`` as ``Attention``."""
    words = part.split("_")
    return "-".join(word.upper() if len(word) <= 2 else word.capitalize() for word in words)


def tables(summaries: Sequence[Summary], published: Published, rows: Rows) -> list[Table]:
    """Make one table per database, protocol, model, selection and settings, in that order."""

    def group(summary: Summary) -> tuple[str, ...]:
        c = summary.configuration
        return (c.database, c.database_digest, c.protocol, c.model, c.selection, c.settings)

    return [_table(list(members), published, rows) for _, members in groupby(sorted(summaries, key=group), key=group)]


def overviews(summaries: Sequence[Summary], published: Published) -> list[Table]:
    """Make the papers' form, databases side by side with ours below theirs: a table per protocol, model and selection.

    There are several only for several databases. Each database's own table says what a figure leaves out.
    """

    def group(summary: Summary) -> tuple[str, ...]:
        c = summary.configuration
        return (c.protocol, c.model, c.selection, c.settings)

    grouped = [list(members) for _, members in groupby(sorted(summaries, key=group), key=group)]
    return [
        _overview(members, published) for members in grouped if len({s.configuration.database for s in members}) > 1
    ]


def _overview(summaries: list[Summary], published: Published) -> Table:
    first = summaries[0].configuration
    databases = sorted({s.configuration.database for s in summaries})
    known = {a.ablation: a for a in published.ablations_of(first.model)}
    ours = {(s.configuration.ablation, s.configuration.database): s for s in summaries}
    names = [*known, *sorted({name for name, _ in ours} - known.keys())]
    parts = dict.fromkeys(part for ablation in known.values() for part in ablation.parts)
    rows = []
    for name in names:
        theirs = known[name].figures if name in known else {}
        shared: dict[str, Value] = {"ablation": name, **(known[name].parts if name in known else {})}
        printed = {d: theirs[d] for d in databases if d in theirs}
        if printed:
            figures = {
                f"{measure}@{d}": value
                for d, pair in printed.items()
                for measure, value in zip(("war", "uar"), pair, strict=True)
            }
            marks = {
                k: v for d in printed for k, v in printed_figures.marks(_shares(known[name], d), f"{{}}@{d}").items()
            }
            values = {**shared, "whose": "published", **figures}
            rows.append(Row(ours=False, values=values, marks=marks, comparable=False))
        mark = MARK if first.transductive else ""
        for kind, words in (("pooled", f"ours{mark}, pooled"), ("mean", f"ours{mark}, mean of folds")):
            numbers: dict[str, Value] = {}
            about: dict[str, tuple[str, ...]] = {}
            marked: set[str] = set()
            for database in databases:
                summary = ours.get((name, database))
                if summary is None or summary.figures is None:
                    continue
                for measure in ("war", "uar"):
                    key = f"{measure}@{database}"
                    numbers[key] = getattr(summary.figures, f"{measure}_{kind}")
                    about[key] = summary.configuration.key
                    marked |= {key} if summary.incomplete else set()
            if numbers:
                values = {**shared, "whose": words, **numbers}
                rows.append(
                    Row(ours=True, about_keys=about, values=values, marked_keys=frozenset(marked), comparable=False)
                )
    columns = (
        Column(key="ablation", title="Architecture"),
        *(Column(key=part, title=part_title(part)) for part in parts),
        Column(key="whose", title="Figures"),
        *(Column(key=f"{m}@{d}", title=m.upper(), group=d, numeric=True) for d in databases for m in ("war", "uar")),
    )
    said = [f"Of each database: its own table says what stands behind its figures. {notes.AVERAGING}"]
    if any(row.marked_keys for row in rows):
        said.append(f"{DAGGER} Folds are missing; that database's own table names them.")
    if any(row.marks for row in rows):
        said.append(f"{NO_SHARE} No share of that database's utterances; its own table has the arithmetic.")
    if first.transductive:
        said.append(TRANSDUCTIVE_NOTE)
    return Table(
        name=label("ablation", "overview", first.protocol, first.model, first.selection),
        title=f"Ablations of {published.model_title(first.model)}, {first.protocol_name}, "
        f"selection {summaries[0].selection}, in percent",
        database="",
        columns=columns,
        rows=tuple(rows),
        notes=tuple(said),
        ruled=False,
    )


def _table(summaries: list[Summary], published: Published, uncertain: Rows) -> Table:
    first = summaries[0].configuration
    ours = {s.configuration.ablation: s for s in summaries}
    known = {a.ablation: a for a in published.ablations_of(first.model)}
    # The papers' order; rows that were not run appear only if a figure is published for them.
    printed = [name for name, a in known.items() if first.database in a.figures or name in ours]
    names = printed + sorted(ours.keys() - known.keys())
    has_published = any(first.database in a.figures for a in known.values())
    rows = [_row(name, ours.get(name), known.get(name), summaries[0], uncertain) for name in names]
    whole = next((name for name in ours if published.is_full(first.model, name)), "")
    pairs = [pair for name in ours if (pair := uncertain.against_whole(ours[name].configuration, "uar_mean"))]
    columns = _columns(known, has_published, whole if pairs else "")
    chosen = summaries[0].selection
    said = f", selection {chosen}" if chosen != first.selection else ""
    what = f"Ablations of {published.model_title(first.model)} on {uncertain.database(first)}"
    title = f"{what}, {first.protocol_name}{said}, in percent"
    return Table(
        name=label("ablation", *(first.database, first.protocol, first.model, chosen)),
        title=title,
        database=first.database,
        columns=columns,
        rows=with_best(rows, columns, "ablation"),
        notes=tuple(_notes(summaries, known, has_published, published, uncertain, notes.of_pairs(pairs, whole))),
        terminal_notes=tuple(notes.of_pairs(pairs, whole)),
        best_note=notes.BEST,
    )


def _columns(known: dict[str, PublishedAblation], has_published: bool, whole: str) -> tuple[Column, ...]:
    parts = dict.fromkeys(part for ablation in known.values() for part in ablation.parts)
    pooled, mean = "Ours, pooled", "Ours, mean of folds"
    zeros = Beneath(text="absent as 0: {}", keys=("uar_shown_zeros",))
    around = Beneath(text="[{}, {}]", keys=("uar_difference_low", "uar_difference_high"), form="points")
    p = Beneath(text="p {}", keys=("uar_p_holm",), form="probability")

    def paper(
        key: str, title: str, group: str, spread: str = "", further: tuple[Beneath, ...] = (), form: str = "percent"
    ) -> Column:
        shown = beneath(key) if form == "percent" and group != "Published" else ()
        return Column(
            key=key,
            title=title,
            group=group,
            numeric=True,
            form=form,
            spread=spread,
            published=group == "Published",
            beneath=(*shown, *further),
            terminal=False,
        )

    against = Beneath(text="{} to whole", keys=("uar_difference",), form="points")
    in_terminal = [
        *(
            [Column(key="uar_published", title="UAR in print", numeric=True, published=True, paper=False, width=6)]
            if has_published
            else []
        ),
        Column(key="uar_pooled", title="UAR pooled", numeric=True, paper=False, width=14),
        Column(
            key="uar_mean",
            title="UAR mean of folds",
            numeric=True,
            spread="uar_sd",
            paper=False,
            width=14,
            beneath=(*beneath("uar_mean"), against, p) if whole else beneath("uar_mean"),
        ),
    ]
    return (
        Column(key="printed_ablation", title="Architecture"),
        *(Column(key=part, title=part_title(part), width=7) for part in parts),
        *(
            [paper(f"{measure}_published", measure.upper(), "Published") for measure in ("war", "uar")]
            if has_published
            else []
        ),
        paper("war_pooled", "WAR", pooled),
        paper("uar_pooled", "UAR", pooled),
        paper("war_mean", "WAR", mean, "war_sd"),
        paper("uar_mean", "UAR", mean, "uar_sd", (zeros,)),
        *([paper("uar_difference", f"UAR − {whole}", mean, further=(around, p), form="points")] if whole else []),
        *in_terminal,
        Column(key="printed_seeds", title="Seeds", terminal=False),
        Column(key="folds", title="Folds", width=8),
    )


def _row(name: str, summary: Summary | None, known: PublishedAblation | None, sibling: Summary, uncertain: Rows) -> Row:
    configuration = sibling.configuration
    values: dict[str, Value] = {
        **dict(zip(KEY_COLUMNS, configuration.key, strict=True)),
        "protocol": configuration.protocol_name,
        "ablation": name,
        "printed_ablation": name,
        "folds": "not run",
    }
    marks: dict[str, str] = {}
    if known is not None:
        values |= known.parts
        war, uar = known.figures.get(configuration.database, (None, None))
        if (war, uar) != (None, None):
            values |= {"paper": known.paper, "war_published": war, "uar_published": uar}
            marks = printed_figures.marks(_shares(known, configuration.database), "{}_published")
    if summary is None:
        return Row(ours=True, values=values, marks=marks, comparable=False)
    values |= {
        "printed_ablation": f"{name}{MARK}" if summary.configuration.transductive else name,
        "database_state": "complete" if summary.configuration.complete else "incomplete",
        "folds": f"{summary.folds}{DAGGER}" if summary.incomplete else summary.folds,
        "folds_done": len(summary.done),
        "folds_total": summary.configuration.folds_total,
        "seeds": len(summary.configuration.seeds),
        "printed_seeds": str(len(summary.configuration.seeds)),
        "utterances": summary.utterances,
        "speakers": len(summary.speakers),
    }
    if summary.figures is not None:
        intervals = uncertain.intervals[summary.configuration.key]
        for figure, interval in intervals.items():
            values[figure] = getattr(summary.figures, figure)
            values |= {
                f"{figure}_low": interval.low,
                f"{figure}_high": interval.high,
                f"{figure}_seed_sd": summary.seed_sd(figure),
            }
        values |= {"war_sd": summary.figures.war_sd, "uar_sd": summary.figures.uar_sd}
        values |= {"uar_mean_zeros": summary.uar_mean_zeros, "uar_sd_zeros": summary.uar_sd_zeros}
        values["uar_shown_zeros"] = summary.uar_mean_zeros if summary.zeros_differ else None
    for measure in ("uar", "war"):
        pair = uncertain.against_whole(summary.configuration, f"{measure}_mean")
        if pair is not None:
            made = pair.comparison
            values |= {
                "compared_with": pair.second.ablation,
                "folds_compared": made.folds,
                "seeds_compared": made.seeds,
            }
            values |= {
                f"{measure}_difference": made.difference,
                f"{measure}_p": made.p,
                f"{measure}_p_holm": pair.p_holm,
            }
            values |= {f"{measure}_difference_low": made.interval.low, f"{measure}_difference_high": made.interval.high}
    return Row(
        ours=True,
        about=summary.configuration.key,
        values=values,
        marked=summary.incomplete,
        marks=marks,
        comparable=comparable(summary),
    )


def _shares(known: PublishedAblation, database: str) -> Shares:
    return known.shares.get(database, {})


def _notes(
    summaries: list[Summary],
    known: dict[str, PublishedAblation],
    has_published: bool,
    published: Published,
    uncertain: Rows,
    of_pairs: list[str],
) -> list[str]:
    database = summaries[0].configuration.database
    said = notes.of_database(summaries, published)
    if has_published:
        paper = next(a.paper for a in known.values())
        said.append(
            f"Published: {paper}, {published.papers[paper]}; leave-one-speaker-out, as printed; "
            "how it averages over folds is not stated."
        )
        printed = [Printed(a.ablation, _shares(a, database)) for a in known.values()]
        said += [*printed_figures.notes(printed), *printed_figures.pooled(printed)]
    else:
        said.append(f"No ablation figure for {database} is cited: the rows are ours only.")
    said += notes.of_measurement(summaries, published, uncertain)
    return said + of_pairs
