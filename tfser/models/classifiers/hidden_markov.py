"""A left-to-right hidden Markov model for each class; ``tfser.models.hmm`` names the paper.

Fitting needs the package ``hmmlearn``, an extra. What is fitted are arrays, which score without it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import logsumexp

from tfser.models.classifiers.mixtures import SMALLEST_VARIANCE, Likelihoods, mixture

STAYS = 0.95
"""Ours: probability of staying in a state before the first step of expectation-maximisation."""


class LeftToRight(Likelihoods):
    """Classify by one hidden Markov model for each class, in whose states frames come from mixtures of Gaussians.

    A model begins in its first state, and stays in a state or goes to the next. Before the first step, each state has
    the mixture of its share of every utterance, which is cut into equal parts.

    Args:
        states: of a model.
        components: diagonal Gaussians of a state.
        iterations: most steps of expectation-maximisation.
        seed: of the frames at which the Gaussians begin.
    """

    def __init__(self, states: int = 3, components: int = 8, iterations: int = 6, seed: int = 0) -> None:
        self.states, self.components, self.iterations, self.seed = states, components, iterations, seed

    def model(self, X: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return transitions (states, states), weights (states, G), means and variances (states, G, values).

        Raises:
            ModuleNotFoundError: hmmlearn is not installed.
            ValueError: there are fewer frames than states.
        """
        from hmmlearn.hmm import GMMHMM

        parts = [np.array_split(x, self.states) for x in X]
        shares = [np.concatenate([each[state] for each in parts]) for state in range(self.states)]
        count = min(self.components, *map(len, shares))
        if not count:
            raise ValueError(f"a model of {self.states} states needs as many frames")
        begun = [mixture(share, count, 1, self.seed) for share in shares]
        made = GMMHMM(
            self.states,
            count,
            covariance_type="diag",
            min_covar=SMALLEST_VARIANCE,
            n_iter=self.iterations,
            params="tmcw",
            init_params="",
            random_state=self.seed,
        )
        made.startprob_ = np.eye(self.states)[0]
        made.transmat_ = STAYS * np.eye(self.states) + (1 - STAYS) * np.eye(self.states, k=1)
        made.transmat_[-1, -1] = 1.0
        made.weights_ = np.stack([each.weights_ for each in begun])
        made.means_ = np.stack([each.means_ for each in begun])
        made.covars_ = np.stack([each.covariances_ for each in begun])
        logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # it warns where a step gains nothing
        made.fit(np.concatenate(X), [len(x) for x in X])
        return {
            "transitions": made.transmat_,
            "weights": made.weights_,
            "means": made.means_,
            "variances": made.covars_,
        }

    def mean_log_likelihood(self, model: Mapping[str, np.ndarray], x: np.ndarray) -> float:
        """See ``Likelihoods``: by the forward recursion."""
        emitted = emissions(model, x.astype(np.float64))
        with np.errstate(divide="ignore"):
            moves = np.log(model["transitions"])
        reached = np.full(self.states, -np.inf)
        reached[0] = emitted[0, 0]
        for row in emitted[1:]:
            reached = np.logaddexp.reduce(reached[:, None] + moves, axis=0) + row
        return float(logsumexp(reached)) / len(x)


def emissions(model: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the log density of each frame in each state of a model, shape (frames, states).

    Args:
        model: what ``LeftToRight.model`` returns.
        x: an utterance, shape (frames, values).
    """
    precisions, means = 1 / model["variances"], model["means"]
    constant = -0.5 * (np.log(2 * np.pi * model["variances"]) + np.square(means) * precisions).sum(axis=2)
    densities = np.einsum("fv,sgv->fsg", x, means * precisions) - 0.5 * np.einsum("fv,sgv->fsg", x**2, precisions)
    with np.errstate(divide="ignore"):
        found: np.ndarray = logsumexp(densities + constant + np.log(model["weights"]), axis=2)
    return found
