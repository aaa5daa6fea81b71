"""LLDs+HMM/GMM with one state: a mixture of Gaussians for each emotion, after Schuller et al. (ASRU 2009).

"Acoustic Emotion Recognition: A Benchmark Comparison of Performances", from which ATFNN cites LLDs+HMM/GMM on ABC. The
paper's text could not be had; after other people's accounts of it: 12 MFCC and log energy with deltas and delta-deltas,
25 ms Hamming window, 10 ms hop, HTK, one model per emotion, mixtures that are split up to about 120.

Input: frames of ``mfcc``, for each utterance (frames, 39); output: probabilities, (utterances, K), the softmax of the
mean log likelihood per frame of each emotion's mixture of diagonal Gaussians. 2 x 39 x G x K numbers and the weights.

Ours, where the paper could not be read:
    - G, the number of Gaussians, is 8, 16, 32 or 64, chosen inside ``fit`` over training speakers. ``--trials``
      searches the features alone.
    - No normalisation. The paper's is said to subtract each coefficient's mean over an utterance
      (``mean_normalisation=true``).
    - Gaussians begin at frames that k-means++ chooses, and get ten steps of expectation-maximisation.
    - Emotions are equally probable beforehand. Likelihoods are divided by the frames, so that probabilities of long
      utterances are no surer than those of short ones; the most probable emotion is that of the likelihood itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Value

COMPONENTS = (8, 16, 32, 64)
"""Ours: what ``fit`` chooses G from."""

ITERATIONS = 10
"""Ours: steps of expectation-maximisation."""


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the classifier; the seed draws the frames at which Gaussians begin."""
    from tfser.models.classifiers.mixtures import Mixtures
    from tfser.models.inner_choice import chosen_over_speakers

    return chosen_over_speakers(Mixtures(iterations=ITERATIONS, seed=seed), {"components": COMPONENTS})


MODEL = Estimator(
    name="gmm",
    title="LLDs + GMM (re-run, one state)",
    reruns=("LLDs+HMM/GMM",),
    features="mfcc",
    ours={"mean_normalisation": "two seconds of EmoDB are told better without"},
    cost={"full": 1.5},
    build=build,
    least_speakers=2,
)
