"""Every method against every other as a matrix: who is better on how many speakers, by how much, and how surely.

Why no critical-difference diagram: it ranks the methods on each data set, here on each held-out speaker, and joins
those whose mean ranks differ by less than Nemenyi's critical difference. That distance rests on an approximation for
many speakers, where a corpus has 4 to 24. It grows with the number of methods: for 17 methods and 10 speakers it is
about 8 of 16 ranks, so that nearly all are joined. Whether two methods differ then also depends on which others were
run (Benavoli, Corani and Mangili, J. Mach. Learn. Res. 17, 2016), and ranks hide by how much one is better. A cell of
this matrix uses its two methods alone and an exact test; only Holm's correction knows how many others there are.
"""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from tfser.evaluation import significance
from tfser.report.figures.contests import Contest, Field
from tfser.report.figures.drawing import (
    COLUMN,
    INK,
    POINTS,
    SMALL,
    TALLEST,
    TEXT,
    Picture,
    breadth,
    drawn_names,
    in_percent,
    picture,
)

MOST = 20
"""Most methods in a figure; pairwise.csv has all."""

_WIDE = 5
"""Most methods in a figure of one column."""

_KEY = (
    "above the diagonal: {unit}s on which the row is better–worse, and Holm-corrected p (bold: at most 0.05); "
    "below: UAR of row minus column, points; diagonal: UAR (%)"
)


def to_picture(field: Field, name: str, heading: str) -> Picture:
    """Draw the matrix, the best method first.

    Args:
        field: the rows and their contests.
        name: name of the files, without ending.
        heading: all that its numbers depend on, in words.
    """
    size = min(len(field.members), MOST)
    width = COLUMN if size <= _WIDE else TEXT
    most = 20 if width == COLUMN else 26
    names = [f"{each}  {i}" for i, each in enumerate(drawn_names(field.brief[:size], most), start=1)]
    unit = field.members[0].configuration.unit
    key = textwrap.wrap(_KEY.format(unit=unit), int(width * 24))
    cell = 72 * (width - 0.05 * max(breadth(each) for each in names) - 0.1) / size  # points
    tall = min(cell, 26.0)
    height = min(0.25 + 0.13 * len(key) + tall * size / 72, TALLEST)
    font = SMALL if min(cell, tall) >= 22 else max(4.5, min(6.0, 0.36 * cell))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        uars = [s.figures.uar_mean if s.figures else np.nan for s in field.members]
        contests = [[field.between(i, j) for j in range(size)] for i in range(size)]
        values = np.array([[100 * c.difference if c else np.nan for c in row] for row in contests])
        limit = max(float(np.nanmax(np.abs(values))), 1.0)
        axes.pcolormesh(values, cmap="RdBu", vmin=-limit, vmax=limit, edgecolors="white", linewidth=0.6)
        for i, row in enumerate(contests):
            for j, contest in enumerate(row):
                said = cell_text(contest, above=j > i) if i != j else in_percent(uars[i], 1)
                sure = contest is not None and contest.p_holm <= 0.05
                style = {"fontsize": font, "fontweight": "bold" if sure else "normal", "linespacing": 0.95}
                dark = contest is not None and abs(values[i, j]) > 0.62 * limit
                on_cell = "white" if dark else INK
                colour = "black" if contest is None else on_cell  # on the ground of the page, which may be dark
                axes.text(j + 0.5, i + 0.5, said, ha="center", va="center", color=colour, **style)
        axes.set_ylim(size, 0)
        axes.set_xticks(np.arange(size) + 0.5, [str(i) for i in range(1, size + 1)])
        axes.set_yticks(np.arange(size) + 0.5, names)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=min(POINTS, 0.6 * tall))
        figure.supxlabel("\n".join(key), fontsize=SMALL, linespacing=1.15)
        for spine in axes.spines.values():
            spine.set_visible(False)

    about = f"Every method against every other, over {unit}s"
    return picture(name, about, heading, describe(field), (width, height), draw, texts=names)


def cell_text(contest: Contest | None, *, above: bool) -> str:
    """Write a cell: won and lost folds over the corrected p, or the mean difference in points."""
    if contest is None:
        return "–"
    if not above:
        return in_percent(contest.difference, 1)
    won, lost, _ = contest.score
    p = f"{contest.p_holm:.2f}"
    return f"{won}–{lost}\n{'<.01' if p == '0.00' else '1' if p == '1.00' else p[1:]}"


def describe(field: Field) -> str:
    """Describe the matrix: how many of its comparisons are significant, or why none can be."""
    count = len(field.contests)
    sure = sum(contest.p_holm <= 0.05 for contest in field.contests.values())
    folds = max(len(contest.differences) for contest in field.contests.values())
    unit = field.members[0].configuration.unit
    said = (
        f"Above the diagonal: the {unit}s on which the row's UAR is higher and lower, and the p of the exact sign-flip "
        f"test over {unit}s, Holm-corrected for all {count} comparisons; below it: the mean difference of the UAR, row "
        f"minus column, in percentage points; on it: the row's UAR, mean of folds. {sure} of {count} corrected p are "
        "at most 0.05. "
    )
    if len(field.members) > MOST:
        said += f"The {MOST} best of {len(field.members)} methods are drawn; pairwise.csv has all. "
    return (said + significance.no_claim(folds, count)).strip()
