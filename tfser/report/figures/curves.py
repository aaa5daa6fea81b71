"""Learning curves as a picture: training loss of the final trials and, after a search, validation UAR of its choice.

A final trial is scored once, after its last epoch, so it has no curve on the test fold. Only scores of validation
speakers may choose an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfser.report.figures.drawing import COLOURS, COLUMN, Picture, picture, short, thin
from tfser.report.summary import Summary
from tfser.report.tables.table import percent
from tfser.text.fonts import Labels

_NAMED = 12
"""Most folds that have a colour and a name each."""

_LABEL = 12
"""Most characters of a fold's name."""


def available(summary: Summary) -> bool:
    """Tell whether any final trial of the row recorded its loss."""
    return any(record.curves.train_loss for record in summary.records.values())


def to_picture(summary: Summary, validation: Mapping[str, Sequence[float]], name: str, heading: str) -> Picture:
    """Draw the picture.

    Args:
        summary: a row with ``available`` curves.
        validation: for each study, by its test fold (or a word for all), the mean validation UAR of the chosen setting
            after each epoch, in [0, 1]; empty without a search.
        name: name of the files, without ending.
        heading: all that its numbers depend on, in words.
    """
    folds = summary.configuration.folds
    colours = {fold: COLOURS[i % len(COLOURS)] if len(folds) <= _NAMED else COLOURS[0] for i, fold in enumerate(folds)}
    names = Labels(folds, summary.configuration.protocol)
    shown = dict(zip(folds, short(names.shown, _LABEL), strict=True))
    panels = 2 if validation else 1
    height = 0.1 + 1.5 * panels + (0.15 * -(-len(folds) // 4) if len(folds) <= _NAMED else 0.0)
    losses = {key: record.curves.train_loss for key, record in summary.records.items() if record.curves.train_loss}
    most = 200 if len(losses) <= 30 else 60

    def draw(figure: Any) -> None:
        panes = figure.subplots(panels, 1, squeeze=False)[:, 0]
        named: set[str] = set()
        for (fold, _), values in sorted(losses.items()):
            label = shown[fold] if fold not in named else None
            named.add(fold)
            panes[0].plot(*thin(values, most), color=colours[fold], alpha=0.85, label=label)
        panes[0].set_ylabel("training loss (nats)")
        for study, scores in sorted(validation.items()):
            epochs, percents = thin([100 * score for score in scores], most)
            colour = colours.get(study, COLOURS[0])
            panes[-1].plot(epochs, percents, color=colour, alpha=0.85)
            best = max(range(len(scores)), key=lambda i: scores[i])
            panes[-1].plot([best + 1], [100 * scores[best]], "o", color=colour)
        if validation:
            panes[-1].set_ylabel("validation UAR (%)\n(dot: chosen epoch)")
        for pane in panes:
            pane.xaxis.get_major_locator().set_params(integer=True)
            pane.grid()
        panes[-1].set_xlabel("epoch")
        if len(folds) <= _NAMED:
            figure.legend(loc="outside upper center", ncols=4, handlelength=1.2, columnspacing=1.2, borderpad=0)

    return picture(
        name,
        "Learning curves",
        heading,
        describe(summary, validation),
        (COLUMN, height),
        draw,
        labels=(names,),
    )


def describe(summary: Summary, validation: Mapping[str, Sequence[float]]) -> str:
    """Describe the figure: first and last losses, and the UAR that the chosen settings reached."""
    losses = [r.curves.train_loss for r in summary.records.values() if r.curves.train_loss]
    first, last = [values[0] for values in losses], [values[-1] for values in losses]
    said = (
        f"Training loss of {len(losses)} final trials: after the first epoch {min(first):.2f} to {max(first):.2f}, "
        f"after the last {min(last):.2f} to {max(last):.2f} nats."
    )
    if validation:
        best = [max(scores) for scores in validation.values()]
        said += f" Validation UAR of the chosen settings: at best {percent(min(best))} to {percent(max(best))} %."
    return said
