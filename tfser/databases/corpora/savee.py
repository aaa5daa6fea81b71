"""SAVEE: Surrey Audio-Visual Expressed Emotion, 4 male speakers, 7 emotions.

It comes in two layouts: a folder per speaker (``DC/a01.wav``), and flat (``DC_a01.wav``). Nothing here decodes audio.
"""

from __future__ import annotations

import re
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_labels, scan_names

LETTERS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
"""Emotions by the letters before the sentence's number."""

SPEAKERS = ("DC", "JE", "JK", "KL")

INFO = DatabaseInfo(
    name="savee",
    title="Surrey Audio-Visual Expressed Emotion (SAVEE)",
    printed="SAVEE",
    language="English (British)",
    licence="free for research, after registration",
    citation="S. Haq and P. J. B. Jackson, Speaker-dependent audio-visual emotion recognition, AVSP 2009",
    homepage="http://kahlan.eps.surrey.ac.uk/savee/",
    how_to_get="register at the homepage; unpack AudioData into savee/",
    layout="<speaker>/<letters><nn>.wav or <speaker>_<letters><nn>.wav, DC/sa03; speakers: "
    + ", ".join(SPEAKERS)
    + "; letters: "
    + ", ".join(f"{letters} {word}" for letters, word in LETTERS.items()),
    emotions=tuple(LETTERS.values()),
    sampling_rate_hz=44_100,
    expected_emotions={word: 120 if word == "neutral" else 60 for word in LETTERS.values()},
    expected_speakers=dict.fromkeys(SPEAKERS, 120),
    expected_speaker_emotions={
        s: {word: 30 if word == "neutral" else 15 for word in LETTERS.values()} for s in SPEAKERS
    },
    same_texts=True,
)

_NAME = re.compile(r"(?:(DC|JE|JK|KL)_)?(a|d|f|h|n|sa|su)(\d\d)")


def parse(file: Found) -> Labels:
    """Read the labels in a file's name and its folder."""
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise LabelError(
            "name", f"the name {file.stem!r} is not like a01 or DC_a01 (letters {', '.join(LETTERS)}, two digits)"
        )
    named, letters, number = match.groups()
    speakers = {part for part in (named, *file.path.parts[:-1][-1:]) if part in SPEAKERS}
    if len(speakers) != 1:
        what = "names no speaker" if not speakers else f"names two speakers ({', '.join(sorted(speakers))})"
        raise LabelError("speaker", f"its path {what}; there are {', '.join(SPEAKERS)}, as a folder or before the _")
    if not 1 <= int(number) <= (30 if letters == "n" else 15):
        raise LabelError(
            "sentence", f"sentence {number} is not one of 01 to {30 if letters == 'n' else 15} of {LETTERS[letters]}"
        )
    speaker = speakers.pop()
    return Labels(id=f"{speaker}_{letters}{number}", speaker=speaker, emotion=LETTERS[letters])


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, parse)


def ids() -> frozenset[str]:
    """Return the ids of all published utterances."""
    return frozenset(
        f"{s}_{letters}{n:02d}" for s in SPEAKERS for letters in LETTERS for n in range(1, 31 if letters == "n" else 16)
    )


READER = Reader(
    info=INFO,
    scan=scan,
    marks=marks_by_labels(parse, depth=2, at_most=2000),
    folders=("audiodata", "savee-database"),
    expected_ids=ids,
)
