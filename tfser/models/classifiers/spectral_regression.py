"""Spectral regression on random anchors, and the nearest mean of a class in the space that it maps to.

``tfser.models.rgsr`` says which paper this follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, ClassifierMixin

from tfser.models.inner_choice import chosen_over_speakers
from tfser.models.standardised import Standardised


class SpectralRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classify utterances by their squared distances to those of the training.

    Args:
        anchors: training utterances that are drawn as anchors; all of them where there are fewer.
        ridge: cost of the squared weights of the regression.
        penalty: weight of the edges between near neighbours of different classes; 0 is the plain class graph.
        neighbours: nearest utterances of other classes that get such an edge.
        seed: of the draw.
    """

    def __init__(
        self, anchors: int = 400, ridge: float = 0.1, penalty: float = 0.0, neighbours: int = 5, seed: int = 0
    ) -> None:
        self.anchors, self.ridge, self.penalty, self.neighbours, self.seed = anchors, ridge, penalty, neighbours, seed

    def __sklearn_tags__(self) -> Any:
        """Say that X holds distances, so that a cross-validation takes its columns apart too."""
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        return tags

    def fit(self, X: Any, y: Any) -> SpectralRegression:
        """Fit on squared distances X, shape (utterances, utterances), and the classes of these utterances.

        Raises:
            ValueError: there is only one class.
        """
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("it separates classes, and the training utterances show only one")
        count = len(labels)
        random = np.random.default_rng(self.seed)
        self.rows_ = np.sort(random.choice(count, min(self.anchors, count), replace=False))
        self.scale_ = max(float(np.median(X[:, self.rows_])), np.finfo(np.float64).tiny)
        mapped = self._mapped(X[:, self.rows_])
        self.mean_ = mapped.mean(axis=0)
        centred = mapped - self.mean_
        targets = coordinates(X, labels, self.penalty, self.neighbours)
        scatter = centred.T @ centred + self.ridge * np.eye(len(self.rows_))
        self.weights_ = scipy.linalg.solve(scatter, centred.T @ targets, assume_a="pos")
        embedded = centred @ self.weights_
        self.means_ = np.stack([embedded[labels == each].mean(axis=0) for each in range(len(self.classes_))])
        within = float(np.square(embedded - self.means_[labels]).mean())
        self.variance_ = max(within, np.finfo(np.float64).eps * float(np.square(embedded).mean()))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, from squared distances to every utterance of the training."""
        return self.from_anchors(X[:, self.rows_])

    def from_anchors(self, distances: np.ndarray) -> np.ndarray:
        """Return the probability of each class: that of equally frequent Gaussians of the same round shape.

        Args:
            distances: squared, shape (utterances, anchors).
        """
        embedded = (self._mapped(distances) - self.mean_) @ self.weights_
        powers = -squared_distances(embedded, self.means_) / (2 * self.variance_)
        shares = np.exp(powers - powers.max(axis=1, keepdims=True))
        probabilities: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the class with the nearest mean."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen

    def _mapped(self, distances: np.ndarray) -> np.ndarray:
        mapped: np.ndarray = np.exp(-distances / self.scale_)
        return mapped


class AnchoredRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Standardise utterances, and choose anchors and ridge of a spectral regression over their speakers.

    Args:
        grid: what is chosen from, by the argument of ``SpectralRegression``.
        penalty: see ``SpectralRegression``.
        neighbours: see there.
        seed: see there.
    """

    def __init__(
        self, grid: Mapping[str, Sequence[Any]], penalty: float = 0.0, neighbours: int = 5, seed: int = 0
    ) -> None:
        self.grid, self.penalty, self.neighbours, self.seed = grid, penalty, neighbours, seed

    def fit(self, X: Any, y: Any, groups: Any) -> AnchoredRegression:
        """Fit on X of shape (utterances, values), their classes and their speakers."""
        self.standardised_ = Standardised().fit(X)
        values = self.standardised_.transform(X)
        regression = SpectralRegression(penalty=self.penalty, neighbours=self.neighbours, seed=self.seed)
        search = chosen_over_speakers(regression, self.grid)
        search.fit(squared_distances(values, values), y, groups=groups)
        self.chosen_ = search.best_params_
        self.regression_ = search.best_estimator_
        self.anchors_ = values[self.regression_.rows_]
        self.classes_ = self.regression_.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (utterances, classes)."""
        values = self.standardised_.transform(X)
        probabilities: np.ndarray = self.regression_.from_anchors(squared_distances(values, self.anchors_))
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each utterance."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen


def squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of each row of ``one`` to each of ``other``."""
    products = one @ other.T
    found = np.square(one).sum(axis=1)[:, None] - 2 * products + np.square(other).sum(axis=1)
    distances: np.ndarray = np.maximum(found, 0.0)
    return distances


def coordinates(distances: np.ndarray, labels: np.ndarray, penalty: float, neighbours: int) -> np.ndarray:
    """Return where the graph puts each training utterance: orthonormal columns, shape (utterances, classes - 1).

    They are the centred graph's eigenvectors with the largest eigenvalues. An edge within a class of n utterances
    weighs 1 / n; an edge to one of the nearest utterances of other classes weighs -penalty / neighbours, halved where
    only one of the two is near the other. Without a penalty, every utterance of a class is at the same place.

    Args:
        distances: squared, shape (utterances, utterances).
        labels: the class of each, from 0.
        penalty: see above.
        neighbours: see above.
    """
    members = np.eye(labels.max() + 1)[labels]
    dimensions = members.shape[1] - 1
    if not penalty:
        # The class graph's eigenvectors span what the classes' indicators do.
        bases: np.ndarray = np.linalg.svd(members - members.mean(axis=0), full_matrices=False)[0]
        return bases[:, :dimensions]
    graph = members / members.sum(axis=0) @ members.T
    others = np.where(labels[:, None] != labels, distances, np.inf)
    count = min(neighbours, int((labels != labels[:, None]).sum(axis=1).min()))
    near = np.zeros_like(graph)
    np.put_along_axis(near, np.argpartition(others, count - 1, axis=1)[:, :count], 1.0, axis=1)
    graph -= penalty / neighbours * (near + near.T) / 2
    graph -= graph.mean(axis=0)
    graph -= graph.mean(axis=1, keepdims=True)
    last = len(labels) - 1
    vectors: np.ndarray = scipy.linalg.eigh(graph, subset_by_index=(last - dimensions + 1, last))[1]
    return vectors
