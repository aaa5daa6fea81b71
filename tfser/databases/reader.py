"""Types for the readers of corpora, and what several readers share; a reader returns utterances and all problems.

Nothing here knows a particular corpus, and nothing here decodes audio.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tfser.databases.base import HARMLESS_KINDS, Database, DatabaseInfo, Problem, Utterance
from tfser.databases.folders import Found, listing, show
from tfser.errors import counted

NAMED = 12
"""Most places that a message's line names; it counts the others."""


@dataclass(slots=True)
class Reading:
    """The result of reading a copy on disk."""

    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remark: str = ""
    """A remark on this copy for every place that shows a result on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The way in which one corpus is found and read."""

    info: DatabaseInfo
    scan: Callable[[Path], Reading] | None = None
    """Reads labels and existence, without audio, in the corpus's own folder."""
    marks: Callable[[Path], bool] | None = None
    """Tells quickly whether a folder of any name holds this corpus."""
    make: Callable[[], Database] | None = None
    """Makes a database that needs no folder, instead of ``scan`` and ``marks``."""
    folders: tuple[str, ...] = ()
    """Further names of its folder beside ``info.name``; case, blanks, ``-``, ``_`` and ``.`` do not count."""
    expected_ids: Callable[[], frozenset[str]] | None = None
    """Returns every published utterance id, if the corpus is a full grid."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels in a file's name."""

    id: str
    speaker: str
    emotion: str
    session: str | None = None


class LabelError(Exception):
    """A name that does not follow the corpus's code.

    Args:
        about: the part of the code that it does not follow.
        text: what was read and what was expected.
    """

    def __init__(self, about: str, text: str) -> None:
        super().__init__(about, text)

    def __str__(self) -> str:
        return str(self.args[1])


def scan_names(
    root: Path, parse: Callable[[Found], Labels | None], extensions: tuple[str, ...] = (".wav", ".flac")
) -> Reading:
    """Read a corpus whose labels are in its file names.

    Args:
        root: the corpus's folder.
        parse: turns a file into its labels; ``None`` for a file known not to belong; ``LabelError`` for any other.
        extensions: lower case, with the dot.
    """
    found, problems = listing(root, extensions)
    reading = Reading(problems=problems)
    seen: dict[str, Found] = {}
    for file in found:
        try:
            labels = parse(file)
        except LabelError as error:
            reading.problems.append(Problem("label", show(file.path), f"{error}; it is not used", str(error.args[0])))
            continue
        if labels is None:
            continue
        if labels.id in seen:
            other = show(seen[labels.id].relative)
            detail = f"{labels.id} is also {other}; keep one of the two, or name the folder that holds one copy"
            reading.problems.append(Problem("duplicate", show(file.path), detail, "id"))
            continue
        seen[labels.id] = file
        utterance = Utterance(
            id=labels.id, speaker=labels.speaker, emotion=labels.emotion, session=labels.session, path=file.path
        )
        reading.utterances.append(utterance)
    return reading


def marks_by_name(pattern: re.Pattern[str]) -> Callable[[Path], bool]:
    """Return a check for an audio file, at most two folders down, whose name without extension matches ``pattern``."""

    def marks(folder: Path) -> bool:
        found, _ = listing(folder, (".wav", ".flac"), depth=2, at_most=2000)
        return any(pattern.fullmatch(file.stem) for file in found)

    return marks


def marks_by_labels(parse: Callable[[Found], Labels], depth: int, at_most: int) -> Callable[[Path], bool]:
    """Return a check for an audio file that carries the corpus's labels, in its name or its folders.

    Args:
        parse: turns a file into its labels, or raises ``LabelError``.
        depth: how deep folders are searched.
        at_most: most files that are looked at.
    """

    def carries(file: Found) -> bool:
        try:
            parse(file)
        except LabelError:
            return False
        return True

    return lambda folder: any(map(carries, listing(folder, (".wav", ".flac"), depth=depth, at_most=at_most)[0]))


def harmful(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems that make a database unfit for use."""
    return [problem for problem in problems if problem.kind not in HARMLESS_KINDS]


def lines(problems: Iterable[Problem]) -> list[str]:
    """Return a line for every kind and sort of problem: the first one, the number of them, and the other places."""
    return [line(*same) for same in sorts(problems)]


def sorts(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Group problems of the same kind and sort, in the order in which each was first met."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.kind, problem.about), []).append(problem)
    return list(groups.values())


def line(first: Problem, *others: Problem) -> str:
    """Return the line of problems of one kind and sort."""
    if not others:
        return str(first)
    places = [place for place in dict.fromkeys(p.path for p in others) if place != first.path]
    stem, in_lines, _ = first.path.rpartition(" line ")
    if in_lines and all(place.startswith(f"{stem} line ") for place in places):
        places = [place.removeprefix(f"{stem} ") for place in places]
    more = [f"{len(places) - NAMED} more"] if len(places) > NAMED else []
    also = f"; also {', '.join(places[:NAMED] + more)}" if places else ""
    return f"{first} ({1 + len(others)} of this kind{also})"


def go_on(utterances: int) -> str:
    """Return how to go on with a database that is refused."""
    readable = counted(utterances, "utterance")
    return f"(--allow-incomplete goes on with the {readable} that can be read; every table then says so)"
