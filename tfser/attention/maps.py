"""``python -m tfser.attention RUN --utterance ID``: what a finished final trial's model attends to in an utterance.

The log-mel spectrogram beside the attention of the model's parts, as figure 3 of the Time-Frequency Transformer paper and
figure 6 of the ATFNN paper show them, as a picture and as numbers.

ATFNN: the weights a^f and a^t of its equations 1 and 2, 0 to 1, one per cell.

Time-Frequency Transformer; the paper does not say how its figure was computed. Ours: the attention that a token receives, its
softmax weight averaged over the heads and over the tokens that attend, times the number of tokens, so that 1 is what it would receive
if all were attended to alike.
    T-Attention: of the last Time Transformer layer (2), one value per frame.
    F-Attention: of the last Frequency Transformer layer (5), one value per band.
    TF-Attention: of the last Time-Frequency Transformer layer (8), whose tokens are groups of bands, times the magnitude of the values v
    that it passes on, which are groups of frames: one value per patch of f x d.

An utterance is several segments, each with attention of its own. Where segments overlap (the last one is shifted back to end with
the utterance), or a short utterance is repeated within one, a cell shows the mean. Trains nothing and changes no score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.attention import figure
from tfser.attention.figure import Attention, Map
from tfser.databases.folders import show
from tfser.errors import RequestError
from tfser.features.log_mel import FrontEnd
from tfser.final_models.model import FinalModel, Scored, centre_s
from tfser.models.atfnn import GroupAttention
from tfser.models.layers import MultiHeadAttention
from tfser.models.time_frequency_transformer import Transformer
from tfser.training.determinism import settled

SPLIT_HZ = 2700.0
"""Figure 6 of the ATFNN paper has a line here: above it are what the paper calls the high frequencies."""

SAME = 1e-3
"""How far a test utterance's scores may be from the recorded ones before its audio is taken for another: devices differ by less."""

PARTS: Mapping[str, tuple[str, str]] = {
    "time_transformer": ("t", "T-Trans attention"),
    "frequency_transformer": ("f", "F-Trans attention"),
    "time_frequency_transformer": ("tf", "TF-Trans attention"),
    "frequency_attention": ("f", "F-Attention"),
    "time_attention": ("t", "T-Attention"),
}
"""A model's part by its name in the module: short name and the papers' name of what it gives."""


@dataclass(frozen=True, slots=True)
class Segmentwise:
    """What one part gives for every segment."""

    cells: np.ndarray
    """float64, shape (segments, bands, frames of a segment)."""
    weights: np.ndarray
    """As the layer has them. Softmax weights: (segments, heads, attending tokens, tokens). ATFNN's: (segments, bands, frames)."""


def attend(model: FinalModel, frames: np.ndarray, taken: np.ndarray) -> dict[str, Segmentwise]:
    """The attention of every part that has one, by its name in ``PARTS``; empty for a model without any.

    Args:
        model: the trial's.
        frames: float32, shape (frames, n_mels), of the utterance.
        taken: int64, shape (segments, length): the frames of each segment.
    """
    seen: dict[str, Segmentwise] = {}
    module = model.scorer.model.eval()
    shape = (model.front_end.n_mels, taken.shape[1])
    hooks = []
    for name in PARTS:
        part = getattr(module, name, None)
        if isinstance(part, GroupAttention):
            hooks.append(part.register_forward_hook(_group_hook(seen, name)))
        elif isinstance(part, Transformer):
            step = int(model.spec.settings["stride"]) ** 2
            last: Any = part.layers[-1]
            hooks.append(last.attention.register_forward_pre_hook(_softmax_hook(seen, name, shape, step)))
    try:
        with settled(model.scorer.device), torch.inference_mode():
            module(model.scorer.prepared(model.gathered(frames, taken)))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: seen[name] for name in PARTS if name in seen}


def _group_hook(seen: dict[str, Segmentwise], name: str) -> Any:
    def hook(part: nn.Module, inputs: tuple[Tensor, ...], a_B1FT: Tensor) -> None:  # noqa: N803
        cells = a_B1FT[:, 0].double().cpu().numpy()
        seen[name] = Segmentwise(cells, cells)

    return hook


def _softmax_hook(seen: dict[str, Segmentwise], name: str, shape: tuple[int, int], step: int) -> Any:
    def hook(attention: MultiHeadAttention, inputs: tuple[Tensor, ...]) -> None:
        weights = attention.weights(*inputs).double().cpu().numpy()
        received = weights.mean(axis=(1, 2)) * weights.shape[3]  # (segments, tokens)
        if name == "time_transformer":
            cells = np.broadcast_to(received[:, None, :], (len(received), *shape))
        elif name == "frequency_transformer":
            cells = np.broadcast_to(received[:, :, None], (len(received), *shape))
        else:
            patches = received[:, :, None] * np.abs(inputs[2].double().cpu().numpy())  # (segments, f, d)
            bands, frames = (nearest(size, count, step) for size, count in zip(shape, patches.shape[1:], strict=True))
            cells = patches[:, bands][:, :, frames]
        seen[name] = Segmentwise(np.array(cells), weights)

    return hook


