"""Features of a person's own: an extractor from the file of a model that is not built in.

Its packs are kept apart by the digest of that file, so that an edit is never read with features of the code before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tfser.audio.files import Waveform
from tfser.errors import RequestError
from tfser.features.base import Extractor
from tfser.models.isolated import said
from tfser.trial import Value


@dataclass(frozen=True, slots=True, eq=False)
class OwnExtractor:
    """An extractor of a person's own; it differs from the person's in ``id``, and in what an error says."""

    inner: Any
    """The person's."""
    source: str
    """Digest of the file that it comes from."""

    def __getattr__(self, name: str) -> Any:
        """Return what the person's extractor says of itself, else what ``Extractor`` says of all."""
        if name.startswith("__"):
            raise AttributeError(name)
        default = getattr(Extractor, name, None)
        found = getattr(self.inner, name, default)
        return found.fget(self) if isinstance(found, property) and found.fget else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnExtractor) and (self.inner, self.source) == (other.inner, other.source)

    def __hash__(self) -> int:
        return hash((self.inner, self.source))

    @property
    def id(self) -> str:
        """See ``Extractor``; with the digest of the code."""
        return f"{self.inner.id}-{self.source}"

    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the features of an utterance.

        Raises:
            ValueError: it has none, as the extractor says.
            RequestError: the extractor failed; the text names its line.
        """
        try:
            rows: np.ndarray = self.inner(waveform)
        except ValueError:
            raise
        except Exception as error:
            raise RequestError(f"features {self.inner.id}", [said(error) or str(error)]) from error
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
