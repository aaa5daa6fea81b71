"""Inner choices see training speakers only, reach every estimator, and leave a fitted state that can be kept."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from skops.io import dumps

from tests.helpers.estimators import SVM, known, task
from tfser.execution import fitted_state, run_trial
from tfser.features.pack import Pack
from tfser.models.inner_choice import SpeakerFolds, chosen_over_speakers, uar
from tfser.training import estimators


class Nearest(ClassifierMixin, BaseEstimator):
    """The class whose mean is nearest, with a weight for the first value."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == each].mean(axis=0) for each in self.classes_])
        return self

    def decision_function(self, X):
        return -(((X[:, None] - self.means_) * [self.weight, 1.0]) ** 2).sum(axis=2)

    def predict(self, X):
        return self.classes_[self.decision_function(X).argmax(axis=1)]


def corpus():
    """Two values of 60 utterances by three speakers; the first value is the speaker's and tells nothing."""
    rng = np.random.default_rng(0)
    speakers, emotions = np.repeat(["a", "b", "c"], 20), np.tile(["calm", "glad", "tense", "weak"], 15)
    values = np.unique(emotions, return_inverse=True)[1] + rng.normal(0, 0.4, 60)
    return np.stack([np.repeat([9.0, -9.0, 0.0], 20) + rng.normal(0, 4, 60), values], axis=1), emotions, speakers


@pytest.mark.parametrize("grid", [[1.0, 0.0], [0.0, 1.0]])
def test_the_value_with_the_best_uar_on_each_training_speaker_held_out_is_chosen(grid):
    X, y, speakers = corpus()
    found = chosen_over_speakers(Nearest(), {"weight": grid}).fit(X, y, groups=speakers)
    by_hand = [
        np.mean(
            [
                balanced_accuracy_score(y[held], Nearest(weight).fit(X[rest], y[rest]).predict(X[held]))
                for rest, held in LeaveOneGroupOut().split(X, y, speakers)
            ]
        )
        for weight in grid
    ]
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], by_hand)
    assert found.best_params_ == {"weight": 0.0}
    np.testing.assert_array_equal(found.predict(X), Nearest(0.0).fit(X, y).predict(X))


def test_of_equal_values_the_first_of_the_grid_is_chosen():
    X, y, speakers = corpus()
    found = chosen_over_speakers(Nearest(), {"weight": [0.5, -0.5]}).fit(X, y, groups=speakers)
    assert found.best_params_ == {"weight": 0.5}


def test_of_many_speakers_five_folds_are_made_and_of_one_speaker_none():
    assert [SpeakerFolds().get_n_splits(groups=range(n)) for n in (2, 5, 9)] == [2, 5, 5]
    with pytest.raises(ValueError, match="there is only one"):
        next(SpeakerFolds().split([0, 0], groups=["a", "a"]))


def test_an_emotion_that_a_held_out_speaker_lacks_counts_for_nothing():
    X = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    model = Nearest().fit(X, np.array(["a", "b", "c"]))
    assert uar(model, X, np.array(["a", "b", "b"])) == 0.75


def test_a_choice_over_training_speakers_is_given_the_speakers_also_at_the_end_of_a_pipeline():
    choice = chosen_over_speakers(SVC(), {"C": [1.0]})
    assert estimators.groups_keyword(choice) == "groups"
    assert estimators.groups_keyword(Pipeline([("scale", StandardScaler()), ("last", choice)])) == "last__groups"


# Fitted state


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "last of a Pipeline"])
def test_of_a_choice_over_training_speakers_the_chosen_estimator_is_kept_and_scores_as_the_choice(nested, tmp_path):
    def build(ablation, settings, seed):
        choice = chosen_over_speakers(SVC(), {"gamma": [1e6, "scale"]})
        return make_pipeline(StandardScaler(), choice) if nested else choice

    model = replace(SVM, name="choosing", build=build)
    with known(model):
        asked = task(tmp_path, model)
        record = run_trial.run(asked)
    assert record.fitted.unkept == ""
    kept = fitted_state.load(asked.ledger.state(record.trial_id))
    last = kept[-1] if nested else kept
    assert isinstance(kept, Pipeline) is nested
    assert (type(last), last.gamma) == (SVC, "scale")
    pack = Pack.open(asked.pack)
    frames = pack.frames()
    rows = {u.id: np.array(frames[u.start : u.start + 1]) for u in pack.utterances}
    fit = estimators.Fit(kept, pack.emotions, frozenset(pack.emotions), 0)
    for u in record.scores.utterances:
        np.testing.assert_allclose(fit.probabilities(rows[u.id])[0], u.p, atol=1e-6)


class Kept:
    """Holds a number, as a fitted estimator does."""

    def __init__(self):
        self.number = 3


def planted(monkeypatch, module, thing, name):
    """Let a name of a module stand for a thing, and return skops' file of a state that holds it."""
    found = types.ModuleType(module)
    setattr(found, name, thing)
    monkeypatch.setitem(sys.modules, module, found)
    return dumps(thing() if isinstance(thing, type) else {"called": thing})


@pytest.mark.parametrize(
    ("module", "defined", "trusted"),
    [
        ("tfser.models.classifiers.tried", True, True),
        ("tfser.models.classifiers.tried", False, False),  # what such a file imports
        ("tfser.models.classifiers_tried", True, False),  # a name that only begins so
        ("tfser.models.tried", True, False),  # a file beside
        ("tried", True, False),
    ],
)
def test_of_tfser_a_class_is_read_only_where_a_file_of_the_built_in_classifiers_defines_it(
    module, defined, trusted, monkeypatch
):
    kept = type("Kept", (Kept,), {"__module__": module})
    content = planted(monkeypatch, module, kept, "Kept")
    if not defined:
        kept.__module__ = "elsewhere"
    if trusted:
        assert fitted_state.load(content).number == 3
    else:
        with pytest.raises(fitted_state.StateError, match=f"{module}.Kept"):
            fitted_state.load(content)


def test_a_function_beside_the_built_in_classifiers_is_not_read(monkeypatch):
    def runs():
        raise AssertionError("it was called")

    runs.__module__, runs.__qualname__ = "tfser.models.classifiers.tried", "runs"
    content = planted(monkeypatch, "tfser.models.classifiers.tried", runs, "runs")
    with pytest.raises(fitted_state.StateError, match=r"tfser\.models\.classifiers\.tried\.runs"):
        fitted_state.load(content)
