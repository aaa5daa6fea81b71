"""HuWSF or LoHu: spectral features weighted by local Hu moments and a linear SVM, after Sun, Wen and Wang (2015).

"Weighted Spectral Features Based on Local Hu Moments for Speech Emotion Recognition". ATFNN cites it as HuWSF, the
Time-Frequency Transformer as LoHu. Of the paper only the abstract could be read: Hu moments of local regions of the
spectrogram say how much the energy is concentrated around its centre of gravity, which changes with the emotion. So
this is a method after the idea; the formula of the weights, the statistics and the classifier are ours.

Input: ``local_hu``, (utterances, 168): 7 statistics of 12 coefficients of the DCT of weighted log-mel bands and of
their deltas (``tfser/features/local_hu.py``); output: (utterances, K), as of ``svm``.

    z = (x - mean) / deviation, clipped at 8      values that move in training
    the machine of ``svm``                        one for each pair of emotions

C is 0.1, 1, 10 or 100, chosen inside ``fit`` over training speakers. ``--trials`` searches the features' settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Value

COSTS = (0.1, 1.0, 10.0, 100.0)
"""Ours: what ``fit`` chooses C from, as for ``svm``."""


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the classifier; nothing in it is random."""
    from tfser.models.classifiers.gram_svm import ChosenSvm

    return ChosenSvm(COSTS)


MODEL = Estimator(
    name="hu_svm",
    title="HuWSF (re-run, after the abstract)",
    reruns=("HuWSF", "LoHu"),
    features="local_hu",
    ours={
        "patch": "the size of a region is not known; the smallest that has a middle",
        "coefficients": "not known; as many as MFCC usually have",
        "n_mels": "not known",
    },
    cost={"full": 4.0},
    build=build,
    least_speakers=2,
)
