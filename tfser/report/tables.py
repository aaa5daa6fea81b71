"""Every file of a report that holds numbers, written below one folder.

The columns of summary.csv, folds.csv and predictions.csv are a contract with other tools (design.md). Equal results
give equal bytes: rows are sorted, nothing is dated, and neither the sweep's name nor the order of its records
is in a file. Recalls are fractions in CSV, rounded to 12 decimals; a score ``p_<emotion>`` stands with every digit.

Names can look like numbers: pandas keeps the fold ``03`` and the id ``12345678e1234567`` only when it is told
``dtype={"trial_id": str, "fold": str, "speaker": str}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tfser import files, metrics
from tfser.report import ablation, comparison, confusion, formats, notes, published
from tfser.report.result import Configuration, Results, is_done, matrix
from tfser.report.summary import Summary, predicted, summarise
from tfser.report.table import Value, exact

SUMMARY_COLUMNS = (
    "database",
    "protocol",
    "model",
    "ablation",
    "selection",
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
"""``seeds`` is their number; with several, see ``tfser.report.summary`` for what is a mean over them. The figures are
those of the done folds, and empty where there is none."""

_FOLDS_BEFORE = ("database", "protocol", "fold", "model", "ablation", "selection", "seed", "war", "uar")
_FOLDS_AFTER = ("utterances", "epochs", "hyperparameters", "trial_id")
_PREDICTIONS_BEFORE = ("trial_id", "utterance", "speaker", "truth", "predicted")

Final = tuple[Configuration, str, int, Mapping[str, Any]]
"""A finished final trial: its row, fold, seed and record."""


def write(results: Results, folder: Path, *, pictures: bool = True) -> list[Path]:
    """Write summary, folds, predictions, comparison, ablation and confusion files.

    Args:
        results: the sweep's rows and the records of its final trials; a failed trial's record counts as missing.
        folder: made if it is not there; files of the same names are replaced, others left alone.
        pictures: whether to draw the confusion matrices too, which takes longer than all the rest.

    Returns:
        What was written, sorted.

    Raises:
        RecordError: a record contradicts itself or its row; nothing is written.
    """
    figures = published.load()
    summaries = summarise(results)
    finals = sorted(_finals(results), key=lambda final: (*final[0].key[:2], final[1], *final[0].key[2:], final[2]))
    emotions = sorted({emotion for configuration in results.configurations for emotion in configuration.emotions})
    compared = comparison.tables(summaries, figures)
    ablated = ablation.tables(summaries, figures)

    contents: dict[str, str | bytes] = {
        "summary.csv": formats.csv_text(SUMMARY_COLUMNS, map(_summary_row, summaries)),
        "folds.csv": formats.csv_text(
            (*_FOLDS_BEFORE, *(f"recall_{e}" for e in emotions), *_FOLDS_AFTER), (_fold_row(final, emotions) for final in finals)
        ),
        "predictions.csv": formats.csv_text((*_PREDICTIONS_BEFORE, *(f"p_{e}" for e in emotions)), _prediction_rows(finals, emotions)),
        "comparison.csv": formats.to_csv(comparison.CSV_COLUMNS, compared),
        "comparison.md": formats.to_markdown("Comparison with the published figures", compared),
        "comparison.tex": formats.to_latex(compared),
        "ablation.csv": formats.to_csv(ablation.csv_columns(figures), ablated),
        "ablation.md": formats.to_markdown("Ablations", ablated),
        "ablation.tex": formats.to_latex(ablated),
    }
    for summary, name in zip(summaries, confusion.file_names(summaries), strict=True):
        if summary.done:
            method = notes.configuration_name(summary, figures)
            contents[f"{name}.csv"] = confusion.to_csv(summary)
            if pictures:
                contents[f"{name}.png"] = confusion.to_png(summary, confusion.heading(summary, method))

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.commit(folder / name, partial(_put, content.encode("utf-8") if isinstance(content, str) else content))
    return sorted(folder / name for name in contents)


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _finals(results: Results) -> Iterator[Final]:
    for configuration in results.configurations:
        for fold in configuration.folds:
            for seed in configuration.seeds:
                record = results.records.get((configuration, fold, seed))
                if is_done(record):
                    yield configuration, fold, seed, record


def _summary_row(summary: Summary) -> list[Value]:
    configuration, figures = summary.configuration, summary.figures
    row: list[Value] = [*configuration.key, len(summary.done), configuration.folds_total, len(configuration.seeds)]
    if figures is None:
        return row + [None] * 6
    numbers = (figures.war_pooled, figures.uar_pooled, figures.war_mean, figures.war_sd, figures.uar_mean, figures.uar_sd)
    return row + [exact(number) for number in numbers]


def _fold_row(final: Final, emotions: list[str]) -> list[Value]:
    configuration, fold, seed, record = final
    counts = matrix(record)
    recalls = dict(zip(configuration.emotions, metrics.recalls(counts).tolist(), strict=True))
    spec = record["spec"]
    return [
        configuration.database,
        configuration.protocol,
        fold,
        configuration.model,
        configuration.ablation,
        configuration.selection,
        seed,
        exact(metrics.war(counts)),
        exact(metrics.uar(counts)),
        *(exact(recalls[e]) if e in recalls else None for e in emotions),
        len(record["utterances"]),
        record["epochs"],
        json.dumps(spec["hyperparameters"], sort_keys=True, ensure_ascii=False),
        record["trial_id"],
    ]


def _prediction_rows(finals: list[Final], emotions: list[str]) -> Iterator[list[Value]]:
    # By trial id: one trial can stand in two rows of a sweep, but its predictions are needed once.
    records = {record["trial_id"]: record for *_, record in finals}
    for trial_id, record in sorted(records.items()):
        names = record["emotions"]
        for utterance in sorted(record["utterances"], key=lambda u: u["id"]):
            scores = dict(zip(names, utterance["p"], strict=True))
            yield [
                trial_id,
                utterance["id"],
                utterance["speaker"],
                utterance["truth"],
                names[predicted(utterance)],
                *(float(scores[e]) if e in scores else None for e in emotions),
            ]
