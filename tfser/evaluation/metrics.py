"""Confusion matrices and the recalls made from them. NumPy only, without models, trials or files.

A confusion matrix here has one row per true emotion and one column per recognised emotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def confusion(truth: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, emotions: int) -> np.ndarray:
    """Count each (true, recognised) pair.

    Args:
        truth: shape (n,), integers in [0, emotions).
        predicted: shape (n,), integers in [0, emotions).
        emotions: number of emotions.

    Returns:
        int64, shape (emotions, emotions), summing to n.

    Raises:
        ValueError: different lengths, or an index outside the range.

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    rows, columns = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"truth has shape {rows.shape} and predicted {columns.shape}; both must be (n,)")
    for name, values in (("truth", rows), ("predicted", columns)):
        if values.size and (values.min() < 0 or values.max() >= emotions):
            raise ValueError(f"{name} holds {values.min()} to {values.max()}; legal is 0 to {emotions - 1}")
    return np.bincount(rows * emotions + columns, minlength=emotions * emotions).reshape(emotions, emotions)


def recalls(matrix: np.ndarray) -> np.ndarray:
    """Return the recall of each emotion: correct / true, in [0, 1]; NaN for an emotion that is never true.

    A held-out speaker can lack an emotion. Its recall is then undefined, not zero.

    >>> recalls(np.array([[3, 1], [0, 0]])).tolist()
    [0.75, nan]
    """
    totals = matrix.sum(axis=1)
    out: np.ndarray = np.divide(np.diagonal(matrix), totals, out=np.full(len(matrix), np.nan), where=totals > 0)
    return out


def war(matrix: np.ndarray) -> float:
    """Return the weighted average recall, in [0, 1]: correct / all utterances (accuracy); NaN without utterances.

    >>> war(np.array([[3, 1], [1, 0]]))
    0.6
    """
    total = int(matrix.sum())
    return float(np.trace(matrix) / total) if total else float("nan")


def uar(matrix: np.ndarray) -> float:
    """Return the unweighted average recall, in [0, 1]: mean recall of the emotions that occur; NaN if none does.

    Reference: ``sklearn.metrics.balanced_accuracy_score``, which also leaves out absent classes.

    >>> uar(np.array([[3, 1], [1, 0]]))
    0.375
    """
    values = recalls(matrix)
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


@dataclass(frozen=True, slots=True)
class OverFolds:
    """The two reductions over folds; recalls in [0, 1]."""

    war_pooled: float
    """WAR of one confusion matrix with all test utterances."""
    uar_pooled: float
    """UAR of one confusion matrix with all test utterances."""
    war_mean: float
    """Mean of the folds' WAR."""
    war_sd: float
    """Sample standard deviation of the folds' WAR; NaN for a single fold."""
    uar_mean: float
    """Mean of the folds' UAR, each over the emotions that occur in that fold."""
    uar_sd: float
    """Sample standard deviation of the folds' UAR; NaN for a single fold."""


def over_folds(matrices: Sequence[np.ndarray]) -> OverFolds:
    """Reduce the folds' confusion matrices both ways: pooled, and mean of folds.

    Args:
        matrices: one per fold, each int of shape (emotions, emotions).

    Raises:
        ValueError: there is no fold.
    """
    return over_folds_and_seeds([matrices])


def over_folds_and_seeds(runs: Sequence[Sequence[np.ndarray]]) -> OverFolds:
    """Reduce several seeds' confusion matrices over the same folds.

    The pooled values are means over seeds of each seed's pooled value; pooling the seeds too would count every
    utterance once per seed. Mean and spread over folds are those of each fold's mean over seeds, so that the spread
    is between held-out speakers, not between seeds.

    Args:
        runs: the matrices of each seed, one per fold in one order, each int of shape (emotions, emotions).

    Raises:
        ValueError: no seed, no fold, or seeds with different numbers of folds.
    """
    if not len(runs) or not len(runs[0]):
        raise ValueError("no fold to reduce")
    if len({len(matrices) for matrices in runs}) > 1:
        raise ValueError(
            f"the seeds have {', '.join(str(len(matrices)) for matrices in runs)} folds; every seed must have the same"
        )
    pooled = [np.sum(matrices, axis=0) for matrices in runs]
    wars = np.array([[war(m) for m in matrices] for matrices in runs]).mean(axis=0)
    uars = np.array([[uar(m) for m in matrices] for matrices in runs]).mean(axis=0)

    def spread(values: np.ndarray) -> float:
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    return OverFolds(
        war_pooled=float(np.mean([war(m) for m in pooled])),
        uar_pooled=float(np.mean([uar(m) for m in pooled])),
        war_mean=float(wars.mean()),
        war_sd=spread(wars),
        uar_mean=float(uars.mean()),
        uar_sd=spread(uars),
    )
