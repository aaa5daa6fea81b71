"""One trial of an estimator: fit it once on the training utterances, and score others with it.

This module knows nothing of Ray, Optuna, MLflow or files: it gets features, indices and a builder, and returns numbers.

Whatever draws from the global random states of Python, NumPy or PyTorch draws the same numbers in every process, and
BLAS and OpenMP have one thread, so that results depend on neither earlier trials nor the number of cores.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tfser.errors import TrialError, in_a_line, of_the_system
from tfser.features.standardise import Statistics
from tfser.features.threads import one_thread
from tfser.training.determinism import derived_seed, seed_all, settled

Inputs = np.ndarray | list[np.ndarray]
"""Features of some utterances: one matrix, shape (utterances, values), or for each an array (frames, values)."""

SCORED_ALONE = 8
"""Ours: most utterances that are scored by themselves too, to see whether their scores depend on the others."""

SAME = float(np.sqrt(np.finfo(np.float32).eps))
"""Largest difference (3.5e-4) of two probabilities of an utterance that was scored alone and among others.

BLAS sums in another order for one row than for many. A sum of n products in float32 is off by about sqrt(n) x 6e-8 of
its terms: 5e-6 for the 6373 values of the largest feature set. A probability changes by at most the change of its
logit, which is that times the logit's size, up to some ten. Half of float32's digits are beyond that.
"""

NO_PROBABILITIES = "it has no predict_proba; probabilities are the softmax of its decision_function"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitData:
    """The data that one trial may see. A search trial's value names no test utterance."""

    features: np.ndarray
    """Shape (rows, values): the features of a whole database, memory-mapped, never written to."""
    vector: bool
    """Whether an utterance is one row."""
    emotions: tuple[str, ...]
    train: tuple[tuple[int, int, int], ...]
    """(first row, rows, emotion index) of each training utterance."""
    speakers: tuple[str, ...]
    """The speaker of each training utterance."""
    scored: tuple[tuple[int, int, int], ...]
    """As ``train``, for each utterance that is scored."""
    statistics: Statistics | None = None
    """What the utterances of ``train``, then those of ``scored``, are standardised with; ``None``: they stay as they
    are."""

    def training(self) -> Inputs:
        """Return the features that the estimator is fitted on."""
        made = self.statistics.of(slice(len(self.train))) if self.statistics else None
        return inputs(self.features, self.train, self.vector, made)

    def of_scored(self, chosen: slice = slice(None)) -> Inputs:
        """Return the features of some of the scored utterances; which they are changes no statistics."""
        made = self.statistics.of(slice(len(self.train), None)).of(chosen) if self.statistics else None
        return inputs(self.features, self.scored[chosen], self.vector, made)


@dataclass(frozen=True, slots=True)
class EstimatorScores:
    """The class probabilities of the scored utterances."""

    probabilities: np.ndarray
    """float64, shape (utterances, emotions); rows sum to 1."""
    notes: tuple[str, ...]
    """What has to be known beside the numbers, a sentence each."""


def inputs(
    features: np.ndarray, rows: Sequence[tuple[int, int, int]], vector: bool, statistics: Statistics | None = None
) -> Inputs:
    """Copy the features of some utterances, so that an estimator can do with them what it wants.

    float32 and float64 stay as they are; float16, which scikit-learn does not compute in, becomes float32. Standardised
    features are float64.

    Args:
        features: shape (rows, values).
        rows: (first row, rows, anything else) of each utterance.
        vector: whether an utterance is one row.
        statistics: what these utterances are standardised with; ``None``: they stay as they are.
    """
    if statistics is not None:
        made = statistics.applied(features, rows)
        return np.concatenate(made) if vector else made
    dtype = np.float32 if features.dtype == np.float16 else features.dtype
    if vector:
        return np.array(features[[start for start, _, _ in rows]], dtype=dtype)
    return [np.array(features[start : start + length], dtype=dtype) for start, length, _ in rows]


