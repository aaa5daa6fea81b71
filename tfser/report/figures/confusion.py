"""Confusion matrices, pooled over folds, as CSV and as pictures: one database alone, or a model's side by side.

Side by side they look as the papers' figures do: percent alone, rows are the truth. With several seeds a cell counts
every seed, so that its share of the row is the mean over the seeds. No recall is computed here, except as a share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfser.report.figures.drawing import COLUMN, INK, POINTS, SMALL, TEXT, Picture, breadth, in_percent, picture, short
from tfser.report.summary import Summary
from tfser.report.tables.formats import csv_text
from tfser.report.tables.table import Value, exact, percent
from tfser.text.fonts import Labels

CSV_COLUMNS = ("truth", "predicted", "count", "share")
"""``share`` is the cell's fraction of its row; empty in the row of an emotion that never occurs."""

ABREAST = 3
"""Most matrices in one line of a figure."""

_LABEL = 20
"""Most characters of an emotion's name in a picture."""


def shares(matrix: np.ndarray) -> np.ndarray:
    """Return each cell's fraction of its row: float, the matrix's shape, in [0, 1]; NaN in a row without counts."""
    totals = matrix.sum(axis=1, keepdims=True)
    out: np.ndarray = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    return out


def to_csv(summary: Summary) -> str:
    """Write one row per (true, recognised) pair, in the order of the emotions."""
    emotions, parts = summary.configuration.emotions, shares(summary.confusion)
    rows: list[list[Value]] = [
        [truth, predicted, int(summary.confusion[i, j]), exact(float(parts[i, j]))]
        for i, truth in enumerate(emotions)
        for j, predicted in enumerate(emotions)
    ]
    return csv_text(CSV_COLUMNS, rows)


def to_picture(summary: Summary, name: str, heading: str) -> Picture:
    """Draw one row's matrix: row percent, with the counts below where there is room, darker for more.

    Args:
        summary: a row with at least one done fold.
        name: name of the files, without ending.
        heading: all that its numbers depend on, in words.
    """
    return side_by_side([summary], [""], name, heading)


def side_by_side(summaries: Sequence[Summary], titles: Sequence[str], name: str, heading: str) -> Picture:
    """Draw the matrices of one method on several databases.

    Args:
        summaries: rows with at least one done fold.
        titles: name of each row's database, for ``(a) IEMOCAP`` below its matrix.
        name: name of the files, without ending.
        heading: all that the numbers depend on, in words.
    """
    names = [Labels(s.configuration.emotions, "emotion") for s in summaries]
    texts = Labels(titles, "database")
    shown = [short(each.shown, _LABEL) for each in names]
    below = short(texts.shown, 30)
    columns = min(len(summaries), ABREAST)
    lines = -(-len(summaries) // columns)
    width = COLUMN if len(summaries) == 1 else TEXT
    lengths = [0.05 * max(breadth(emotion) for emotion in each) for each in shown]  # inches
    beside = sum(max(lengths[i::columns]) for i in range(columns)) + 0.15 + 0.08 * columns
    across, longest = (width - beside) / columns, max(lengths)
    cell = 72 * across / max(len(each) for each in shown)  # points
    upright = longest > 0.9 * cell / 72  # names would run into each other
    under = 0.25 + (longest if upright else 0.12) + (0.15 if len(summaries) > 1 else 0)
    height = lines * (min(across, 2.4) + under)

    def draw(figure: Any) -> None:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for index, axes in enumerate(panels):
            if index >= len(summaries):
                axes.set_visible(False)
                continue
            matrix = summaries[index].confusion
            _matrix(axes, matrix, shown[index], upright, cell, counts=len(summaries) == 1)
            axes.set_xlabel("recognised")
            if index % columns == 0:
                axes.set_ylabel("true")
            if len(summaries) > 1:
                axes.set_xlabel(f"recognised\n({_letter(index)}) {below[index]}", linespacing=1.4)
        figure.align_xlabels()

    several = "" if len(summaries) == 1 else f", on {len(summaries)} databases"
    said = " ".join(
        f"{f'({_letter(i)}) {title}: ' if title else ''}{describe(s)}"
        for i, (s, title) in enumerate(zip(summaries, texts.names, strict=True))
    )
    return picture(
        name,
        f"Confusion matrix, pooled over folds{several}",
        heading,
        said,
        (width, height),
        draw,
        labels=names,
        texts=texts.shown,
    )


def _letter(index: int) -> str:
    return chr(ord("a") + index)


def describe(summary: Summary) -> str:
    """Describe the matrix: each emotion's recall, and what it is most often taken for."""
    emotions, parts = summary.configuration.emotions, shares(summary.confusion)
    said = []
    for i, emotion in enumerate(emotions):
        if np.isnan(parts[i]).any():
            said.append(f"{emotion} never occurs")
            continue
        others = [j for j in range(len(emotions)) if j != i and parts[i, j] > 0]
        worst = max(others, key=lambda j: parts[i, j], default=None)
        taken = "" if worst is None else f", most often taken for {emotions[worst]} ({percent(parts[i, worst])} %)"
        said.append(f"{emotion} recognised in {percent(parts[i, i])} %{taken}")
    return "Rows are the true emotion. " + "; ".join(said) + "."


def _matrix(
    axes: Any, matrix: np.ndarray, emotions: Sequence[str], upright: bool, cell: float, *, counts: bool
) -> None:
    """Draw one matrix; ``cell`` is the width of a cell, points."""
    parts, places = shares(matrix), np.arange(len(emotions)) + 0.5
    axes.pcolormesh(np.nan_to_num(parts) * 100, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    size = SMALL if cell >= 20 else max(5.0, min(6.0, 0.42 * cell))
    for i in range(len(emotions)):
        for j in range(len(emotions)):
            colour = "white" if parts[i, j] > 0.55 else INK
            text = _cell(float(parts[i, j]), int(matrix[i, j]) if counts else None, cell)
            axes.text(places[j], places[i], text, ha="center", va="center", fontsize=size, color=colour)
    slant: dict[str, Any] = {"rotation": 90} if upright else {}
    axes.set_xticks(places, emotions, **slant)
    axes.set_yticks(places, emotions)
    axes.tick_params(length=0, labelsize=min(POINTS, cell))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cell(share: float, count: int | None, width: float) -> str:
    """Write a cell as exactly as its width, points, allows."""
    if np.isnan(share):
        return "–"
    if width >= 22 and count is not None:
        return f"{percent(share)}\n({count})"
    if width >= 20:
        return percent(share)
    return in_percent(share, 1 if width >= 11 else 0)
