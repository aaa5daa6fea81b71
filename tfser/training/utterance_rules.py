"""Utterance rules: from the class probabilities of an utterance's segments to those of the utterance.

    mean        the mean over its segments
    maximum     of each emotion the largest over its segments, divided by their sum (Chen et al. 2018 take the maximum;
                dividing, so that they add up to 1, is ours and moves no decision)
    whole       the network sees the utterance at once: its one segment; for networks that accept any length
    statistics  of each emotion the maximum, minimum, mean and share of segments above 0.2, into an extreme learning
                machine: random sigmoid units, then ridge regression onto -1 and 1 (Han et al. 2014)
    pyramid     1 + 2 + 4 parts of the segments in time, each pooled by the Lp norm, into linear support vector machines
                (Zhang et al. 2018, whose network's last hidden layer is here the network's probabilities)

The last two are classifiers of their own. They are fitted on the training utterances alone, with the network as it is,
and their arrays belong to the trained state. Their values go through a softmax; an emotion without training utterance
gets probability 0. Knows nothing of networks, trials or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tfser.features.threads import one_thread

RuleName = Literal["mean", "maximum", "whole", "statistics", "pyramid"]
"""How an utterance's probabilities are made of its segments'."""

RULES: tuple[RuleName, ...] = get_args(RuleName)

FITTED: tuple[RuleName, ...] = ("statistics", "pyramid")
"""Rules that are classifiers, fitted on the training utterances."""

ABOVE = 0.2
"""A segment counts for an emotion if its probability is larger (Han et al. 2014)."""

LEVELS = ((1, 0.25), (2, 0.25), (4, 0.5))
"""Parts of a level of the pyramid, and the weight of each of its values (Zhang et al. 2018)."""

PREFIX = "utterance_rule/"
"""Begins the names of a rule's tensors among the weights of a trial; no parameter of a network can have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceRule:
    """A rule with its settings and, for one that is fitted, its arrays."""

    name: RuleName = "mean"
    units: int = 120
    """Random sigmoid units of ``statistics``; 0 for ridge regression on the statistics themselves."""
    ridge: float = 1.0
    """What the squared weights of ``statistics`` cost."""
    p: float = 2.0
    """Exponent of the norm of ``pyramid``."""
    c: float = 1.0
    """What the errors of ``pyramid`` cost."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What was fitted, float64; empty before ``fit`` and for rules without."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> UtteranceRule:
        """Return the rule that a trial's settings name, not fitted; settings without one mean ``mean``."""
        return cls(
            name=RULES[RULES.index(settings.get("utterance_rule", "mean"))],
            units=int(settings.get("statistics_units", 120)),
            ridge=float(settings.get("statistics_ridge", 1.0)),
            p=float(settings.get("pyramid_p", 2.0)),
            c=float(settings.get("pyramid_c", 1.0)),
        )

    @property
    def is_fitted(self) -> bool:
        """Whether it can be applied."""
        return self.name not in FITTED or bool(self.arrays)

    def fit(
        self, segments: np.ndarray, of_utterance: np.ndarray, emotion: np.ndarray, emotions: int, seed: int
    ) -> UtteranceRule:
        """Return this rule, fitted on training utterances; a rule without a classifier is returned as it is.

        Args:
            segments: float64, shape (segments, emotions): the network's probabilities for training segments.
            of_utterance: int64, shape (segments,): each segment's utterance, counted from 0, ascending.
            emotion: int64, shape (utterances,).
            emotions: their number.
            seed: of the random units.
        """
        if self.name not in FITTED:
            return self
        with one_thread():  # so that the result does not depend on the number of cores
            x = self.vectors(segments, of_utterance)
            present = np.unique(emotion)
            if self.name == "statistics":
                arrays = _fit_ridge(x, emotion, emotions, self.units, self.ridge, seed)
            else:
                arrays = _fit_pairs(x, emotion, present, self.c)
        mask = np.zeros(emotions)
        mask[present] = 1
        return replace(self, arrays={**arrays, "present": mask})

    def vectors(self, segments: np.ndarray, of_utterance: np.ndarray) -> np.ndarray:
        """Return what the classifier of a fitted rule reads: float64, shape (utterances, values)."""
        first = np.flatnonzero(np.diff(of_utterance, prepend=-1))
        each = np.split(segments, first[1:])
        make = statistics_of if self.name == "statistics" else lambda own: pyramid_of(own, self.p)
        return np.stack([make(own) for own in each])

    def __call__(self, segments: np.ndarray, of_utterance: np.ndarray) -> np.ndarray:
        """Return each utterance's probabilities: float64, shape (utterances, emotions); rows sum to 1.

        An utterance's row depends on its own segments only, to the bit.

        Args:
            segments: float64, shape (segments, emotions).
            of_utterance: int64, shape (segments,): each segment's utterance, counted from 0, ascending.

        Raises:
            ValueError: the rule was not fitted.
        """
        if self.name in ("mean", "whole"):
            return utterance_means(segments, of_utterance)
        if self.name == "maximum":
            first = np.flatnonzero(np.diff(of_utterance, prepend=-1))
            largest = np.maximum.reduceat(segments, first, axis=0)
            shares: np.ndarray = largest / largest.sum(axis=1, keepdims=True)
            return shares
        if not self.arrays:
            raise ValueError(f"the utterance rule {self.name} was not fitted")
        values = _ridge_values if self.name == "statistics" else _pair_values
        # One utterance after the other: a product of matrices may round a row by what stands beside it.
        rows = (values(x, self.arrays) for x in self.vectors(segments, of_utterance))
        return np.stack([_softmax(row, self.arrays["present"]) for row in rows])

    def tensors(self) -> dict[str, Tensor]:
        """Return what was fitted, under names that no parameter of a network has."""
        return {f"{PREFIX}{name}": torch.from_numpy(np.array(values)) for name, values in self.arrays.items()}

    def restored(self, weights: Mapping[str, Tensor]) -> tuple[UtteranceRule, dict[str, Tensor]]:
        """Return this rule with its part of a trial's weights, and the rest, which is the network's.

        Raises:
            KeyError: the rule's part is missing.
        """
        own = {name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)}
        rest = {name: value for name, value in weights.items() if not name.startswith(PREFIX)}
        if self.name in FITTED and not own:
            raise KeyError(f"the arrays of the utterance rule {self.name}")
        return replace(self, arrays={name: value.cpu().numpy() for name, value in own.items()}), rest


