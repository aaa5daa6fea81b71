"""Intervals and paired tests against SciPy, scikit-learn, pandas and loops; coverage against the kept simulation."""

import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, recall_score

from tests import coverage_of_intervals as coverage
from tests.helpers.scores import trials
from tfser.evaluation import metrics, significance, uncertainty
from tfser.evaluation.uncertainty import FIGURES, FoldScores

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results" / "2026-11-22-interval-coverage"
needs_kept = pytest.mark.skipif(not (KEPT / "blocks.csv").exists(), reason=f"{KEPT.name} is not in this copy")


def row(emotions=3, **options):
    return uncertainty.row(trials(emotions=emotions, **options), emotions)


def by_loops(copies, emotions):
    """The four figures of a list of (drawn fold, emotion, value), one of each drawn utterance, in plain Python."""

    def uar(some):
        recalls = []
        for e in range(emotions):
            of_emotion = [v for _, emotion, v in some if emotion == e]
            if of_emotion:
                recalls.append(sum(of_emotion) / len(of_emotion))
        return sum(recalls) / len(recalls)

    def war(some):
        return sum(v for *_, v in some) / len(some)

    folds = [[c for c in copies if c[0] == name] for name in sorted({c[0] for c in copies})]
    return {
        "war_pooled": war(copies),
        "uar_pooled": uar(copies),
        "war_mean": statistics.fmean(war(fold) for fold in folds),
        "uar_mean": statistics.fmean(uar(fold) for fold in folds),
    }


# Estimates


@given(st.integers(1, 5), st.integers(1, 3), st.integers(2, 5), st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_estimates_are_those_of_the_tables_and_of_pandas_and_scikit_learn(folds, seeds, emotions, seed):
    made = trials(folds=folds, seeds=seeds, emotions=emotions, seed=seed)
    got = uncertainty.estimates(uncertainty.row(made, emotions))
    runs = [[metrics.confusion(t.truth, t.predicted, emotions) for t in made if t.seed == s] for s in range(seeds)]
    tables = metrics.over_folds_and_seeds(runs)
    assert got == pytest.approx({figure: getattr(tables, figure) for figure in FIGURES}, abs=1e-12)

    table = pd.concat(
        [pd.DataFrame({"fold": t.fold, "seed": t.seed, "truth": t.truth, "predicted": t.predicted}) for t in made]
    )

    def uar(g):
        return recall_score(g.truth, g.predicted, labels=sorted(set(g.truth)), average="macro")

    def war(g):
        return accuracy_score(g.truth, g.predicted)

    def mean(by, reduce):
        return statistics.fmean(reduce(group) for _, group in table.groupby(by))

    independent = {
        "war_pooled": mean("seed", war),
        "uar_pooled": mean("seed", uar),
        "war_mean": mean(["fold", "seed"], war),
        "uar_mean": mean(["fold", "seed"], uar),
    }
    assert got == pytest.approx(independent, abs=1e-12)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda made: [], "0 trials for 0 folds"),
        (lambda made: made[:-1], "7 trials for 4 folds x 2 seeds"),
        (lambda made: [*made, made[0]], "fold f0, seed 0: given twice"),
        (
            lambda made: [replace(made[0], utterances=["u0"] * 12), *made[1:]],
            "fold f0, seed 0: given twice, or holds an utterance twice",
        ),
        (
            lambda made: [replace(made[0], predicted=[3] * 12), *made[1:]],
            "fold f0, seed 0: emotion indices 3 to 3; legal is 0 to 2",
        ),
        (lambda made: [replace(made[0], truth=[-1] * 12), *made[1:]], "emotion indices -1 to -1"),
        (lambda made: [replace(made[0], truth=[0]), *made[1:]], "one length of at least 1"),
        (
            lambda made: [replace(made[0], utterances=[], speakers=[], truth=[], predicted=[])],
            "one length of at least 1",
        ),
        (
            lambda made: [replace(made[0], truth=[2 - t for t in made[0].truth]), *made[1:]],
            "the seeds differ in their test utterances",
        ),
        (
            lambda made: [replace(made[0], utterances=[f"v{i}" for i in range(12)]), *made[1:]],
            "the seeds differ in their test utterances",
        ),
    ],
)
def test_trials_that_do_not_make_a_row_are_refused(spoil, says):
    with pytest.raises(ValueError, match=says):
        uncertainty.row(spoil(trials(seeds=2)), 3)


# Draws


