"""Paired differences between the best methods, one dot per held-out speaker: who wins on which speaker.

A panel holds two methods. Every speaker has a line of its own, so that no dot hides another.
"""

from __future__ import annotations

import textwrap
from itertools import combinations
from typing import Any

import numpy as np

from tfser.report.figures.contests import Contest, Field
from tfser.report.figures.drawing import (
    COLOURS,
    COLUMN,
    POINTS,
    SMALL,
    TALLEST,
    TEXT,
    Picture,
    drawn_names,
    picture,
    short,
)
from tfser.report.tables.table import percent, points, probability
from tfser.text.fonts import Labels

BEST = 4
"""Most methods whose pairs are drawn; one less where their panels would hold many speakers."""

_MANY = 40
"""Most speakers of which two lines of panels are readable on a page."""

_ABREAST = 3
_LABEL = 14
"""Most characters of a speaker's name."""


def to_picture(field: Field, name: str, heading: str) -> Picture:
    """Draw the pairs of the best methods.

    Args:
        field: the rows and their contests.
        name: name of the files, without ending.
        heading: all that its numbers depend on, in words.
    """
    most = BEST if len(field.members[0].configuration.folds) <= _MANY else BEST - 1
    best = range(min(len(field.members), most))
    pairs = [(i, j, c) for i, j in combinations(best, 2) if (c := field.between(i, j)) is not None]
    pairs = pairs or [(i, j, c) for (i, j), c in list(field.contests.items())[:1]]
    columns = min(len(pairs), _ABREAST)
    lines = -(-len(pairs) // columns)
    width = COLUMN if columns == 1 else TEXT
    order = field.members[0].configuration.folds
    folds = sorted(
        {fold for *_, c in pairs for fold in c.differences},
        key=lambda f: (order.index(f) if f in order else len(order), f),
    )
    unit = field.members[0].configuration.unit
    names = Labels(folds, unit)
    titles = drawn_names(field.brief, 34)
    heads = {(i, j): _head(titles[i], titles[j], 72 * width / columns) for i, j, _ in pairs}
    head = 0.14 * max(text.count("\n") + 1 for text in heads.values()) + 0.3
    height = min(0.15 + lines * (head + 0.15 * (len(folds) + 1)), TALLEST)
    line = 72 * (height / lines - head) / (len(folds) + 1)  # points

    def draw(figure: Any) -> None:
        figure.get_layout_engine().set(wspace=0.05)
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes in panels[len(pairs) :]:
            axes.set_visible(False)
        for axes, (i, j, contest) in zip(panels, pairs, strict=False):
            _panel(axes, contest, folds)
            axes.set_xlabel(heads[i, j], linespacing=1.15)
            axes.tick_params(axis="x", labelbottom=True)
        shown = [*short(names.shown, _LABEL), "mean"]
        panels[0].set_yticks(range(len(folds) + 1), shown)
        panels[0].set_ylim(len(folds) + 0.6, -0.6)
        ends = [100 * value for *_, c in pairs for value in (*c.differences.values(), c.low, c.high)]
        reach = max(float(np.nanmax(np.abs(ends))), 1.0)
        panels[0].set_xlim(-1.08 * reach, 1.08 * reach)
        for axes in panels:
            axes.tick_params(axis="y", length=0, labelsize=min(POINTS, line))
        for row in range(lines):
            panels[row * columns].set_ylabel(unit)

    return picture(
        name,
        f"Paired differences of the best methods per held-out {unit}",
        heading,
        describe(field, pairs),
        (width, height),
        draw,
        labels=(names,),
        texts=titles,
    )


def _head(first: str, second: str, width: float) -> str:
    """Write what a panel's axis is, wrapped to its width, points."""
    most = max(int(width / 4.4), 12)
    lines = [*textwrap.wrap(first, most), *textwrap.wrap(f"minus {second}", most)]
    return "\n".join([*lines[:-1], f"{lines[-1]} (points)"])


def _panel(axes: Any, contest: Contest, folds: list[str]) -> None:
    """Draw one pair: a dot per fold, the mean with its interval below, and the score in the corners."""
    axes.axvline(0, color="black", linewidth=0.6)
    places = {fold: i for i, fold in enumerate(folds)}
    won, lost, _ = contest.score
    sides = {
        "first": ("o", COLOURS[0], [f for f, d in contest.differences.items() if d >= 1e-12]),
        "second": ("s", COLOURS[1], [f for f, d in contest.differences.items() if d <= -1e-12]),
        "tie": ("D", "#777777", [f for f, d in contest.differences.items() if abs(d) < 1e-12]),
    }
    for side, (mark, colour, members) in sides.items():
        values = [100 * contest.differences[fold] for fold in members]
        if members:
            axes.hlines([places[f] for f in members], 0, values, color=colour, linewidth=0.7, alpha=0.6)
            axes.plot(values, [places[f] for f in members], mark, color=colour, label=side)
    low, high = 100 * contest.low, 100 * contest.high
    if not np.isnan(low):
        axes.plot([low, high], [len(folds)] * 2, "-", color="black", linewidth=1.0, label="interval")
    axes.plot([100 * contest.difference], [len(folds)], "d", color="black", markersize=4.5, label="mean")
    axes.axhline(len(folds) - 0.5, color="#888888", linewidth=0.4)
    for place, side, text, colour in (
        (0.0, "left", f"second better: {lost}", COLOURS[1]),
        (1.0, "right", f"first better: {won}", COLOURS[0]),
    ):
        axes.text(place, 1.0, text, transform=axes.transAxes, ha=side, va="bottom", fontsize=SMALL, color=colour)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def describe(field: Field, pairs: list[tuple[int, int, Contest]]) -> str:
    """Describe the figure: the score, the mean difference and the corrected p of each pair."""
    unit = field.members[0].configuration.unit
    said = []
    for i, j, contest in pairs:
        won, lost, tied = contest.score
        around = "" if np.isnan(contest.low) else f", 95 % interval {points(contest.low)} to {points(contest.high)}"
        ties = f", {tied} tied" if tied else ""
        said.append(
            f"{field.names[i]} against {field.names[j]}: better on {won}, worse on {lost} {unit}s{ties}; mean "
            f"{points(contest.difference)} points{around}; Holm-corrected p {probability(contest.p_holm)}"
        )
    uars = ", ".join(
        f"{field.names[i]} {percent(s.figures.uar_mean)} %"
        for i, s in enumerate(field.members[:BEST])
        if s.figures is not None
    )
    return (
        f"A dot is the UAR of the first method minus that of the second on one held-out {unit}; the diamond is their "
        f"mean, with its interval. {'; '.join(said)}. UAR, mean of folds: {uars}."
    )
