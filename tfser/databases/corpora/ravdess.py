"""RAVDESS, speech part: 24 actors, 8 emotions, audio only. Songs and videos beside it are left out.

The published number of utterances is a full grid. Nothing here decodes audio.
"""

from __future__ import annotations

import re
from pathlib import Path

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_name, scan_names

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
"""Emotions by the third number of a file's name."""

ACTORS = tuple(f"{n:02d}" for n in range(1, 25))

INFO = DatabaseInfo(
    name="ravdess",
    title="Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), speech",
    printed="RAVDESS",
    language="English (North American)",
    licence="CC BY-NC-SA 4.0",
    citation="S. R. Livingstone and F. A. Russo, "
    "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), "
    "PLoS ONE 13(5), 2018",
    homepage="https://zenodo.org/record/1188976",
    how_to_get="free download from the homepage: Audio_Speech_Actors_01-24.zip; unpack it into ravdess/",
    layout="Actor_<nn>/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav, "
    "03-01-06-01-02-01-12: "
    "audio only (03), speech (01), fearful (06); songs (channel 02) are left out; emotions: "
    + ", ".join(f"{code} {word}" for code, word in EMOTIONS.items()),
    emotions=tuple(EMOTIONS.values()),
    sampling_rate_hz=48_000,
    expected_emotions={word: 96 if word == "neutral" else 192 for word in EMOTIONS.values()},
    expected_speakers=dict.fromkeys(ACTORS, 60),
    expected_speaker_emotions={
        actor: {word: 4 if word == "neutral" else 8 for word in EMOTIONS.values()} for actor in ACTORS
    },
    same_texts=True,
)

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def parse(file: Found) -> Labels | None:
    """Read the labels in a file's name; return ``None`` for a song."""
    match = _NAME.fullmatch(file.stem)
    if match is None:
        raise LabelError(
            "name", f"the name {file.stem!r} is not seven numbers of two digits, like 03-01-06-01-02-01-12"
        )
    modality, channel, emotion, _, _, _, actor = match.groups()
    if modality == "03" and channel == "02":
        return None
    if (modality, channel) != ("03", "01"):
        raise LabelError("modality", f"modality {modality} and channel {channel}; audio-only speech is 03-01")
    if emotion not in EMOTIONS:
        raise LabelError("emotion", f"emotion {emotion} is not one of {', '.join(EMOTIONS)}")
    if actor not in ACTORS:
        raise LabelError("speaker", f"actor {actor} is not one of 01 to 24")
    folders = {part.lower() for part in file.parts[:-1] if re.fullmatch(r"actor_\d\d", part.lower())}
    if folders - {f"actor_{actor}"}:
        raise LabelError("folder", f"the name says actor {actor}, the folder says {', '.join(sorted(folders))}")
    return Labels(id=file.stem, speaker=actor, emotion=EMOTIONS[emotion])


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, parse)


def ids() -> frozenset[str]:
    """Return the ids of all published utterances: neutral exists in normal intensity (01) only."""
    return frozenset(
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}"
        for actor in ACTORS
        for emotion in EMOTIONS
        for intensity in (("01",) if emotion == "01" else ("01", "02"))
        for statement in ("01", "02")
        for repetition in ("01", "02")
    )


_FOLDERS = ("audio_speech_actors_01-24", "ravdess-speech", "ravdess-emotional-speech-audio")
READER = Reader(info=INFO, scan=scan, marks=marks_by_name(_NAME), folders=_FOLDERS, expected_ids=ids)
