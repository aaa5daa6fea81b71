"""A sound that every machine can make, and the scores that a model gives it, from which it is told later whether it still gives them.

A trial's entry keeps the scores. Code, a library or a front end that computes other numbers is noticed, whatever its version is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tfser.audio.files import Waveform
from tfser.features.segments import as_tensor, segment_frames
from tfser.features.store import log_mel
from tfser.planning.settings import front_end
from tfser.training.determinism import settled
from tfser.training.scoring import Scorer

SECONDS = 2.5

TOLERANCE = 0.01
"""Largest difference of two logarithms of a probability, beside a thousandth of the logarithm: devices differ by less."""


def waveform(rate_hz: int) -> Waveform:
    """Noise of a varying loudness, made from whole numbers alone."""
    i = np.arange(int(SECONDS * rate_hz), dtype=np.int64)
    noise = (i * i * 31 + i * 7919) % 65521 / 65521 - 0.5
    loudness = 0.02 + np.abs(i % 4000 - 2000) / 8000
    return Waveform((loudness * noise).astype(np.float32)[None], rate_hz)


def scores(scorer: Scorer, settings: Mapping[str, Any]) -> list[float]:
    """Probability of each emotion, the mean over the segments.

    Args:
        scorer: the model.
        settings: those of its trial.
    """
    wanted, length = front_end(settings), int(settings["segment_frames"])
    with settled(torch.device("cpu")):
        frames = log_mel(waveform(wanted.rate_hz), wanted)
    taken = torch.from_numpy(segment_frames(0, len(frames), length, int(settings["segment_hop"]) or length))
    found: list[float] = scorer.segments([as_tensor(frames)[taken].to(scorer.device)]).mean(axis=0).tolist()
    return found


def same(found: Sequence[float], recorded: Sequence[float]) -> bool:
    """Whether two rows of probabilities are one model's, on whatever device."""
    if len(found) != len(recorded) or not np.isfinite(found).all():
        return False
    one, other = (np.log(np.maximum(row, 1e-30)) for row in (found, recorded))
    return bool((np.abs(one - other) <= TOLERANCE + 1e-3 * np.abs(other)).all())
