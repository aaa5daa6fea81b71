"""The fitted state of an estimator as bytes, without pickle: written by skops, read only where every type is known.

skops itself trusts the estimators and functions of scikit-learn, NumPy and SciPy that it knows. Classes of
scikit-learn and NumPy are trusted here too. State that holds anything else is not kept, and such an estimator is fitted
again where it is needed.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from typing import Any

from tfser.errors import TfserError, in_a_line

_TRUSTED = ("sklearn", "numpy")
"""Packages whose classes may be in a fitted state."""


class StateError(TfserError):
    """A fitted state that cannot be kept or read; the text says why."""


def dump(model: Any) -> bytes:
    """Return the state of a fitted estimator.

    Raises:
        StateError: it holds what cannot be written.
    """
    from skops.io import dumps

    try:
        content: bytes = dumps(model, compression=zipfile.ZIP_DEFLATED)
    except Exception as error:  # skops passes on whatever the parts of a model raise
        raise StateError(f"skops cannot write it ({in_a_line(error, 200)})") from None
    return content


def load(content: bytes) -> Any:
    """Read what ``dump`` returned. Nothing is imported but scikit-learn, NumPy and what skops trusts itself.

    Raises:
        StateError: it holds other types, or is damaged.
    """
    from skops.io import get_untrusted_types, loads

    try:
        named = get_untrusted_types(data=content)
        if foreign := [name for name in named if not _is_trusted(name)]:
            raise StateError(f"it holds types that are neither scikit-learn's nor NumPy's: {', '.join(foreign)}")
        return loads(content, trusted=named)
    except StateError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise StateError(f"skops cannot read it ({in_a_line(error, 200)})") from None


def digest(content: bytes) -> str:
    """Return the SHA-256 of a fitted state, by which it is known in its record."""
    return hashlib.sha256(content).hexdigest()


def _is_trusted(name: str) -> bool:
    """Return whether a dotted name is that of a class of ``_TRUSTED``; a function could do anything when it is called.

    Args:
        name: as skops writes it, ``sklearn.gaussian_process.kernels.RBF``.
    """
    parts = name.split(".")
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
