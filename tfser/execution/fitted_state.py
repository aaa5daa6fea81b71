"""The fitted state of an estimator as bytes, without pickle: written by skops, read only where every type is known.

skops itself trusts the estimators and functions of scikit-learn, NumPy and SciPy that it knows. Trusted here too are
classes of scikit-learn and NumPy, and those that built-in estimators are made of. State that holds anything else is
not kept, and such an estimator is fitted again where it is needed. Of a search over settings (``GridSearchCV``) the
estimator that it chose is kept.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from typing import Any

from tfser.errors import TfserError, in_a_line

_TRUSTED = ("sklearn", "numpy")
"""Packages whose classes may be in a fitted state."""

_OURS = ("tfser.models.classifiers", "tfser.models.standardised")
"""A package and a module of tfser that define what built-in estimators are made of, and do nothing when imported."""


class StateError(TfserError):
    """A fitted state that cannot be kept or read; the text says why."""


def dump(model: Any) -> bytes:
    """Return the state of a fitted estimator, or of the one that a search chose, which scores alike.

    Raises:
        StateError: it holds what cannot be written.
    """
    from skops.io import dumps

    try:
        content: bytes = dumps(_chosen(model), compression=zipfile.ZIP_DEFLATED)
    except Exception as error:  # skops passes on whatever the parts of a model raise
        raise StateError(f"skops cannot write it ({in_a_line(error, 200)})") from None
    return content


def load(content: bytes) -> Any:
    """Read what ``dump`` returned. Nothing is imported for it but what it names of the trusted packages.

    Raises:
        StateError: it holds other types, or is damaged.
    """
    from skops.io import get_untrusted_types, loads

    try:
        named = get_untrusted_types(data=content)
        if foreign := [name for name in named if not _is_trusted(name)]:
            named_so = "scikit-learn's, NumPy's or a built-in model's"
            raise StateError(f"it holds types that are not {named_so}: {', '.join(foreign)}")
        return loads(content, trusted=named)
    except StateError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise StateError(f"skops cannot read it ({in_a_line(error, 200)})") from None


def digest(content: bytes) -> str:
    """Return the SHA-256 of a fitted state, by which it is known in its record."""
    return hashlib.sha256(content).hexdigest()


def _chosen(model: Any) -> Any:
    """Return the estimator that a search chose, also in a Pipeline; any other as it is."""
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
    from sklearn.pipeline import Pipeline

    if isinstance(model, GridSearchCV | RandomizedSearchCV):
        return _chosen(model.best_estimator_) if hasattr(model, "best_estimator_") else model
    if isinstance(model, Pipeline):
        steps = [(name, _chosen(step)) for name, step in model.steps]
        if any(step is not before for (_, step), (_, before) in zip(steps, model.steps, strict=True)):
            return Pipeline(steps)
    return model


def _is_trusted(name: str) -> bool:
    """Return whether a dotted name is that of a class of ``_TRUSTED``, or of one that a module of ``_OURS`` defines.

    A function could do anything when it is called.

    Args:
        name: as skops writes it, ``sklearn.gaussian_process.kernels.RBF``.
    """
    parts = name.split(".")
    if parts[0] == "tfser":
        return _is_ours(*name.rpartition(".")[::2])
    if parts[0] not in _TRUSTED:
        return False
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return isinstance(found, type)
    return False


def _is_ours(module: str, name: str) -> bool:
    """Return whether a module is one of ``_OURS`` and defines a class of that name; what it imports is not its own."""
    if not any(module == each or module.startswith(f"{each}.") for each in _OURS):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__ == module
