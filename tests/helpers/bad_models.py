"""Files of models that break one rule each, and an estimator to begin with."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.own_models import NETWORK

ESTIMATOR = """
import os
import numpy as np

from tfser.models import Estimator, FeatureSet, Hyperparameter
from tfser.features.log_mel import FrontEnd


class Means:
    def __init__(self, sharpness):
        self.sharpness = sharpness

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([vectors(X)[y == each].mean(axis=0) for each in self.classes_])
        return self

    def predict_proba(self, X):
        distances = ((vectors(X)[:, None] - self.means_[None]) ** 2).mean(axis=2) * self.sharpness
        p = np.exp(distances.min(axis=1, keepdims=True) - distances)
        return p / p.sum(axis=1, keepdims=True)


def vectors(X):
    return np.stack([x.mean(axis=0) for x in X]).astype(np.float64)


Mine = Estimator(
    name="Mine",
    title="My method",
    hyperparameters={"sharpness": Hyperparameter(default=1.0, low=0.5, high=2.0, help="of the probabilities")},
    published={"n_mels": 8},
    build=lambda ablation, settings, seed: Means(settings["sharpness"]),
)
"""
"""An estimator over frames that is fitted in milliseconds."""

_FORWARD = "        return self.outer(self.inner(x.mean(dim=3)[:, 0]).relu())"
_RESULT = "self.outer(self.inner(x.mean(dim=3)[:, 0]).relu())"
_FIT = "        self.classes_ = np.unique(y)"
_PROBA = "        return p / p.sum(axis=1, keepdims=True)"


def forward(line: str) -> str:
    """The network with a line before it returns."""
    return f"import os, random, sys, time, torch{NETWORK.replace(_FORWARD, f'        {line}{chr(10)}{_FORWARD}')}"


def returns(expression: str) -> str:
    """The network with another result, an expression of ``logits``."""
    lines = f"        logits = {_RESULT}\n        return {expression}"
    return f"import os, torch{NETWORK.replace(_FORWARD, lines)}"


def builds(line: str) -> str:
    """The network with a line where it is built."""
    return f"import os{NETWORK.replace('        self.outer', f'        {line}{chr(10)}        self.outer', 1)}"


def fits(line: str) -> str:
    """The estimator with a line at the start of its fit."""
    return ESTIMATOR.replace(_FIT, f"        {line}\n{_FIT}")


def scores(expression: str) -> str:
    """The estimator with other probabilities, an expression of ``p``."""
    return ESTIMATOR.replace(_PROBA, f"        p = p / p.sum(axis=1, keepdims=True)\n        return {expression}")


IN_A_SWEEP = {
    "Shape": (returns("logits[:, :2]"), "forward returned shape (8, 2) for 8 segments and 3 emotions"),
    "Nan": (returns("logits * float('nan')"), "the loss was nan in epoch 1 of 1"),
    "Missing": (forward("open('/nowhere/at.all')"), "FileNotFoundError: [Errno 2] No such file or directory"),
    "Leaves": (forward("sys.exit(3)"), "SystemExit: 3"),
    "Prints": (forward("print('{')"), None),
    "Forks": (forward("[os.waitpid(p, 0) for p in [os.fork() or os._exit(0)] if self.training]"), None),
}
"""A bad model's name to its file and the reason for which its trials fail; ``None`` where they can be trained."""


def write_bad(folder: Path) -> list[str]:
    """Write the files of ``IN_A_SWEEP``; return what --model takes of each."""
    for name, (text, _) in IN_A_SWEEP.items():
        (folder / f"{name}.py").write_text(text.replace("Mine", name), encoding="utf-8")
    return [f"{folder}/{name}.py:{name}" for name in IN_A_SWEEP]
