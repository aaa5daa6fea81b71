"""LLDs+HMM/GMM with several states: a hidden Markov model for each emotion, after Schuller et al. (ASRU 2009).

``tfser.models.gmm`` says which paper that is and what is known of it; of its hidden Markov models, that they go from
left to right and have few states. The models are fitted with the package hmmlearn, which needs the extra ``hmm``.

Input: frames of ``mfcc``, for each utterance (frames, 39); output: probabilities, (utterances, K), the softmax of the
log likelihood of each emotion's model, divided by the frames.

Ours, where the paper could not be read:
    - 3 states of 8 diagonal Gaussians; ``--trials`` searches both, and nothing is chosen inside ``fit``.
    - A model begins in its first state, and stays in a state with probability 0.95 before the first of six steps of
      expectation-maximisation. Each state begins with its share of every utterance, cut into equal parts.
    - The likelihood sums over all paths (forward recursion); the paper's is said to be that of the best one (Viterbi).
    - No normalisation, equally probable emotions: as for ``gmm``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Hyperparameter, Value

ITERATIONS = 6
"""Ours: most steps of expectation-maximisation."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "states": Hyperparameter(default=3, low=1, high=10, help="states of an emotion's model, passed from left to right"),
    "gaussians": Hyperparameter(default=8, low=1, high=32, help="diagonal Gaussians of a state"),
}


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the classifier; the seed draws the frames at which Gaussians begin."""
    from tfser.models.classifiers.hidden_markov import LeftToRight

    return LeftToRight(int(settings["states"]), int(settings["gaussians"]), ITERATIONS, seed)


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Say which extra it needs, where that is not installed."""
    if importlib.util.find_spec("hmmlearn"):
        return []
    return ["it needs the package hmmlearn, which is not installed: pip install 'tfser[hmm]' on every machine"]


MODEL = Estimator(
    name="hmm",
    title="LLDs + HMM (re-run, left to right)",
    reruns=("LLDs+HMM/GMM",),
    features="mfcc",
    hyperparameters=HYPERPARAMETERS,
    ours={
        "mean_normalisation": "two seconds of EmoDB are told better without",
        "states": "the paper could not be read",
        "gaussians": "the paper could not be read",
    },
    cost={"full": 1.0},
    build=build,
    problems=problems,
)
