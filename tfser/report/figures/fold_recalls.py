"""The recalls of each held-out fold as a picture: one line per fold, a mark per emotion, and the fold's UAR.

The mean over folds hides which speakers are hard to recognise; this figure shows it. With several seeds a mark is the
mean over them. Marks at one place are moved up and down within their fold's line, so that each is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfser.report.figures.drawing import COLOURS, COLUMN, MARKERS, POINTS, TALLEST, Picture, picture, short, spread
from tfser.report.summary import Summary
from tfser.report.tables.table import percent
from tfser.text.fonts import Labels

_LABEL = 18
"""Most characters of a fold's or an emotion's name in a picture."""

_NEAR = 2.2
"""Width of a mark on the axis, percent."""


def to_picture(summary: Summary, name: str, heading: str) -> Picture:
    """Draw the picture; a missing fold has its line, marked as missing.

    Args:
        summary: a row with at least one done fold.
        name: name of the files, without ending.
        heading: all that its numbers depend on, in words.
    """
    c = summary.configuration
    emotions, folds = Labels(c.emotions, "emotion"), Labels(c.folds, c.protocol)
    legend = -(-(len(c.emotions) + 2) // 3)
    height = min(0.45 + 0.14 * legend + 0.22 * max(len(c.folds), 2), TALLEST)
    line = 72 * (height - 0.45 - 0.14 * legend) / max(len(c.folds), 2)  # points

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        percents = {fold: 100 * summary.recalls(fold) for fold in summary.done}
        rows = {fold: i for i, fold in enumerate(c.folds)}
        lanes = {fold: _lanes(values, 3.4 / line) for fold, values in percents.items()}
        for index, emotion in enumerate(short(emotions.shown, _LABEL)):
            there = [fold for fold in summary.done if not np.isnan(percents[fold][index])]
            axes.plot(
                [percents[fold][index] for fold in there],
                [rows[fold] + lanes[fold][index] for fold in there],
                MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=3.6,
                markeredgecolor="white",
                markeredgewidth=0.3,
                label=emotion,
            )
        uars = {fold: float(np.nanmean(values)) for fold, values in percents.items()}
        bar = {"color": "black", "markersize": 0.75 * line, "markeredgewidth": 1.1, "zorder": 1.9}
        axes.plot(list(uars.values()), [rows[f] for f in uars], "|", label="UAR", **bar)
        mean = float(np.mean(list(uars.values())))
        axes.axvline(mean, color="black", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1, label="mean of folds")
        for fold in summary.missing:
            axes.text(50, rows[fold], "missing", ha="center", va="center", style="italic")
        axes.set_yticks(range(len(c.folds)), short(folds.shown, _LABEL))
        axes.tick_params(axis="y", length=0, labelsize=min(POINTS, line))
        axes.set_ylim(len(c.folds) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("recall (%)")
        axes.set_ylabel(c.protocol)
        axes.grid()
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper center", ncols=3, handletextpad=0.2, columnspacing=1.2, borderpad=0)

    return picture(
        name,
        f"Recalls per held-out {c.protocol}",
        heading,
        describe(summary),
        (COLUMN, height),
        draw,
        labels=(emotions, folds),
    )


def _lanes(percents: np.ndarray, step: float) -> dict[int, float]:
    """Return how far each emotion's mark is moved within its line, by the emotion's index."""
    there = [int(i) for i in np.flatnonzero(~np.isnan(percents))]
    return dict(zip(there, spread([float(percents[i]) for i in there], _NEAR, step, 0.4), strict=True))


def describe(summary: Summary) -> str:
    """Describe the figure: the easiest and the hardest fold, and what is missing."""
    uars = {fold: float(np.nanmean(summary.recalls(fold))) for fold in summary.done}
    low, high = min(uars, key=lambda f: uars[f]), max(uars, key=lambda f: uars[f])
    ends = f"{percent(uars[low])} % ({low}) to {percent(uars[high])} % ({high})"
    said = f"Marks are the recalls of the emotions; the UAR goes from {ends}."
    return said + (f" Missing: {', '.join(summary.missing)}." if summary.missing else "")
