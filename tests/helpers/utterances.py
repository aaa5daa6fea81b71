"""Made-up utterances of several speakers, one vector each, whose emotions can be told apart."""

from __future__ import annotations

import numpy as np

SPEAKERS = ("anna", "bert", "carl", "dora", "emil")


def made_up(
    *, emotions: int = 3, takes: int = 6, values: int = 20, apart: float = 1.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, shape (utterances, values), emotions and speakers; every column has a scale of its own."""
    random = np.random.default_rng(seed)
    y = np.tile(np.repeat(np.arange(emotions), takes), len(SPEAKERS))
    speakers = np.repeat(SPEAKERS, emotions * takes)
    offset = np.repeat(random.normal(size=(len(SPEAKERS), values)), emotions * takes, axis=0)
    x = random.normal(size=(len(y), values)) + 0.5 * offset + apart * np.eye(emotions, values)[y]
    x = x * 10.0 ** random.integers(-3, 6, values) + random.normal(size=values)
    return x.astype(np.float32), np.array(["calm", "glad", "sad", "tense"])[y], speakers
