"""Standardise the values of utterances with the statistics of those that an estimator is fitted on, and clip them.

It imports scikit-learn, so that a model's file imports it only where it builds an estimator. Knows nothing of models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

CLIP = 8.0
"""Ours: deviations beyond which a value is clipped; ComParE has columns of the order of 1e10."""


class Standardised(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Take each column's mean, divide by its deviation, clip at ``CLIP`` deviations, and drop constant columns."""

    def fit(self, X: Any, y: Any = None) -> Standardised:
        """Learn which columns move, and their means and deviations, from X of shape (utterances, values).

        Raises:
            ValueError: no column moves.
        """
        values = np.asarray(X)
        self.columns_ = np.flatnonzero(values.max(axis=0) > values.min(axis=0))
        if not len(self.columns_):
            raise ValueError("each value of the features is the same in all training utterances")
        moving = values[:, self.columns_].astype(np.float64)
        self.mean_ = moving.mean(axis=0)
        self.deviation_ = moving.std(axis=0)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return float64, shape (utterances, columns that move)."""
        centred = np.asarray(X)[:, self.columns_].astype(np.float64) - self.mean_
        clipped: np.ndarray = np.clip(centred / self.deviation_, -CLIP, CLIP)
        return clipped
