"""Small estimators over a small feature set, and a way to let this process know them for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny import write_tiny
from tfser import models
from tfser.databases import load
from tfser.execution.run_trial import Task
from tfser.features.base import FeatureSet
from tfser.features.log_mel import FrontEnd
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import Estimator, Model
from tfser.planning.settings import published_settings
from tfser.trial import Hyperparameter, TrialSpec

SOURCE = "0123456789abcdef"


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each log-mel band, as one vector, or the frames themselves."""

    n_mels: int
    vector: bool = True
    channels: int = 1
    dtype: str = "float32"
    hop_s: float = 0.0
    first_s: float = 0.0
    window_s: float = 0.0
    band_centres_hz: None = None

    @property
    def id(self):
        return f"moments-{self.n_mels}-{int(self.vector)}-1"

    @property
    def bands(self):
        return 2 * self.n_mels if self.vector else self.n_mels

    def __call__(self, waveform):
        frames = FrontEnd(n_mels=self.n_mels)(waveform)
        return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])[None] if self.vector else frames


def _feature_set(vector: bool) -> FeatureSet:
    return FeatureSet(
        name="moments" if vector else "frames",
        meaning="moments of log-mel bands",
        hyperparameters={"n_mels": Hyperparameter(default=8, low=8, high=200, help="mel bands")},
        extractor=lambda settings: Moments(int(settings["n_mels"]), vector),
    )


MOMENTS, FRAMES = _feature_set(True), _feature_set(False)

COST = {"c": Hyperparameter(default=1.0, low=1e-6, high=1e6, help="cost of an error")}


def svm(settings: Any, seed: int, **more: Any) -> Any:
    """The Pipeline that a person would write."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(
        StandardScaler(), PCA(n_components=4, random_state=seed), SVC(C=settings["c"], random_state=seed, **more)
    )


def logistic(settings: Any, seed: int) -> Any:
    """A Pipeline with probabilities of its own."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=settings["c"], random_state=seed))


SVM = Estimator(
    name="tiny_svm",
    title="Tiny SVM",
    features=MOMENTS,
    hyperparameters=COST,
    build=lambda ablation, settings, seed: svm(settings, seed),
)
LOGISTIC = replace(
    SVM, name="tiny_logistic", title="Tiny regression", build=lambda ablation, settings, seed: logistic(settings, seed)
)


class Own:
    """An estimator of a person's own: the mean of each class, and what a test makes of it."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def fit(self, X: Any, y: Any) -> Own:  # noqa: N803
        if "fit" in self.changes:
            self.changes["fit"](X, y)
        self.classes_ = np.unique(y)
        self.means_ = np.stack(
            [np.mean([_vector(x) for x, e in zip(X, y, strict=True) if e == c], axis=0) for c in self.classes_]
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        values = np.stack([_vector(x) for x in X])
        distances = ((values[:, None] - self.means_[None]) ** 2).sum(axis=2)
        p = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / 10)
        p /= p.sum(axis=1, keepdims=True)
        return self.changes["proba"](p, X) if "proba" in self.changes else p


def _vector(x: np.ndarray) -> np.ndarray:
    return x if x.ndim == 1 else x.mean(axis=0)


def own(name: str = "own", features: FeatureSet = MOMENTS, transductive: bool = False, **changes: Any) -> Estimator:
    """An ``Own`` as a model."""
    return Estimator(
        name=name,
        title=name.title(),
        features=features,
        transductive=transductive,
        build=lambda ablation, settings, seed: Own(**changes),
    )


@contextlib.contextmanager
def known(*wanted: Estimator, source: str = SOURCE, beside: Sequence[Model] | None = None) -> Iterator[None]:
    """Let this process know models as if they were built in, and forget them.

    Args:
        wanted: the models.
        source: digest of their source.
        beside: what is built in beside them; by default everything that is.
    """
    for model in wanted:
        models.add(model, source)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(models, "BUILT_IN", (*(models.BUILT_IN if beside is None else beside), *wanted))
            yield
    finally:
        for model in wanted:
            models.MODELS.pop(model.name, None)
            models._BY_SOURCE.pop((model.name, source), None)


def task(
    folder: Any,
    model: Estimator,
    *,
    purpose: str = "final",
    seed: int = 0,
    limit_s: float | None = None,
    **settings: Any,
) -> Task:
    """A trial of a known model on the small database, with its features under ``folder``."""
    manifest = folder / "tiny" / "tiny.csv"
    database = load(str(manifest if manifest.exists() else write_tiny(folder / "tiny")), None)
    values = {**published_settings(model.name), **settings}
    pack = FeatureStore(folder / "features").ensure(
        database, audio_digests(database), model.feature_set.extractor(values)
    )
    spec = TrialSpec(
        database="tiny",
        database_digest=pack.database_digest,
        protocol="speaker",
        fold="anna",
        purpose=purpose,
        validation=("bert",) if purpose == "search" else (),
        model=model.name,
        source=SOURCE,
        ablation="full",
        seed=seed,
        epochs=1,
        hyperparameters=tuple(sorted(values.items())),
    )
    return Task(spec=spec, pack=pack.path, storage=folder / "storage", limit_s=limit_s)
