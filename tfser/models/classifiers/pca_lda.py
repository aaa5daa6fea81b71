"""Principal components and linear discriminant analysis; ``tfser.models.lda`` says which paper this follows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis


class PcaLda(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classify principal components by Gaussians of one covariance, all classes equally probable.

    Such Gaussians tell K classes apart in the K - 1 dimensions of linear discriminant analysis.

    Args:
        components: principal components; all that there are where there are fewer.
    """

    def __init__(self, components: int = 20) -> None:
        self.components = components

    def fit(self, X: np.ndarray, y: Any) -> Self:
        """Fit on X of shape (utterances, values) and the classes of these utterances.

        Raises:
            ValueError: there is only one class.
        """
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("it separates classes, and the training utterances show only one")
        self.pca_ = PCA(min(self.components, *X.shape), svd_solver="full").fit(X)
        sizes = self.pca_.singular_values_
        self.rank_ = int((sizes > sizes[0] * max(X.shape) * np.finfo(sizes.dtype).eps).sum())
        equal = np.full(len(self.classes_), 1 / len(self.classes_))
        self.lda_ = LinearDiscriminantAnalysis(priors=equal).fit(self._reduced(X), y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (utterances, K)."""
        probabilities: np.ndarray = self.lda_.predict_proba(self._reduced(X))
        return probabilities

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each utterance."""
        named: np.ndarray = self.lda_.predict(self._reduced(X))
        return named

    def _reduced(self, X: np.ndarray) -> np.ndarray:
        reduced: np.ndarray = self.pca_.transform(X)[:, : self.rank_]
        return reduced
