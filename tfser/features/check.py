"""Checks of extractors and of what they return, so that one of a person's own is refused in words.

Also names the folder of an extractor's packs. Knows nothing of databases or models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfser.errors import in_a_line
from tfser.features.base import Extractor
from tfser.storage.places import NAME, RESERVED
from tfser.text.typed import clipped

DTYPES = ("float32", "float16")

_NOT_OWN = ("tfser", "builtins", "typing")
"""Packages whose classes are not a person's own."""


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


def raised(error: Exception, extractor: Extractor) -> str:
    """Return an exception of an extractor in words; for one of a person's own with the line of its file."""
    own, place = set(_sources(extractor)), ""
    trace = error.__traceback__
    while trace is not None and (own or not isinstance(error, ValueError)):
        file = trace.tb_frame.f_code.co_filename
        if not own or file in own:
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    words = str(error) if isinstance(error, ValueError) and str(error) else in_a_line(error)
    return f"{words}{place}"


def folder(extractor: Extractor) -> str:
    """Return the name of the folder of an extractor's packs.

    For an extractor of a person's own a digest of its file follows the id, so that an edit is never read from a pack
    that was made before.
    """
    content = hashlib.sha256()
    sources = sorted(set(_sources(extractor)))
    for name in sources:
        content.update(Path(name).read_bytes())
    return f"{extractor.id}-{content.hexdigest()[:10]}" if sources else extractor.id


def _sources(extractor: Extractor) -> Iterator[str]:
    """Yield the files of an extractor's classes that are not tfser's, as its code names them; none in a notebook."""
    for each in type(extractor).__mro__:
        if each.__module__.partition(".")[0] not in _NOT_OWN:
            for member in vars(each).values():
                code = getattr(getattr(member, "fget", member), "__code__", None)
                if code is not None and Path(code.co_filename).is_file():
                    yield code.co_filename
