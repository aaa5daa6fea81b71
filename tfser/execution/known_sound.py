"""A sound that every machine can make, and the scores that a final model gives it.

A trial's record keeps these scores. Comparing them later shows whether the code, a library or the features now
computes other numbers, whatever its version says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tfser.audio.files import Waveform
from tfser.features.base import Extractor, loudness_of
from tfser.features.segments import as_tensor
from tfser.features.threads import one_thread
from tfser.models import Model
from tfser.planning.settings import complete, extractor
from tfser.training.determinism import settled
from tfser.training.scoring import Scorer, UtteranceScorer
from tfser.training.utterance_rules import UtteranceRule

SECONDS, RATE_HZ = 2.5, 16000

TOLERANCE = 0.01
"""Largest difference of two log probabilities, on top of a thousandth of the logarithm; devices differ by less."""


def waveform(rate_hz: int) -> Waveform:
    """Make noise of varying loudness from whole numbers alone."""
    i = np.arange(int(SECONDS * rate_hz), dtype=np.int64)
    noise = (i * i * 31 + i * 7919) % 65521 / 65521 - 0.5
    loudness = 0.02 + np.abs(i % 4000 - 2000) / 8000
    return Waveform((loudness * noise).astype(np.float32)[None], rate_hz)


def features(extractor: Extractor) -> np.ndarray:
    """Return the features of the sound, shape (rows, values).

    Raises:
        ValueError: it has none.
    """
    with settled(torch.device("cpu")), one_thread():
        return extractor(waveform(RATE_HZ))


def scores(scorer: Scorer, model: Model, settings: Mapping[str, Any], rule: UtteranceRule) -> list[float]:
    """Return the probability that the model gives each emotion.

    Args:
        scorer: the trained model.
        model: its declaration.
        settings: its trial's.
        rule: its trial's utterance rule, fitted. Where it is standardised per speaker, the sound is one of its own.
    """
    reads = extractor(model, settings)
    frames = features(reads)
    of_utterance = UtteranceScorer(
        scorer=scorer, settings=complete(model, settings), rule=rule, loudness=loudness_of(reads)
    )
    found: list[float] = of_utterance(as_tensor(frames))[0].tolist()
    return found


def same(found: Sequence[float], recorded: Sequence[float]) -> bool:
    """Return whether two lists of probabilities come from the same model, on any device."""
    if len(found) != len(recorded) or not np.isfinite(found).all():
        return False
    one, other = (np.log(np.maximum(row, 1e-30)) for row in (found, recorded))
    return bool((np.abs(one - other) <= TOLERANCE + 1e-3 * np.abs(other)).all())
