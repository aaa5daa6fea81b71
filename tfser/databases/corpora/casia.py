"""CASIA: the public same-text part of the Chinese emotional corpus, 4 speakers x 6 emotions x 50 texts.

Speaker, emotion and text may be in folders, in the file's name or in both; a file with two different statements is
refused. Nothing here decodes audio.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from tfser.databases.base import DatabaseInfo
from tfser.databases.folders import Found
from tfser.databases.reader import LabelError, Labels, Reader, Reading, marks_by_labels, scan_names

SPEAKERS = ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang")
"""The corpus's own spelling; case does not count."""

EMOTIONS = ("angry", "fear", "happy", "neutral", "sad", "surprise")

TEXTS = range(201, 251)

INFO = DatabaseInfo(
    name="casia",
    title="CASIA Chinese emotional speech corpus (public same-text part)",
    printed="CASIA",
    language="Mandarin",
    licence="by the Institute of Automation, Chinese Academy of Sciences; ask there",
    citation="CASIA Chinese emotional speech corpus, Institute of Automation, Chinese Academy of Sciences, 2005",
    homepage="http://www.chineseldc.org",
    how_to_get="from the Chinese Linguistic Data Consortium; unpack it so that the speakers' folders lie in casia/",
    layout="<speaker>/<emotion>/<nnn>.wav, 201 to 250 in every folder; also <emotion>/201-angry-liuchanhg.wav, "
    "folders above them (such as the one that names the 300 same texts), and normal for neutral; speakers: "
    + ", ".join(SPEAKERS),
    emotions=EMOTIONS,
    sampling_rate_hz=16_000,
    expected_emotions=dict.fromkeys(EMOTIONS, 200),
    expected_speakers=dict.fromkeys(SPEAKERS, 300),
    expected_speaker_emotions={speaker: dict.fromkeys(EMOTIONS, 50) for speaker in SPEAKERS},
    same_texts=True,
)

_SPEAKERS = {speaker.lower(): speaker for speaker in SPEAKERS}
_EMOTIONS = {emotion: emotion for emotion in EMOTIONS} | {"normal": "neutral"}


def parse(file: Found) -> Labels:
    """Read the labels in a file's path."""
    words = [word.lower() for part in (*file.parts[:-1], file.stem) for word in re.split(r"[-_ ]", part)]
    speaker = _one("speaker", {_SPEAKERS[word] for word in words if word in _SPEAKERS}, SPEAKERS)
    emotion = _one("emotion", {_EMOTIONS[word] for word in words if word in _EMOTIONS}, EMOTIONS)
    numbers = re.findall(r"(?<![0-9])[0-9]{3}(?![0-9])", file.stem.replace("相同文本300", ""))
    if len(numbers) != 1 or int(numbers[0]) not in TEXTS:
        raise LabelError("text", f"the name {file.stem!r} holds no text number from {TEXTS[0]} to {TEXTS[-1]}")
    return Labels(id=f"{speaker}/{emotion}/{numbers[0]}", speaker=speaker, emotion=emotion)


def _one(what: str, found: set[str], legal: tuple[str, ...]) -> str:
    if len(found) > 1:
        raise LabelError(f"{what}s", f"its path names {len(found)} {what}s ({', '.join(sorted(found))})")
    if not found:
        raise LabelError(what, f"its path names no {what}; there are {', '.join(legal)}")
    return found.pop()


def scan(root: Path) -> Reading:
    """Read the folder."""
    return scan_names(root, lambda file: parse(_with_root(root, file)))


def _with_root(root: Path, file: Found) -> Found:
    """Put ``root``'s name in front of the file's path: a copy of one speaker's folder alone still names the speaker."""
    return Found(file.path, str(PurePath(root.name) / file.relative)) if root.name.lower() in _SPEAKERS else file


def ids() -> frozenset[str]:
    """Return the ids of all published utterances."""
    return frozenset(f"{speaker}/{emotion}/{text}" for speaker in SPEAKERS for emotion in EMOTIONS for text in TEXTS)


READER = Reader(
    info=INFO,
    scan=scan,
    marks=marks_by_labels(parse, depth=4, at_most=400),
    folders=("casia-corpus", "casia-wave-data", "casia-database"),
    expected_ids=ids,
)
