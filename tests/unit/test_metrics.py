"""WAR, UAR and recalls against scikit-learn, and the two reductions over folds against figures worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from tfser.evaluation import metrics

EMOTIONS = 4
labels = st.lists(st.tuples(st.integers(0, EMOTIONS - 1), st.integers(0, EMOTIONS - 1)), min_size=1, max_size=60)


@given(labels)
@settings(deadline=None)
def test_confusion_recalls_war_and_uar_are_those_of_scikit_learn(pairs):
    truth, guess = [p[0] for p in pairs], [p[1] for p in pairs]
    matrix = metrics.confusion(truth, guess, EMOTIONS)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(truth, guess, labels=range(EMOTIONS)))
    present = sorted(set(truth))
    recalls = metrics.recalls(matrix)
    np.testing.assert_allclose(
        recalls[present], reference.recall_score(truth, guess, labels=present, average=None), rtol=0, atol=1e-15
    )
    assert np.isnan(np.delete(recalls, present)).all()  # absent: no recall, not zero
    assert metrics.war(matrix) == reference.accuracy_score(truth, guess)
    assert metrics.uar(matrix) == pytest.approx(
        reference.recall_score(truth, guess, labels=present, average="macro"), abs=1e-15
    )
    if set(guess) <= set(truth) and len(present) > 1:  # beyond that scikit-learn warns, and gives the same
        assert metrics.uar(matrix) == pytest.approx(reference.balanced_accuracy_score(truth, guess), abs=1e-15)


def test_an_emotion_that_is_only_ever_recognised_has_no_recall_but_costs_war():
    matrix = metrics.confusion([0, 0, 0, 1], [0, 0, 1, 2], 3)
    np.testing.assert_array_equal(metrics.recalls(matrix), [2 / 3, 0, np.nan])
    assert metrics.uar(matrix) == pytest.approx((2 / 3 + 0) / 2)  # not 2/9, which counts the absent one as a zero
    assert metrics.war(matrix) == 0.5


def test_without_utterances_there_is_no_recall_at_all():
    nothing = metrics.confusion([], [], 3)
    assert math.isnan(metrics.war(nothing))
    assert math.isnan(metrics.uar(nothing))


def test_confusion_refuses_what_is_no_emotion_and_unequal_lengths():
    with pytest.raises(ValueError, match="predicted holds 0 to 3; legal is 0 to 2"):
        metrics.confusion([0, 1], [0, 3], 3)
    with pytest.raises(ValueError, match="truth holds -1 to 0; legal is 0 to 2"):
        metrics.confusion([0, -1], [0, 0], 3)
    with pytest.raises(ValueError, match="both must be"):
        metrics.confusion([0, 1], [0], 3)


# Three held-out speakers of unequal size, two emotions; the third never shows the second one.
A = np.array([[3, 1], [2, 2]])  # 8 utterances: WAR 5/8, UAR (3/4 + 1/2) / 2 = 5/8
B = np.array([[1, 0], [0, 1]])  # 2 utterances: WAR 1, UAR 1
C = np.array([[3, 7], [0, 0]])  # 10 utterances: WAR 3/10, UAR 3/10
# Pooled: [[7, 8], [2, 3]] of 20: WAR 10/20, UAR (7/15 + 3/5) / 2 = 8/15


def test_pooled_and_mean_of_folds_are_the_two_different_numbers_that_their_names_say():
    figures = metrics.over_folds([A, B, C])
    assert figures.war_pooled == 10 / 20
    assert figures.uar_pooled == pytest.approx(8 / 15, abs=1e-15)
    assert figures.war_mean == pytest.approx((5 / 8 + 1 + 3 / 10) / 3, abs=1e-15)
    assert figures.uar_mean == pytest.approx((5 / 8 + 1 + 3 / 10) / 3, abs=1e-15)  # the third over its one emotion
    mean = (0.625 + 1 + 0.3) / 3
    sample = math.sqrt(((0.625 - mean) ** 2 + (1 - mean) ** 2 + (0.3 - mean) ** 2) / 2)  # n - 1
    assert figures.war_sd == pytest.approx(sample, abs=1e-15)
    assert figures.uar_sd == pytest.approx(sample, abs=1e-15)


def test_one_fold_has_no_spread():
    figures = metrics.over_folds([A])
    assert figures.war_pooled == figures.war_mean == 5 / 8
    assert math.isnan(figures.war_sd)
    assert math.isnan(figures.uar_sd)


def test_over_seeds_the_pooled_value_is_a_mean_and_the_spread_is_between_folds():
    figures = metrics.over_folds_and_seeds([[A, C], [B, C]])
    assert figures.war_pooled == pytest.approx((8 / 18 + 5 / 12) / 2)  # pooling the seeds as well would give 13/30
    means = [(5 / 8 + 1) / 2, 0.3]
    assert figures.war_mean == pytest.approx(sum(means) / 2)
    assert figures.war_sd == pytest.approx(np.std(means, ddof=1))
    assert metrics.over_folds_and_seeds([[A, B], [A, B]]) == metrics.over_folds([A, B])


def test_nothing_to_reduce_is_refused():
    with pytest.raises(ValueError, match="no fold to reduce"):
        metrics.over_folds([])
    with pytest.raises(ValueError, match="no fold to reduce"):
        metrics.over_folds_and_seeds([])
    with pytest.raises(ValueError, match="the seeds have 2, 1 folds"):
        metrics.over_folds_and_seeds([[A, B], [A]])
