"""Uncertainty of a row's WAR and UAR: bootstrap intervals.

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


def mean_recall(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the UAR along the last axis, over the emotions whose count is not 0."""
    recalls = np.divide(sums, counts, out=np.zeros(np.broadcast_shapes(sums.shape, counts.shape)), where=counts > 0)
    out: np.ndarray = recalls.sum(axis=-1) / (counts > 0).sum(axis=-1)
    return out


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


def _reduce(times: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return each of ``FIGURES``, shape (draws,).

    Args:
        times: how often each fold was drawn, shape (draws, folds).
        sums: shape (folds, emotions), or one such array per draw.
        counts: shape (folds, emotions).
    """
    total = (times[:, None, :] @ sums)[:, 0]
    drawn = times @ counts
    wars, uars = sums.sum(axis=-1) / counts.sum(axis=-1), mean_recall(sums, counts)
    return {
        "war_pooled": total.sum(axis=-1) / drawn.sum(axis=-1),
        "uar_pooled": mean_recall(total, drawn),
        "war_mean": (times * wars).sum(axis=-1) / len(counts),
        "uar_mean": (times * uars).sum(axis=-1) / len(counts),
    }
