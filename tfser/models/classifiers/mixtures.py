"""A mixture of Gaussians for each class, over the frames of utterances; ``tfser.models.gmm`` names the paper."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

SMALLEST_VARIANCE = 1e-3
"""Ours: what is added to each variance, so that a Gaussian of few frames does not collapse."""


class Likelihoods(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Choose the class whose model makes an utterance most likely, all classes equally probable beforehand.

    A subclass says what the model of a class is.
    """

    def fit(self, X: Sequence[np.ndarray], y: Any) -> Self:
        """Fit a model of each class on X, for each utterance an array of shape (frames, values).

        Raises:
            ValueError: there is only one class.
        """
        y = np.asarray(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("it tells classes apart, and the training utterances show only one")
        self.models_ = [self.model([x for x, own in zip(X, y == each, strict=True) if own]) for each in self.classes_]
        return self

    def model(self, X: Sequence[np.ndarray]) -> Any:
        """Return the model of a class, fitted on its utterances."""
        raise NotImplementedError

    def mean_log_likelihood(self, model: Any, x: np.ndarray) -> float:
        """Return the log likelihood of an utterance under a model of ``model``, divided by its frames."""
        raise NotImplementedError

    def decision_function(self, X: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean log likelihood per frame of each class, shape (utterances, classes)."""
        return np.array([[self.mean_log_likelihood(model, x) for model in self.models_] for x in X])

    def predict_proba(self, X: Sequence[np.ndarray]) -> np.ndarray:
        """Return the softmax of those, shape (utterances, classes)."""
        probabilities: np.ndarray = softmax(self.decision_function(X), axis=1)
        return probabilities

    def predict(self, X: Sequence[np.ndarray]) -> np.ndarray:
        """Return the most likely class of each utterance."""
        named: np.ndarray = self.classes_[self.decision_function(X).argmax(axis=1)]
        return named


class Mixtures(Likelihoods):
    """Classify by one mixture of diagonal Gaussians for each class, in which every frame stands for itself.

    Args:
        components: Gaussians of a mixture; as many as frames where there are fewer.
        iterations: most steps of expectation-maximisation.
        seed: of the frames at which the Gaussians begin.
    """

    def __init__(self, components: int = 32, iterations: int = 20, seed: int = 0) -> None:
        self.components, self.iterations, self.seed = components, iterations, seed

    def model(self, X: Sequence[np.ndarray]) -> GaussianMixture:
        """See ``Likelihoods``."""
        return mixture(np.concatenate(X), self.components, self.iterations, self.seed)

    def mean_log_likelihood(self, model: GaussianMixture, x: np.ndarray) -> float:
        """See ``Likelihoods``."""
        return float(model.score(x))


def mixture(frames: np.ndarray, components: int, iterations: int, seed: int) -> GaussianMixture:
    """Return a mixture of diagonal Gaussians of frames, shape (frames, values), that began at k-means++."""
    made = GaussianMixture(
        min(components, len(frames)),
        covariance_type="diag",
        reg_covar=SMALLEST_VARIANCE,
        max_iter=iterations,
        init_params="k-means++",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of steps is meant
        return made.fit(frames)
