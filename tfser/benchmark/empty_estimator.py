"""An estimator that learns nothing: its trial costs what a trial costs beside its fit."""

from sklearn.dummy import DummyClassifier

from tfser.models import Estimator

EMPTY = Estimator(name="empty", title="Empty", build=lambda ablation, settings, seed: DummyClassifier())
