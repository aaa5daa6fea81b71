"""EmoDB: the Berlin Database of Emotional Speech.

The counts per speaker and emotion are those of the 535 published files. Nothing here decodes audio.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_name, scan_names

LETTERS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
"""Emotions by the letter (of the German word) in a file's name."""

TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")

_EMOTIONS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
_TABLE = {
    "03": (14, 5, 1, 4, 7, 11, 7),
    "08": (12, 10, 0, 6, 11, 10, 9),
    "09": (13, 4, 8, 1, 4, 9, 4),
    "10": (10, 8, 1, 8, 4, 4, 3),
    "11": (11, 8, 2, 10, 8, 9, 7),
    "12": (12, 5, 2, 6, 2, 4, 4),
    "13": (12, 10, 8, 7, 10, 9, 5),
    "14": (16, 8, 8, 12, 8, 7, 10),
    "15": (13, 9, 5, 8, 6, 11, 4),
    "16": (14, 14, 11, 7, 11, 5, 9),
}

INFO = DatabaseInfo(
    name="emodb",
    title="Berlin Database of Emotional Speech (EmoDB)",
    printed="EmoDB",
    language="German",
    licence="CC0 1.0",
    citation="F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier and B. Weiss, "
    "A database of German emotional speech, Interspeech 2005",
    homepage="http://emodb.bilderbar.info",
    how_to_get="free download from the homepage; unpack it so that the audio lies in emodb/wav",
    layout="wav/<speaker><text><emotion letter><take>.wav (or .flac), "
    "03a01Fa: speaker 03, text a01, F (happiness), take a; "
    "letters: W anger, L boredom, E disgust, A fear, F happiness, N neutral, T sadness",
    emotions=_EMOTIONS,
    sampling_rate_hz=16_000,
    expected_emotions={
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    },
    expected_speakers={speaker: sum(row) for speaker, row in _TABLE.items()},
    expected_speaker_emotions={speaker: dict(zip(_EMOTIONS, row, strict=True)) for speaker, row in _TABLE.items()},
    same_texts=True,
)

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFNT])([a-z])")


def parse(file: Found) -> Labels:
    """Read the labels in a file's name."""
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise LabelError(
            "name", f"the name {file.stem!r} is not like 03a01Fa (speaker, text, one of {''.join(LETTERS)}, take)"
        )
    speaker, text, letter, _ = match.groups()
    if speaker not in _TABLE:
        raise LabelError("speaker", f"speaker {speaker} is not one of {', '.join(_TABLE)}")
    if text not in TEXTS:
        raise LabelError("text", f"text {text} is not one of {', '.join(TEXTS)}")
    return Labels(id=file.stem, speaker=speaker, emotion=LETTERS[letter])


def scan(root: Path) -> Reading:
    """Read the folder."""
    reading = scan_names(root, parse)
    reading.remark = _shortened(root)
    return reading


def _shortened(root: Path) -> str:
    """Return what a copy's own ``manifest.csv`` says of cut recordings, in one phrase; empty if nothing."""
    for folder in (root, root.parent):
        try:
            with open(folder / "manifest.csv", encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get("truncated") == "1"]
            seconds = max(float(row["seconds"]) for row in rows)
        except (OSError, ValueError, KeyError, TypeError, csv.Error):  # none, or another file of that name
            continue
        return f"first {seconds:g} s of each utterance only ({len(rows)} are cut)"
    return ""


READER = Reader(
    info=INFO, scan=scan, marks=marks_by_name(_NAME), folders=("emo-db", "berlin", "berlin-emodb", "emodb-full")
)
