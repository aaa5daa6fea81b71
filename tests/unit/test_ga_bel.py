"""GA-BEL: the model against its equation written out, its error, and what the algorithm keeps from its seed."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from tests.helpers.utterances import made_up
from tfser.models import ga_bel
from tfser.models.classifiers.brain_emotional_learning import BrainEmotionalLearning, error, sensed

X, Y, _ = made_up()
SETTINGS = {name: h.default for name, h in ga_bel.HYPERPARAMETERS.items()} | {"population": 20, "generations": 30}


def test_outputs_are_amygdala_and_thalamus_less_the_orbitofrontal_cortex():
    model = BrainEmotionalLearning(population=6, generations=4).fit(X, Y)
    v, thalamus, a, w, b = np.split(model.weights_, [20, 21, 22, 42], axis=1)
    s = X[:7].astype(np.float64)
    expected = [[v[c] @ x + thalamus[c, 0] * max(x) + a[c, 0] - w[c] @ x - b[c, 0] for c in range(3)] for x in s]
    np.testing.assert_allclose(model.decision_function(X[:7]), expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X[:7]), softmax(expected, axis=1), rtol=1e-9)


def test_the_error_of_a_chromosome_is_the_mean_square_from_one_and_minus_one():
    random = np.random.default_rng(0)
    genes, signals = random.normal(size=(5, 3, 9)), sensed(random.normal(size=(11, 3)))
    labels = random.integers(3, size=11)
    targets = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    expected = [np.mean((signals @ each.T - targets) ** 2) for each in genes]
    np.testing.assert_allclose(error(genes, signals, targets), expected, rtol=1e-12)


def test_the_best_chromosome_lives_on_and_the_error_falls():
    z = StandardScaler().fit_transform(X)
    model = BrainEmotionalLearning(seed=1).fit(z, Y)
    assert len(model.errors_) == 151
    assert all(later <= before for before, later in zip(model.errors_, model.errors_[1:], strict=False))
    assert model.errors_[-1] < 0.25 * model.errors_[0]
    targets = np.where(Y[:, None] == model.classes_, 1.0, -1.0)
    assert np.mean((model.decision_function(z) - targets) ** 2) == pytest.approx(model.errors_[-1])


def test_what_it_gets_is_reduced_by_pca_and_lda():
    model = ga_bel.build("full", SETTINGS | {"components": 5}, 0).fit(X, Y)
    scaled = StandardScaler().fit_transform(X.astype(np.float64))
    reduced = PCA(5, svd_solver="full").fit_transform(scaled)
    expected = LinearDiscriminantAnalysis().fit(reduced, Y).transform(reduced)
    np.testing.assert_allclose(np.abs(model[:-1].transform(X)), np.abs(expected), rtol=1e-6, atol=1e-9)
    assert expected.shape == (90, 2)


def test_more_components_than_there_are_values_stand_for_all():
    model = ga_bel.build("full", SETTINGS | {"components": 1000}, 0).fit(X, Y)
    assert model[1].pca_.n_components_ == 20


def test_the_seed_alone_decides():
    np.random.seed(1)
    one = ga_bel.build("full", SETTINGS, 0).fit(X, Y)[-1].weights_
    np.random.seed(2)
    np.testing.assert_array_equal(ga_bel.build("full", SETTINGS, 0).fit(X, Y)[-1].weights_, one)
    assert not np.array_equal(ga_bel.build("full", SETTINGS, 1).fit(X, Y)[-1].weights_, one)


def test_a_single_class_is_refused_in_words():
    with pytest.raises(ValueError, match="only one"):
        BrainEmotionalLearning().fit(X, ["calm"] * len(Y))
