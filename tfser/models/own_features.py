"""Features of a person's own: an extractor from the file of a model that is not built in.

Its packs are kept apart by the digest of that file, so that an edit is never read with features of the code before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from tfser.audio.files import Waveform
from tfser.errors import RequestError
from tfser.features.base import Extractor
from tfser.models.isolated import said
from tfser.trial import Value

_NUMBERS = (np.float16, np.float32, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class OwnExtractor:
    """An extractor of a person's own, with what tfser has to add: see ``Extractor``."""

    inner: Any
    """The person's."""
    source: str
    """Digest of the file that it comes from."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnExtractor) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """See ``Extractor``; with the digest of the code."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', str(self.inner.id))[:80]}-{self.source}"

    @property
    def channels(self) -> int:
        """See ``Extractor``."""
        return int(getattr(self.inner, "channels", 1))

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return int(self.inner.bands)

    @property
    def vector(self) -> bool:
        """See ``Extractor``."""
        return bool(getattr(self.inner, "vector", False))

    @property
    def dtype(self) -> Literal["float32", "float16"]:
        """See ``Extractor``."""
        return "float16" if getattr(self.inner, "dtype", "float32") == "float16" else "float32"

    @property
    def hop_s(self) -> float:
        """See ``Extractor``."""
        return float(getattr(self.inner, "hop_s", 0.0))

    @property
    def first_s(self) -> float:
        """See ``Extractor``."""
        return float(getattr(self.inner, "first_s", 0.0))

    @property
    def window_s(self) -> float:
        """See ``Extractor``."""
        return float(getattr(self.inner, "window_s", 0.0))

    @property
    def band_centres_hz(self) -> np.ndarray | None:
        """See ``Extractor``."""
        centres = getattr(self.inner, "band_centres_hz", None)
        return None if centres is None else np.asarray(centres, dtype=np.float64)

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the features of an utterance.

        Raises:
            ValueError: it has none, as the extractor says.
            RequestError: the extractor failed, or what it returned has another shape than it declares.
        """
        try:
            found = self.inner(waveform)
        except ValueError:
            raise
        except Exception as error:
            raise RequestError(f"features {self.inner.id}", [said(error) or str(error)]) from error
        columns = self.channels * self.bands
        shaped = isinstance(found, np.ndarray) and found.ndim == 2 and found.shape[1] == columns and len(found) > 0
        if not shaped or found.dtype.type not in _NUMBERS:
            what = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            legal = f"it declares float32 of shape (rows, {columns})"
            raise RequestError(f"features {self.inner.id}", [f"the extractor returned {what}; {legal}"])
        rows: np.ndarray = found.astype(self.dtype, copy=False)
        return rows


def own(
    extractor: Callable[[Mapping[str, Value]], Extractor], source: str
) -> Callable[[Mapping[str, Value]], Extractor]:
    """Return how a person's feature set makes extractors, each with the digest of its code.

    Args:
        extractor: the person's.
        source: digest of its file.
    """
    return partial(_made, extractor, source)


def _made(extractor: Callable[[Mapping[str, Value]], Extractor], source: str, settings: Mapping[str, Value]) -> Any:
    return OwnExtractor(extractor(settings), source)
