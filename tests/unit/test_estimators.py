"""Fitting and scoring an estimator, against scikit-learn by hand: what fit sees, probabilities, speakers, seeds."""

import random
import re

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_info

from tests.helpers.estimators import Own
from tfser.errors import TrialError
from tfser.training import estimators
from tfser.training.estimators import FitData

EMOTIONS = ("calm", "glad", "sad", "tense")
COUNT, VALUES = 36, 6


def data(*, emotions=3, vector=True, dtype=np.float32, scored=12):
    """Utterances of 1 to 4 rows, of which the last ``scored`` are scored; each emotion has a mean of its own."""
    rng = np.random.default_rng(3)
    lengths = np.ones(COUNT, dtype=int) if vector else rng.integers(1, 5, COUNT)
    truth = np.arange(COUNT) % emotions
    values = rng.normal(size=(lengths.sum(), VALUES)) + 1.5 * np.eye(VALUES)[np.repeat(truth, lengths)]
    starts = np.cumsum([0, *lengths[:-1]])
    rows = [(int(s), int(n), int(t)) for s, n, t in zip(starts, lengths, truth, strict=True)]
    features = values.astype(dtype)
    features.flags.writeable = False
    return FitData(
        features=features,
        vector=vector,
        emotions=EMOTIONS,
        train=tuple(rows[:-scored]),
        speakers=tuple(f"speaker{i % 5}" for i in range(COUNT - scored)),
        scored=tuple(rows[-scored:]),
    )


def trained(build, made=None, seed=0, *, transductive=False):
    made = data() if made is None else made
    fit = estimators.fit(build, made, seed)
    return fit.score(made, transductive=transductive)


def by_hand(made):
    """(X, y) to fit on and X to score, as a person would write them."""
    x = np.array(made.features)
    y = np.array([EMOTIONS[e] for *_, e in made.train])
    return x[: len(made.train)], y, x[len(made.train) :]


def test_a_pipelines_probabilities_are_scikit_learns_own_to_the_bit():
    made = data()
    x, y, test = by_hand(made)

    def build():
        return make_pipeline(StandardScaler(), PCA(3, random_state=1), LogisticRegression(random_state=1))

    found = trained(build, made)
    assert found.notes == ("tense absent in training, so of probability 0",)
    expected = build().fit(x, y).predict_proba(test)
    np.testing.assert_allclose(found.probabilities[:, :3], expected, rtol=0, atol=1e-12)
    assert not found.probabilities[:, 3].any()


def test_without_predict_proba_the_decision_function_goes_through_softmax_and_a_note_says_so():
    made = data()
    x, y, test = by_hand(made)
    found = trained(lambda: make_pipeline(StandardScaler(), SVC()), made)
    margins = make_pipeline(StandardScaler(), SVC()).fit(x, y).decision_function(test)
    expected = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities[:, :3], expected, rtol=0, atol=1e-12)
    assert found.notes[0] == "it has no predict_proba; probabilities are the softmax of its decision_function"


def test_the_single_margin_of_two_classes_is_that_of_the_second_as_in_scikit_learns_own_softmax():
    made = data(emotions=2)
    x, y, test = by_hand(made)
    found = trained(RidgeClassifier, made)
    margin = RidgeClassifier().fit(x, y).decision_function(test)
    second = 1 / (1 + np.exp(-2 * margin.astype(np.float64)))
    np.testing.assert_allclose(found.probabilities[:, 1], second, rtol=0, atol=1e-7)
    assert found.notes[-1] == "sad, tense absent in training, so of probability 0"