def utterance_means(segments: np.ndarray, of_utterance: np.ndarray) -> np.ndarray:
    """Return each utterance's probabilities, the mean of its segments': float64, shape (utterances, emotions).

    Args:
        segments: float64, shape (segments, emotions).
        of_utterance: int64, shape (segments,): each segment's utterance, counted from 0, ascending.
    """
    counts = np.bincount(of_utterance)
    sums = np.zeros((len(counts), segments.shape[1]))
    np.add.at(sums, of_utterance, segments)
    means: np.ndarray = sums / counts[:, None]
    return means


def statistics_of(segments: np.ndarray) -> np.ndarray:
    """Return maximum, minimum, mean and share above ``ABOVE`` of each emotion: (segments, K) to (4 K,)."""
    return np.concatenate(
        [segments.max(axis=0), segments.min(axis=0), segments.mean(axis=0), (segments > ABOVE).mean(axis=0)]
    )


def pyramid_of(segments: np.ndarray, p: float) -> np.ndarray:
    """Return the Lp norms (mean of x^p)^(1/p) of 1 + 2 + 4 parts in time, weighted: (segments, K) to (7 K,).

    An utterance of fewer segments than parts repeats its last one. Part i of k holds the segments from i n / k to
    before (i + 1) n / k, rounded down.
    """
    most = LEVELS[-1][0]
    if len(segments) < most:
        segments = np.concatenate([segments, np.repeat(segments[-1:], most - len(segments), axis=0)])
    count, pooled = len(segments), []
    for parts, weight in LEVELS:
        for i in range(parts):
            own = segments[i * count // parts : (i + 1) * count // parts]
            largest = np.maximum(own.max(axis=0), 1e-300)  # taken out, so that a large p does not underflow
            pooled.append(weight * largest * ((own / largest) ** p).mean(axis=0) ** (1 / p))
    return np.concatenate(pooled)


def _fit_ridge(
    x: np.ndarray, emotion: np.ndarray, emotions: int, units: int, ridge: float, seed: int
) -> dict[str, np.ndarray]:
    """Fit ridge regression onto -1 and 1, behind random sigmoid units if there are any."""
    arrays: dict[str, np.ndarray] = {}
    if units:
        random = np.random.default_rng(seed)
        arrays["hidden_weight"] = random.uniform(-1, 1, (units, x.shape[1]))
        arrays["hidden_bias"] = random.uniform(-1, 1, units)
    hidden = np.stack([_hidden(row, arrays) for row in x])
    target = np.where(emotion[:, None] == np.arange(emotions), 1.0, -1.0)
    normal = hidden.T @ hidden + ridge * np.eye(hidden.shape[1])
    return {**arrays, "weight": np.ascontiguousarray(np.linalg.solve(normal, hidden.T @ target).T)}


def _hidden(x: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if "hidden_weight" not in arrays:
        return x
    return np.asarray(1 / (1 + np.exp(-((arrays["hidden_weight"] * x).sum(axis=1) + arrays["hidden_bias"]))))


def _ridge_values(x: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray((arrays["weight"] * _hidden(x, arrays)).sum(axis=1))


def _fit_pairs(x: np.ndarray, emotion: np.ndarray, present: np.ndarray, c: float) -> dict[str, np.ndarray]:
    """Fit a linear support vector machine to each pair of emotions: the Gram matrix is small where x is wide."""
    pairs = [(i, j) for i in range(len(present)) for j in range(i + 1, len(present))]
    if not pairs:
        return {"weight": np.zeros((0, x.shape[1])), "bias": np.zeros(0)}
    from sklearn.svm import SVC  # here, because what only scores does without

    machine = SVC(kernel="precomputed", C=c).fit(x @ x.T, emotion)
    sign = -1 if len(present) == 2 else 1  # for two classes scikit-learn turns the sign around
    ends = np.cumsum(machine.n_support_)
    of_class = [slice(end - count, end) for end, count in zip(ends, machine.n_support_, strict=True)]
    vectors = x[machine.support_]
    weight = np.stack(
        [
            sign
            * (
                machine.dual_coef_[j - 1, of_class[i]] @ vectors[of_class[i]]
                + machine.dual_coef_[i, of_class[j]] @ vectors[of_class[j]]
            )
            for i, j in pairs
        ]
    )
    return {"weight": weight, "bias": sign * machine.intercept_}


def _pair_values(x: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the votes of the pairs, ties parted by the margins, as scikit-learn's ``decision_function`` does."""
    present = np.flatnonzero(arrays["present"])
    margins = (arrays["weight"] * x).sum(axis=1) + arrays["bias"]
    votes, sums = np.zeros(len(present)), np.zeros(len(present))
    pairs = ((i, j) for i in range(len(present)) for j in range(i + 1, len(present)))
    for (i, j), margin in zip(pairs, margins, strict=True):
        votes[i if margin >= 0 else j] += 1
        sums[i] += margin
        sums[j] -= margin
    values = np.zeros(len(arrays["present"]))
    values[present] = votes + sums / (3 * (np.abs(sums) + 1))
    return values


def _softmax(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return probabilities of the emotions that occur in the training, 0 of the others."""
    raised = np.exp(values - values[present > 0].max()) * present
    return np.asarray(raised / raised.sum())
