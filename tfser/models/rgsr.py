"""RGSR-LPDA: random anchors and regression onto a graph's coordinates, after Xu et al. (IEEE TMM 2018).

"Connecting Subspace Learning and Extreme Learning Machine in Speech Emotion Recognition". Of the paper only the
abstract could be read: data are mapped (a random layer of an extreme learning machine, or random anchors), embedding
graphs give each training utterance virtual coordinates, and a regression leads from the mapping to the coordinates.

Input: functionals, (utterances, values); output: probabilities, (utterances, K).

    z = (x - mean) / deviation, clipped at 8      values that move in training
    h_i = exp(-|z - a_i|^2 / median)              anchors a_i drawn from the training utterances
    t = the graph's first K - 1 eigenvectors      coordinates of the training utterances
    W = (H'H + ridge I)^-1 H'T                    H without its mean
    the nearest mean of an emotion in h W

Ours, where the paper could not be read:
    - The graph. The weights and neighbours of the paper's LPDA are not known, so that the default is the plain graph of
      the emotions, which makes this spectral regression discriminant analysis. ``penalty`` above 0 takes edges from
      near neighbours of different emotions, which is our reading of a locality-penalised one. It was no better on two
      seconds of EmoDB.
    - The median is that of all squared distances of training utterances to anchors.
    - The nearest mean as classifier. Probabilities are those of round Gaussians of one size, emotions equally probable.
    - ``functionals`` as they are set, by default tfser's own; the paper's are not known. ``set=ComParE_2016`` needs
      openSMILE.

The number of anchors (200 or 400) and the ridge (0.1 or 1) are chosen inside ``fit``, over training speakers. The mean
and deviation of z are then those of all training speakers. ``--trials`` searches ``penalty`` and ``neighbours``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Hyperparameter, Value

GRID = {"anchors": (200, 400), "ridge": (0.1, 1.0)}
"""Ours: what ``fit`` chooses from."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "penalty": Hyperparameter(
        default=0.0,
        low=0.0,
        high=100.0,
        help="weight of the edges between near neighbours of different emotions; 0 is the plain graph of emotions",
    ),
    "neighbours": Hyperparameter(
        default=5, low=1, high=1000, help="with a penalty: nearest utterances of other emotions that get an edge"
    ),
}


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the classifier; the seed draws the anchors."""
    from tfser.models.classifiers.spectral_regression import AnchoredRegression

    return AnchoredRegression(
        grid=GRID, penalty=float(settings["penalty"]), neighbours=int(settings["neighbours"]), seed=seed
    )


MODEL = Estimator(
    name="rgsr",
    title="RGSR (re-run, plain class graph)",
    reruns=("RGSR-LPDA",),
    features="functionals",
    hyperparameters=HYPERPARAMETERS,
    ours={
        "set": "the paper's features are not known, and own functionals need no licence",
        "penalty": "the paper's graph is not known; the plain one",
        "neighbours": "not known; without a penalty it changes nothing",
    },
    cost={"full": 5.0},
    build=build,
    least_speakers=2,
)
