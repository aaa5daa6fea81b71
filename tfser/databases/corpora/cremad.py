"""CREMA-D: 91 actors, 12 sentences, 6 emotions; intended emotions (not the crowd's ratings) are the labels.

The published files are a grid with 20 holes, known by name. Nothing here decodes audio.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_name, scan_names

CODES = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
"""Emotions by the third part of a file's name."""

SENTENCES = ("DFA", "IEO", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
ACTORS = tuple(str(n) for n in range(1001, 1092))
NEVER_PUBLISHED = frozenset(
    [
        f"{actor}_{sentence}_{code}_XX"
        for actor, sentence in (("1008", "WSI"), ("1009", "MTI"), ("1019", "ITH"))
        for code in CODES
    ]
    + ["1002_TIE_NEU_XX", "1076_ITS_NEU_XX"]
)
"""Holes in the grid of actors, sentences, emotions and levels."""

_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX)")


def ids() -> frozenset[str]:
    """Return the ids of all published utterances: only IEO exists in three levels, and neutral has none."""
    grid = (
        f"{actor}_{sentence}_{code}_{level}"
        for actor in ACTORS
        for sentence in SENTENCES
        for code in CODES
        for level in (("LO", "MD", "HI") if sentence == "IEO" and code != "NEU" else ("XX",))
    )
    return frozenset(grid) - NEVER_PUBLISHED


def _table() -> dict[str, dict[str, int]]:
    cells = Counter((name[:4], CODES[name[9:12]]) for name in ids())
    return {actor: {word: cells[actor, word] for word in CODES.values()} for actor in ACTORS}


INFO = DatabaseInfo(
    name="cremad",
    title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D)",
    printed="CREMA-D",
    language="English",
    licence="Open Database License 1.0 (contents: Database Contents License 1.0)",
    citation="H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova and R. Verma, "
    "CREMA-D: crowd-sourced emotional multimodal actors dataset, IEEE Transactions on Affective Computing 5(4), 2014",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    how_to_get="git lfs clone from the homepage (without git-lfs the files are pointers of some 130 bytes); "
    "AudioWAV is needed",
    layout="AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav, 1001_DFA_ANG_XX; emotions: "
    + ", ".join(f"{code} {word}" for code, word in CODES.items())
    + "; its authors state that 1076_MTI_SAD_XX has no audio",
    emotions=tuple(CODES.values()),
    sampling_rate_hz=16_000,
    expected_emotions={"anger": 1271, "disgust": 1271, "fear": 1271, "happy": 1271, "neutral": 1087, "sad": 1271},
    expected_speakers={actor: sum(row.values()) for actor, row in _table().items()},
    expected_speaker_emotions=_table(),
    same_texts=True,
)


def parse(file: Found) -> Labels:
    """Read the labels in a file's name."""
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise LabelError(
            "name", f"the name {file.stem!r} is not like 1001_DFA_ANG_XX (actor, sentence, emotion, level)"
        )
    actor, sentence, code, _ = match.groups()
    for what, value, legal in (("sentence", sentence, SENTENCES), ("emotion", code, tuple(CODES))):
        if value not in legal:
            raise LabelError(what, f"{what} {value} is not one of {', '.join(legal)}")
    if actor not in INFO.expected_speakers:
        raise LabelError("speaker", f"actor {actor} is not one of {ACTORS[0]} to {ACTORS[-1]}")
    return Labels(id=file.stem, speaker=actor, emotion=CODES[code])


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, parse)


READER = Reader(
    info=INFO, scan=scan, marks=marks_by_name(_NAME), folders=("crema-d", "crema", "audiowav"), expected_ids=ids
)
