"""Every file of a report, written below one folder.

The columns of summary.csv, folds.csv and predictions.csv are a contract with other tools. Equal results give equal
bytes: rows are sorted, nothing is dated, and no file depends on the sweep's name or the order of its records. The
exception is report.html, which has the sweep's name and, if given, what differs from run to run
(``tfser.report.page.page``). Recalls in CSV are fractions rounded to 12 decimals; scores ``p_<emotion>`` have every
digit.

Some names look like numbers: pandas keeps the fold ``03`` and the id ``12345678e1234567`` only with
``dtype={"trial_id": str, "fold": str, "speaker": str}``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from tfser.errors import TfserError, counted
from tfser.evaluation import metrics
from tfser.execution.results import KEY_COLUMNS, Results
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import recorded, stated
from tfser.record import Record
from tfser.report import printed_files, published
from tfser.report.figures import confusion, contests, every, search
from tfser.report.file_names import row_names
from tfser.report.page import page
from tfser.report.provenance import Provenance
from tfser.report.summary import Summary, summarise
from tfser.report.tables import ablation, best, comparison, formats, paired, printed
from tfser.report.tables.paired import Rows
from tfser.report.tables.table import Value, exact
from tfser.search.history import with_told_importances
from tfser.storage import places
from tfser.storage.places import Place

SUMMARY_COLUMNS = (
    *KEY_COLUMNS,
    "folds_done",
    "folds_total",
    "seeds",
    "war_pooled",
    "uar_pooled",
    "war_mean",
    "war_sd",
    "uar_mean",
    "uar_sd",
)
"""Columns of summary.csv. ``seeds`` is a number; ``tfser.report.summary`` says which values are means over seeds.

