"""IEMOCAP: improvised turns labelled angry, happy, neutral or sad; 5 sessions of two speakers.

The speaker of a turn is its session and the letter after the last ``_`` of its id. The letter in the dialog's name
is the person with the markers. Taking that one for the speaker would give 1142 of the 2280 turns to the other person,
and put the held-out speaker into the training data. Ids vary in length and are never cut at a fixed offset.

``exc`` (excited) is left out; merging it into happy is another task with other counts. Nothing here decodes audio.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tfser.databases.base import DatabaseInfo, Problem, Utterance
from tfser.databases.folders import show
from tfser.databases.reader import Reader, Reading

KEPT = {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"}
"""Labels that are used."""

LEFT_OUT = frozenset({"exc", "fru", "fea", "sur", "dis", "oth", "xxx"})
"""Labels that occur in the corpus and are not used."""

_EMOTIONS = ("angry", "happy", "neutral", "sad")
_TABLE = {
    "Ses01F": (37, 18, 119, 43),
    "Ses01M": (25, 15, 104, 61),
    "Ses02F": (7, 25, 90, 63),
    "Ses02M": (15, 29, 127, 37),
    "Ses03F": (22, 39, 95, 108),
    "Ses03M": (68, 21, 103, 82),
    "Ses04F": (47, 10, 51, 41),
    "Ses04M": (37, 21, 123, 40),
    "Ses05F": (18, 56, 151, 73),
    "Ses05M": (13, 50, 136, 60),
}

INFO = DatabaseInfo(
    name="iemocap",
    title="Interactive Emotional Dyadic Motion Capture Database (IEMOCAP), improvised, four emotions",
    printed="IEMOCAP",
    language="English",
    licence="by the University of Southern California; signed release form",
    citation="C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee and S. S. Narayanan, "
    "IEMOCAP: interactive emotional dyadic motion capture database, Language Resources and Evaluation 42(4), 2008",
    homepage="https://sail.usc.edu/iemocap/",
    how_to_get="request it at the homepage; unpack it so that iemocap/ holds Session1 to Session5",
    layout="labels in Session<n>/dialog/EmoEvaluation/Ses*.txt, audio in Session<n>/sentences/wav/<dialog>/<turn>.wav; "
    "kept: improvised dialogs, ang, hap, neu, sad (exc is not merged); "
    "the speaker is the session and the letter after the turn's last _",
    emotions=_EMOTIONS,
    sampling_rate_hz=16_000,
    expected_emotions={"angry": 289, "happy": 284, "neutral": 1099, "sad": 608},
    expected_speakers={speaker: sum(row) for speaker, row in _TABLE.items()},
    expected_speaker_emotions={speaker: dict(zip(_EMOTIONS, row, strict=True)) for speaker, row in _TABLE.items()},
)

LARGEST_BYTES = 4 << 20
"""A larger label file is refused; the real ones have tens of kilobytes."""

_LINE = re.compile(r"\[\s*(\d+\.\d+)\s*-\s*(\d+\.\d+)\s*\]\s+(\S+)\s+(\w+)\s+\[[^\]]*\]")
_DIALOG = re.compile(r"(Ses0[1-5])[FM]_(?:impro|script)\w+")
_TURN = re.compile(r"[FM][0-9A-Za-z]+")


def speaker_of(turn: str) -> str:
    """Return the speaker of a turn: ``Ses01F_impro01_M003`` is spoken by ``Ses01M``.

    Raises:
        ValueError: the id does not have the corpus's form; the message says what was expected.
    """
    dialog, _, last = turn.rpartition("_")
    match = _DIALOG.fullmatch(dialog)
    if match is None or _TURN.fullmatch(last) is None:
        raise ValueError(
            f"turn {show(turn)!r} is not like Ses01F_impro01_M003 (session, dialog, then F or M and a number)"
        )
    return match[1] + last[0]


def scan(root: Path) -> Reading:
    """Read the folder that holds ``Session1`` to ``Session5``."""
    reading = Reading()
    first: dict[str, str] = {}
    for number in range(1, 6):
        session = root / f"Session{number}"
        for path in _label_files(session, reading):
            for where, turn, label in _turns(path, reading):
                _add(reading, session, f"Ses0{number}", where, turn, label, path.stem, first)
    return reading


def _label_files(session: Path, reading: Reading) -> list[Path]:
    """Return the label files at the top of a session's folder; those below it hold the labels of single raters."""
    folder = session / "dialog" / "EmoEvaluation"
    try:
        with os.scandir(folder) as entries:
            paths = sorted(
                Path(e.path) for e in entries if e.name.startswith("Ses") and e.name.lower().endswith(".txt")
            )
    except OSError as error:
        kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        detail = "this folder of labels is not there" if kind == "missing" else f"cannot be listed: {error.strerror}"
        reading.problems.append(Problem(kind, show(folder), detail))
        return []
    if not paths:
        reading.problems.append(Problem("missing", show(folder), "no label file Ses*.txt is there"))
    return [path for path in paths if "impro" in path.name]