@pytest.mark.parametrize("emotions", [3, 4])
def test_margins_of_pairs_of_classes_are_refused_in_words(emotions):
    with pytest.raises(TrialError, match=r"one for each pair of classes; .*decision_function_shape='ovr'"):
        trained(lambda: make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")), data(emotions=emotions))


def test_fit_sees_the_training_utterances_their_emotions_and_nothing_else():
    seen = []
    made = data()
    trained(lambda: Own(fit=lambda x, y: seen.append((x.copy(), y.tolist()))), made)
    ((x, y),) = seen
    np.testing.assert_array_equal(x, made.features[: len(made.train)])
    assert y == [EMOTIONS[e] for *_, e in made.train]


def test_frames_reach_an_estimator_as_one_array_per_utterance():
    seen = []
    made = data(vector=False)
    found = trained(lambda: Own(fit=lambda x, y: seen.append(x)), made)
    assert [len(each) for each in seen[0]] == [n for _, n, _ in made.train]
    np.testing.assert_array_equal(np.concatenate(seen[0]), made.features[: sum(n for _, n, _ in made.train)])
    assert found.probabilities.shape == (12, 4)


def test_half_precision_features_are_computed_with_in_single_precision():
    seen = []
    trained(lambda: Own(fit=lambda x, y: seen.append(x.dtype)), data(dtype=np.float16))
    assert seen == [np.float32]


def test_an_estimator_may_overwrite_what_it_gets():
    def spoil(x, y):
        x[:] = 0

    made = data()
    before = made.features.copy()
    trained(lambda: Own(fit=spoil, proba=lambda p, x: (p, spoil(x, None))[0]), made)
    np.testing.assert_array_equal(made.features, before)


class Grouped(DummyClassifier):
    """Takes the speakers."""

    def __init__(self, seen=None):
        super().__init__(strategy="prior")
        self.seen = seen

    def fit(self, X, y, groups=None):  # noqa: N803
        self.seen.append(groups)
        return super().fit(X, y)


def test_speakers_reach_every_fit_that_scikit_learns_conventions_let_them_reach():
    made, seen = data(), []
    speakers = list(made.speakers)
    trained(lambda: Grouped(seen), made)
    trained(lambda: make_pipeline(StandardScaler(), Grouped(seen)), made)
    assert [list(groups) for groups in seen] == [speakers, speakers]
    split = []

    class Spy(GroupKFold):
        def split(self, X, y=None, groups=None):  # noqa: N803
            split.append(list(groups))
            return super().split(X, y, groups)

    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=Spy(5))
    trained(lambda: make_pipeline(StandardScaler(), search), made)
    assert split == [speakers]


def test_a_fit_that_takes_no_speakers_gets_none():
    for build in (
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=KFold(2)),
        lambda: GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
    ):
        assert estimators.groups_keyword(build()) == ""
        trained(build)


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def test_global_random_numbers_are_the_seeds_and_the_process_keeps_its_own():
    drawn = []

    def draw(x, y):
        drawn.append((random.random(), np.random.random(), torch.rand(()).item()))

    seed_all(5)
    for seed in (0, 0, 1):
        trained(lambda: Own(fit=draw), seed=seed)
    after = random.random(), np.random.random(), torch.rand(()).item()
    seed_all(5)
    assert after == (random.random(), np.random.random(), torch.rand(()).item())
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 6


def test_blas_and_openmp_have_one_thread_in_fit_and_in_scoring():
    seen = []

    def look(*given):
        seen.append({each["num_threads"] for each in threadpool_info()} | {torch.get_num_threads()})
        return given[0]

    trained(lambda: Own(fit=look, proba=look))
    assert len(seen) > 2
    assert all(each == {1} for each in seen)


def test_what_an_estimator_prints_does_not_get_into_the_output(capsys):
    trained(lambda: Own(fit=lambda x, y: print("fitting"), proba=lambda p, x: (p, print("scoring"))[0]))
    said = capsys.readouterr()
    assert said.out == ""
    assert "fitting" in said.err
    assert "scoring" in said.err


