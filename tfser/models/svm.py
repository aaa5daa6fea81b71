"""Functionals and a linear support vector machine: the usual baseline, and LLDs+SVM of Schuller et al. (ASRU 2009).

"Acoustic Emotion Recognition: A Benchmark Comparison of Performances", from which ATFNN cites LLDs+SVM on ABC. The
paper's text could not be had; after other people's accounts of it: openEAR's set emo_large (6552 functionals), SMO with
a linear kernel, pairs of emotions, features standardised per speaker.

Input: functionals, (utterances, values); output: (utterances, K), the votes of K (K - 1) / 2 machines.

    z = (x - mean) / deviation, clipped at 8      values that move in training
    k(z, z') = z . z' / values                    a machine for each pair of emotions, emotions weighted equally
    the softmax of votes and margins              tfser's, as of every decision_function; no calibration

Ours, and where it differs:
    - emo_large is not in opensmile's package. ``set=ComParE_2016`` or ``set=emobase`` come nearest, and need the
      extra; without it, these are tfser's own functionals.
    - z has the mean and deviation of the training speakers. ``standardisation=speaker`` is the paper's, which uses all
      of a test speaker's utterances, so that tables mark it as transductive.
    - C is not stated. It is 0.1, 1, 10 or 100, chosen inside ``fit`` over training speakers; every inner fold is
      standardised with the mean and deviation of its own training speakers. Nothing is left to ``--trials`` but the
      feature set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Value

COSTS = (0.1, 1.0, 10.0, 100.0)
"""Ours: what ``fit`` chooses C from."""


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the classifier; nothing in it is random."""
    from tfser.models.classifiers.gram_svm import ChosenSvm

    return ChosenSvm(COSTS)


MODEL = Estimator(
    name="svm",
    title="Functionals + SVM (re-run, one-vs-one)",
    reruns=("LLDs+SVM",),
    features="functionals",
    ours={"set": "the paper's set is not in opensmile's package, and own functionals need no licence"},
    cost={"full": 5.0},
    build=build,
    least_speakers=2,
)