def _turns(path: Path, reading: Reading) -> Iterator[tuple[str, str, str]]:
    """Yield (where, turn, label) for every line that describes a turn."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            reading.problems.append(
                Problem("label", show(path), f"larger than {LARGEST_BYTES >> 20} MiB, which no label file is")
            )
            return
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        what = (
            "a link whose target is not there"
            if path.is_symlink() and not path.exists()
            else error.strerror or str(error)
        )
        reading.problems.append(Problem("unreadable", show(path), f"cannot be read: {what}"))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith("["):
            continue
        where = f"{show(path)} line {number}"
        match = _LINE.fullmatch(line.strip())
        if match is None:
            expected = "[start - end] turn label [valence, activation, dominance]"
            detail = f"{show(line.strip()[:80])!r} is not {expected}; the turn is not used"
            reading.problems.append(Problem("label", where, detail, "line"))
            continue
        yield where, match[3], match[4]


def _add(
    reading: Reading,
    session: Path,
    session_name: str,
    where: str,
    turn: str,
    label: str,
    dialog: str,
    first: dict[str, str],
) -> None:
    """Check one turn and keep it if its label is one of ``KEPT``."""
    if label in LEFT_OUT:
        return
    if label not in KEPT:
        detail = (
            f"label {show(label[:20])!r} is not one of {', '.join([*KEPT, *sorted(LEFT_OUT)])}; the turn is not used"
        )
        reading.problems.append(Problem("label", where, detail, "emotion"))
        return
    try:
        speaker = speaker_of(turn)
    except ValueError as error:
        reading.problems.append(Problem("label", where, f"{error}; it is not used", "turn"))
        return
    if turn.rpartition("_")[0] != dialog or not speaker.startswith(session_name):
        detail = f"turn {turn} belongs to another dialog than {show(dialog)} in {session_name}; it is not used"
        reading.problems.append(Problem("label", where, detail, "dialog"))
        return
    if turn in first:
        reading.problems.append(Problem("duplicate", where, f"turn {turn} is already in {first[turn]}", "id"))
        return
    first[turn] = where
    path = session / "sentences" / "wav" / dialog / f"{turn}.wav"
    if not path.exists():
        flac = path.with_suffix(".flac")
        if not flac.exists():
            broken = "a link whose target is not there" if path.is_symlink() else f"no such file, named in {where}"
            reading.problems.append(Problem("missing", show(path), broken))
            return
        path = flac
    reading.utterances.append(Utterance(id=turn, speaker=speaker, emotion=KEPT[label], session=session_name, path=path))


def marks(folder: Path) -> bool:
    """Tell whether some session's dialogs are there."""
    return any((folder / f"Session{number}" / "dialog").is_dir() for number in range(1, 6))


READER = Reader(info=INFO, scan=scan, marks=marks, folders=("iemocap-full-release", "iemocap-full"))
