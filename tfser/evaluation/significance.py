"""Paired comparison of two rows, and which claims it allows. NumPy only; no file is read.

What a row is, and what is drawn, stands in ``tfser.evaluation.uncertainty``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfser.errors import counted
from tfser.evaluation.uncertainty import DIFFERENCE, DRAWS, Interval, Row, estimates, interval, mean_recall, replicates

EXACT_UP_TO = 20
"""Most folds for which every sign flip is tried."""

SIGN_DRAWS = 19_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of two rows over the same folds, seeds and utterances."""

    difference: float
    """First minus second, in [-1, 1]."""
    interval: Interval
    p: float
    """Two-sided p of the sign-flip test over folds; not corrected (see ``holm``)."""
    exact: bool
    """Whether every sign flip was tried, and not ``SIGN_DRAWS`` random ones."""
    folds: int
    seeds: int


def shared(first: Row, second: Row) -> tuple[Row, Row]:
    """Cut both rows to the folds and the seeds that both have.

    Raises:
        ValueError: they have no fold or no seed in common.
    """
    folds = tuple(f for f in first.folds if f in second.folds)
    seeds = tuple(s for s in first.seeds if s in second.seeds)
    if not folds or not seeds:
        raise ValueError(f"the two rows share {len(folds)} folds and {len(seeds)} seeds")

    def cut(one: Row) -> Row:
        kept = [i for i, key in enumerate(one.keys) if key[0] in folds]
        right = one.right[[one.seeds.index(s) for s in seeds]][:, kept]
        return Row(folds=folds, seeds=seeds, emotions=one.emotions, keys=tuple(one.keys[i] for i in kept), right=right)

    return cut(first), cut(second)


def compare(first: Row, second: Row, figure: str, draws: int = DRAWS) -> Comparison:
    """Return first minus second, with its interval from a bootstrap of pairs and a sign-flip test over folds.

    The test swaps the two rows' predictions of whole folds. Under the null hypothesis that the two are exchangeable
    within each fold, P(p <= a) <= a for every a. For means of folds, a swap flips the sign of a fold's difference (a
    mean over seeds). For pooled figures, it flips the sign of the fold's share in the pooled difference; the share's
    size stays, because the truth is not swapped.

    Args:
        first: one row.
        second: another row of the same folds, seeds and utterances (see ``shared``).
        figure: one of ``FIGURES``.
        draws: bootstrap replicates of the interval.

    Raises:
        ValueError: the rows differ in folds, seeds, utterances or truth.
    """
    if (first.keys, first.seeds, first.emotions) != (second.keys, second.seeds, second.emotions):
        raise ValueError(
            "two rows are compared on the same folds, seeds, utterances and truth; cut them with shared() first"
        )
    values = first.right.mean(axis=0) - second.right.mean(axis=0)
    difference = estimates(first, values)[figure]
    made = replicates(first, values, "speakers", draws)[figure]
    folds = len(first.folds)
    around = interval(difference, made, DIFFERENCE, folds, figure)
    p, exact = sign_flip(_shares(first, values, figure), first.generator())
    return Comparison(difference=difference, interval=around, p=p, exact=exact, folds=folds, seeds=len(first.seeds))


def sign_flip(shares: np.ndarray, rng: np.random.Generator) -> tuple[float, bool]:
    """Return the two-sided p, in (0, 1], of a sum of independent, symmetric shares, shape (n,), and if it is exact.

    Up to ``EXACT_UP_TO`` shares every flip is tried. Beyond, p is (1 + hits) / (1 + draws) over random flips, which is
    also valid (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010). Reference: ``scipy.stats.permutation_test``
    with ``samples``. SciPy's counts sums as unequal that differ only by rounding, refuses a single fold, and takes
    seconds for 20.
    """
    exact = len(shares) <= EXACT_UP_TO
    if exact:
        sums = np.asarray(shares[:1], dtype=np.float64)  # the first keeps its sign: the other half mirrors this one
        for share in shares[1:]:
            sums = np.concatenate([sums + share, sums - share])
    else:
        sums = rng.choice([-1.0, 1.0], size=(SIGN_DRAWS, len(shares))) @ shares
    # Sums that differ only by rounding count as equal.
    hits = np.count_nonzero(np.abs(sums) >= abs(shares.sum()) - 1e-12 * np.abs(shares).sum())
    return float(hits / len(sums) if exact else (1 + hits) / (1 + len(sums))), exact


def holm(ps: Sequence[float]) -> np.ndarray:
    """Adjust the p-values of several comparisons, so that the chance of any false claim keeps to the level; same shape.

    Source: Holm, Scand. J. Statist. 6, 1979.

    >>> holm([0.01, 0.04, 0.03]).round(12).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(ps, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    out = np.empty_like(values)
    out[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return out


def smallest_p(folds: int) -> float:
    """Return the smallest two-sided p that a sign-flip test over so many folds can give.

    >>> smallest_p(4), smallest_p(6)
    (0.125, 0.03125)
    """
    return 2.0 / 2.0**folds


def no_claim(folds: int, comparisons: int = 1) -> str:
    """Say why no significance is claimable at 0.05 whatever the scores, for a table's note; empty if one is claimable.

    >>> no_claim(4)
    'No significance over 4 folds is claimable at 0.05: the smallest two-sided p is 0.125.'
    >>> no_claim(10, comparisons=3)
    ''
    """
    smallest = min(1.0, smallest_p(folds) * comparisons)
    if smallest <= 0.05:
        return ""
    corrected = f" (corrected for {comparisons} comparisons)" if comparisons > 1 else ""
    smallest_text = f"the smallest two-sided p is {smallest:.3g}{corrected}"
    return f"No significance over {counted(folds, 'fold')} is claimable at 0.05: {smallest_text}."


def _shares(one: Row, values: np.ndarray, figure: str) -> np.ndarray:
    """Return each fold's share in the figure, shape (folds,); the figure is their sum."""
    sums, counts = one.sums(values), one.sums(np.ones(len(values)))
    total = counts.sum(axis=0)
    shares: np.ndarray
    if figure == "war_pooled":
        shares = sums.sum(axis=1) / total.sum()
    elif figure == "uar_pooled":
        shares = mean_recall(sums, np.broadcast_to(total, sums.shape))
    elif figure == "war_mean":
        shares = sums.sum(axis=1) / counts.sum(axis=1) / len(counts)
    else:
        shares = mean_recall(sums, counts) / len(counts)
    return shares
