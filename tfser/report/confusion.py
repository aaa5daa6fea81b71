"""Confusion matrices, pooled over folds, as CSV and as a picture in the papers' style.

Knows no recall but a row's shares. Equal matrices give equal bytes: a picture holds no date and no version, and
is drawn with matplotlib's own defaults and font, whatever the person's settings are.

With several seeds a cell counts every seed, so that its share of the row is the mean over the seeds.
"""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfser.report.formats import csv_text, one_line
from tfser.report.summary import Summary
from tfser.report.table import DAGGER, Value, exact, percent

CSV_COLUMNS = ("truth", "predicted", "count", "share")
"""``share`` is the cell's fraction of its row; empty in the row of an emotion that never occurs."""

_LABEL = 24
"""Characters of an emotion's name that a picture has room for."""


def file_names(summaries: Sequence[Summary]) -> list[str]:
    """For each summary its file name without ending, from ``[a-z0-9_+-]`` only and each name once.

    Names that become one when they are cleaned (``My Data`` and ``my-data``) all get a short hash of the original.
    """
    keys = [s.configuration.key for s in summaries]
    clean = ["_".join(["confusion", *(re.sub(r"[^a-z0-9_+-]+", "-", part.lower()) for part in key)])[:150] for key in keys]
    times = Counter(clean)
    return [
        name if times[name] == 1 else f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:8]}"
        for name, key in zip(clean, keys, strict=True)
    ]


def shares(matrix: np.ndarray) -> np.ndarray:
    """Each cell's fraction of its row: float, the matrix's shape, in [0, 1]; NaN in a row without counts."""
    totals = matrix.sum(axis=1, keepdims=True)
    out: np.ndarray = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    return out


def to_csv(summary: Summary) -> str:
    """One row per (true, recognised) pair, in the order of the emotions."""
    emotions, parts = summary.configuration.emotions, shares(summary.confusion)
    rows: list[list[Value]] = [
        [truth, predicted, int(summary.confusion[i, j]), exact(float(parts[i, j]))]
        for i, truth in enumerate(emotions)
        for j, predicted in enumerate(emotions)
    ]
    return csv_text(CSV_COLUMNS, rows)


def to_png(summary: Summary, heading: str) -> bytes:
    """The picture: row percent, with the counts below, darker for more.

    Args:
        summary: with at least one done fold.
        heading: what is shown, in words; each of its lines is wrapped to the width.
    """
    # Late, because matplotlib takes a second to import and most commands draw nothing.
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    emotions = [one_line(e) for e in summary.configuration.emotions]
    parts, size = shares(summary.confusion), len(emotions)
    longest = max(len(e) for e in emotions)
    steep = longest > 10  # longer names would run into each other
    cell = 0.78  # inches: room for "100.00" and a count
    left = 0.55 + 0.085 * min(longest, _LABEL)
    below = 0.6 if not steep else 0.55 + 0.06 * min(longest, _LABEL)
    across = max(cell * size, 2.4 if size < 3 else 0.0)  # a heading has to fit above two emotions too
    width = left + across + 1.0
    lines = [part for line in heading.split("\n") for part in textwrap.wrap(one_line(line), int(width * 12))]
    height = below + across + 0.25 + 0.19 * len(lines)
    box = (left / width, below / height, across / width, across / height)

    with matplotlib.style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an emotion's name in a script that the font lacks
        figure = Figure(figsize=(width, height), dpi=150)
        FigureCanvasAgg(figure)
        axes = figure.add_axes(box)
        picture = axes.imshow(np.nan_to_num(parts) * 100, cmap="Blues", vmin=0, vmax=100)
        for i in range(size):
            for j in range(size):
                _cell(axes, i, j, parts[i, j], int(summary.confusion[i, j]))
        labels = [e if len(e) <= _LABEL else f"{e[: _LABEL - 1]}…" for e in emotions]
        slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if steep else {}
        axes.set_xticks(range(size), labels, parse_math=False, **slant)
        axes.set_yticks(range(size), labels, parse_math=False)
        axes.tick_params(length=0, labelsize=9)
        axes.set_xlabel("recognised", fontsize=10)
        axes.set_ylabel("true", fontsize=10)
        axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar_axes = figure.add_axes(((left + across + 0.15) / width, box[1], 0.15 / width, box[3]))
        bar = figure.colorbar(picture, cax=bar_axes)
        bar.set_label("% of the true emotion's utterances", fontsize=8)
        bar.ax.tick_params(labelsize=8, length=2)
        bar.outline.set_visible(False)  # type: ignore[operator,unused-ignore]
        figure.text(0.5, 1 - 0.08 / height, "\n".join(lines), ha="center", va="top", fontsize=9, linespacing=1.3, parse_math=False)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _cell(axes: Any, row: int, column: int, share: float, count: int) -> None:
    text = "–" if np.isnan(share) else f"{percent(share)}\n({count})"
    dark = not np.isnan(share) and share > 0.55
    axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")


def heading(summary: Summary, method: str) -> str:
    """What a picture says above the matrix: all that its numbers depend on, and what is missing."""
    configuration = summary.configuration
    words = [configuration.database, configuration.protocol_name, method, f"selection {configuration.selection}", "pooled over folds"]
    if len(configuration.seeds) > 1:
        words.append(f"{len(configuration.seeds)} seeds")
    if summary.incomplete:
        words.append(f"{DAGGER} {summary.folds} folds")
    if not configuration.complete:
        words.append("incomplete database")
    remark = f"\n{one_line(configuration.remark)}" if configuration.remark else ""
    return ", ".join(words) + remark
