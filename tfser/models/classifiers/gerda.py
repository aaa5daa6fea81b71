"""A network whose outputs tell classes apart by Fisher's criterion, and a linear classifier of its outputs.

``tfser.models.gerda`` says which paper this follows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor


class Gerda(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Learn discriminant features with a network, and classify them linearly.

    The network runs x (values) -> sigmoid layers of ``hidden`` units -> a linear layer of K - 1 outputs, K being the
    number of classes. It is trained on all utterances at once, in float32, and keeps its weights as NumPy arrays.

    Args:
        hidden: units of each hidden layer.
        updates: steps of Adam.
        learning_rate: of Adam.
        weight_decay: of Adam, added to the gradient.
        noise: deviation of the Gaussian noise that is added to the inputs, anew in every step.
        ridge: what is added to the diagonal of the total scatter.
        seed: of the weights and of the noise.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (256, 64),
        updates: int = 60,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        noise: float = 0.1,
        ridge: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.hidden, self.updates, self.learning_rate = hidden, updates, learning_rate
        self.weight_decay, self.noise, self.ridge, self.seed = weight_decay, noise, ridge, seed

    def fit(self, X: Any, y: Any) -> Gerda:
        """Train on X of shape (utterances, values) and the classes of these utterances.

        Raises:
            ValueError: there is only one class.
        """
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("it separates classes, and the training utterances show only one")
        inputs = torch.from_numpy(np.asarray(X, dtype=np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers = self._trained(inputs, torch.from_numpy(labels))
        self.coefs_ = [layer.weight.detach().numpy().T.copy() for layer in layers]
        self.intercepts_ = [layer.bias.detach().numpy().copy() for layer in layers]
        equal = np.full(len(self.classes_), 1 / len(self.classes_))
        self.linear_ = LinearDiscriminantAnalysis(priors=equal).fit(self.transform(X), y)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the outputs of the network: float64, shape (utterances, K - 1)."""
        values = np.asarray(X, dtype=np.float64)
        for weights, bias in zip(self.coefs_[:-1], self.intercepts_[:-1], strict=True):
            values = expit(values @ weights + bias)
        outputs: np.ndarray = values @ self.coefs_[-1] + self.intercepts_[-1]
        return outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (utterances, K)."""
        probabilities: np.ndarray = self.linear_.predict_proba(self.transform(X))
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each utterance."""
        chosen: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen

    def _trained(self, inputs: Tensor, labels: Tensor) -> list[torch.nn.Linear]:
        widths = (inputs.shape[1], *self.hidden, len(self.classes_) - 1)
        layers = [torch.nn.Linear(i, o) for i, o in pairwise(widths)]
        weights = [parameter for layer in layers for parameter in layer.parameters()]
        optimiser = torch.optim.Adam(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in range(self.updates):
            values = inputs + self.noise * torch.randn_like(inputs)
            for layer in layers[:-1]:
                values = layer(values).sigmoid()
            loss = -separation(layers[-1](values), labels, self.ridge)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return layers


def separation(outputs: Tensor, labels: Tensor, ridge: float) -> Tensor:
    """Return Fisher's criterion: the trace of S_T^-1 S_B, below the number of outputs.

    Every class counts the same: S_B is the scatter of the classes' means around their mean, and S_T is S_B and the mean
    of the classes' own covariances.

    Args:
        outputs: shape (utterances, outputs).
        labels: the class of each utterance, from 0.
        ridge: what is added to the diagonal of S_T.
    """
    members = torch.nn.functional.one_hot(labels).to(outputs.dtype)  # (utterances, classes)
    shares = members / members.sum(dim=0)
    means = shares.T @ outputs
    between = means - means.mean(dim=0)
    between = between.T @ between / len(means)
    within = outputs - means[labels]
    within = within.T @ (within * shares.sum(dim=1, keepdim=True)) / len(means)
    total = between + within + ridge * torch.eye(outputs.shape[1], dtype=outputs.dtype)
    criterion: Tensor = torch.linalg.solve(total, between).trace()
    return criterion