@pytest.mark.parametrize("method", ["speakers", "speakers, utterances"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_replicates_are_those_of_a_plain_loop_over_the_same_draws(method, seeds):
    one = row(folds=5, seeds=seeds, speakers=2, utterances=15)
    draws, folds = 40, 5
    values = one.right.mean(axis=0)
    got = uncertainty.replicates(one, values, method, draws)
    rng = one.generator()
    times = rng.multinomial(folds, np.full(folds, 0.2), size=draws)
    drawn = {}  # (fold, speaker, emotion) to how often each of its values was drawn in each replicate
    for i, (fold, _, speaker, truth) in enumerate(one.keys):
        drawn.setdefault((fold, speaker, truth), []).append(float(values[i]))
    for key, members in drawn.items():
        levels = sorted(set(members))
        if method == "speakers":
            counts = times[:, [one.folds.index(key[0])]] * [members.count(level) for level in levels]
        else:
            n = times[:, one.folds.index(key[0])] * len(members)
            counts = rng.multinomial(n, [members.count(level) / len(members) for level in levels])
        drawn[key] = (levels, counts)
    for b in range(draws):
        copies = [
            (fold, truth, level)
            for (fold, _, truth), (levels, counts) in drawn.items()
            for level, count in zip(levels, counts[b], strict=True)
            for _ in range(count)
        ]
        pooled, weights = by_loops(copies, 3), times[b]
        for figure in ("war_pooled", "uar_pooled"):
            assert got[figure][b] == pytest.approx(pooled[figure], abs=1e-12)
        for figure in ("war_mean", "uar_mean"):  # a fold drawn twice counts twice
            each = [
                by_loops([c for c in copies if c[0] == fold], 3)[figure]
                for fold, n in zip(one.folds, weights, strict=True)
                if n
            ]
            assert got[figure][b] == pytest.approx(np.average(each, weights=weights[weights > 0]), abs=1e-12)


def test_the_hierarchical_bootstrap_spreads_like_drawing_speakers_and_then_utterances_one_by_one():
    one = row(folds=4, seeds=2, utterances=20)
    values = one.right.mean(axis=0).tolist()
    strata = {}
    for (fold, _, speaker, truth), value in zip(one.keys, values, strict=True):
        strata.setdefault(fold, {}).setdefault((speaker, truth), []).append(value)
    chance, naive = random.Random(1), {figure: [] for figure in FIGURES}
    for _ in range(2000):
        copies = []
        for place in range(4):
            for (_, truth), members in strata[chance.choice(one.folds)].items():
                copies += [(place, truth, v) for v in chance.choices(members, k=len(members))]
        for figure, value in by_loops(copies, 3).items():
            naive[figure].append(value)
    got = uncertainty.replicates(one, np.array(values), "speakers, utterances", 20_000)
    for figure in FIGURES:
        assert got[figure].mean() == pytest.approx(
            statistics.fmean(naive[figure]), abs=4 * got[figure].std() / math.sqrt(2000)
        )
        assert got[figure].std() == pytest.approx(statistics.stdev(naive[figure]), rel=0.08)  # 5 standard errors
        np.testing.assert_allclose(
            *(np.quantile(x, [0.05, 0.5, 0.95]) for x in (got[figure], naive[figure])), atol=0.015
        )


def test_drawing_speakers_for_a_mean_of_folds_is_scipys_bootstrap_of_the_folds_uar():
    one = row(folds=10, utterances=30)
    values = one.right.mean(axis=0)
    uars = [metrics.uar(metrics.confusion(t.truth, t.predicted, 3)) for t in trials(folds=10, utterances=30)]
    reference = stats.bootstrap((uars,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0))
    got = uncertainty.replicates(one, values, "speakers", 20_000)["uar_mean"]
    assert got.std() == pytest.approx(reference.standard_error, rel=0.03)
    np.testing.assert_allclose(np.quantile(got, [0.025, 0.975]), reference.confidence_interval, atol=0.004)


def test_the_same_predictions_under_more_seeds_tell_nothing_more():
    made = trials()
    repeated = [replace(t, seed=s) for t in made for s in range(5)]
    for method in uncertainty.METHODS:
        assert uncertainty.intervals(uncertainty.row(repeated, 3), method) == uncertainty.intervals(
            uncertainty.row(made, 3), method
        )


def test_a_session_is_drawn_whole():
    one = row(folds=2, speakers=2, utterances=40)
    made = uncertainty.replicates(one, one.right.mean(axis=0), "speakers", 200)["uar_mean"]
    assert len(set(made.round(12))) == 3  # the first twice, both, the second twice: speakers alone would give more


def test_drawing_utterances_never_empties_an_emotion_and_never_draws_speakers():
    one = row(folds=3, utterances=9)
    for figure, made in uncertainty.replicates(one, np.ones(len(one.keys)), "utterances", 500).items():
        # Each recall of 1 stays, and no emotion is lost.
        np.testing.assert_allclose(made, 1.0, atol=1e-12, err_msg=figure)
    certain = np.array([float(key[0] == "f0") for key in one.keys])
    assert uncertainty.replicates(one, certain, "utterances", 500)["war_mean"].std() < 1e-12
    assert uncertainty.replicates(one, certain, "speakers", 500)["war_mean"].std() > 0.1


def test_drawing_utterances_spreads_as_the_unbiased_variance_within_each_speaker_and_emotion_says():
    one = row(folds=5, seeds=3, utterances=20)
    values = one.right.mean(axis=0)
    table = pd.DataFrame({"fold": [key[0] for key in one.keys], "truth": [key[3] for key in one.keys], "value": values})
    cells = table.groupby(["fold", "truth"]).value.agg(["var", "count"])
    want = math.sqrt((cells["var"] * cells["count"]).sum()) / len(values)  # of a stratified mean
    got = uncertainty.replicates(one, values, "utterances", 20_000)["war_pooled"]
    assert got.mean() == pytest.approx(values.mean(), abs=5 * want / math.sqrt(20_000))
    assert got.std() == pytest.approx(want, rel=0.03)


def test_an_emotion_that_no_drawn_speaker_shows_is_left_out_of_the_mean():
    def fold(name, truth, predicted):
        n = len(truth)
        return FoldScores(
            fold=name,
            seed=0,
            utterances=[str(i) for i in range(n)],
            speakers=[name] * n,
            truth=truth,
            predicted=predicted,
        )

    one = uncertainty.row([fold("a", [0, 0], [0, 0]), fold("b", [1, 1], [1, 0])], 2)
    made = uncertainty.replicates(one, one.right.mean(axis=0), "speakers", 300)["uar_pooled"]
    # a alone; both; b alone. Counting the absent emotion as 0 would give 0.5 and 0.25.
    assert set(made.tolist()) == {1.0, 0.75, 0.5}


# Intervals


def test_students_t_is_scipys():
    degrees = [1, 2, 3, 4, 5, 9, 10, 49, 90]
    np.testing.assert_allclose([uncertainty.student(n) for n in degrees], stats.t.ppf(0.975, degrees), rtol=1e-12)


def test_the_interval_over_speakers_is_students_on_the_logit_scale():
    one = row(folds=10, utterances=30)
    uars = np.array([metrics.uar(metrics.confusion(t.truth, t.predicted, 3)) for t in trials(folds=10, utterances=30)])
    m = uars.mean()
    low, high = stats.t.interval(0.95, 9, loc=np.log(m / (1 - m)), scale=stats.sem(uars) / (m * (1 - m)))
    got = uncertainty.intervals(one)["uar_mean"]
    assert (got.low, got.high) == pytest.approx((1 / (1 + np.exp(-low)), 1 / (1 + np.exp(-high))), abs=0.005)
    assert (got.method, got.folds, got.reason) == ("speakers", 10, "")


@pytest.mark.parametrize("method", uncertainty.METHODS)
@pytest.mark.parametrize("chance", [0.02, 0.5, 0.98])
def test_an_interval_lies_in_0_to_1_around_its_estimate(method, chance):
    one = row(folds=4, seeds=2, utterances=30, chance=chance)
    found = uncertainty.estimates(one)
    for figure, interval in uncertainty.intervals(one, method).items():
        assert 0 <= interval.low < found[figure] < interval.high <= 1


def test_two_speakers_give_no_interval_over_speakers_and_say_so():
    for interval in uncertainty.intervals(row(folds=2)).values():
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
        assert interval.actual_coverage is None
        assert interval.reason == "for fewer than 3 held-out speakers or sessions"
    assert not math.isnan(uncertainty.intervals(row(folds=2), "utterances")["uar_mean"].low)


def test_scores_without_any_spread_give_no_interval_and_say_so():
    perfect = [replace(t, predicted=t.truth) for t in trials()]
    for interval in uncertainty.intervals(uncertainty.row(perfect, 3)).values():
        assert math.isnan(interval.low)
        assert "every bootstrap replicate is the same" in interval.reason


def test_intervals_depend_on_the_data_alone(tmp_path):
    before = np.random.get_state()[1].copy()
    made = trials(seeds=2)
    want = uncertainty.intervals(uncertainty.row(made, 3), "speakers, utterances")
    assert uncertainty.intervals(uncertainty.row(made[::-1], 3), "speakers, utterances") == want
    turned = [
        replace(t, **{k: list(getattr(t, k))[::-1] for k in ("utterances", "speakers", "truth", "predicted")})
        for t in made
    ]
    assert uncertainty.intervals(uncertainty.row(turned, 3), "speakers, utterances") == want
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    code = (
        "from tests.helpers.scores import trials; from tfser.evaluation import uncertainty as u; "
        "print({f: (i.low, i.high) for f, i in u.intervals(u.row(trials(seeds=2), 3), 'speakers, utterances').items()})"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == str({f: (i.low, i.high) for f, i in want.items()})


# Paired comparison


def pair(**options):
    """Two rows on one test set."""
    first = trials(**options)
    rng = np.random.default_rng(99)
    guesses = [
        np.where(rng.random(len(t.truth)) < 0.6, t.truth, rng.integers(0, 3, len(t.truth))).tolist() for t in first
    ]
    second = [replace(t, predicted=guess) for t, guess in zip(first, guesses, strict=True)]
    return first, second


@pytest.mark.parametrize("figure", FIGURES)
def test_p_is_that_of_swapping_the_predictions_of_whole_folds_in_every_way(figure):
    first, second = pair(folds=5, seeds=2)

    def difference(swapped):
        there, back = [], []
        for one, other in zip(first, second, strict=True):
            change = one.fold in swapped
            there.append(other if change else one)
            back.append(one if change else other)
        figures = []
        for made in (there, back):
            runs = [[metrics.confusion(t.truth, t.predicted, 3) for t in made if t.seed == s] for s in range(2)]
            figures.append(getattr(metrics.over_folds_and_seeds(runs), figure))
        return figures[0] - figures[1]

    folds = sorted({t.fold for t in first})
    every = [difference(some) for k in range(6) for some in itertools.combinations(folds, k)]
    got = significance.compare(uncertainty.row(first, 3), uncertainty.row(second, 3), figure)
    assert got.difference == pytest.approx(difference(()), abs=1e-12)
    assert got.p == statistics.fmean(abs(d) >= abs(difference(())) - 1e-12 for d in every)
    assert (got.exact, got.folds, got.seeds) == (True, 5, 2)


@given(st.lists(st.sampled_from([-30, -10, 0, 5, 10, 20, 33]), min_size=2, max_size=9))
@settings(deadline=None, max_examples=40)
@example([-30, -10, 0, 5, 0, 10, 5, 20])
def test_the_exact_p_is_scipys(hundredths):
    """In whole numbers, whose sums are exact: SciPy takes two sums near 0 that differ by rounding for two values."""
    shares = np.array(hundredths, dtype=float)
    got, exact = significance.sign_flip(shares, np.random.default_rng(0))
    want = stats.permutation_test((shares,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert exact
    assert got == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("shares", [[0.1, 0.2, -0.3], [0.1, 0.0, -0.2, 0.0, -0.3, 0.1, 0.3], [0.05], [0.01] * 20])
def test_sums_that_differ_by_rounding_alone_count_as_equal(shares):
    hundredths = np.rint(100 * np.array(shares))
    rng = np.random.default_rng(0)
    assert significance.sign_flip(np.array(shares), rng) == significance.sign_flip(hundredths, rng)


def test_a_random_p_is_near_the_exact_one_and_never_0(monkeypatch):
    shares = np.random.default_rng(3).normal(0.04, 0.1, 12)
    want, _ = significance.sign_flip(shares, np.random.default_rng(0))
    monkeypatch.setattr(significance, "EXACT_UP_TO", 5)
    got, exact = significance.sign_flip(shares, np.random.default_rng(0))
    assert not exact
    assert got == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / significance.SIGN_DRAWS))
    surest, _ = significance.sign_flip(np.ones(60), np.random.default_rng(0))
    assert surest == 1 / (1 + significance.SIGN_DRAWS)


def test_random_p_under_the_null_is_uniform(monkeypatch):
    monkeypatch.setattr(significance, "SIGN_DRAWS", 199)
    rng = np.random.default_rng(5)
    ps = np.array([significance.sign_flip(rng.standard_t(4, 24), rng)[0] for _ in range(4000)])
    found = np.bincount(np.rint(ps * 200).astype(int), minlength=201)[1:].reshape(20, 10).sum(axis=1)
    assert stats.chisquare(found).pvalue > 1e-4


@pytest.mark.full
@pytest.mark.parametrize(("folds", "simulations"), [(6, 150), (10, 1000)])
def test_p_of_two_equally_good_rows_is_uniform(folds, simulations, monkeypatch):
    alike = coverage.SCENARIOS["uneven"]
    monkeypatch.setitem(coverage.SCENARIOS, "uneven", replace(alike, gain=(0.0,) * 7))
    ps = {figure: [] for figure in FIGURES}
    for number in range(simulations):
        first, second, _ = coverage.simulate("uneven", folds, number)
        for figure in FIGURES:
            ps[figure].append(significance.compare(first, second, figure, draws=2).p)
    for figure, values in ps.items():
        # Utterances are few, so differences tie, which can only make p larger. Room for chance: Kolmogorov's 99.9 %.
        room = 1.95 / math.sqrt(simulations) + (1 / 2 ** (folds - 1))
        assert stats.kstest(values, "uniform").statistic < room, figure
        for level in (0.05, 0.1, 0.25):
            assert np.mean(np.array(values) <= level) <= level + 3.5 * math.sqrt(level * (1 - level) / simulations)


def test_the_interval_of_a_difference_is_a_bootstrap_of_pairs():
    first, second = (uncertainty.row(made, 3) for made in pair(folds=8, seeds=2, utterances=30))
    ours, others = first.right.mean(axis=0), second.right.mean(axis=0)
    apart = [uncertainty.replicates(r, v, "speakers")["uar_pooled"] for r, v in ((first, ours), (second, others))]
    together = uncertainty.replicates(first, ours - others, "speakers")["uar_pooled"]
    np.testing.assert_allclose(together, apart[0] - apart[1], atol=1e-12)
    got = significance.compare(first, second, "uar_pooled")
    reach = stats.t.ppf(0.975, 7) * math.sqrt(8 / 7) * together.std()
    assert (got.interval.low, got.interval.high) == pytest.approx(
        (got.difference - reach, got.difference + reach), abs=1e-12
    )


def test_turning_a_comparison_round_turns_its_sign_and_keeps_its_p():
    first, second = (uncertainty.row(made, 3) for made in pair(folds=7))
    there, back = significance.compare(first, second, "uar_mean"), significance.compare(second, first, "uar_mean")
    assert there.difference == pytest.approx(-back.difference, abs=1e-15)
    assert there.p == back.p
    assert (there.interval.low, there.interval.high) == pytest.approx(
        (-back.interval.high, -back.interval.low), abs=1e-12
    )


def test_a_row_compared_with_itself_differs_in_nothing():
    got = significance.compare(row(folds=6), row(folds=6), "uar_pooled")
    assert (got.difference, got.p) == (0.0, 1.0)
    assert math.isnan(got.interval.low)


def test_rows_on_other_folds_seeds_or_truth_are_not_compared():
    whole, fewer, seeds = row(folds=4), row(folds=3), row(folds=4, seeds=2)
    other = uncertainty.row([replace(t, truth=[1] * len(t.truth)) for t in trials()], 3)
    for wrong in (fewer, seeds, other):
        with pytest.raises(ValueError, match="on the same folds, seeds, utterances and truth"):
            significance.compare(whole, wrong, "uar_mean")


def test_rows_are_cut_to_what_they_share():
    made = trials(folds=4, seeds=3)
    first = uncertainty.row([t for t in made if t.fold != "f0" and t.seed < 2], 3)
    second = uncertainty.row([t for t in made if t.fold != "f3" and t.seed > 0], 3)
    one, other = significance.shared(first, second)
    want = uncertainty.row([t for t in made if t.fold in ("f1", "f2") and t.seed == 1], 3)
    for cut in (one, other):
        assert (cut.folds, cut.seeds, cut.keys) == (want.folds, want.seeds, want.keys)
        np.testing.assert_array_equal(cut.right, want.right)
    with pytest.raises(ValueError, match="share 0 folds and 3 seeds"):
        significance.shared(uncertainty.row(made[:3], 3), uncertainty.row(made[3:], 3))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_is_its_step_down_definition(ps):
    got = significance.holm(ps)
    m = len(ps)
    for level in (0.01, 0.05, 0.2, 0.7):
        rejected, remaining = set(), sorted(range(m), key=lambda i: ps[i])
        for k, i in enumerate(remaining):
            if ps[i] * (m - k) > level:
                break
            rejected.add(i)
        assert {i for i in range(m) if got[i] <= level} == rejected
    assert ((got >= ps) & (got <= 1)).all()


@pytest.mark.parametrize("folds", range(1, 13))
def test_the_smallest_p_is_what_folds_that_all_agree_give(folds):
    assert significance.sign_flip(np.full(folds, 0.1), np.random.default_rng(0))[0] == significance.smallest_p(folds)


@pytest.mark.parametrize(
    ("folds", "comparisons", "smallest"),
    [(4, 1, "0.125"), (5, 1, "0.0625"), (6, 2, "0.0625"), (4, 3, "0.375"), (1, 1, "1"), (6, 1, None), (10, 25, None)],
)
def test_too_few_folds_are_said_to_allow_no_claim_and_enough_allow_one(folds, comparisons, smallest):
    corrected = f" (corrected for {comparisons} comparisons)" if comparisons > 1 else ""
    held_out = f"{folds} fold{'s' * (folds > 1)}"
    no_claim = (
        f"No significance over {held_out} is claimable at 0.05: the smallest two-sided p is {smallest}{corrected}."
    )
    assert significance.no_claim(folds, comparisons) == ("" if smallest is None else no_claim)


# Coverage


@needs_kept
def test_the_table_of_coverage_is_made_from_the_kept_simulations():
    rows = coverage.read_blocks(KEPT / "blocks.csv")
    entries = coverage.add_up(rows)
    assert coverage.packaged(entries) == Path(uncertainty.__file__).with_name("interval_coverage.json").read_text(
        encoding="utf-8"
    )
    assert json.loads((KEPT / "coverage.json").read_text(encoding="utf-8"))["coverage"] == entries
    assert (KEPT / "coverage.md").read_text(encoding="utf-8") == coverage.to_markdown(entries)
    assert {entry["simulations"] for entry in entries} == {1000}
    held = pd.read_csv(KEPT / "blocks.csv").groupby(["scenario", "speakers", "method", "figure"]).held.sum() / 1000
    for e in entries:
        assert e["coverage"] == pytest.approx(held[e["scenario"], e["speakers"], e["method"], e["figure"]], abs=1e-12)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("speakers", [4, 8, 10, 50])
def test_the_default_interval_misses_95_percent_by_at_most_2_points(speakers, figure):
    for method in ("speakers", uncertainty.DIFFERENCE):
        low, high = uncertainty.actual_coverage(speakers, figure, method)
        assert 0.93 <= low <= high <= 0.97


def test_the_coverage_between_two_measured_numbers_of_speakers_spans_both():
    at = {n: uncertainty.actual_coverage(n, "uar_pooled", "speakers, utterances") for n in (3, 10, 30, 50, 91, 2)}
    assert at[30] == (min(at[10][0], at[50][0]), max(at[10][1], at[50][1]))
    assert at[91] == at[50]
    assert at[2] is None
    assert uncertainty.intervals(row(folds=4))["war_mean"].actual_coverage == uncertainty.actual_coverage(4, "war_mean")


def near(lines, kept):
    """Check that each line's count of intervals that held the truth is the kept one, give or take rounding."""
    want = {
        (r["scenario"], int(r["speakers"]), int(r["block"]), r["method"], r["figure"]): int(r["held"]) for r in kept
    }
    for line in lines:
        key = tuple(line[name] for name in ("scenario", "speakers", "block", "method", "figure"))
        assert abs(line["held"] - want[key]) <= 1, key


@needs_kept
def test_the_first_simulations_come_out_as_kept():
    near(coverage.measure("alike", 4, 0, ["speakers"]), coverage.read_blocks(KEPT / "blocks.csv"))


@pytest.mark.slow
@needs_kept
@pytest.mark.parametrize("scenario", coverage.SCENARIOS)
@pytest.mark.parametrize("speakers", [4, 8, 10, 50])
def test_all_1000_simulations_come_out_as_kept(speakers, scenario):
    kept = coverage.read_blocks(KEPT / "blocks.csv")
    for block in range(10):
        near(coverage.measure(scenario, speakers, block), kept)
