"""What a training reads of its utterances in one epoch: the original or a copy, and along which axis of frequency.

Both follow from (seed, epoch, utterance) alone, so that neither the order of batches nor an interruption changes them.
Utterances that are scored never come through here.

    augmented_copies  each utterance is read from the original or from one of its copies, all alike likely; segment by
                      segment, at the same share of its length (``tfser.features.augmentation`` says what a copy is)
    vtlp              vocal-tract-length perturbation (Jaitly and Hinton 2013): band b is read at the frequency G(f_b),
                      straight between neighbouring bands; G is a line of slope a, drawn within 1 +- vtlp, up to
                      4800 min(a, 1) / a Hz (0.6 of the last band's centre, where that is less), then a line to the
                      centre of the last band, which stays; nothing is read below the first band

Knows nothing of networks, folds or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfser.features.segments import as_tensor
from tfser.trial import Hyperparameter

SETTINGS: Mapping[str, Hyperparameter] = {
    "vtlp": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=0.5,
        help="vocal-tract-length perturbation: largest change of the axis of frequency of a training utterance, drawn "
        "for each epoch; 0 is none (Jaitly and Hinton 2013: 0.1)",
    ),
}

KNEE_HZ = 4800.0
"""Frequency up to which the axis is stretched evenly (Jaitly and Hinton 2013)."""

Rows = tuple[tuple[int, int, int], ...]
"""(first frame, frames, emotion index) of each of some utterances."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of the training utterances, and of no others."""

    frames: np.ndarray
    """float32, shape (frames, values): memory-mapped, never written to."""
    rows: Rows
    """Where each training utterance is, in the order of the originals."""


class Variation:
    """Gathers the segments of training utterances as one epoch sees them.

    Args:
        settings: a trial's.
        seed: the trial's.
        frames: the originals on ``device``, shape (frames, values).
        rows: the training utterances there.
        taken: int64, shape (segments, length): the frames of each segment.
        utterances: int64, shape (segments,): each segment's utterance.
        copies: the copies.
        centres_hz: frequency of each band; ``None`` where bands are none.

    Raises:
        ValueError: frequencies are to be moved, and bands are none.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        seed: int,
        frames: Tensor,
        rows: Rows,
        taken: Tensor,
        utterances: Tensor,
        copies: Sequence[Copy],
        centres_hz: np.ndarray | None,
    ) -> None:
        self._most, self._seed, self._rows = float(settings.get("vtlp", 0.0)), seed, rows
        if self._most and centres_hz is None:
            raise ValueError(f"vtlp: {self._most:g}, and nothing tells the frequencies of the bands")
        self._centres_hz, self._utterances, device = centres_hz, utterances, frames.device
        self._places = [taken, *(places_in(taken, utterances, rows, copy.rows) for copy in copies)]
        self.frames = [frames, *(as_tensor(copy.frames).to(device) for copy in copies)]
        """Of the originals and of each copy."""
        self._read = torch.zeros(len(rows), dtype=torch.int64)
        self._below, self._share = torch.zeros(0), torch.zeros(0)

    def begin(self, epoch: int) -> None:
        """Draw what an epoch reads; ``epoch`` counts from 0."""
        device, read, slopes = self.frames[0].device, [], []
        for start, _, _ in self._rows:
            random = np.random.default_rng((self._seed, epoch, start))
            read.append(int(random.integers(len(self.frames))))
            slopes.append(1.0 + self._most * random.uniform(-1.0, 1.0))
        self._read = torch.tensor(read).to(device)
        if self._most and self._centres_hz is not None:
            place = np.stack([bands_read(self._centres_hz, slope) for slope in slopes])
            below = np.minimum(place.astype(np.int64), max(len(self._centres_hz) - 2, 0))
            self._below = torch.from_numpy(below).to(device)
            self._share = torch.from_numpy(place - below).to(device, torch.float32)

    def read(self, chosen: Tensor) -> Tensor:
        """Return which copy each of some segments is read from: int64, 0 for the original."""
        return self._read[self._utterances[chosen]]

    def gathered(self, chosen: Tensor) -> Tensor:
        """Return the frames of segments by their numbers, not standardised: (segments, length, values)."""
        read = self.read(chosen)
        x = self.frames[0][self._places[0][chosen]]
        for number in range(1, len(self.frames)):
            own = read == number
            x[own] = self.frames[number][self._places[number][chosen[own]]]
        if not self._most or self._centres_hz is None:
            return x
        of = self._utterances[chosen]
        channels = x.view(*x.shape[:2], -1, len(self._centres_hz))
        below = self._below[of][:, None, None].expand(channels.shape)
        share = self._share[of][:, None, None]
        above = (below + 1).clamp(max=len(self._centres_hz) - 1)
        warped: Tensor = (1 - share) * channels.gather(3, below) + share * channels.gather(3, above)
        return warped.flatten(2)


def bands_read(centres_hz: np.ndarray, slope: float) -> np.ndarray:
    """Return where each band is read, as a number between 0 and that of the last band: float64, shape (bands,).

    Args:
        centres_hz: frequency of each band, ascending.
        slope: of the axis of frequency; 1 reads every band where it is.
    """
    top = float(centres_hz[-1])
    knee = min(KNEE_HZ, 0.6 * top) * min(slope, 1.0) / slope
    beyond = top - (top - knee * slope) / (top - knee) * (top - centres_hz)
    hz = np.where(centres_hz <= knee, slope * centres_hz, beyond)
    return np.interp(hz, centres_hz, np.arange(len(centres_hz)))


def places_in(taken: Tensor, utterances: Tensor, rows: Rows, copied: Rows) -> Tensor:
    """Return the frames of each segment in a copy: int64, shape (segments, length).

    A segment that begins at a share of the frames at which one can begin does so in the copy, too. Where the copy is
    shorter than a segment it is repeated, as an original is.
    """
    of, length = utterances.cpu().numpy(), taken.shape[1]
    (start, count, _), (first, many, _) = (np.array(each).T[:, of] for each in (rows, copied))
    begin = taken[:, 0].cpu().numpy() - start
    moved = np.rint(begin * np.maximum(many - length, 0) / np.maximum(count - length, 1)).astype(np.int64)
    places = first[:, None] + (moved[:, None] + np.arange(length)) % many[:, None]
    return torch.from_numpy(places).to(taken.device)
