"""nEMO: Polish, 9 actors, 90 sentences, 6 emotions, 4481 utterances. Nothing here decodes audio."""

from __future__ import annotations

import re
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_name, scan_names

EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
_TABLE = {
    "EB0": (90, 90, 90, 90, 90, 89),
    "IC0": (90, 90, 90, 90, 90, 90),
    "KD0": (90, 90, 90, 90, 90, 90),
    "KS0": (90, 90, 90, 90, 90, 90),
    "MK0": (90, 90, 90, 90, 90, 0),
    "MP0": (29, 17, 30, 90, 49, 41),
    "SM0": (90, 89, 89, 90, 90, 90),
    "TP0": (90, 90, 90, 90, 90, 89),
    "WR0": (90, 90, 90, 89, 90, 90),
}
"""Utterances per speaker and emotion, counted in the published repository."""

INFO = DatabaseInfo(
    name="nemo",
    title="nEMO",
    printed="nEMO",
    language="Polish",
    licence="CC BY-NC-SA 4.0",
    citation="I. Christop, nEMO: dataset of emotional speech in Polish, LREC-COLING 2024",
    homepage="https://github.com/amu-cai/nEMO",
    how_to_get="git clone from the homepage into nemo/",
    layout="samples/<speaker>_<emotion>_<sentence>.wav, EB0_anger_1; speakers: "
    + ", ".join(_TABLE)
    + "; emotions: "
    + ", ".join(EMOTIONS),
    emotions=EMOTIONS,
    sampling_rate_hz=24_000,
    expected_emotions={"anger": 749, "fear": 736, "happiness": 749, "neutral": 809, "sadness": 769, "surprised": 669},
    expected_speakers={speaker: sum(row) for speaker, row in _TABLE.items()},
    expected_speaker_emotions={speaker: dict(zip(EMOTIONS, row, strict=True)) for speaker, row in _TABLE.items()},
    same_texts=True,
)

_NAME = re.compile(r"([A-Z]{2}0)_(anger|fear|happiness|neutral|sadness|surprised)_([1-9][0-9]?)")


def parse(file: Found) -> Labels:
    """Read the labels in a file's name."""
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise LabelError(
            "name", f"the name {file.stem!r} is not like EB0_anger_1 (speaker, one of {', '.join(EMOTIONS)}, sentence)"
        )
    speaker, emotion, sentence = match.groups()
    if speaker not in _TABLE:
        raise LabelError("speaker", f"speaker {speaker} is not one of {', '.join(_TABLE)}")
    if int(sentence) > 90:
        raise LabelError("sentence", f"sentence {sentence} is not one of 1 to 90")
    return Labels(id=file.stem, speaker=speaker, emotion=emotion)


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, parse)


READER = Reader(info=INFO, scan=scan, marks=marks_by_name(_NAME), folders=("nemo-main", "nemo-dataset"))