The figures are those of the done folds, empty if there are none. Where a row is transductive, a last column
``transductive`` says of each whether it is, as the mark of the other tables does.
"""

_FOLDS_BEFORE = (*KEY_COLUMNS, "fold", "seed", "war", "uar")
_FOLDS_AFTER = ("utterances", "epochs", "hyperparameters", "trial_id")
_PREDICTIONS_BEFORE = ("trial_id", "utterance", "speaker", "truth", "predicted")


class LessError(TfserError):
    """Existing tables have folds that the new ones would lack; the message names them."""


Final = tuple[Configuration, str, int, Record]
"""A finished final trial: its row, fold, seed and record."""


def write(
    results: Results,
    folder: Place,
    *,
    pictures: bool = True,
    made: Provenance | None = None,
    more: Sequence[Place] = (),
    averaging: str = "pooled",
) -> list[Place]:
    """Write tables, figures and the page.

    Args:
        results: the sweep's rows, records of final trials (a failed one counts as missing) and searches.
        folder: made if missing; files of the same names are replaced, others stay.
        pictures: whether to draw figures too, which takes longer than all the rest.
        made: what differs from run to run; only report.html shows it.
        more: files of published figures beside those that come with tfser.
        averaging: of the printed tables, ``pooled`` or ``mean``; every other file has both.

    Returns:
        The written files, sorted.

    Raises:
        RecordError: a record contradicts itself or its row; nothing is written.
        LessError: existing tables hold folds that these lack; they stay as they are.
        OSError: the folder cannot be written.
    """
    results = replace(results, histories=with_told_importances(results.histories))
    summaries = summarise(results)
    figures = published.load(*more).of_rows(s.configuration for s in summaries)
    if lost := lacking(folder, {s.configuration: len(s.done) for s in summaries}):
        raise LessError(
            f"the tables in {folder} are left as they are, because they hold folds that these would lack:\n  - "
            + "\n  - ".join(lost)
            + "\nName another folder with --out, another sweep with --name, or remove that folder."
        )
    finals = sorted(_finals(results), key=lambda final: (*final[0].key, final[1], final[2]))
    emotions = sorted({emotion for configuration in results.configurations for emotion in configuration.emotions})
    rows = Rows(summaries, figures)
    pairs = rows.pairs()
    compared = comparison.tables(summaries, figures, rows)
    bests = best.tables(summaries, figures, rows)
    ablated = ablation.tables(summaries, figures, rows)
    overviews = ablation.overviews(summaries, figures)
    in_pairs = paired.tables(pairs, figures)
    fields = contests.fields(summaries, figures, rows)
    drawn = every.of_rows(summaries, figures, results.histories) if pictures else {}
    over = every.over_rows(summaries, figures, fields, rows) if pictures else []

    details = [*compared, *bests, *overviews, *ablated, *in_pairs]
    contents: dict[str, str | bytes] = {
        "summary.csv": _summary_csv(summaries),
        "folds.csv": formats.csv_text(
            (*_FOLDS_BEFORE, *(f"recall_{e}" for e in emotions), *_FOLDS_AFTER),
            (_fold_row(final, emotions) for final in finals),
        ),
        "predictions.csv": formats.csv_text(
            (*_PREDICTIONS_BEFORE, *(f"p_{e}" for e in emotions)), _prediction_rows(finals, emotions)
        ),
        "paired.csv": paired.to_csv(pairs),
        "pairwise.csv": contests.to_csv(fields),
        "details.csv": formats.details_csv(details),
        "details.md": formats.to_markdown("Details", details),
        "comparison.csv": formats.to_csv(comparison.CSV_COLUMNS, compared),
        "ablation.csv": formats.to_csv(ablation.csv_columns(figures), ablated),
        **printed_files.contents(summaries, figures, rows, averaging),
    }
    names = row_names(s.configuration.key for s in summaries)
    contents |= {f"confusion_{names[s.configuration.key]}.csv": confusion.to_csv(s) for s in summaries if s.done}
    contents |= every.files(drawn, over)
    if results.histories:
        contents["search.csv"] = search.to_csv(results.histories)
    content = page.Content(
        results=results,
        summaries=summaries,
        published=figures,
        rows=rows,
        printed=printed.make(summaries, figures, rows, averaging),
        compared=[*compared, *bests],
        ablated=[*overviews, *ablated],
        paired=in_pairs,
        averaging=averaging,
        pictures=drawn,
        figures=over,
        files=sorted(contents),
    )
    contents["report.html"] = page.page(content, made, folder)

    places.make_folder(folder)
    for name, text in contents.items():
        places.commit(folder / name, partial(_put, text.encode("utf-8") if isinstance(text, str) else text))
    return sorted(folder / name for name in contents)


def lacking(folder: Place, done: Mapping[Configuration, int]) -> list[str]:
    """List what a folder's tables hold that others would lack, a line per row.

    Args:
        folder: the folder, with or without tables.
        done: the others' rows with their numbers of done folds.
    """
    try:
        before = list(csv.DictReader(io.StringIO(places.read_text(folder / "summary.csv"))))
        held = [(row, (int(row["folds_done"]), int(row["seeds"]))) for row in before]
    except (FileNotFoundError, ValueError, KeyError, TypeError, csv.Error):
        return []  # no tables, or none that can be understood
    lines = []
    for row, (folds, seeds) in held:
        if _superseded(row, done):
            continue
        own = max(((count, len(c.seeds)) for c, count in done.items() if _same_row(row, c)), default=None)
        if folds and (own is None or (folds, seeds) > own):
            words = " / ".join(row.get(name) or "?" for name in _WORDS)
            rest = ", ".join(f"{name} {row[name]}" for name in ("database_digest", "settings") if row.get(name))
            there, here = counted(folds, "fold"), f"{own[0]} here" if own else "no such row here"
            if own and own[1] != seeds:
                there, here = f"{there} of {counted(seeds, 'seed')}", f"{own[0]} of {counted(own[1], 'seed')} here"
            lines.append(f"{words}{f' ({rest})' if rest else ''}: {there} there, {here}")
    return lines


_WORDS = ("database", "protocol", "model", "ablation", "selection")


def _same_row(row: Mapping[str, str], c: Configuration) -> bool:
    """Tell whether a line of summary.csv is about that row; earlier versions wrote neither digest nor settings."""
    chosen_by_none = ("published", "fixed")  # an earlier version called our own epochs published
    if (row.get("database"), row.get("protocol"), row.get("model"), row.get("ablation")) != c.words[:4]:
        return False
    if row.get("selection") != c.selection and not {row.get("selection"), c.selection} <= set(chosen_by_none):
        return False
    digest, text = row.get("database_digest"), row.get("settings")
    return (not digest or digest == c.database_digest) and (not text or not recorded(text) or text == c.settings)


def _superseded(row: Mapping[str, str], done: Iterable[Configuration]) -> bool:
    """Tell whether a line of summary.csv is about another source of a model, which was edited since."""
    try:
        source = json.loads(row.get("settings") or "{}").get("source", "")
    except (ValueError, AttributeError):
        return False
    now = {c.source for c in done if c.model == row.get("model") and c.source}
    return bool(source) and bool(now) and source not in now


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _finals(results: Results) -> Iterator[Final]:
    for configuration in results.configurations:
        for fold in configuration.folds:
            for seed in configuration.seeds:
                record = results.entries.get((configuration, fold, seed))
                if isinstance(record, Record):
                    yield configuration, fold, seed, record


def _summary_csv(summaries: Sequence[Summary]) -> str:
    """Return the content of summary.csv."""
    rows = [_summary_row(summary) for summary in summaries]
    marks = [summary.configuration.transductive for summary in summaries]
    if not any(marks):
        return formats.csv_text(SUMMARY_COLUMNS, rows)
    marked = [[*row, mark] for row, mark in zip(rows, marks, strict=True)]
    return formats.csv_text((*SUMMARY_COLUMNS, "transductive"), marked)


def _summary_row(summary: Summary) -> list[Value]:
    configuration, figures = summary.configuration, summary.figures
    row: list[Value] = [*configuration.key, len(summary.done), configuration.folds_total, len(configuration.seeds)]
    if figures is None:
        return row + [None] * 6
    numbers = (
        figures.war_pooled,
        figures.uar_pooled,
        figures.war_mean,
        figures.war_sd,
        figures.uar_mean,
        figures.uar_sd,
    )
    return row + [exact(number) for number in numbers]


def _fold_row(final: Final, emotions: list[str]) -> list[Value]:
    configuration, fold, seed, record = final
    counts = record.scores.matrix
    recalls = dict(zip(configuration.emotions, metrics.recalls(counts).tolist(), strict=True))
    return [
        *configuration.key,
        fold,
        seed,
        exact(metrics.war(counts)),
        exact(metrics.uar(counts)),
        *(exact(recalls[e]) if e in recalls else None for e in emotions),
        len(record.scores.utterances),
        None if record.fitted else record.epochs,
        json.dumps(
            stated(configuration.model, configuration.own, record.spec.settings), sort_keys=True, ensure_ascii=False
        ),
        record.trial_id,
    ]


def _prediction_rows(finals: list[Final], emotions: list[str]) -> Iterator[list[Value]]:
    # By trial id: a trial in two rows of a sweep has its predictions once.
    records = {record.trial_id: record for *_, record in finals}
    for trial_id, record in sorted(records.items()):
        names = record.scores.emotions
        for utterance in sorted(record.scores.utterances, key=lambda u: u.id):
            scores = dict(zip(names, utterance.p, strict=True))
            yield [
                trial_id,
                utterance.id,
                utterance.speaker,
                utterance.truth,
                names[utterance.predicted],
                *(float(scores[e]) if e in scores else None for e in emotions),
            ]
