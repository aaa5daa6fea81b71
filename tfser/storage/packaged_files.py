"""The files that come with the code (search spaces, published figures), and a digest of the code.

An installed wheel holds the files in ``tfser/_data``; in a checkout they lie where people edit them. Knows nothing of
what is in them.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGED = _PACKAGE / "_data"
_CHECKOUT = _PACKAGE.parent
_IN_CHECKOUT = {"search_spaces": "search_spaces", "published.yaml": "results/published.yaml"}


def data_folder(name: str) -> Path:
    """Return the packaged file or folder of that name.

    Args:
        name: ``search_spaces`` (a folder) or ``published.yaml`` (a file).

    Raises:
        KeyError: no such data.
        FileNotFoundError: neither the wheel nor the checkout holds it.
    """
    candidates = (_PACKAGED / name, _CHECKOUT / _IN_CHECKOUT[name])
    for path in candidates:
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{name} is neither at {candidates[0]} nor at {candidates[1]}; the installation is not complete"
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a hash of this package's source files; where it differs, numbers may differ too."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def published() -> Path:
    """Return the file of published figures."""
    return data_folder("published.yaml")
