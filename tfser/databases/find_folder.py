"""Find a corpus's folder in the folder that was given.

Nothing here reads labels or audio.
"""

from __future__ import annotations

import os
from pathlib import Path

from tfser.databases.folders import listing, plain, show, subfolders
from tfser.databases.reader import Reader
from tfser.errors import RequestError


def locate(reader: Reader, data: Path | None) -> Path:
    """Return the corpus's own folder.

    The search covers folders of the corpus's name in ``data`` (in any case, and one folder deeper, as in
    ``iemocap/IEMOCAP_full_release``), then ``data`` itself.

    Args:
        reader: the corpus's reader.
        data: the folder of all corpora, or the corpus's own.

    Raises:
        RequestError: there is none, or more than one.
    """
    info, marks = reader.info, reader.marks
    assert marks is not None, "a reader that is made has no folder"
    if data is None:
        hint = f"{info.name}: say where the corpora are with --data PATH, or set TFSER_DATA; {info.how_to_get}"
        raise RequestError("--data", [hint])
    if not data.is_dir():
        raise RequestError("--data", [f"{show(data)} is {'not a folder' if data.exists() else 'not there'}"])
    names = {plain(name) for name in (info.name, *reader.folders)}
    named = [folder for folder in subfolders(data) if plain(folder.name) in names]
    candidates = named + [below for folder in named for below in subfolders(folder) if plain(below.name) in names]
    if plain(data.name) in names or plain(data.resolve().name) in names:
        candidates.append(data)
    fitting = {os.path.realpath(folder): folder for folder in reversed(candidates) if marks(folder)}
    # A fitting folder inside another is the same copy; the outermost keeps everything beside the inner one.
    outer = [
        folder for real, folder in fitting.items() if not any(real.startswith(other + os.sep) for other in fitting)
    ]
    if len(outer) == 1:
        return outer[0]
    if len(outer) > 1:
        both = ", ".join(sorted(show(folder) for folder in outer))
        raise RequestError(f"--data {show(data)}", [f"{info.name} is there more than once: {both}; name one of them"])
    below = [folder for candidate in candidates for folder in subfolders(candidate) if marks(folder)]
    if below:
        return below[0] if len(below) == 1 else below[0].parent
    if marks(data):
        return _narrowed(reader, data)
    if candidates:
        where = ", ".join(show(folder) for folder in candidates)
        raise RequestError(
            f"database {info.name}", [f"{where}: nothing there looks like {info.title}; expected: {info.layout}"]
        )
    there = ", ".join(show(folder.name) for folder in subfolders(data)[:20]) or "none"
    also = ", ".join(("", *reader.folders))
    detail = f"no folder called {info.name}{also} (in any case); folders there: {there}; {info.how_to_get}"
    raise RequestError(f"--data {show(data)}", [detail])


def _narrowed(reader: Reader, folder: Path) -> Path:
    """Return the innermost folder that holds all of the corpus, so that its neighbours do not count as parts of it."""
    assert reader.marks is not None
    while True:
        below = [inner for inner in subfolders(folder) if reader.marks(inner)]
        direct, _ = listing(folder, (".wav", ".flac", ".csv"), depth=0, at_most=1)
        if len(below) != 1 or direct:
            return folder
        folder = below[0]