@pytest.mark.parametrize(
    ("proba", "said"),
    [
        (
            lambda p, x: p * np.nan,
            "the probabilities of 12 of 12 utterances hold one that is not finite: nan, nan, nan",
        ),
        (lambda p, x: p - 0.5, "hold a negative one"),
        (lambda p, x: p * 1.01, "the probabilities of 12 of 12 utterances do not sum to 1"),
        (lambda p, x: p[:, :2], "returned shape (12, 2) for 12 utterances and 3 classes (calm, glad, sad)"),
        (lambda p, x: p[:-1], "predict_proba returned shape (11, 3)"),
        (lambda p, x: 1 / 0, "predict_proba raised ZeroDivisionError: division by zero"),
        (lambda p, x: "no", "predict_proba raised ValueError: could not convert string to float"),
    ],
)
def test_scores_that_are_no_probabilities_fail_the_trial_with_words_that_say_why(proba, said):
    with pytest.raises(TrialError, match=re.escape(said)):
        trained(lambda: Own(proba=proba))


def test_a_single_precision_row_may_miss_one_by_its_rounding():
    found = trained(lambda: Own(proba=lambda p, x: (p * (1 + 1e-6)).astype(np.float32)))
    assert found.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def exits(x, y):
    raise SystemExit(3)


def misses(x, y):
    raise FileNotFoundError("a file of mine")


@pytest.mark.parametrize(
    ("fit", "said"), [(exits, "fit raised SystemExit: 3"), (misses, "fit raised FileNotFoundError: a file of mine")]
)
def test_an_error_of_the_estimators_code_is_its_trials_whatever_its_type(fit, said):
    with pytest.raises(TrialError, match=said):
        trained(lambda: Own(fit=fit))


def test_classes_that_are_missing_or_no_emotions_are_refused():
    class Numbered(Own):
        def fit(self, X, y):  # noqa: N803
            super().fit(X, y)
            self.classes_ = np.arange(3)
            return self

    class Unsaid(Own):
        def fit(self, X, y):  # noqa: N803
            super().fit(X, y)
            del self.classes_
            return self

    with pytest.raises(TrialError, match="its classes_ hold 0, 1, 2; the emotions are calm, glad, sad, tense"):
        trained(Numbered)
    with pytest.raises(TrialError, match="it has no classes_ after fit"):
        trained(Unsaid)


def beside(p, x):
    """Probabilities that depend on the other utterances: a share of the batch's mean."""
    return 0.9 * p + 0.1 * p.mean(axis=0)


def test_scores_that_depend_on_the_others_are_refused_unless_the_model_says_so():
    said = r"the scores of an utterance depend on what is scored beside it: .* declare transductive=True"
    with pytest.raises(TrialError, match=said):
        trained(lambda: Own(proba=beside))
    made = data()
    honest = trained(Own, made).probabilities
    whole = trained(lambda: Own(proba=beside), made, transductive=True).probabilities
    np.testing.assert_allclose(whole[:, :3], beside(honest[:, :3], None), atol=1e-12)


def test_random_numbers_at_scoring_are_refused_too():
    def noisy(p, x):
        p = p + np.random.random(p.shape)
        return p / p.sum(axis=1, keepdims=True)

    with pytest.raises(TrialError, match="depend on what is scored beside it"):
        trained(lambda: Own(proba=noisy))


def test_only_a_sample_is_scored_alone():
    sizes = []
    trained(lambda: Own(proba=lambda p, x: (p, sizes.append(len(x)))[0]))
    assert sizes == [12, *[1] * 8]


@pytest.mark.parametrize(
    "build",
    [
        lambda: make_pipeline(StandardScaler(), PCA(4), SVC(C=100.0)),
        lambda: LinearSVC(C=10.0, random_state=0),
        lambda: DummyClassifier(strategy="prior"),
    ],
)
def test_rounding_of_large_matrices_is_not_taken_for_dependence(build):
    rng = np.random.default_rng(0)
    features = (100 * rng.normal(size=(120, 3000))).astype(np.float32)
    rows = tuple((i, 1, i % 3) for i in range(120))
    made = FitData(
        features=features, vector=True, emotions=EMOTIONS, train=rows[:60], speakers=("a",) * 60, scored=rows[60:]
    )
    assert trained(build, made).probabilities.shape == (60, 4)
