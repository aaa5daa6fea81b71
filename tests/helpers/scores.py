"""Random scores of a row, from which intervals are made."""

from __future__ import annotations

import numpy as np

from tfser.evaluation.uncertainty import FoldScores


def trials(folds=4, seeds=1, emotions=3, utterances=12, seed=0, speakers=1, chance=0.5):
    """Random scores: speakers differ, each fold has 3 utterances more, and the first lacks the last emotion."""
    rng, made = np.random.default_rng(seed), []
    for f in range(folds):
        n = utterances + 3 * f
        truth = rng.integers(0, emotions - (f == 0), n)
        skill = np.clip(rng.normal(chance, 0.2), 0.05, 0.95)
        for s in range(seeds):
            guess = np.where(rng.random(n) < skill, truth, rng.integers(0, emotions, n))
            made.append(
                FoldScores(
                    fold=f"f{f}",
                    seed=s,
                    utterances=[f"u{i}" for i in range(n)],
                    speakers=[f"s{f}{i % speakers}" for i in range(n)],
                    truth=truth.tolist(),
                    predicted=guess.tolist(),
                )
            )
    return made
