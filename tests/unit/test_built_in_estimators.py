"""What holds of every estimator that is built in: it learns, and its fit never sees what is scored."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from tfser.databases import load
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import BUILT_IN, Estimator
from tfser.planning.settings import complete, extractor, settings_of
from tfser.training import estimators
from tfser.training.estimators import FitData

NAMES = [model.name for model in BUILT_IN if isinstance(model, Estimator)]
TEST = "ada"


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """The features of the built-in database, extracted once for each feature set."""
    store, database = FeatureStore(tmp_path_factory.mktemp("features")), load("synthetic", None)
    digests, found = audio_digests(database), {}

    def of(reads):
        if reads.id not in found:
            found[reads.id] = store.ensure(database, digests, reads)
        return found[reads.id]

    return of


def fitted(name, packs, disturb=None, keep=None):
    """Fit a model on three speakers of the built-in database and score the fourth."""
    model = next(model for model in BUILT_IN if model.name == name)
    assert isinstance(model, Estimator)
    settings = complete(model, {key: h.default for key, h in settings_of(model).items()})
    reads = extractor(model, settings)
    pack = packs(reads)
    features = np.array(pack.frames())
    rows = [(u.start, u.frames, pack.emotions.index(u.emotion)) for u in pack.utterances]
    train = [i for i, u in enumerate(pack.utterances) if u.speaker != TEST]
    scored = [i for i, u in enumerate(pack.utterances) if u.speaker == TEST]
    random = np.random.default_rng(0)
    if disturb:
        for start, length, _ in (rows[i] for i in scored):
            features[start : start + length] = random.normal(size=(length, features.shape[1]))
    speakers = tuple(pack.utterances[i].speaker for i in train)
    truth = [rows[i][2] for i in scored]
    labels = random.permutation(truth) if disturb else truth
    data = FitData(
        features=features,
        vector=reads.vector,
        emotions=pack.emotions,
        train=tuple(rows[i] for i in train),
        speakers=speakers,
        scored=tuple((*rows[i][:2], int(label)) for i, label in zip(scored, labels, strict=True)),
    )
    fit = estimators.fit(lambda: model.build("full", settings, 0), data, 0)
    return fit, data, truth


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_tells_the_emotions_of_a_new_speaker_of_the_built_in_database(name, packs):
    fit, data, truth = fitted(name, packs)
    guessed = fit.score(data, transductive=False).probabilities.argmax(axis=1)
    assert balanced_accuracy_score(truth, guessed) > 0.5, "chance is 0.25"


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_neither_features_nor_labels_of_the_scored_utterances_change_what_is_fitted(name, packs):
    fit, data, _ = fitted(name, packs)
    disturbed, _, _ = fitted(name, packs, disturb=True)
    asked = data.training()
    np.testing.assert_array_equal(disturbed.probabilities(asked), fit.probabilities(asked))
