"""ABC: the Airplane Behaviour Corpus, read from a manifest.

No public description of its files was found, so nothing is guessed from their names. A manifest (``path, speaker,
emotion``) gives the labels, and the counts of the publication are checked. Nothing here decodes audio.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfser.databases.base import DatabaseInfo, Problem, Utterance
from tfser.databases.folders import show
from tfser.databases.formats import manifest
from tfser.databases.reader import Reader, Reading
from tfser.errors import RequestError

SPELLINGS = {
    "aggressive": "aggressive",
    "agressive": "aggressive",
    "aggressiv": "aggressive",
    "agressiv": "aggressive",
    "cheerful": "cheerful",
    "cheerfull": "cheerful",
    "intoxicated": "intoxicated",
    "nervous": "nervous",
    "neutral": "neutral",
    "tired": "tired",
}
"""Spellings of emotions in manifests, in lower case, and the names used here."""

INFO = DatabaseInfo(
    name="abc",
    title="Airplane Behaviour Corpus (ABC)",
    printed="ABC",
    language="German",
    licence="on request from its authors",
    citation="B. Schuller, M. Wimmer, D. Arsic, G. Rigoll and B. Radig, "
    "Audiovisual behavior modeling by combined feature spaces, "
    "ICASSP 2007",
    homepage="none",
    how_to_get="on request from its authors; "
    "write abc/manifest.csv with the columns path, speaker, emotion beside the audio",
    layout="abc/manifest.csv (path, speaker, emotion; paths relative to it); "
    "also read: the spellings Agressiv, Cheerfull, Intoxicated, Nervous, Neutral, Tired",
    emotions=("aggressive", "cheerful", "intoxicated", "nervous", "neutral", "tired"),
    sampling_rate_hz=16_000,
    expected_emotions={"aggressive": 95, "cheerful": 105, "intoxicated": 33, "nervous": 93, "neutral": 79, "tired": 25},
    expected_speaker_count=8,
)


def _manifests(folder: Path) -> list[Path]:
    """Return ``manifest.csv`` or ``abc.csv`` if there is one, else every CSV file."""
    try:
        tables = sorted(
            path for path in folder.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith(".")
        )
    except OSError:
        return []
    return [path for path in tables if path.name.lower() in ("manifest.csv", "abc.csv")] or tables


def scan(root: Path) -> Reading:
    """Read the folder's manifest.

    Raises:
        RequestError: there is no manifest, or more than one.
    """
    tables = _manifests(root)
    if len(tables) != 1:
        found = f"found {', '.join(show(path.name) for path in tables)}" if tables else "found none"
        raise RequestError(f"database abc in {show(root)}", [f"one manifest is needed; {found}; {INFO.layout}"])
    _, reading = manifest.read(tables[0], info=INFO)
    kept: list[Utterance] = []
    for utterance in reading.utterances:
        emotion = SPELLINGS.get(utterance.emotion.lower())
        if emotion is None:
            detail = f"emotion {utterance.emotion!r} of {show(utterance.id)} is not one of {', '.join(INFO.emotions)}"
            reading.problems.append(Problem("label", show(tables[0]), detail, "emotion"))
        else:
            kept.append(dataclasses.replace(utterance, emotion=emotion))
    reading.utterances = kept
    return reading


def marks(folder: Path) -> bool:
    """Tell whether the folder has the corpus's name and holds a table; a table alone could be of any database."""
    return "abc" in folder.resolve().name.lower() and bool(_manifests(folder))


READER = Reader(
    info=INFO, scan=scan, marks=marks, folders=("airplane-behaviour-corpus", "airplane-behavior-corpus", "abc-corpus")
)