class Fit:
    """A fitted estimator.

    Args:
        model: the estimator, after ``fit``.
        emotions: the database's, in the order of every probability.
        trained: those that a training utterance shows.
        seed: the trial's.

    Raises:
        TrialError: its ``classes_`` are missing, or are no emotions of the database.
    """

    def __init__(self, model: Any, emotions: tuple[str, ...], trained: frozenset[str], seed: int) -> None:
        self.model, self.emotions, self._seed = model, emotions, seed
        found = getattr(model, "classes_", None)
        if found is None:
            raise TrialError("it has no classes_ after fit, so that nothing says which column is which emotion")
        self._classes = [str(each) for each in np.asarray(found).ravel()]
        if unknown := sorted({*self._classes} - {*emotions}):
            raise TrialError(f"its classes_ hold {', '.join(unknown)}; the emotions are {', '.join(emotions)}")
        if len({*self._classes}) < len(self._classes):
            raise TrialError(f"its classes_ hold an emotion twice: {', '.join(self._classes)}")
        self._columns = [emotions.index(each) for each in self._classes]
        lacking = [emotion for emotion in emotions if emotion not in self._classes]
        untrained = [emotion for emotion in lacking if emotion not in trained]
        dropped = [emotion for emotion in lacking if emotion in trained]
        self.notes = (
            *([] if hasattr(model, "predict_proba") else [NO_PROBABILITIES]),
            *([f"{', '.join(untrained)} absent in training, so of probability 0"] if untrained else []),
            *([f"{', '.join(dropped)} not among its classes_, so of probability 0"] if dropped else []),
        )

    def probabilities(self, utterances: Inputs) -> np.ndarray:
        """Score utterances together: float64, shape (utterances, emotions).

        Raises:
            TrialError: it fails, or returns no probabilities of its classes.
        """
        with _alone():
            return self._scored(utterances)

    def score(self, data: FitData, *, transductive: bool) -> EstimatorScores:
        """Score the scored utterances together, and some of them one by one.

        Args:
            data: the trial's.
            transductive: whether scores may depend on what is scored beside them, so that none is scored alone.

        Raises:
            TrialError: as ``probabilities``, or an utterance alone has other scores than among the others.
        """
        if not data.scored:
            return EstimatorScores(np.zeros((0, len(self.emotions))), self.notes)
        with _alone():
            found = self._scored(data.of_scored())
            for i in [] if transductive else sample(len(data.scored)):
                alone = self._scored(data.of_scored(slice(i, i + 1)))[0]
                self._compare(alone, found[i], len(found))
        return EstimatorScores(found, self.notes)

    def _compare(self, alone: np.ndarray, among: np.ndarray, count: int) -> None:
        """Compare the scores of an utterance by itself with those among others.

        Raises:
            TrialError: they differ.
        """
        most = int(np.abs(alone - among).argmax())
        if abs(alone[most] - among[most]) > SAME:
            raise TrialError(
                f"the scores of an utterance depend on what is scored beside it: {self.emotions[most]} has probability "
                f"{among[most]:.4f} among {count} utterances and {alone[most]:.4f} alone. Statistics of a batch or "
                "random numbers at scoring do that; do without them, or declare transductive=True, which every table "
                "marks"
            )

    def _scored(self, utterances: Inputs) -> np.ndarray:
        """Score utterances together, each time with the same random numbers."""
        seed_all(derived_seed(self._seed, "score"))
        name = "predict_proba" if hasattr(self.model, "predict_proba") else "decision_function"
        if not hasattr(self.model, name):
            raise TrialError("it has neither predict_proba nor decision_function")
        with _of_the_model(name):
            found = np.asarray(getattr(self.model, name)(utterances))
            if not np.issubdtype(found.dtype, np.floating):
                found = found.astype(np.float64)
        if name == "decision_function":
            found = self._softmax(found, len(utterances))
        self._check(found, name, len(utterances))
        every = np.zeros((len(utterances), len(self.emotions)))
        every[:, self._columns] = found
        return every

    def _softmax(self, margins: np.ndarray, count: int) -> np.ndarray:
        """Turn one margin per class into probabilities; the single margin of two classes is that of the second."""
        classes = len(self._classes)
        pairs = classes * (classes - 1) // 2
        one_vs_one = getattr(_last(self.model), "decision_function_shape", "") == "ovo"
        if classes > 2 and margins.shape == (count, pairs) and (one_vs_one or pairs != classes):
            raise TrialError(
                f"its decision_function has {pairs} columns for {classes} classes, one for each pair of classes; "
                "tfser needs one for each class (decision_function_shape='ovr' in scikit-learn)"
            )
        if classes == 2 and margins.shape in ((count,), (count, 1)):
            second = margins.reshape(count)
            margins = np.stack([-second, second], axis=1)
        if margins.shape != (count, classes):
            raise self._misshapen("decision_function", margins.shape, count)
        powers = np.exp(margins.astype(np.float64) - margins.max(axis=1, keepdims=True))
        shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def _misshapen(self, name: str, shape: tuple[int, ...], count: int) -> TrialError:
        named = f"{len(self._classes)} classes ({', '.join(self._classes)})"
        return TrialError(f"{name} returned shape {shape} for {count} utterances and {named}")

    def _check(self, found: np.ndarray, name: str, count: int) -> None:
        if found.shape != (count, len(self._classes)):
            raise self._misshapen(name, found.shape, count)
        sums = found.sum(axis=1, dtype=np.float64)
        off = np.abs(sums - 1) > np.sqrt(np.finfo(found.dtype).eps)  # as scikit-learn itself checks them
        for wrong, what in (
            (~np.isfinite(found).all(axis=1), "hold one that is not finite"),
            ((found < 0).any(axis=1), "hold a negative one"),
            (off, "do not sum to 1"),
        ):
            if wrong.any():
                row = ", ".join(f"{p:.4g}" for p in found[int(wrong.argmax())])
                raise TrialError(f"the probabilities of {int(wrong.sum())} of {count} utterances {what}: {row}")


