"""Masks over a batch in training: SpecAugment (Park et al. 2019), for a batch at once or for each segment by itself.

Knows nothing of networks or trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torchaudio
from torch import Tensor

from tfser.trial import Hyperparameter

MASK_PER = ("batch", "segment")

SETTINGS: Mapping[str, Hyperparameter] = {
    "mask_per": Hyperparameter(
        default="batch",
        implied="batch",
        choices=MASK_PER,
        help="SpecAugment: whether all segments of a batch get the same stripe, or each its own",
    ),
    "mask_count": Hyperparameter(
        default=1, implied=1, low=1, high=100, help="SpecAugment: stripes of each kind, drawn one after another"
    ),
}


def masks(settings: Mapping[str, Any]) -> list[Callable[[Tensor], Tensor]]:
    """Return what masks a batch, shape (segments, channels, bands, frames); all channels of a segment are alike."""
    per_segment = settings.get("mask_per", "batch") == "segment"
    kinds: list[Callable[[Tensor], Tensor]] = []
    for name, of_batch, axis in (
        ("frequency_mask", torchaudio.transforms.FrequencyMasking, 2),
        ("time_mask", torchaudio.transforms.TimeMasking, 3),
    ):
        if width := int(settings[name]):
            kinds.append(partial(_own_stripe, width, axis) if per_segment else of_batch(width))
    return kinds * int(settings.get("mask_count", 1))


def _own_stripe(width: int, axis: int, x: Tensor) -> Tensor:
    """Mask a stripe of each segment by 0, its width drawn from [0, width).

    torchaudio draws for each of the first dimensions, so that channels are taken out of them meanwhile.
    """
    moved = x.movedim(axis, 1)
    flat = moved.flatten(2)
    masked: Tensor = torchaudio.functional.mask_along_axis_iid(flat, width, 0.0, 1)
    return masked.reshape(moved.shape).movedim(1, axis)
