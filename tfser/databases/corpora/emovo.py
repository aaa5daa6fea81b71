"""EMOVO: Italian, 6 actors, 14 sentences, 7 emotions: a full grid of 588. Nothing here decodes audio."""

from __future__ import annotations

import re
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_name, scan_names

CODES = {
    "dis": "disgust",
    "gio": "joy",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
"""Emotions by the first part of a file's name (of the Italian word)."""

SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
SENTENCES = ("b1", "b2", "b3", "d1", "d2", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5")

INFO = DatabaseInfo(
    name="emovo",
    title="EMOVO",
    printed="EMOVO",
    language="Italian",
    licence="free for research (stated by its authors; no standard licence)",
    citation="G. Costantini, I. Iadarola, A. Paoloni and M. Todisco, "
    "EMOVO corpus: an Italian emotional speech database, LREC 2014",
    homepage="http://voice.fub.it/activities/corpora/emovo/index.html",
    how_to_get="free download from the homepage or from its authors; unpack it into emovo/",
    layout="<speaker>/<emotion>-<speaker>-<sentence>.wav, dis-m3-b1; emotions: "
    + ", ".join(f"{c} {w}" for c, w in CODES.items()),
    emotions=tuple(CODES.values()),
    sampling_rate_hz=48_000,
    expected_emotions=dict.fromkeys(CODES.values(), 84),
    expected_speakers=dict.fromkeys(SPEAKERS, 98),
    expected_speaker_emotions={speaker: dict.fromkeys(CODES.values(), 14) for speaker in SPEAKERS},
    same_texts=True,
)

_NAME = re.compile(r"(dis|gio|neu|pau|rab|sor|tri)-([fm][123])-([bdln][1-5])")


def parse(file: Found) -> Labels:
    """Read the labels in a file's name."""
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise LabelError(
            "name", f"the name {file.stem!r} is not like dis-m3-b1 (one of {', '.join(CODES)}; f1 to m3; sentence)"
        )
    code, speaker, sentence = match.groups()
    if sentence not in SENTENCES:
        raise LabelError("sentence", f"sentence {sentence} is not one of {', '.join(SENTENCES)}")
    folder = file.parts[-2] if len(file.parts) > 1 else ""
    if folder.lower() in SPEAKERS and folder.lower() != speaker:
        raise LabelError("folder", f"the name says speaker {speaker}, the folder says {folder}")
    return Labels(id=file.stem, speaker=speaker, emotion=CODES[code])


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, parse)


def ids() -> frozenset[str]:
    """Return the ids of all published utterances."""
    return frozenset(f"{code}-{speaker}-{sentence}" for code in CODES for speaker in SPEAKERS for sentence in SENTENCES)


READER = Reader(info=INFO, scan=scan, marks=marks_by_name(_NAME), folders=("emovo-corpus",), expected_ids=ids)
