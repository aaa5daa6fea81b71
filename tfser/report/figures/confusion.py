"""Confusion matrices, pooled over folds, as CSV and as a picture in the papers' style.

With several seeds a cell counts every seed, so that its share of the row is the mean over the seeds. No recall is
computed here, except as a share.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfser.report.figures.drawing import INK, Picture, picture
from tfser.report.summary import Summary
from tfser.report.tables.formats import csv_text
from tfser.report.tables.table import Value, exact, percent
from tfser.text.fonts import Labels

CSV_COLUMNS = ("truth", "predicted", "count", "share")
"""``share`` is the cell's fraction of its row; empty in the row of an emotion that never occurs."""

_LABEL = 24
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
    """Draw the picture: row percent, with the counts below, darker for more.

    Args:
        summary: a row with at least one done fold.
        name: name of the file, without ending.
        heading: the title, in words.
    """
    names = Labels(summary.configuration.emotions, "emotion")
    emotions = names.shown
    parts, size = shares(summary.confusion), len(emotions)
    longest = max(len(e) for e in emotions)
    steep = longest > 10  # longer names would run into each other
    cell = 0.66  # inches: room for "100.00" and a count
    left = 0.55 + 0.085 * min(longest, _LABEL)
    below = 0.6 if not steep else 0.55 + 0.06 * min(longest, _LABEL)
    across = max(cell * size, 2.4 if size < 3 else 0.0)  # a heading must fit above two emotions too
    width = left + across + 0.9
    height = below + across + 0.1
    labels = [e if len(e) <= _LABEL else f"{e[: _LABEL - 1]}…" for e in emotions]

    def draw(figure: Any) -> None:
        axes = figure.add_axes((left / width, below / height, across / width, across / height))
        axes.pcolormesh(np.nan_to_num(parts) * 100, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=1.5)
        axes.invert_yaxis()
        for i in range(size):
            for j in range(size):
                _cell(axes, i, j, parts[i, j], int(summary.confusion[i, j]))
        slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if steep else {}
        axes.set_xticks(np.arange(size) + 0.5, labels, **slant)
        axes.set_yticks(np.arange(size) + 0.5, labels)
        axes.tick_params(length=0, labelsize=9)
        axes.set_xlabel("recognised", fontsize=10)
        axes.set_ylabel("true", fontsize=10)
        bar = figure.add_axes(((left + across + 0.15) / width, below / height, 0.13 / width, across / height))
        bar.imshow(
            np.linspace(100, 0, 64)[:, None], cmap="Blues", vmin=0, vmax=100, aspect="auto", extent=(0, 1, 0, 100)
        )
        bar.set_xticks([])
        bar.yaxis.tick_right()
        bar.yaxis.set_label_position("right")
        bar.set_ylabel("% of the true emotion's utterances", fontsize=8)
        bar.tick_params(labelsize=8, length=2)
        for spine in (*axes.spines.values(), *bar.spines.values()):
            spine.set_visible(False)

    return picture(
        name, "Confusion matrix, pooled over folds", heading, describe(summary), (width, height), draw, labels=(names,)
    )


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


def _cell(axes: Any, row: int, column: int, share: float, count: int) -> None:
    text = "–" if np.isnan(share) else f"{percent(share)}\n({count})"
    dark = not np.isnan(share) and share > 0.55
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8.5, color="white" if dark else INK)
