"""The support vector machine, discriminant analysis and the mixtures, each against scikit-learn or by hand."""

import importlib.util
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tests.helpers.utterances import made_up
from tfser.execution import fitted_state
from tfser.models import MODELS, gmm, lda
from tfser.models.classifiers.gram_svm import ChosenSvm, PairwiseSvm
from tfser.models.classifiers.hidden_markov import LeftToRight
from tfser.models.classifiers.mixtures import SMALLEST_VARIANCE, Mixtures
from tfser.models.classifiers.pca_lda import PcaLda
from tfser.models.standardised import Standardised
from tfser.models.svm import COSTS
from tfser.planning import request
from tfser.planning.settings import published_settings


def built(name, seed=0):
    """A built-in estimator with its default settings, not fitted."""
    return MODELS[name].build("full", published_settings(name), seed)


def by_hand(make, candidates, x, y, speakers):
    """The mean UAR of each candidate over five folds of speakers, by scikit-learn alone."""
    folds = list(GroupKFold(5).split(x, y, speakers))
    return [
        np.mean(
            [balanced_accuracy_score(y[held], make(c).fit(x[rest], y[rest]).predict(x[held])) for rest, held in folds]
        )
        for c in candidates
    ]


# ------------------------------------------------------------------ svm


@pytest.mark.parametrize("emotions", [2, 3, 4])
@pytest.mark.parametrize("cost", [0.1, 10.0])
def test_the_pairwise_machine_has_the_values_of_scikit_learn_s_linear_one_with_c_divided_by_the_values(emotions, cost):
    x, y, _ = made_up(emotions=emotions, values=150, apart=0.8)
    x = StandardScaler().fit_transform(x.astype(np.float64))
    train, test = np.arange(len(y)) % 3 > 0, np.arange(len(y)) % 3 == 0
    reference = SVC(kernel="linear", C=cost / 150, class_weight="balanced", break_ties=True).fit(x[train], y[train])
    found = PairwiseSvm(cost).fit(x[train], y[train])
    np.testing.assert_allclose(found.decision_function(x[test]), reference.decision_function(x[test]), atol=2e-2)
    np.testing.assert_array_equal(found.predict(x[test]), reference.predict(x[test]))


def test_c_is_the_one_with_the_best_uar_where_each_inner_fold_is_standardised_by_its_own_training():
    x, y, speakers = made_up(emotions=4, values=150, apart=4.0)
    x[speakers == "emil"] *= 3  # whose statistics would change those of the others
    model = built("svm").fit(x, y, groups=speakers)

    def reference(cost):
        machine = SVC(kernel="linear", C=cost / 150, class_weight="balanced", break_ties=True)
        return make_pipeline(Standardised(), machine)

    np.testing.assert_allclose(model.uars_, by_hand(reference, COSTS, x.astype(np.float64), y, speakers), atol=0.01)
    assert model.cost_ == COSTS[int(np.argmax(model.uars_))]
    assert len(set(model.uars_)) > 1, "the candidates differ"


def test_the_machine_of_functionals_tells_one_class_or_one_speaker_in_words():
    x, y, speakers = made_up()
    with pytest.raises(ValueError, match="show only one"):
        ChosenSvm(COSTS).fit(x, np.full(len(y), "calm"), speakers)
    with pytest.raises(ValueError, match="there is only one"):
        ChosenSvm(COSTS).fit(x, y, np.full(len(y), "anna"))


def test_the_title_of_the_machine_says_one_versus_one():
    assert MODELS["svm"].title == "Functionals + SVM (re-run, one-vs-one)"
    assert MODELS["svm"].reruns == ("LLDs+SVM",)


# ------------------------------------------------------------------ lda


@pytest.mark.parametrize("components", [3, 12])
def test_pca_and_lda_give_the_probabilities_of_scikit_learn_with_equal_priors(components):
    x, y, _ = made_up(emotions=4)
    x, keep = StandardScaler().fit_transform(x.astype(np.float64)), ~((y == "calm") & (np.arange(len(y)) % 2 == 0))
    x, y = x[keep], y[keep]  # not as many of each emotion
    reference = make_pipeline(PCA(components), LinearDiscriminantAnalysis(priors=[0.25] * 4)).fit(x, y)
    found = PcaLda(components).fit(x, y)
    np.testing.assert_allclose(found.predict_proba(x), reference.predict_proba(x), atol=1e-9)
    np.testing.assert_array_equal(found.predict(x), reference.predict(x))


