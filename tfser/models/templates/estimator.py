"""Mine: an estimator of my own. Try it: tfser sweep synthetic --model mine.py:Mine."""

from collections.abc import Mapping

from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tfser.models import Estimator, Hyperparameter, Value


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Pipeline:
    return make_pipeline(StandardScaler(), SVC(C=float(settings["c"]), random_state=seed))  # change: your pipeline


Mine = Estimator(
    name="Mine",  # change: its name in commands and files
    title="Mine",  # change: its name in tables
    features="functionals",  # change: what it reads of an utterance
    hyperparameters={"c": Hyperparameter(default=1.0, low=0.01, high=100.0, help="C of the machine")},  # change
    build=build,
)
