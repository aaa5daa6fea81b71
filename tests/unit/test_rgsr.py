"""RGSR: the regression and the graph against plain NumPy, and the inner choice against a loop over speakers."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold

from tests.helpers.utterances import made_up
from tfser.models import rgsr
from tfser.models.classifiers.spectral_regression import SpectralRegression, coordinates
from tfser.models.standardised import Standardised

X, Y, SPEAKERS = made_up(apart=1.0)
SETTINGS = {name: h.default for name, h in rgsr.HYPERPARAMETERS.items()}


def class_graph(labels):
    return (labels[:, None] == labels) / np.array([(labels == each).sum() for each in labels])


def projector(vectors):
    return vectors @ np.linalg.pinv(vectors)


def by_hand(d, y, rows, ridge):
    """A scorer of distances, as methods of spectral regression write it: targets by Gram-Schmidt on the classes."""
    classes = np.unique(y)
    indicators = np.stack([np.ones(len(y)), *[(y == each).astype(float) for each in classes[:-1]]], axis=1)
    targets = np.linalg.qr(indicators)[0][:, 1:]
    scale = np.median(d[:, rows])
    h = np.exp(-d[:, rows] / scale)
    mean = h.mean(axis=0)
    w = np.linalg.inv((h - mean).T @ (h - mean) + ridge * np.eye(len(rows))) @ (h - mean).T @ targets
    embedded = (h - mean) @ w
    means = np.stack([embedded[y == each].mean(axis=0) for each in classes])
    return lambda other: cdist((np.exp(-other[:, rows] / scale) - mean) @ w, means, "sqeuclidean")


def test_decisions_are_those_of_spectral_regression_with_gram_schmidt_targets():
    train = SPEAKERS != "emil"
    z = Standardised().fit(X[train]).transform(X)
    d = cdist(z[train], z[train], "sqeuclidean")
    model = SpectralRegression(anchors=40, ridge=0.1, seed=2).fit(d, Y[train])
    assert len(set(model.rows_)) == 40
    distances = by_hand(d, Y[train], model.rows_, 0.1)(cdist(z[~train], z[train], "sqeuclidean"))
    found = model.predict_proba(cdist(z[~train], z[train], "sqeuclidean"))
    # Probabilities fall with the squared distance, by the same factor everywhere.
    odds, farther = np.log(found[:, :1] / found[:, 1:]), distances[:, 1:] - distances[:, :1]
    factor = odds[0, 0] / farther[0, 0]
    assert factor > 0
    np.testing.assert_allclose(odds, factor * farther, rtol=1e-6)


def test_coordinates_without_a_penalty_span_the_leading_eigenvectors_of_the_class_graph():
    labels = np.repeat([0, 1, 2], [4, 9, 6])
    values, vectors = scipy.linalg.eigh(class_graph(labels))
    np.testing.assert_allclose(values[-3:], 1)  # one of them is constant
    found = coordinates(np.zeros((19, 19)), labels, 0.0, 5)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-12)
    constant = np.ones((19, 1))
    np.testing.assert_allclose(projector(np.hstack([found, constant])), projector(vectors[:, -3:]), atol=1e-9)


def test_a_penalty_takes_edges_from_near_neighbours_of_other_classes():
    labels = np.repeat([0, 1, 2], [4, 9, 6])
    points = np.random.default_rng(0).normal(size=(19, 3))
    d = cdist(points, points, "sqeuclidean")
    graph = class_graph(labels)
    for i in range(19):
        others = [j for j in np.argsort(d[i]) if labels[j] != labels[i]][:5]
        for j in others:
            graph[i, j] -= 0.5 / 5 / 2
            graph[j, i] -= 0.5 / 5 / 2
    centring = np.eye(19) - 1 / 19
    vectors = scipy.linalg.eigh(centring @ graph @ centring)[1][:, -2:]
    found = coordinates(d, labels, 0.5, 5)
    np.testing.assert_allclose(projector(found), projector(vectors), atol=1e-9)
    small = coordinates(d, labels, 1e-7, 5)
    np.testing.assert_allclose(projector(small), projector(coordinates(d, labels, 0.0, 5)), atol=1e-5)


def test_anchors_and_ridge_are_chosen_by_mean_uar_over_held_out_training_speakers(monkeypatch):
    grid = {"anchors": (3, 40), "ridge": (0.1, 1e6)}
    monkeypatch.setattr(rgsr, "GRID", grid)
    model = rgsr.build("full", SETTINGS, 1).fit(X, Y, groups=SPEAKERS)
    z = Standardised().fit_transform(X)
    d = cdist(z, z, "sqeuclidean")
    found = {}
    for anchors in grid["anchors"]:
        for ridge in grid["ridge"]:
            recalls = []
            for inner, held in GroupKFold(5).split(X, Y, SPEAKERS):
                fitted = SpectralRegression(anchors, ridge, seed=1).fit(d[np.ix_(inner, inner)], Y[inner])
                guessed = fitted.predict(d[np.ix_(held, inner)])
                recalls.append(balanced_accuracy_score(Y[held], guessed))
            found[anchors, ridge] = np.mean(recalls)
    best = max(found, key=found.__getitem__)
    assert (model.chosen_["anchors"], model.chosen_["ridge"]) == best
    assert found[best] > min(found.values()) + 0.05, "the grid matters here"
    again = SpectralRegression(*best, seed=1).fit(d, Y)
    np.testing.assert_allclose(model.predict_proba(X), again.predict_proba(d), atol=1e-9)


def test_of_the_training_it_keeps_the_anchors_only(monkeypatch):
    monkeypatch.setattr(rgsr, "GRID", {"anchors": (10,), "ridge": (0.1,)})
    model = rgsr.build("full", SETTINGS, 0).fit(X, Y, groups=SPEAKERS)
    assert model.anchors_.shape == (10, 20)
    assert model.predict_proba(X[:1]).shape == (1, 3)


def test_the_settings_reach_the_graph():
    model = rgsr.build("full", {"penalty": 0.5, "neighbours": 3}, 0).fit(X, Y, groups=SPEAKERS)
    assert (model.regression_.penalty, model.regression_.neighbours) == (0.5, 3)


def test_one_training_speaker_or_one_class_is_refused_in_words():
    with pytest.raises(ValueError, match="there is only one"):
        rgsr.build("full", SETTINGS, 0).fit(X, Y, groups=["anna"] * len(Y))
    with pytest.raises(ValueError, match="only one"):
        rgsr.build("full", SETTINGS, 0).fit(X, ["calm"] * len(Y), groups=SPEAKERS)