def test_lda_s_gaussians_tell_emotions_apart_in_one_dimension_fewer_than_there_are():
    x, y, _ = made_up(emotions=3)
    x = StandardScaler().fit_transform(x.astype(np.float64))
    reduced = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(PCA(10).fit_transform(x), y)
    outside = np.linalg.svd(reduced.coef_ - reduced.coef_.mean(axis=0))[1]
    assert (outside > 1e-9 * outside[0]).sum() == 2


def test_more_components_than_there_are_stand_for_all_of_them():
    x, y, _ = made_up(values=20)
    x = np.concatenate([x, x[:, :5]], axis=1).astype(np.float64)  # 25 values of rank 20
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    found, every = PcaLda(80).fit(x, y), PcaLda(20).fit(x, y)
    assert (found.rank_, every.rank_) == (20, 20)
    np.testing.assert_allclose(found.predict_proba(x), every.predict_proba(x), atol=1e-9)


def test_the_number_of_components_is_the_one_with_the_best_uar_on_held_out_training_speakers():
    x, y, speakers = made_up(emotions=4, values=100, apart=0.9)
    model = built("lda").fit(x, y, groups=speakers)

    def reference(components):
        return make_pipeline(StandardScaler(), PCA(components), LinearDiscriminantAnalysis(priors=[0.25] * 4))

    uars = by_hand(reference, lda.COMPONENTS, x.astype(np.float64), y, speakers)
    np.testing.assert_allclose(model.cv_results_["mean_test_score"], uars, atol=0.02)
    assert model.best_params_ == {
        "lda__components": lda.COMPONENTS[int(np.argmax(model.cv_results_["mean_test_score"]))]
    }


# ------------------------------------------------------------------ gmm and hmm