def nearest(size: int, count: int, step: int) -> np.ndarray:
    """For each of ``size`` cells the patch that it is shown with: int64, shape (size,).

    Patch j of a convolution with an odd kernel, padded alike on both sides, is centred at cell j * step.

    >>> nearest(9, 3, 4).tolist()
    [0, 0, 1, 1, 1, 1, 2, 2, 2]
    """
    return np.minimum((np.arange(size) + step // 2) // step, count - 1)


def over_utterance(cells: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Segments' cells on the frames that they were taken from: float64, shape (bands, last frame - first frame + 1).

    A frame that several segments took, or one took several times, has the mean.

    Args:
        cells: float64, shape (segments, bands, length).
        taken: int64, shape (segments, length); together they leave out no frame between their first and their last.
    """
    place = taken.ravel() - taken.min()
    count = np.bincount(place)
    sums = np.zeros((len(count), cells.shape[1]))
    np.add.at(sums, place, cells.transpose(0, 2, 1).reshape(-1, cells.shape[1]))
    means: np.ndarray = (sums / count[:, None]).T
    return means


def band_centres_hz(front_end: FrontEnd) -> np.ndarray:
    """Where each band's triangle peaks: float64, shape (n_mels,); evenly spaced on the HTK mel scale from 0 to half the rate."""
    highest = 2595 * np.log10(1 + front_end.rate_hz / 2 / 700)
    mel = highest * np.arange(1, front_end.n_mels + 1) / (front_end.n_mels + 1)
    hz: np.ndarray = 700 * (10 ** (mel / 2595) - 1)
    return hz


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An utterance to look at."""

    name: str
    """Its id, or its file."""
    frames: np.ndarray
    """float32, shape (frames, n_mels)."""
    about: str
    """What is known of it, in words: its emotion, and whether the model was trained on its speaker."""


def look(model: FinalModel, chosen: Chosen, segment: int | None) -> Attention:
    """Everything that a figure shows of an utterance.

    Args:
        model: the trial's.
        chosen: the utterance.
        segment: one of its segments, counted from 1; ``None`` is all of it.

    Raises:
        RequestError: the model has no attention to show, or the utterance no such segment.
    """
    scored = model.score(chosen.frames)
    every = len(scored.frames)
    if segment is not None and not 1 <= segment <= every:
        raise RequestError(
            f"--segment {segment}", [f"{show(chosen.name)} has {every} of {model.segment[0]} frames: 1 to {every}"]
        )
    parts = attend(model, chosen.frames, scored.frames)
    if not parts:
        other = "ATFNN, AFNN and ATNN have" if model.spec.model == "atfnn" else "another model has"
        raise RequestError(
            f"trial {model.trial_id}", [f"{model.spec.ablation} has neither F- nor T-Attention to show; {other}"]
        )
    picked = slice(None) if segment is None else slice(segment - 1, segment)
    taken = scored.frames[picked]
    shown = np.arange(taken.min(), taken.max() + 1)
    return Attention(
        log_mel=chosen.frames[shown].T.astype(np.float64),
        time_s=centre_s(model.front_end, shown),
        frequency_hz=band_centres_hz(model.front_end),
        hop_s=model.front_end.hop / model.front_end.rate_hz,
        maps=tuple(_map(model, name, part, picked, taken) for name, part in parts.items()),
        weights={name: part.weights[picked] for name, part in parts.items()},
        taken=taken,
        line_hz=SPLIT_HZ if model.spec.model == "atfnn" else None,
        heading=_heading(model, chosen, scored, segment),
        name=_file_name(model, chosen, segment),
    )


def _map(model: FinalModel, name: str, part: Segmentwise, picked: slice, taken: np.ndarray) -> Map:
    short, title = PARTS[name]
    if model.spec.model == "atfnn":
        unit = "weight (0 to 1)"
    elif short == "tf":
        unit = "attention received x |v|"
    else:
        unit = "attention received (1: all alike)"
    return Map(name=short, title=title, unit=unit, values=over_utterance(part.cells[picked], taken))


def _heading(model: FinalModel, chosen: Chosen, scored: Scored, segment: int | None) -> str:
    spec, best = model.spec, int(scored.probabilities.argmax())
    recognised = f"recognised as {model.emotions[best]} (p {scored.probabilities[best]:.2f})"
    which = "" if segment is None else f", segment {segment} of {len(scored.frames)}"
    trial = f"{spec.model} {spec.ablation}, {spec.database} without {spec.protocol} {spec.fold}, seed {spec.seed}, trial {model.trial_id}"
    oracle = "\nits epoch was chosen on that fold" if spec.purpose == "oracle" else ""
    return f"{show(chosen.name)}{which}: {chosen.about}, {recognised}\n{trial}{oracle}"


def _file_name(model: FinalModel, chosen: Chosen, segment: int | None) -> str:
    which = "" if segment is None else f"_segment{segment}"
    return figure.file_name(f"attention_{model.trial_id}_{chosen.name}{which}")
