"""Attention maps of a finished final trial's model for an utterance.

They are shown beside the features that the model reads, as beside the log-mel spectrogram in the papers' figures.

A model computes its maps itself; its file in ``tfser/models/`` says what they are.

An utterance has several segments, each with its own attention. A cell that occurs in several of them shows the mean:
the last segment is shifted back to end with the utterance, and a short utterance is repeated within a segment.
Nothing is trained and no score changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tfser.attention import figure
from tfser.attention.figure import Attention, Map
from tfser.databases.folders import show
from tfser.errors import RequestError
from tfser.features.sets import FEATURE_SETS
from tfser.final_models.model import FinalModel, Scored
from tfser.models import AttentionMap, of
from tfser.text.row_names import with_ablation
from tfser.training.determinism import settled

SAME = 1e-3
"""Largest difference from the recorded scores at which audio counts as the tested one; devices differ by less."""


def attend(model: FinalModel, frames: np.ndarray, taken: np.ndarray) -> Mapping[str, AttentionMap]:
    """Return the attention of every part that has one, by the part's name; empty for a model without attention.

    Args:
        model: the trial's model.
        frames: the utterance's frames: float32, shape (frames, values).
        taken: int64, shape (segments, length): the frames of each segment.
    """
    declared = model.attention
    if declared is None:
        return {}
    with settled(model.scorer.device), torch.inference_mode():
        x = model.scorer.prepared(model.gathered(frames, taken))
        return declared.maps(model.scorer.model.eval(), x, model.settings)


def over_utterance(cells: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Place the segments' cells on the utterance's frames: float64, shape (bands, last frame - first frame + 1).

    A frame that occurs several times, in one segment or in several, gets the mean.

    Args:
        cells: float64, shape (segments, bands, length).
        taken: int64, shape (segments, length), with every frame between the first and the last.
    """
    place = taken.ravel() - taken.min()
    count = np.bincount(place)
    sums = np.zeros((len(count), cells.shape[1]))
    np.add.at(sums, place, cells.transpose(0, 2, 1).reshape(-1, cells.shape[1]))
    means: np.ndarray = (sums / count[:, None]).T
    return means


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An utterance to look at."""

    name: str
    """Its id, or its file."""
    frames: np.ndarray
    """float32, shape (frames, values)."""
    about: str
    """Its emotion, and whether the model was trained on its speaker, in words."""
    label: str = ""
    """Word beside its panels: its emotion; empty for its name."""


def look(model: FinalModel, chosen: Chosen, segment: int | None) -> Attention:
    """Compute everything that a figure shows of an utterance.

    Args:
        model: the trial's model.
        chosen: the utterance.
        segment: one of its segments, counted from 1; ``None`` for the whole utterance.

    Raises:
        RequestError: the model has no attention, or the utterance has no such segment.
    """
    scored = model.score(chosen.frames)
    every = len(scored.frames)
    if segment is not None and not 1 <= segment <= every:
        raise RequestError(
            f"--segment {segment}", [f"{show(chosen.name)} has {every} of {model.segment[0]} frames: 1 to {every}"]
        )
    parts = attend(model, chosen.frames, scored.frames)
    if not parts:
        raise RequestError(f"trial {model.trial_id}", [_nothing_to_show(model)])
    frequency_hz = model.extractor.band_centres_hz
    if frequency_hz is None:
        raise RequestError(f"trial {model.trial_id}", ["its features are not frequencies, over which a map could lie"])
    picked = slice(None) if segment is None else slice(segment - 1, segment)
    taken = scored.frames[picked]
    name = of(model.spec).feature_set.name
    shown = np.arange(taken.min(), taken.max() + 1)
    return Attention(
        features=chosen.frames[shown, : len(frequency_hz)].T.astype(np.float64),  # deltas are further channels
        features_name=name,
        column=name if name in FEATURE_SETS else "features",  # a person's own name could be that of another column
        unit=model.extractor.unit,
        time_s=model.extractor.first_s + shown * model.extractor.hop_s,
        frequency_hz=frequency_hz,
        hop_s=model.extractor.hop_s,
        maps=tuple(
            Map(name=part.short, title=part.title, unit=part.unit, values=over_utterance(part.cells[picked], taken))
            for part in parts.values()
        ),
        weights={name: part.weights[picked] for name, part in parts.items()},
        taken=taken,
        line_hz=model.attention.line_hz if model.attention else None,
        heading=_heading(model, chosen, scored, segment),
        name=_file_name(model, chosen.name, segment),
        label=chosen.label or chosen.name,
    )


def together(model: FinalModel, chosen: Sequence[Chosen], segment: int | None) -> str:
    """Return the name of the files, without ending, that show several utterances in one figure."""
    return _file_name(model, "+".join(one.name for one in chosen), segment)


def _nothing_to_show(model: FinalModel) -> str:
    declared = model.attention
    if declared is None:
        return f"{model.spec.model} has no attention to show; another model has"
    others = declared.ablations
    have = f"{', '.join(others[:-1])} and {others[-1]} have" if len(others) > 1 else f"{others[0]} has"
    return f"{model.spec.ablation} has {declared.lacking} to show; {have}"


def _heading(model: FinalModel, chosen: Chosen, scored: Scored, segment: int | None) -> str:
    spec, best = model.spec, int(scored.probabilities.argmax())
    recognised = f"recognised as {model.emotions[best]} (p {scored.probabilities[best]:.2f})"
    which = "" if segment is None else f", segment {segment} of {len(scored.frames)}"
    fold = f"{spec.database} without {spec.protocol} {spec.fold}" if spec.fold else f"all of {spec.database}"
    trial = f"{with_ablation(spec.model, spec.ablation)}, {fold}, seed {spec.seed}, trial {model.trial_id}"
    oracle = "\nits epoch was chosen on that fold" if spec.purpose == "oracle" else ""
    return f"{show(chosen.name)}{which}: {chosen.about}, {recognised}\n{trial}{oracle}"


def _file_name(model: FinalModel, utterances: str, segment: int | None) -> str:
    which = "" if segment is None else f"_segment{segment}"
    return figure.file_name(f"attention_{model.trial_id}_{utterances}{which}")