def fit(build: Callable[[], Any], data: FitData, seed: int) -> Fit:
    """Build an estimator and fit it on the training utterances; nothing else of the data reaches it.

    Args:
        build: makes the estimator.
        data: the trial's.
        seed: the trial's; the global random states follow from it.

    Raises:
        TrialError: it fails; the text says in which method.
    """
    emotions = [data.emotions[emotion] for _, _, emotion in data.train]
    with _alone():
        seed_all(derived_seed(seed, "fit"))
        with _of_the_model("build"):
            model = build()
            keyword = groups_keyword(model)
        groups = {keyword: np.array(data.speakers)} if keyword else {}
        # Anew: building may have loaded the library that is to have one thread.
        with one_thread(), _of_the_model("fit"):
            model.fit(data.training(), np.array(emotions), **groups)
        return Fit(model, data.emotions, frozenset(emotions), seed)


def sample(count: int) -> list[int]:
    """Return the utterances that are scored alone too: evenly spaced, the first and the last among them.

    >>> sample(3), sample(15)
    ([0, 1, 2], [0, 2, 4, 6, 8, 10, 12, 14])
    """
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(count, SCORED_ALONE)).round().astype(int)).tolist()
    return chosen


def groups_keyword(model: Any) -> str:
    """Return the name by which ``fit`` takes the speakers; empty where it takes none.

    By scikit-learn's conventions that is ``groups`` where the signature names it, or where a search with
    cross-validation (``GridSearchCV``) has a splitter that needs groups, such as ``GroupKFold``. The last step of a
    Pipeline gets them as ``<step>__groups``, which is how a Pipeline hands arguments on; steps before it get none.
    """
    if "groups" in inspect.signature(model.fit).parameters:
        return "groups"
    if steps := getattr(model, "steps", None):
        name, last = steps[-1]
        own = groups_keyword(last) if hasattr(last, "fit") else ""
        return f"{name}__{own}" if own else ""
    splitter = getattr(model, "cv", None)
    needs = getattr(splitter, "get_metadata_routing", None)
    return "groups" if needs is not None and needs().split.requests.get("groups") is True else ""


def _last(model: Any) -> Any:
    """Return the estimator at the end of Pipelines and searches."""
    while True:
        steps = getattr(model, "steps", None)
        inner = steps[-1][1] if steps else getattr(model, "best_estimator_", None)
        if inner is None:
            return model
        model = inner


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Fix threads and random states as ``settled`` does, and the threads of BLAS and OpenMP."""
    with settled(torch.device("cpu")), one_thread():
        yield


@contextlib.contextmanager
def _of_the_model(method: str) -> Iterator[None]:
    """Make an error in an estimator's own code that of its trial, whatever its type, unless the machine is at fault."""
    try:
        yield
    except TrialError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if of_the_system(error):
            raise
        raise TrialError(f"{method} raised {in_a_line(error)}") from error
