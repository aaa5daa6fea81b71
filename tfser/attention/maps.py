"""Attention maps of a finished final trial's model for an utterance.

They are shown beside the log-mel spectrogram, as in figure 3 of the Time-Frequency Transformer paper and figure 6 of
the ATFNN paper.

ATFNN: the weights a^f and a^t of its equations 1 and 2, 0 to 1, one per cell.

Time-Frequency Transformer: its paper does not say how its figure was computed. Ours shows the attention that a token
receives: its softmax weight, averaged over the heads and over the attending tokens, times the number of tokens. It is
1 if all tokens are attended to alike.
    T-Attention: from the last Time Transformer layer (2), one value per frame.
    F-Attention: from the last Frequency Transformer layer (5), one value per band.
    TF-Attention: from the last Time-Frequency Transformer layer (8). Its tokens are groups of bands; their attention is
    multiplied by the magnitude of the values v, which are groups of frames: one value per patch of f x d.

An utterance has several segments, each with its own attention. A cell that occurs in several of them shows the mean:
the last segment is shifted back to end with the utterance, and a short utterance is repeated within a segment.
Nothing is trained and no score changes.
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
"""Where figure 6 of the ATFNN paper has a line; the paper calls the frequencies above it high."""

SAME = 1e-3
"""Largest difference from the recorded scores at which audio counts as the tested one; devices differ by less."""

PARTS: Mapping[str, tuple[str, str]] = {
    "time_transformer": ("t", "T-Trans attention"),
    "frequency_transformer": ("f", "F-Trans attention"),
    "time_frequency_transformer": ("tf", "TF-Trans attention"),
    "frequency_attention": ("f", "F-Attention"),
    "time_attention": ("t", "T-Attention"),
}
"""Parts of a model by their name in the module: short name, and the papers' name of the map."""


@dataclass(frozen=True, slots=True)
class Segmentwise:
    """The attention of one part in every segment."""

    cells: np.ndarray
    """float64, shape (segments, bands, frames of a segment)."""
    weights: np.ndarray
    """As in the layer: softmax (segments, heads, attending tokens, tokens), ATFNN (segments, bands, frames)."""


def attend(model: FinalModel, frames: np.ndarray, taken: np.ndarray) -> dict[str, Segmentwise]:
    """Return the attention of every part that has one, by its name in ``PARTS``; empty for a model without attention.

    Args:
        model: the trial's model.
        frames: the utterance's frames: float32, shape (frames, n_mels).
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
    """Return the patch of each of ``size`` cells: int64, shape (size,).

    Patch j of a convolution with an odd kernel, padded alike on both sides, is centred at cell j * step.

    >>> nearest(9, 3, 4).tolist()
    [0, 0, 1, 1, 1, 1, 2, 2, 2]
    """
    return np.minimum((np.arange(size) + step // 2) // step, count - 1)


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


def band_centres_hz(front_end: FrontEnd) -> np.ndarray:
    """Return the peak of each band's triangle: float64, shape (n_mels,).

    Peaks are evenly spaced on the HTK mel scale from 0 to half the sampling rate.
    """
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
    """Its emotion, and whether the model was trained on its speaker, in words."""


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
    fold = f"{spec.database} without {spec.protocol} {spec.fold}"
    trial = f"{spec.model} {spec.ablation}, {fold}, seed {spec.seed}, trial {model.trial_id}"
    oracle = "\nits epoch was chosen on that fold" if spec.purpose == "oracle" else ""
    return f"{show(chosen.name)}{which}: {chosen.about}, {recognised}\n{trial}{oracle}"


def _file_name(model: FinalModel, chosen: Chosen, segment: int | None) -> str:
    which = "" if segment is None else f"_segment{segment}"
    return figure.file_name(f"attention_{model.trial_id}_{chosen.name}{which}")
