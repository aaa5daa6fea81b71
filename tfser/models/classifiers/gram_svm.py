"""A linear support vector machine, fitted on the products of utterances, which are fewer than the values of one.

``tfser.models.svm`` says which papers this follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC

from tfser.models.inner_choice import SpeakerFolds, uar
from tfser.models.standardised import Standardised


class PairwiseSvm(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear machines, one for each pair of classes, with balanced weights of classes.

    The kernel is the product of two utterances, divided by the number of their values: C is that of this kernel. It is
    fitted on a matrix of products, and scores with one hyperplane for each pair.

    Args:
        cost: C.
    """

    def __init__(self, cost: float = 1.0) -> None:
        self.cost = cost

    def fit(self, X: np.ndarray, y: Any, products: np.ndarray | None = None) -> Self:
        """Fit on X of shape (utterances, values) and the classes of these utterances.

        Args:
            X: standardised utterances.
            y: their classes.
            products: ``X @ X.T``, where it is known already.
        """
        kernel = (X @ X.T if products is None else products) / X.shape[1]
        svm = SVC(kernel="precomputed", C=self.cost, class_weight="balanced").fit(kernel, y)
        self.classes_, self.intercept_ = svm.classes_, svm.intercept_
        first = np.concatenate([[0], np.cumsum(svm.n_support_)])
        weights = np.zeros((len(self.intercept_), len(X)))
        for pair, (one, other) in enumerate(combinations(range(len(self.classes_)), 2)):
            # Of the support vectors of a class, libsvm keeps the weights against each other class in one row.
            for mine, against in ((one, other - 1), (other, one)):
                part = slice(first[mine], first[mine + 1])
                weights[pair, svm.support_[part]] = svm.dual_coef_[against, part]
        self.coef_ = weights @ X / X.shape[1]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return scikit-learn's values of one-vs-one machines, shape (utterances, classes).

        A class has one for each pair that it wins, and up to a third, by sign, for the sum of its margins. Of two
        classes it is the margin of the second, shape (utterances,).
        """
        margins: np.ndarray = X @ self.coef_.T + self.intercept_
        count = len(self.classes_)
        if count == 2:
            return margins[:, 0]
        wins, sums = np.zeros((len(X), count)), np.zeros((len(X), count))
        for pair, (one, other) in enumerate(combinations(range(count), 2)):
            lost = margins[:, pair] < 0
            wins[:, one] += ~lost
            wins[:, other] += lost
            sums[:, one] += margins[:, pair]
            sums[:, other] -= margins[:, pair]
        values: np.ndarray = wins + sums / (3 * (np.abs(sums) + 1))
        return values

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class with the largest value."""
        values = self.decision_function(X)
        chosen = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
        named: np.ndarray = self.classes_[chosen]
        return named


class ChosenSvm(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Standardise utterances, and choose C of a ``PairwiseSvm`` over their speakers.

    The standardisation of an inner fold is that of its own training utterances. Unlike in ``chosen_over_speakers``, one
    matrix of products serves every C of a fold, which takes most of the time.

    Args:
        costs: candidates of C; of equal ones the first is taken.
    """

    def __init__(self, costs: Sequence[float]) -> None:
        self.costs = costs

    def fit(self, X: Any, y: Any, groups: Any) -> Self:
        """Fit on X of shape (utterances, values), their classes and their speakers.

        Raises:
            ValueError: there is only one class, or only one speaker.
        """
        X, y = np.asarray(X), np.asarray(y)
        if len(np.unique(y)) < 2:
            raise ValueError("it separates classes, and the training utterances show only one")
        self.uars_ = np.zeros(len(self.costs))
        for rest, held in SpeakerFolds().split(X, y, groups):
            inner = Standardised().fit(X[rest])
            known, new = inner.transform(X[rest]), inner.transform(X[held])
            products = known @ known.T
            self.uars_ += [uar(PairwiseSvm(cost).fit(known, y[rest], products), new, y[held]) for cost in self.costs]
        self.uars_ /= SpeakerFolds().get_n_splits(groups=groups)
        self.cost_ = float(self.costs[int(self.uars_.argmax())])
        self.standardised_ = Standardised().fit(X)
        self.svm_ = PairwiseSvm(self.cost_).fit(self.standardised_.transform(X), y)
        self.classes_ = self.svm_.classes_
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the values of ``PairwiseSvm``."""
        return self.svm_.decision_function(self.standardised_.transform(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each utterance."""
        return self.svm_.predict(self.standardised_.transform(X))
