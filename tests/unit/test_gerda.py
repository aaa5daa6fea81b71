"""GerDA: its criterion and its classifier against a plain NumPy rewrite."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.pipeline import make_pipeline

from tests.helpers.utterances import made_up
from tfser.models import gerda
from tfser.models.classifiers.gerda import Gerda, separation
from tfser.models.standardised import Standardised


def scatters(outputs, y):
    """(S_B, S_W) in which every class counts the same, class by class."""
    classes = np.unique(y)
    means = np.stack([outputs[y == each].mean(axis=0) for each in classes])
    between = np.mean([np.outer(m, m) for m in means - means.mean(axis=0)], axis=0)
    within = np.mean([np.cov(outputs[y == each].T, bias=True).reshape(between.shape) for each in classes], axis=0)
    return between, within


def settings(**changes):
    return {name: h.default for name, h in gerda.HYPERPARAMETERS.items()} | changes


def test_the_criterion_is_the_trace_of_both_scatters_in_which_every_class_counts_the_same():
    random = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [5, 20, 11])
    outputs = random.normal(size=(36, 2)) + y[:, None] * [1.0, -0.5]
    between, within = scatters(outputs, y)
    expected = np.trace(np.linalg.inv(between + within + 0.01 * np.eye(2)) @ between)
    found = separation(torch.from_numpy(outputs), torch.from_numpy(y), 0.01)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_training_raises_the_criterion_on_the_training_utterances_above_that_of_random_weights():
    x, y, _ = made_up()
    z = Standardised().fit_transform(x)

    def criterion(updates):
        outputs = Gerda(updates=updates, hidden=(16, 8), learning_rate=0.03, noise=0.0).fit(z, y).transform(z)
        between, within = scatters(outputs, y)
        return np.trace(np.linalg.solve(between + within, between))

    assert criterion(1) < 1 < 1.9 < criterion(100) < 2


def test_scores_are_those_of_the_sigmoid_network_and_gaussians_of_one_shape_and_equal_frequency():
    x, y, _ = made_up(takes=7)
    drop = (y == "glad") & (np.arange(len(y)) % 3 > 0)  # classes of unequal size
    x, y = x[~drop], y[~drop]
    model = gerda.build("full", settings(first_units=7, second_units=5, updates=10), 3).fit(x, y)
    scaler, network = model[0], model[-1]
    assert [w.shape for w in network.coefs_] == [(20, 7), (7, 5), (5, 2)]
    assert {w.dtype for w in (*network.coefs_, *network.intercepts_)} == {np.dtype(np.float32)}

    def outputs(rows):
        z = np.clip((rows.astype(np.float64) - scaler.mean_) / scaler.deviation_, -8, 8)
        for w, b in list(zip(network.coefs_, network.intercepts_, strict=True))[:-1]:
            z = expit(z @ w.astype(np.float64) + b)
        return z @ network.coefs_[-1].astype(np.float64) + network.intercepts_[-1]

    f, classes = outputs(x), np.unique(y)
    means = np.stack([f[y == each].mean(axis=0) for each in classes])
    centred = f - means[np.searchsorted(classes, y)]
    inverse = np.linalg.inv(centred.T @ centred / len(y))
    away = f[:, None] - means
    distances = np.einsum("ncd,de,nce->nc", away, inverse, away)
    found = model.predict_proba(x)
    odds, farther = np.log(found[:, :1] / found[:, 1:]), (distances[:, 1:] - distances[:, :1]) / 2
    factor = odds[0, 0] / farther[0, 0]  # versions of scikit-learn divide by other counts
    assert 0.9 < factor < 1.1
    np.testing.assert_allclose(odds, factor * farther, rtol=1e-6, atol=1e-9)


def test_the_seed_alone_decides_the_weights_and_torchs_own_random_state_stays_as_it_was():
    x, y, _ = made_up()

    def weights(seed):
        return gerda.build("full", settings(updates=3), seed).fit(x, y)[-1].coefs_[0]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(weights(0), one)
    assert not np.array_equal(weights(1), one)


def test_a_single_class_is_refused_in_words():
    with pytest.raises(ValueError, match="only one"):
        make_pipeline(Standardised(), Gerda()).fit(made_up()[0], ["calm"] * 90)