def frames(seed=0, takes=4):
    """Utterances of four speakers and three emotions, 20 to 40 frames of 3 values, that change halfway."""
    rng = np.random.default_rng(seed)
    x, y, speakers = [], [], []
    for speaker in ("anna", "bert", "carl", "dora"):
        for emotion in ("calm", "glad", "tense"):
            for _ in range(takes):
                length = int(rng.integers(20, 41))
                level = {"calm": 0.0, "glad": 1.5, "tense": -1.5}[emotion]
                late = (np.arange(length) >= length // 2)[:, None]
                x.append((rng.normal(level, 1, (length, 3)) + 4 * late).astype(np.float32))
                y.append(emotion)
                speakers.append(speaker)
    return x, np.array(y), np.array(speakers)


def test_a_mixture_s_score_is_the_mean_log_density_of_its_diagonal_gaussians():
    x, y, _ = frames()
    found = Mixtures(components=4, iterations=10, seed=3).fit(x, y)
    for k, model in enumerate(found.models_):
        for i in (0, 20, 40):
            densities = [
                np.log(w) + norm(m, np.sqrt(v)).logpdf(x[i]).sum(axis=1)
                for w, m, v in zip(model.weights_, model.means_, model.covariances_, strict=True)
            ]
            expected = logsumexp(densities, axis=0).mean()
            np.testing.assert_allclose(found.decision_function(x[i : i + 1])[0, k], expected, rtol=1e-5)
    shares = np.exp(found.decision_function(x))
    np.testing.assert_allclose(found.predict_proba(x), shares / shares.sum(axis=1, keepdims=True))


def test_one_gaussian_is_the_mean_and_the_variance_of_the_frames_of_an_emotion():
    x, y, _ = frames()
    found = Mixtures(components=1).fit(x, y)
    for emotion, model in zip(found.classes_, found.models_, strict=True):
        own = np.concatenate([each for each, other in zip(x, y, strict=True) if other == emotion]).astype(np.float64)
        np.testing.assert_allclose(model.means_[0], own.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(model.covariances_[0], own.var(axis=0) + SMALLEST_VARIANCE, rtol=1e-3)


def test_the_number_of_gaussians_is_chosen_on_held_out_training_speakers():
    x, y, speakers = frames()
    model = built("gmm").fit(x, y, groups=speakers)
    assert [each["components"] for each in model.cv_results_["params"]] == list(gmm.COMPONENTS)
    uars = []
    for held in ("anna", "bert", "carl", "dora"):
        rest, test = np.flatnonzero(speakers != held), np.flatnonzero(speakers == held)
        fitted = Mixtures(8, gmm.ITERATIONS, 0).fit([x[i] for i in rest], y[rest])
        uars.append(balanced_accuracy_score(y[test], fitted.predict([x[i] for i in test])))
    np.testing.assert_allclose(model.cv_results_["mean_test_score"][0], np.mean(uars))
    assert max(model.cv_results_["mean_test_score"]) > 0.8


@pytest.mark.parametrize("states", [1, 3])
def test_the_forward_recursion_gives_hmmlearn_s_likelihood(states):
    hmm = pytest.importorskip("hmmlearn.hmm")
    x, y, _ = frames(takes=2)
    found = LeftToRight(states=states, components=2).fit(x, y)
    for k, fitted in enumerate(found.models_):
        other = hmm.GMMHMM(states, 2, covariance_type="diag")
        other.startprob_, other.transmat_ = np.eye(states)[0], fitted["transitions"]
        other.weights_, other.means_, other.covars_ = fitted["weights"], fitted["means"], fitted["variances"]
        for i in (0, 10, 20):
            expected = other.score(x[i].astype(np.float64)) / len(x[i])
            np.testing.assert_allclose(found.decision_function(x[i : i + 1])[0, k], expected, rtol=1e-9)


def test_states_follow_each_other_and_tell_emotions_that_differ_in_order_alone():
    pytest.importorskip("hmmlearn.hmm")
    x, y, _ = frames()
    backwards = [each[::-1] if emotion == "calm" else each for each, emotion in zip(x, y, strict=True)]
    order = np.array(["down" if emotion == "calm" else "up" for emotion in y])
    still = [each - (1.5 * (e == "glad") - 1.5 * (e == "tense")) for each, e in zip(backwards, y, strict=True)]
    found = LeftToRight(states=2, components=1).fit(still, order)
    assert (found.predict(still) == order).all()
    assert (Mixtures(2).fit(still, order).predict(still) == order).mean() < 0.9
    for model in found.models_:
        assert model["transitions"][1, 0] == 0
        assert model["transitions"][1, 1] == 1


@pytest.mark.full
@pytest.mark.parametrize("kind", [Mixtures, LeftToRight])
def test_the_seed_alone_decides_where_gaussians_begin(kind):
    x, y, _ = frames(takes=2)
    one, again, other = (kind(components=4, seed=seed).fit(x, y).decision_function(x) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_without_its_extra_the_hidden_markov_model_is_refused_in_one_line_before_anything_starts(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    found = request.problems(request.Request(models=("hmm",)), {})
    assert found == [
        "hmm full: it needs the package hmmlearn, which is not installed: pip install 'tfser[hmm]' on every machine"
    ]


def test_the_extra_of_the_hidden_markov_model_is_in_the_constraints_and_in_the_one_for_development():
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [each.split(">=")[0] for each in extras["hmm"]] == ["hmmlearn"]
    assert any("hmm" in each for each in extras["dev"])
    assert "\nhmmlearn==" in (root / "constraints.txt").read_text(encoding="utf-8")


# ------------------------------------------------------------------ all


@pytest.mark.parametrize("name", ["svm", "lda", "gmm", "hmm"])
def test_the_fitted_state_is_kept_and_scores_as_before(name):
    x, y, speakers = made_up() if name in ("svm", "lda") else frames()
    model = LeftToRight(2, 2) if name == "hmm" else built(name)
    model.fit(x, y, **({} if name == "hmm" else {"groups": speakers}))
    again = fitted_state.load(fitted_state.dump(model))
    scores = "decision_function" if name == "svm" else "predict_proba"
    np.testing.assert_array_equal(getattr(again, scores)(x), getattr(model, scores)(x))
