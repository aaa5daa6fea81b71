"""Tables of what was trained on and with: databases (table 1 and table I), layers (tables 2 and 3) and settings.

This module only builds values. Counts are those of the test utterances that results hold, and never a corpus's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tfser.databases import KNOWN
from tfser.databases.combined import named
from tfser.planning import settings_in_words
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import layers, printed_notes
from tfser.report.tables.comparison import label
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed_notes import NOTHING, place
from tfser.report.tables.table import DAGGER, Column, Row, Table, Value

_DATABASE = (
    Column(key="place", title="Database", width=12),
    Column(key="language", title="Language", width=10),
    Column(key="emotions", title="Emotions", width=32),
    Column(key="speakers", title="Speakers", numeric=True, form="whole"),
    Column(key="utterances", title="Utterances", numeric=True, form="whole"),
    Column(key="rate", title="SR (Hz)", numeric=True, form="whole"),
)


def databases(summaries: Sequence[Summary], published: Published, rows: Rows) -> Table | None:
    """Make the table of the databases, from the row of each that has the most test utterances; ``None`` without one."""
    made = []
    ordered = printed_notes.in_order(summaries, published)
    for name, members in groupby(ordered, key=lambda s: place(s.configuration, rows)):
        whole = max(members, key=lambda s: s.utterances)
        if not whole.done:
            continue
        c = whole.configuration
        corpus, _ = named(c.database)
        info = KNOWN[corpus].info if corpus in KNOWN else None
        counts = whole.confusion.sum(axis=1) // len(c.seeds)
        values: dict[str, Value] = {
            "place": name,
            "language": info.language if info and info.language else NOTHING,
            "emotions": ", ".join(f"{e} ({n})" for e, n in zip(c.emotions, counts.tolist(), strict=True)),
            "speakers": len(whole.speakers),
            "utterances": whole.utterances,
            "rate": info.sampling_rate_hz if info else None,
        }
        marks = {"emotions": DAGGER} if whole.incomplete else {}
        made.append(Row(ours=True, values=values, nothing=NOTHING, marks=marks, marked_keys=_counted(whole)))
    if not made:
        return None
    short = any(row.marked_keys for row in made)
    return Table(
        name="databases",
        title="Databases",
        caption="Databases with the utterances that were scored, by emotion. SR: sampling rate of the corpus.",
        database="",
        columns=_DATABASE,
        rows=tuple(made),
        notes=(f"{DAGGER} Of the folds that are done.",) if short else (),
        ruled=False,
    )


def _counted(summary: Summary) -> frozenset[str]:
    return frozenset({"speakers", "utterances"}) if summary.incomplete else frozenset()


def in_words(table: Table) -> str:
    """Say in words what a table of a single database would show."""
    (row,) = table.rows
    v = row.values
    rate = f", {v['rate']} Hz" if v["rate"] else ""
    language = f" ({v['language']})" if v["language"] != NOTHING else ""
    counts = f"{v['utterances']} utterances of {v['speakers']} speakers were scored{DAGGER if row.marked_keys else ''}"
    return " ".join([f"{v['place']}{language}: {counts}{rate}; {v['emotions']}.", *table.notes])


_CONVOLUTIONS = ("Operation", "Out channels", "Kernel size", "Stride", "Padding")
_ENCODERS = ("Module", "Embed dimension", "Feed-forward dimension", "Attention heads")


def settings(summaries: Sequence[Summary], published: Published) -> list[Table]:
    """Make, for every model, the tables of its layers where it has some and that of its settings.

    They are about its whole form where that was run, else about all of its ablations.
    """

    def model(s: Summary) -> tuple[int, str]:
        name = s.configuration.model
        papers = [list(published.papers).index(a.paper) for a in published.ablations_of(name) if a.paper]
        return min(papers, default=len(published.papers)), name

    made: list[Table] = []
    for (_, name), members in groupby(sorted(summaries, key=model), key=model):
        every = list(members)
        whole = [s for s in every if published.is_full(name, s.configuration.ablation)] or every
        made += _of_model(name, whole, published)
    return [table for table in made if len(table.rows) > 1]


def _of_model(name: str, summaries: Sequence[Summary], published: Published) -> list[Table]:
    title, word = published.model_title(name), label(name)
    records = [record for s in summaries for record in s.records.values()]
    networks = layers.of_trials(records)
    convolutions = layers.joined([network.convolutions for network in networks])
    encoders = layers.joined([network.encoders for network in networks])
    sizes, widths = "Sizes along frequency and time.", "Dimensions are widths of a token."
    return [
        _table(f"convolutions-{word}", f"Convolutions of {title}", sizes, _CONVOLUTIONS, convolutions),
        _table(f"encoders-{word}", f"Attention encoders of {title}", widths, _ENCODERS, encoders),
        _settings(f"settings-{word}", f"Settings of {title}", name, summaries),
    ]


def _table(name: str, title: str, said: str, heads: Sequence[str], lines: Sequence[layers.Layer]) -> Table:
    columns = tuple(Column(key=str(i), title=head) for i, head in enumerate(heads))
    return Table(
        name=name,
        title=title,
        caption=f"{title}. {said}",
        database="",
        columns=columns,
        rows=tuple(
            Row(ours=True, values=dict(zip([c.key for c in columns], (line.name, *line.values), strict=True)))
            for line in lines
        ),
        ruled=False,
    )


_SEVERAL = "Several values were chosen for each fold, or belong to several rows."
_DEFAULTS = "Defaults are the published ones, or ours where the paper is silent."


def _settings(name: str, title: str, model: str, summaries: Sequence[Summary]) -> Table:
    """Make the table of a model's settings: every value that its final trials had, and the default."""
    trials = [(s.configuration, r) for s in summaries for r in s.records.values()]
    epochs = [r.epochs for _, r in trials if not r.fitted]
    named = {name for c, r in trials for name in settings_in_words.stated(c.model, c.own, r.spec.settings)}
    found = layers.differing(
        {
            name: value
            for name, value in settings_in_words.whole(c.model, c.own, r.spec.settings).items()
            if name in named
        }
        for c, r in trials
    )
    defaults = _defaults(model)
    every = {**({"epochs": epochs} if epochs else {}), **dict(sorted(found.items()))}
    several = any(len(set(values)) > 1 for values in every.values())
    rows = [
        Row(
            ours=True,
            values={
                "setting": key,
                "value": layers.one_of(sorted(set(values), key=_order)),
                "default": defaults.get(key, ""),
            },
        )
        for key, values in every.items()
    ]
    columns = [Column(key="setting", title="Setting"), Column(key="value", title="Value", width=24)]
    columns += [Column(key="default", title="Default", width=24)] if defaults else []
    return Table(
        name=name,
        title=title,
        caption=" ".join(
            [f"{title} in its final trials.", *([_SEVERAL] if several else [_DEFAULTS] if defaults else [])]
        ),
        database="",
        columns=tuple(columns),
        rows=tuple(rows),
        ruled=False,
    )


def _order(value: object) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return not number, float(value) if isinstance(value, (int, float)) else 0.0, str(value)


def _defaults(model: str) -> dict[str, str]:
    """Return a built-in model's defaults in words, the published ones where its paper states them.

    Another model's file may be gone when tables are made again, which shall not change them.
    """
    from tfser.models import MODELS, Network, built_in  # here, because it imports torch
    from tfser.planning.settings import published_settings

    if model not in built_in():
        return {}
    known, declared = published_settings(model), MODELS[model]
    epochs = {"epochs": str(declared.epochs)} if isinstance(declared, Network) else {}
    return {**epochs, **{name: layers.one_of([value]) for name, value in known.items()}}
