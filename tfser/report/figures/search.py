"""A search for a reader: every setting that was tried, the one chosen per fold, and two figures.

The histories are given; no study is opened and nothing is chosen here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfser.execution.results import KEY_COLUMNS
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import labels
from tfser.report.figures.drawing import COLOURS, COLUMN, Picture, picture, short, spread
from tfser.report.file_names import row_names
from tfser.report.tables.formats import csv_text
from tfser.report.tables.table import TRANSDUCTIVE, Value, exact, percent
from tfser.search.history import History, in_order
from tfser.storage import places
from tfser.storage.places import Place
from tfser.text.fonts import Labels
from tfser.text.row_names import with_ablation

_NAMED = 12
"""Most studies that have a colour and a name each."""

COLUMNS = (
    *KEY_COLUMNS,
    "folds",
    "setting",
    "state",
    "validation_uar",
    "epochs",
    "chosen",
    "hyperparameters",
)
"""Columns of search.csv. ``setting`` counts a study's settings from 1; ``epochs`` is a finished one's best epoch."""


def write(histories: Sequence[History], folder: Place) -> list[Place]:
    """Write ``search.csv`` and each configuration's figure below ``folder``; equal histories give equal bytes."""
    if not histories:
        return []
    places.make_folder(folder)
    contents: dict[str, bytes] = {"search.csv": to_csv(histories).encode("utf-8")}
    for drawn in pictures(histories).values():
        contents |= drawn.files
    for name, content in contents.items():
        places.commit(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return [folder / name for name in contents]


def to_csv(histories: Sequence[History]) -> str:
    """Write search.csv: a row per setting that was tried."""
    return csv_text(COLUMNS, [row for history in in_order(histories) for row in _rows(history)])


def pictures(histories: Sequence[History]) -> dict[Configuration, Picture]:
    """Draw a figure for each configuration with a search."""
    ordered = in_order(histories)
    names = row_names(h.configuration.key for h in ordered)
    selections = labels(h.configuration for h in ordered)
    made = {}
    for c in dict.fromkeys(h.configuration for h in ordered):
        mark = TRANSDUCTIVE if c.transductive else ""
        row = with_ablation(c.model, c.ablation) + mark
        heading = f"{c.database}, {c.protocol_name}, {row}, selection {selections[c.key]}"
        made[c] = to_picture([h for h in ordered if h.configuration == c], f"search_{names[c.key]}", heading)
    return made


def _rows(history: History) -> list[list[Value]]:
    rows: list[list[Value]] = []
    for index, tried in enumerate(history.tried):
        score = None if tried.validation_uar is None else exact(tried.validation_uar)
        settings = json.dumps(dict(tried.hyperparameters), sort_keys=True)
        place: list[Value] = [*history.configuration.key, " ".join(history.folds), index + 1]
        rows.append([*place, tried.state, score, tried.epochs, index == history.chosen, settings])
    return rows


def to_picture(histories: Sequence[History], name: str, heading: str) -> Picture:
    """Draw the best validation UAR so far for each study of a configuration, and each searched setting's importance."""
    settings = sorted({setting for h in histories for setting in h.importances})
    legend = -(-len(histories) // 4) if len(histories) <= _NAMED else 0
    names = Labels([history.label for history in histories], histories[0].configuration.protocol)
    below = 0.4 + 0.17 * len(settings) if settings else 0.0
    size = (COLUMN, 0.1 + 0.15 * (legend + 1) + 1.7 + below)

    shown = short(names.shown, 12)

    def draw(figure: Any) -> None:
        panes = figure.subplots(
            2 if settings else 1, 1, squeeze=False, height_ratios=(1.7, below) if settings else (1,)
        )[:, 0]
        top = panes[0]
        # Studies that found the same stand side by side.
        beside = spread([0.0] * len(histories), near=1.0, step=0.08, most=0.3)
        for index, history in enumerate(histories):
            scores = [np.nan if t.validation_uar is None else 100 * t.validation_uar for t in history.tried]
            colour = COLOURS[index % len(COLOURS)] if legend else COLOURS[0]
            tried = np.arange(1, len(scores) + 1)
            top.step(tried, np.fmax.accumulate(scores), where="post", color=colour, label=shown[index])
            top.plot(tried + beside[index], scores, ".", color=colour, alpha=0.7, markersize=4)
        top.set_xlabel("settings tried, in order")
        top.set_ylabel("validation UAR (%)\n(line: best so far)")
        top.xaxis.get_major_locator().set_params(integer=True)
        if legend:
            small = {"handlelength": 1.2, "columnspacing": 1.2, "borderpad": 0}
            figure.legend(title="test fold", loc="outside upper center", ncols=4, **small)
        if settings:
            shares = np.array(
                [[100 * h.importances.get(setting, 0.0) for setting in settings] for h in histories if h.importances]
            )
            order = np.argsort(shares.mean(axis=0), kind="stable")
            panes[1].barh(range(len(settings)), shares.mean(axis=0)[order], color="#8fb3d9", height=0.7)
            for place, index in enumerate(order):
                offsets = spread([float(share) for share in shares[:, index]], near=2.0, step=0.15, most=0.35)
                panes[1].plot(shares[:, index], place + np.array(offsets), ".", color="black", alpha=0.6, markersize=4)
            panes[1].set_yticks(range(len(settings)), [settings[i] for i in order])
            panes[1].set_xlabel("PED-ANOVA importance (%; dots: studies)")
        for pane in panes:
            pane.grid()

    return picture(
        name,
        "Search: history and importances",
        heading,
        describe(histories),
        size,
        draw,
        labels=(names,),
    )


def describe(histories: Sequence[History]) -> str:
    """Describe the figure: number of settings, UAR reached, and the most important setting."""
    states = Counter(tried.state for history in histories for tried in history.tried)
    counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    chosen = [
        history.tried[history.chosen].validation_uar or 0.0 for history in histories if history.chosen is not None
    ]
    studies = f"{len(histories)} {'study' if len(histories) == 1 else 'studies'}"
    said = f"{studies} tried {sum(states.values())} settings ({counted})."
    if chosen:
        said += f" Best validation UAR of a study: {percent(min(chosen))} to {percent(max(chosen))} %."
    shares: dict[str, list[float]] = {}
    for history in histories:
        for setting, share in history.importances.items():
            shares.setdefault(setting, []).append(share)
    if shares:
        first = max(sorted(shares), key=lambda setting: float(np.mean(shares[setting])))
        return (
            f"{said} The setting that mattered most is {first} ({percent(float(np.mean(shares[first])))} % on average)."
        )
    return f"{said} Too few settings to tell importances."
