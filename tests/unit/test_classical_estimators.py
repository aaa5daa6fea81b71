"""The support vector machine, discriminant analysis and the mixtures, each against scikit-learn or by hand."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tests.helpers.utterances import made_up
from tfser.execution import fitted_state
from tfser.models import MODELS, lda
from tfser.models.classifiers.gram_svm import ChosenSvm, PairwiseSvm
from tfser.models.classifiers.pca_lda import PcaLda
from tfser.models.svm import COSTS
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
        return make_pipeline(StandardScaler(), machine)

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


# ------------------------------------------------------------------ all


@pytest.mark.parametrize("name", ["svm", "lda"])
def test_the_fitted_state_is_kept_and_scores_as_before(name):
    x, y, speakers = made_up()
    model = built(name).fit(x, y, groups=speakers)
    again = fitted_state.load(fitted_state.dump(model))
    scores = "decision_function" if name == "svm" else "predict_proba"
    np.testing.assert_array_equal(getattr(again, scores)(x), getattr(model, scores)(x))
