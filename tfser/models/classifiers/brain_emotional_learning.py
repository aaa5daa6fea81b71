"""Brain emotional learning whose weights a genetic algorithm finds.

``tfser.models.ga_bel`` says which paper this follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import PCA

TARGET = 1.0
"""Ours: output of the right emotion; that of the others is minus this."""


class Reduced(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Take the first principal components.

    Args:
        components: how many; all where there are fewer.
    """

    def __init__(self, components: int = 40) -> None:
        self.components = components

    def fit(self, X: Any, y: Any = None) -> Reduced:
        """Find them in X of shape (utterances, values)."""
        self.pca_ = PCA(min(self.components, *X.shape), svd_solver="full").fit(X)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return shape (utterances, components)."""
        reduced: np.ndarray = self.pca_.transform(X)
        return reduced


class BrainEmotionalLearning(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """One output per class: what the amygdala says of a stimulus, less what the orbitofrontal cortex says.

    A chromosome holds, of each class, the amygdala's weights V (values and one for the thalamus, which gives the
    largest value), its bias, and the orbitofrontal cortex's weights W and bias.

    Args:
        population: chromosomes.
        generations: how often they are replaced.
        mutation: share of the genes that mutate.
        step: deviation of what a mutation adds.
        seed: of everything random.
    """

    def __init__(
        self, population: int = 60, generations: int = 150, mutation: float = 0.1, step: float = 0.1, seed: int = 0
    ) -> None:
        self.population, self.generations, self.mutation = population, generations, mutation
        self.step, self.seed = step, seed

    def fit(self, X: Any, y: Any) -> BrainEmotionalLearning:
        """Fit on X of shape (utterances, values) and the classes of these utterances.

        Raises:
            ValueError: there is only one class.
        """
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("it separates classes, and the training utterances show only one")
        random = np.random.default_rng(self.seed)
        signals = sensed(np.asarray(X, dtype=np.float64))
        targets = TARGET * (2 * np.eye(len(self.classes_))[labels] - 1)
        genes = random.normal(size=(self.population, len(self.classes_), signals.shape[1]))
        errors = error(genes, signals, targets)
        self.errors_ = [float(errors.min())]
        for _ in range(self.generations):
            children = self._children(genes, errors, random)
            children[0] = genes[errors.argmin()]  # the best lives on
            genes, errors = children, error(children, signals, targets)
            self.errors_.append(float(errors.min()))
        self.weights_ = genes[errors.argmin()]
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the output of each class, shape (utterances, classes)."""
        outputs: np.ndarray = sensed(np.asarray(X, dtype=np.float64)) @ self.weights_.T
        return outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the outputs through a softmax."""
        probabilities: np.ndarray = softmax(self.decision_function(X), axis=1)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the class with the largest output."""
        chosen: np.ndarray = self.classes_[self.decision_function(X).argmax(axis=1)]
        return chosen

    def _children(self, genes: np.ndarray, errors: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return as many chromosomes: of two winners of pairs each gene between theirs, and some genes mutated."""
        pairs = random.integers(len(genes), size=(2, len(genes), 2))
        winners = np.take_along_axis(pairs, errors[pairs].argmin(axis=2)[:, :, None], axis=2)[:, :, 0]
        share = random.uniform(size=genes.shape)
        children: np.ndarray = share * genes[winners[0]] + (1 - share) * genes[winners[1]]
        mutates = random.uniform(size=genes.shape) < self.mutation
        return children + mutates * random.normal(scale=self.step, size=genes.shape)


def sensed(stimuli: np.ndarray) -> np.ndarray:
    """Return what a chromosome weighs, shape (utterances, 2 values + 3).

    First the amygdala's: the values, the largest of them and 1. Then the orbitofrontal cortex's, which count against
    it: the values and 1, negative.
    """
    ones = np.ones((len(stimuli), 1))
    return np.hstack([stimuli, stimuli.max(axis=1, keepdims=True), ones, -stimuli, -ones])


def error(genes: np.ndarray, signals: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each chromosome.

    Args:
        genes: shape (chromosomes, classes, signals).
        signals: shape (utterances, signals).
        targets: shape (utterances, classes).
    """
    outputs = np.einsum("pcs,ns->pnc", genes, signals, optimize=True)
    errors: np.ndarray = np.square(outputs - targets).mean(axis=(1, 2))
    return errors
