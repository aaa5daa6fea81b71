"""The recalls of each held-out fold as a picture: one line per fold, a mark per emotion, and the fold's UAR.

The mean over folds hides which speakers are hard to recognise; this figure shows it. With several seeds a mark is the
mean over them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfser.report.figures.drawing import COLOURS, MARKERS, Picture, picture
from tfser.report.summary import Summary
from tfser.report.tables.table import percent
from tfser.text.fonts import Labels

_LABEL = 18
"""Most characters of a fold's or an emotion's name in a picture."""


def to_picture(summary: Summary, name: str, heading: str) -> Picture:
    """Draw the picture; a missing fold has its line, marked as missing.

    Args:
        summary: a row with at least one done fold.
        name: name of the file, without ending.
        heading: the title, in words.
    """
    c = summary.configuration
    rows = -(-(len(c.emotions) + 2) // 3)
    width, above, below = 4.8, 0.25 + 0.2 * rows, 0.5
    height = above + below + 0.24 * max(len(c.folds), 2)
    emotions, folds = Labels(c.emotions, "emotion"), Labels(c.folds, c.unit)
    labels = [_short(fold) for fold in folds.shown]
    left = 0.25 + 0.085 * max(len(label) for label in labels)

    def draw(figure: Any) -> None:
        axes = figure.add_axes(
            (left / width, below / height, (width - left - 0.15) / width, (height - above - below) / height)
        )
        places = {fold: i for i, fold in enumerate(c.folds)}
        recalls = {fold: summary.recalls(fold) for fold in summary.done}
        for index, emotion in enumerate(emotions.shown):
            shown = [
                (100 * recalls[fold][index], places[fold])
                for fold in summary.done
                if not np.isnan(recalls[fold][index])
            ]
            axes.plot(
                [x for x, _ in shown],
                [y for _, y in shown],
                MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=4.5,
                alpha=0.85,
                label=_short(emotion),
            )
        uars = {fold: 100 * float(np.nanmean(recalls[fold])) for fold in summary.done}
        axes.plot(
            list(uars.values()),
            [places[f] for f in uars],
            "d",
            color="black",
            markersize=7,
            fillstyle="none",
            mew=1.4,
            label="UAR",
        )
        axes.axvline(
            float(np.mean(list(uars.values()))),
            color="black",
            linewidth=0.8,
            linestyle=(0, (4, 3)),
            label="mean of folds",
        )
        for fold in summary.missing:
            axes.text(50, places[fold], "missing", ha="center", va="center", fontsize=8, style="italic")
        axes.set_yticks(range(len(c.folds)), labels, fontsize=8.5)
        axes.set_ylim(len(c.folds) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("recall, %", fontsize=9)
        axes.tick_params(axis="x", labelsize=8.5)
        axes.grid(color="#888888", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(
            loc="upper center",
            ncols=3,
            fontsize=8,
            frameon=False,
            bbox_to_anchor=(0.5, 1.0),
            borderaxespad=0.2,
            handletextpad=0.3,
        )

    return picture(
        name,
        f"Recalls per held-out {c.unit}",
        heading,
        describe(summary),
        (width, height),
        draw,
        labels=(emotions, folds),
    )


def describe(summary: Summary) -> str:
    """Describe the figure: the easiest and the hardest fold, and what is missing."""
    uars = {fold: float(np.nanmean(summary.recalls(fold))) for fold in summary.done}
    low, high = min(uars, key=lambda f: uars[f]), max(uars, key=lambda f: uars[f])
    ends = f"{percent(uars[low])} % ({low}) to {percent(uars[high])} % ({high})"
    said = f"Marks are the recalls of the emotions; the UAR goes from {ends}."
    return said + (f" Missing: {', '.join(summary.missing)}." if summary.missing else "")


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
