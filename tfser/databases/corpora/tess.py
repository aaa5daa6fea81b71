"""TESS: Toronto Emotional Speech Set, 2 speakers, 200 words, 7 emotions.

One published file is misnamed, ``OA_bite_neutral`` for ``OAF_bite_neutral``, and is read under its right name. Nothing
here decodes audio.
"""

from __future__ import annotations

import re
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_name, scan_names

CODES = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "pleasant_surprise",
    "sad": "sad",
}
"""Emotions by the last part of a file's name."""

SPEAKERS = ("OAF", "YAF")
MISNAMED = {"OA_bite_neutral": "OAF_bite_neutral"}

INFO = DatabaseInfo(
    name="tess",
    title="Toronto Emotional Speech Set (TESS)",
    printed="TESS",
    language="English (Canadian)",
    licence="CC BY-NC-ND 4.0",
    citation="M. K. Pichora-Fuller and K. Dupuis, Toronto emotional speech set (TESS), University of Toronto, 2010",
    homepage="https://doi.org/10.5683/SP2/E8H2MF",
    how_to_get="free download from the homepage; unpack it into tess/",
    layout="<speaker>_<word>_<emotion>.wav in any folders, OAF_back_angry; "
    "speakers: OAF (64 years), YAF (26 years); emotions: "
    + ", ".join(CODES)
    + " (ps is pleasant surprise); the published OA_bite_neutral is OAF's",
    emotions=tuple(CODES.values()),
    sampling_rate_hz=24_414,
    expected_emotions=dict.fromkeys(CODES.values(), 400),
    expected_speakers=dict.fromkeys(SPEAKERS, 1400),
    expected_speaker_emotions={speaker: dict.fromkeys(CODES.values(), 200) for speaker in SPEAKERS},
    same_texts=True,
)

_NAME = re.compile(r"(OAF|YAF)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)")


def parse(file: Found) -> Labels:
    """Read the labels in a file's name."""
    stem = MISNAMED.get(file.stem, file.stem)
    match = _NAME.fullmatch(stem)
    if match is None:
        raise LabelError(
            "name", f"the name {stem!r} is not like OAF_back_angry (OAF or YAF, word, one of {', '.join(CODES)})"
        )
    speaker, _, code = match.groups()
    folder = (file.parts[-2] if len(file.parts) > 1 else "").upper()
    if folder.startswith(("OAF_", "YAF_")) and not folder.startswith(speaker):
        raise LabelError("folder", f"the name says speaker {speaker}, the folder says {folder[:3]}")
    return Labels(id=stem, speaker=speaker, emotion=CODES[code])


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, parse)


_FOLDERS = (
    "tess-toronto-emotional-speech-set-data",
    "toronto-emotional-speech-set",
    "toronto-emotional-speech-set-tess",
)
READER = Reader(info=INFO, scan=scan, marks=marks_by_name(_NAME), folders=_FOLDERS)
