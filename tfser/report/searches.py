"""What a search did, for a person: every setting that was tried, the one chosen per fold, and two figures.

Is given histories and draws them; opens no study and chooses nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfser import files
from tfser.report.formats import csv_text
from tfser.report.result import Configuration
from tfser.report.table import Value, exact

COLUMNS = (
    "database",
    "protocol",
    "model",
    "ablation",
    "selection",
    "folds",
    "setting",
    "state",
    "validation_uar",
    "epochs",
    "chosen",
    "hyperparameters",
)
"""``setting`` counts a study's settings from 1; ``epochs`` is the best epoch of a finished one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One setting that a study tried."""

    state: str
    """``finished``, ``pruned`` or ``failed``."""
    validation_uar: float | None
    """Highest mean validation UAR, in [0, 1]; ``None`` unless finished."""
    epochs: int | None
    """The epoch of that UAR; ``None`` unless finished."""
    hyperparameters: Mapping[str, Any]
    """The searched settings alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One study, in the order in which its settings were tried."""

    configuration: Configuration
    folds: tuple[str, ...]
    """The test folds that use what it chose."""
    tried: tuple[Tried, ...]
    importances: Mapping[str, float]
    """Share of the variance of the validation UAR that each searched setting explains; empty where it cannot be told."""

    @property
    def chosen(self) -> int | None:
        """Which setting was best, counted from 0, the first on ties; ``None`` where none finished."""
        scores = [-1.0 if t.validation_uar is None else t.validation_uar for t in self.tried]
        return int(np.argmax(scores)) if scores and max(scores) >= 0 else None


def write(histories: Sequence[History], folder: Path) -> list[Path]:
    """Write ``search.csv`` and a figure per configuration below ``folder``; equal histories give equal bytes."""
    if not histories:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(histories, key=lambda h: (h.configuration.key, h.folds))
    rows = [row for history in ordered for row in _rows(history)]
    paths = [folder / "search.csv"]
    files.commit_text(paths[0], csv_text(COLUMNS, rows))
    for configuration in dict.fromkeys(h.configuration for h in ordered):
        paths.append(folder / f"search_{files.slug('_'.join(configuration.key))}.png")
        picture = to_png([h for h in ordered if h.configuration == configuration])
        files.commit(paths[-1], lambda file, picture=picture: file.write(picture))  # type: ignore[misc]
    return paths


def _rows(history: History) -> list[list[Value]]:
    rows: list[list[Value]] = []
    for index, tried in enumerate(history.tried):
        score = None if tried.validation_uar is None else exact(tried.validation_uar)
        settings = json.dumps(dict(tried.hyperparameters), sort_keys=True)
        place: list[Value] = [*history.configuration.key, " ".join(history.folds), index + 1]
        rows.append([*place, tried.state, score, tried.epochs, index == history.chosen, settings])
    return rows


def to_png(histories: Sequence[History]) -> bytes:
    """Best validation UAR so far for each study of one configuration, and the importance of each searched setting."""
    # Late, because matplotlib takes a second to import and most commands draw nothing.
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    c = histories[0].configuration
    names = sorted({name for h in histories for name in h.importances})
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for history in histories:
            scores = [np.nan if t.validation_uar is None else 100 * t.validation_uar for t in history.tried]
            label = history.folds[0] if len(history.folds) == 1 else "all folds"
            line = left.step(np.arange(1, len(scores) + 1), np.fmax.accumulate(scores), where="post", label=label)[0]
            left.plot(np.arange(1, len(scores) + 1), scores, ".", color=line.get_color(), alpha=0.5)
        left.set_xlabel("settings tried, in order")
        left.set_ylabel("validation UAR, % (line: best so far)")
        left.legend(title="test fold", fontsize=7, ncols=2)
        if names:
            shares = np.array([[100 * h.importances.get(name, 0.0) for name in names] for h in histories if h.importances])
            order = np.argsort(shares.mean(axis=0))
            right.barh(range(len(names)), shares.mean(axis=0)[order], color="lightsteelblue")
            for row in shares:
                right.plot(row[order], range(len(names)), ".", color="black", alpha=0.5)
            right.set_yticks(range(len(names)), [names[i] for i in order], fontsize=8)
            right.set_xlabel("PED-ANOVA importance, % (dots: studies)")
        else:
            right.text(0.5, 0.5, "too few settings\nto tell importances", ha="center", va="center")
            right.set_axis_off()
        figure.suptitle(f"{c.database}, {c.protocol_name}, {c.model} {c.ablation}, selection {c.selection}", fontsize=10)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
