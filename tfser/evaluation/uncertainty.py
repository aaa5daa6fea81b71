"""Uncertainty of a row's WAR and UAR: bootstrap intervals, paired comparison of two rows, and possible claims.

NumPy only; the one file read is ``interval_coverage.json`` beside this module. Rules that hold throughout:

- Held-out groups are drawn: speakers, or sessions under the session protocol, because one trained model scores all
  speakers of a session.
- Seeds are not further utterances. A recall averaged over seeds is the recall of each utterance's mean correctness, so
  every utterance enters once, with the share of seeds that recognise it. The spread between folds contains what a seed
  changes from fold to fold. No seed is drawn per replicate; that would give the interval of a single seed.
- Utterances are drawn within (fold, speaker, emotion), so that no draw empties an emotion. An emotion that the drawn
  speakers do not show is undefined and left out of the mean, as in ``tfser.evaluation.metrics``.

The default is not the percentile interval of a bootstrap over speakers and then utterances, for two reasons. The spread
between speakers already contains the spread of their utterances, so drawing utterances too counts it twice (Davison and
Hinkley, Bootstrap Methods and their Application, 1997, 3.8; Field and Welsh, J. R. Statist. Soc. B 69, 2007). And
percentiles of few speakers are too close together (Hesterberg, The American Statistician 69, 2015). In simulations its
coverage is from far below to above its level (see ``actual_coverage``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tfser.errors import counted

LEVEL = 0.95
"""Level of every interval; coverage was measured at this level."""

DRAWS = 10_000
FIGURES = ("war_pooled", "uar_pooled", "war_mean", "uar_mean")
"""The fields of ``tfser.evaluation.metrics.OverFolds`` that get intervals."""

METHODS = {
    "speakers": "bootstrap over held-out speakers, Student's t on the logit scale",
    "speakers, utterances": "percentiles of a bootstrap over held-out speakers and then their utterances",
    "utterances": "percentiles of a bootstrap over utterances, conditional on these speakers",
}
"""Methods by what is drawn, each in words; the first is the default."""

DIFFERENCE = "difference"
"""Name in ``interval_coverage.json`` of the method for differences: ``speakers`` without the logit."""

FEWEST = 3
"""Fewest held-out speakers for an interval over speakers."""

EXACT_UP_TO = 20
"""Most folds for which every sign flip is tried."""

SIGN_DRAWS = 19_999


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldScores:
    """One final trial's test predictions: sequences of one length, in any order."""

    fold: str
    seed: int
    utterances: Sequence[str]
    """Utterance ids, each once."""
    speakers: Sequence[str]
    truth: Sequence[int]
    """Emotion indices, in [0, emotions)."""
    predicted: Sequence[int]
    """Emotion indices, in [0, emotions)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """A row's predictions over all its folds and seeds, as ``row`` makes it; sorted by fold and utterance."""

    folds: tuple[str, ...]
    seeds: tuple[int, ...]
    emotions: int
    keys: tuple[tuple[str, str, str, int], ...]
    """(fold, utterance, speaker, truth) of each of the n utterances."""
    right: np.ndarray
    """Whether each was recognised: bool, shape (seeds, n)."""

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Fold and emotion index of each utterance: two int arrays, shape (n,)."""
        index = {fold: i for i, fold in enumerate(self.folds)}
        return np.array([index[key[0]] for key in self.keys]), np.array([key[3] for key in self.keys])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum one value per utterance, shape (n,), within fold and emotion: shape (folds, emotions)."""
        out = np.zeros((len(self.folds), self.emotions))
        np.add.at(out, self.cells, values)
        return out

    def generator(self) -> np.random.Generator:
        """Random numbers that depend only on the utterances and their truth: rows of one test set share their draws."""
        digest = hashlib.sha256(json.dumps(self.keys).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval of a recall, in [0, 1], or of a difference of two, in [-1, 1]."""

    low: float
    """NaN if no interval can be given; ``reason`` then says why."""
    high: float
    method: str
    """A key of ``METHODS``, or ``DIFFERENCE``."""
    folds: int
    actual_coverage: tuple[float, float] | None
    """Lowest and highest share of simulations in which such an interval held the truth; ``None`` if not measured."""
    reason: str = ""
    """End of the sentence "No interval is given ..."; empty if one is given."""


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


def row(trials: Sequence[FoldScores], emotions: int) -> Row:
    """Stack a row's trials: every fold with every seed once, in any order.

    Raises:
        ValueError: no trial; a fold lacks a seed or has it twice; its seeds differ in utterances, speakers or truth;
            an utterance occurs twice in a fold; sequences differ in length; or an index is out of range.
    """
    by_trial: dict[tuple[str, int], dict[tuple[str, str, str, int], bool]] = {}
    for t in trials:
        name = f"fold {t.fold}, seed {t.seed}"
        if len({len(t.utterances), len(t.speakers), len(t.truth), len(t.predicted)}) != 1 or not len(t.utterances):
            raise ValueError(f"{name}: utterances, speakers, truth and predicted must have one length of at least 1")
        if (t.fold, t.seed) in by_trial or len(set(t.utterances)) < len(t.utterances):
            raise ValueError(f"{name}: given twice, or holds an utterance twice")
        for values in (t.truth, t.predicted):
            if min(values) < 0 or max(values) >= emotions:
                raise ValueError(
                    f"{name}: emotion indices {min(values)} to {max(values)}; legal is 0 to {emotions - 1}"
                )
        each = zip(t.utterances, t.speakers, t.truth, t.predicted, strict=True)
        by_trial[t.fold, t.seed] = {
            (t.fold, u, speaker, int(truth)): bool(truth == guess) for u, speaker, truth, guess in each
        }
    folds, seeds = (tuple(sorted(set(names))) for names in zip(*by_trial, strict=True)) if by_trial else ((), ())
    if not by_trial or len(by_trial) < len(folds) * len(seeds):
        raise ValueError(
            f"{len(by_trial)} trials for {len(folds)} folds x {len(seeds)} seeds; every fold must have every seed"
        )
    keys = sorted(key for fold in folds for key in by_trial[fold, seeds[0]])
    per_seed = [{key: right for fold in folds for key, right in by_trial[fold, seed].items()} for seed in seeds]
    if any(one.keys() != per_seed[0].keys() for one in per_seed):
        raise ValueError("the seeds differ in their test utterances, speakers or truth")
    right = np.array([[one[key] for key in keys] for one in per_seed])
    return Row(folds=folds, seeds=seeds, emotions=emotions, keys=tuple(keys), right=right)


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


def estimates(one: Row, values: np.ndarray | None = None) -> dict[str, float]:
    """Return each of ``FIGURES``, averaged over seeds, in [0, 1]; equal to ``metrics.over_folds_and_seeds``.

    Args:
        one: the row.
        values: one value per utterance instead of its mean correctness over seeds, shape (n,); see ``replicates``.
    """
    values = one.right.mean(axis=0) if values is None else values
    once = np.ones((1, len(one.folds)))
    return {
        figure: float(v[0]) for figure, v in _reduce(once, one.sums(values), one.sums(np.ones(len(values)))).items()
    }


def intervals(one: Row, method: str = "speakers", draws: int = DRAWS) -> dict[str, Interval]:
    """Return 95 % intervals of each of ``FIGURES``, for its expectation over the groups that are drawn.

    With 4 or 5 speakers the default is wide, as it should be. ``speakers, utterances`` is the plain hierarchical
    bootstrap, kept for comparison. ``utterances`` ignores that other speakers differ: always label it as conditional on
    these speakers. It takes an emotion that a speaker shows once as known, so with many of those it covers less.

    Args:
        one: the row.
        method: a key of ``METHODS``. An interval is about what is drawn, and about nothing else. Resampling conditions
            is an idea of Ferrer and Riera's ``confidence_intervals``; percentiles are Efron's (1979).
        draws: bootstrap replicates.
    """
    values = one.right.mean(axis=0)
    made = replicates(one, values, method, draws)
    return {f: interval(estimate, made[f], method, len(one.folds), f) for f, estimate in estimates(one, values).items()}


def replicates(one: Row, values: np.ndarray, method: str, draws: int = DRAWS) -> dict[str, np.ndarray]:
    """Return bootstrap replicates of each of ``FIGURES``, shape (draws,); equal arguments give equal replicates.

    Args:
        one: the row whose utterances are drawn.
        values: one value per utterance, shape (n,): its mean correctness over seeds, or the difference of two rows'
            (both rows then meet the same draws). Every figure is linear in them for given draws.
        method: a key of ``METHODS``.
        draws: number of replicates.
    """
    rng, folds = one.generator(), len(one.folds)
    counts = one.sums(np.ones(len(values)))
    if method == "utterances":
        times = np.ones((draws, folds), dtype=np.int64)
    else:
        times = rng.multinomial(folds, np.full(folds, 1 / folds), size=draws)
    if method == "speakers":
        return _reduce(times, one.sums(values), counts)
    fold, emotion = one.cells
    sums = np.zeros((draws, folds, one.emotions))  # one sum for each time that a fold was drawn
    strata: dict[tuple[str, str, int], list[int]] = {}
    for i, (name, _, speaker, truth) in enumerate(one.keys):
        strata.setdefault((name, speaker, truth), []).append(i)
    for members in strata.values():
        # Only how often each value is drawn matters.
        levels, found = np.unique(values[members], return_counts=True)
        n, f, e = len(members), fold[members[0]], emotion[members[0]]
        # The spread of n draws is too small by sqrt((n - 1) / n); with this method nothing else makes up for it.
        if method == "utterances" and n > 1:
            mean = levels @ found / n
            levels = mean + (levels - mean) * math.sqrt(n / (n - 1))
        drawn = rng.multinomial(times[:, f] * n, found / n)
        sums[:, f, e] += drawn @ levels / np.maximum(times[:, f], 1)
    return _reduce(times, sums, counts)


def interval(estimate: float, made: np.ndarray, method: str, folds: int, figure: str) -> Interval:
    """Return an estimate's interval from its bootstrap replicates, shape (draws,); ``method`` may be ``DIFFERENCE``."""
    spread, reason = float(made.std()), ""
    if method != "utterances" and folds < FEWEST:
        reason = f"for fewer than {FEWEST} held-out speakers or sessions"
    elif spread < 1e-12:
        reason = "where every bootstrap replicate is the same, which says nothing about others"
    if reason:
        return Interval(low=math.nan, high=math.nan, method=method, folds=folds, actual_coverage=None, reason=reason)
    low, high = (float(q) for q in np.quantile(made, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if method in ("speakers", DIFFERENCE):
        # A bootstrap's spread is too small by sqrt((n - 1) / n); its normal quantile is too small for few speakers.
        reach = student(folds - 1) * math.sqrt(folds / (folds - 1)) * spread
        if method == DIFFERENCE:
            low, high = max(-1.0, estimate - reach), min(1.0, estimate + reach)
        else:  # spread and estimate are in (0, 1) here: an estimate of 0 or 1 has no spread
            centre, reach = math.log(estimate / (1 - estimate)), reach / (estimate * (1 - estimate))
            low, high = (0.5 + 0.5 * math.tanh((centre + side * reach) / 2) for side in (-1, 1))
    return Interval(
        low=low, high=high, method=method, folds=folds, actual_coverage=actual_coverage(folds, figure, method)
    )


def student(degrees: int) -> float:
    """Return t with P(-t <= T <= t) = ``LEVEL`` for Student's T (``scipy.stats.t.ppf(0.975, degrees)``).

    It bisects the finite series in Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    SciPy's value differs in the last bits, which would change the last of the 12 decimals in the files once in about
    ten thousand numbers.
    """
    low, high = 0.0, math.pi / 2  # angles, with t = tan(angle) * sqrt(degrees)
    for _ in range(60):
        angle = (low + high) / 2
        odd = degrees % 2
        term, total = (math.cos(angle) if odd else 1.0), 0.0
        for k in range(1 + odd, degrees, 2):
            total += term
            term *= k / (k + 1) * math.cos(angle) ** 2
        within = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
        low, high = (angle, high) if within < LEVEL else (low, angle)
    return math.tan(low) * math.sqrt(degrees)


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


def actual_coverage(folds: int, figure: str, method: str = "speakers") -> tuple[float, float] | None:
    """Return the lowest and highest share of simulations, over scenarios, in which a 95 % interval held the truth.

    Between two measured numbers of speakers it spans both; above the largest it is that of the largest; below the
    smallest it is ``None``. The simulated speakers are independent. Real folds share their training speakers, which no
    interval sees.
    """
    measured = {int(n): shares for n, shares in _measured()["coverage"].get(method, {}).get(figure, {}).items()}
    below, above = [n for n in measured if n <= folds], [n for n in measured if n >= folds]
    if not below:
        return None
    shares = [share for n in {max(below), min(above, default=max(below))} for share in measured[n]]
    return min(shares), max(shares)


@cache
def _measured() -> Mapping[str, Any]:
    # Written by tests/coverage_of_intervals.py.
    path = Path(__file__).with_name("interval_coverage.json")
    made: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made


def _mean_recall(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the UAR along the last axis, over the emotions whose count is not 0."""
    recalls = np.divide(sums, counts, out=np.zeros(np.broadcast_shapes(sums.shape, counts.shape)), where=counts > 0)
    out: np.ndarray = recalls.sum(axis=-1) / (counts > 0).sum(axis=-1)
    return out


def _reduce(times: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return each of ``FIGURES``, shape (draws,).

    Args:
        times: how often each fold was drawn, shape (draws, folds).
        sums: shape (folds, emotions), or one such array per draw.
        counts: shape (folds, emotions).
    """
    total = (times[:, None, :] @ sums)[:, 0]
    drawn = times @ counts
    wars, uars = sums.sum(axis=-1) / counts.sum(axis=-1), _mean_recall(sums, counts)
    return {
        "war_pooled": total.sum(axis=-1) / drawn.sum(axis=-1),
        "uar_pooled": _mean_recall(total, drawn),
        "war_mean": (times * wars).sum(axis=-1) / len(counts),
        "uar_mean": (times * uars).sum(axis=-1) / len(counts),
    }


def _shares(one: Row, values: np.ndarray, figure: str) -> np.ndarray:
    """Return each fold's share in the figure, shape (folds,); the figure is their sum."""
    sums, counts = one.sums(values), one.sums(np.ones(len(values)))
    total = counts.sum(axis=0)
    shares: np.ndarray
    if figure == "war_pooled":
        shares = sums.sum(axis=1) / total.sum()
    elif figure == "uar_pooled":
        shares = _mean_recall(sums, np.broadcast_to(total, sums.shape))
    elif figure == "war_mean":
        shares = sums.sum(axis=1) / counts.sum(axis=1) / len(counts)
    else:
        shares = _mean_recall(sums, counts) / len(counts)
    return shares
