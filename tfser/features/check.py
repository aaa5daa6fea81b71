"""Checks of extractors and of what they return, so that one of a person's own is refused in words.

Knows nothing of databases or models.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np

from tfser.errors import in_a_line
from tfser.features.base import Extractor
from tfser.storage.places import NAME, RESERVED
from tfser.text.typed import clipped

DTYPES = ("float32", "float16")


def declared(extractor: Extractor) -> list[str]:
    """Return what is wrong with an extractor's own words of itself; nothing is extracted."""
    found = []
    name = extractor.id
    if not isinstance(name, str) or not NAME.fullmatch(name) or RESERVED.fullmatch(name) or name == "parts":
        found.append(
            f"its id {clipped(name)} cannot name a folder: legal are up to 100 lower-case letters, digits and . _ + -, "
            "with a letter or a digit first"
        )
    for what in ("channels", "bands"):
        value = getattr(extractor, what)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            found.append(f"its {what} are {clipped(value)}, not a whole number of at least 1")
    if extractor.dtype not in DTYPES:
        found.append(f"its dtype {clipped(extractor.dtype)} is not one of {', '.join(DTYPES)}")
    try:
        hash(extractor)
    except TypeError as error:
        found.append(f"it cannot be a key ({error}): make its class a dataclass(frozen=True) of plain values")
    return found


def returned(rows: object, extractor: Extractor) -> str | None:
    """Return what is wrong with the features of an utterance; ``None`` where nothing is."""
    width = extractor.channels * extractor.bands
    if not isinstance(rows, np.ndarray):
        return f"the extractor returned {type(rows).__name__}, not a NumPy array"
    if rows.ndim != 2 or rows.shape[1] != width:
        what = f"{extractor.channels} channels x {extractor.bands} bands" if extractor.channels > 1 else "bands"
        return f"the extractor returned the shape {rows.shape}, not (rows, {width}): it declares {width} ({what})"
    if not len(rows):
        return "the extractor returned no rows"
    if extractor.vector and len(rows) != 1:
        return f"the extractor returned {len(rows)} rows, and says that an utterance is one (vector)"
    if rows.dtype != np.dtype(extractor.dtype):
        return f"the extractor returned {rows.dtype}, and declares {extractor.dtype}"
    bad = rows.size - int(np.isfinite(rows).sum())
    return f"{bad} of the {rows.size} values that the extractor returned are NaN or infinite" if bad else None


def raised(error: Exception) -> str:
    """Return an exception of an extractor in words, with its line where it is no sentence for a person."""
    if isinstance(error, ValueError) and str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    return in_a_line(error) + (f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else "")
