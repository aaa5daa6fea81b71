"""A database from a CSV manifest: ``path, speaker, emotion`` and optionally ``session``.

Other columns are ignored. Paths are relative to the manifest's folder, so that ids are the same on every machine.
Absolute paths are accepted if one folder holds them all, or if a column ``id`` names the utterances. Nothing here
decodes audio. A manifest is untrusted: every cell is checked before it becomes a name in a table or a file.
"""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from tfser.databases.base import DatabaseInfo, Problem, Utterance
from tfser.databases.folders import show
from tfser.databases.reader import Reading
from tfser.databases.typed_paths import locate_all
from tfser.errors import RequestError
from tfser.storage.places import RESERVED

REQUIRED = ("path", "speaker", "emotion")
LARGEST_BYTES = 256 << 20
"""A larger manifest is refused."""

_LONGEST = 64
_SIGNS = "_ .+()-"
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Invisible letters and marks, beside the signs of Unicode's category Cf."""

MISSING = re.compile(r"(?!(?-i:Nan)$)(?:nan|nat|none|null|<na>|#?n/a)", re.IGNORECASE)
"""What pandas, NumPy, SQL and spreadsheets write for a cell that is not there. ``NA`` and ``Nan`` may be names."""


NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Legal names of a database, which become parts of folders, files and runs."""


def name_of(path: Path) -> str:
    """Derive a database's name from a file's: lower-case letters, digits, ``-`` and ``_``.

    Raises:
        RequestError: nothing of the name is left.
    """
    slug = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-")[:64]
    if not slug or not slug[0].isalnum() or RESERVED.fullmatch(slug):
        detail = "the database is named after the file, which needs a letter or digit (a-z, 0-9) at the beginning"
        if slug and slug[0].isalnum():
            detail = "the database is named after the file, and Windows has no file of that name"
        detail += f"; choose another, or name the database yourself: NAME={show(path)}"
        raise RequestError(show(path), [detail])
    return slug


def label_problem(value: str) -> str | None:
    """Say why a speaker, emotion or session is refused, or return ``None``.

    The labels become words in tables, file names and tags.
    """
    if not value:
        return "is empty"
    if MISSING.fullmatch(value):
        return (
            f"{value!r} looks like a missing value: write the name or remove the line "
            "(a name that is so spelt needs a further letter or digit)"
        )
    for sign in value:
        if unicodedata.category(sign) in ("Cf", "Cc") or _INVISIBLE.match(sign):
            name = unicodedata.name(sign, "a control character")
            return f"'{show(value[:80])}' holds U+{ord(sign):04X} ({name}), which cannot be seen; remove it"
    if RESERVED.fullmatch(value):
        return f"{value!r} is a name that no file can have on Windows; write another"
    plain = all(sign.isalnum() or sign in _SIGNS or unicodedata.category(sign) in ("Mn", "Mc") for sign in value)
    if not plain or not (value[0].isalnum() or value[0] == "_") or len(value) > _LONGEST or value != value.strip():
        return (
            f"'{show(value[:80])}' is not a plain name (letters with their marks, digits, blanks and . _ + ( ) -, "
            f"at most {_LONGEST}, a letter or digit first)"
        )
    return None


def composed(value: str) -> str:
    """Return a label in composed form (NFC): an accent can be a sign of its own or a part of its letter."""
    return unicodedata.normalize("NFC", value.strip())


def label_problems(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (sort of problem, fault) for every refused label, by column."""
    return [
        (f"{column} {'name' if value else 'empty'}", f"{column} {why}")
        for column, value in labels.items()
        if (why := label_problem(value))
    ]


def read(
    path: Path, info: DatabaseInfo | None = None, name: str | None = None, *, remote: bool = False
) -> tuple[DatabaseInfo, Reading]:
    """Read a manifest.

    Args:
        path: the CSV file.
        info: known facts of the corpus (ABC); by default made from the file.
        name: the database's name from the request; by default the file's.
        remote: whether the file came from a URI; it then may not name other files of this machine.

    Raises:
        RequestError: the file cannot be read as a manifest at all. An unusable line is a problem of the reading, with
            its number.
    """
    reading = Reading()
    rows = list(_rows(path, reading))
    _check_sessions(path, rows, reading)
    ids = [cells["id"] for _, cells in rows] if rows and "id" in rows[0][1] else None
    located = locate_all([cells["path"] for _, cells in rows], path.parent, ids, remote=remote)
    first: dict[str, int] = {}
    for (line, cells), found in zip(rows, located, strict=True):
        where = f"{show(path)} line {line}"
        columns = ("speaker", "emotion", "session") if cells.get("session") else ("speaker", "emotion")
        wrong = label_problems({column: cells[column] for column in columns})
        if found.refusal:
            wrong.append((found.about, found.refusal))
        if wrong:
            reading.problems += [Problem("label", where, detail, about) for about, detail in wrong]
            continue
        if found.id in first:
            detail = f"{show(found.id)} is already on line {first[found.id]}"
            reading.problems.append(Problem("duplicate", where, detail, "id"))
            continue
        first[found.id] = line
        if not os.path.exists(found.path):
            reading.problems.append(Problem("missing", where, _missing(found.path)))
            continue
        session = cells.get("session") or None
        reading.utterances.append(
            Utterance(id=found.id, speaker=cells["speaker"], emotion=cells["emotion"], session=session, path=found.path)
        )
    return info or _info(path, name or name_of(path), reading.utterances), reading


def _rows(path: Path, reading: Reading) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column) for every line with the right number of cells."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not there"
            raise RequestError(
                show(path), [f"a manifest is a CSV file with the columns {', '.join(REQUIRED)}; this is {what}"]
            )
        if path.stat().st_size > LARGEST_BYTES:
            raise RequestError(show(path), [f"it is larger than {LARGEST_BYTES >> 20} MiB, which no manifest is"])
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise RequestError(show(path), [f"cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RequestError(
            show(path), [f"line {line}: byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8"]
        ) from None
    written = io.StringIO(text, newline="").readlines()
    table = csv.reader(written, strict=True)
    begun, header = 1, None
    while True:
        begun = table.line_num + 1
        try:
            cells = next(table, None)
        except csv.Error as error:
            problem = f"line {begun}: {error}; it and what follows cannot be read"
            if header is None:
                raise RequestError(show(path), [problem]) from None
            detail = f"{error}; it and what follows cannot be read"
            reading.problems.append(Problem("label", f"{show(path)} line {begun}", detail, "quotes"))
            return
        if cells is None:
            break
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(path, cells)
        elif len(cells) != len(header) and (
            len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :])
        ):
            detail = f"{len(cells)} cells, but the header has {len(header)}; a name with a comma needs quotes"
            reading.problems.append(Problem("label", f"{show(path)} line {begun}", detail, "cells"))
        elif _swallows(written[begun - 1 : table.line_num], header, cells):
            detail = f"it and the lines to {table.line_num} are one record; is a quote missing?"
            reading.problems.append(Problem("label", f"{show(path)} line {begun}", detail, "one record"))
        else:
            labels = {
                column: cell.strip() if column == "path" else composed(cell)
                for column, cell in zip(header, cells, strict=False)
            }
            yield begun, labels
    if header is None:
        raise RequestError(show(path), [f"it is empty; the first line must name the columns {', '.join(REQUIRED)}"])


def _swallows(lines: list[str], header: list[str], cells: list[str]) -> bool:
    """Tell whether a line behind the first of a record seems to be a record of its own.

    A transcript may have several lines, with commas in them, but in none of them a path like the record's.
    """
    at = header.index("path")
    suffix = os.path.splitext(cells[at].strip())[1].lower()
    for line in lines[1:]:
        parts = next(csv.reader([line]), [])
        if suffix and len(parts) >= len(header) and os.path.splitext(parts[at].strip())[1].lower() == suffix:
            return True
    return False


def _header(path: Path, cells: list[str]) -> list[str]:
    """Return the columns in lower case."""
    header = [cell.strip().lower() for cell in cells]
    problems = [
        f"line 1: no column {column!r}; there are {', '.join(map(show, header))}"
        for column in REQUIRED
        if column not in header
    ]
    problems += [
        f"line 1: column {show(c)!r} is there twice" for c in dict.fromkeys(header) if c and header.count(c) > 1
    ]
    if problems:
        if len(cells) == 1 and (";" in cells[0] or "\t" in cells[0]):
            problems.append("line 1: cells are separated by commas, not by semicolons or tabs")
        raise RequestError(show(path), problems)
    return header


def _missing(file: Path) -> str:
    """Say what is missing."""
    if os.path.islink(file):
        return f"{show(file)} is a link whose target is not there"
    return f"{show(file)} is not there"


def _check_sessions(path: Path, rows: list[tuple[int, dict[str, str]]], reading: Reading) -> None:
    """Require that all lines or none have a session: leave-one-session-out would silently lose the others."""
    without = [line for line, cells in rows if not cells.get("session")]
    if without and len(without) < len(rows):
        detail = f"no session, while {len(rows) - len(without)} other lines have one"
        reading.problems += [Problem("label", f"{show(path)} line {line}", detail, "no session") for line in without]


def _info(path: Path, name: str, utterances: list[Utterance]) -> DatabaseInfo:
    """Collect the facts in a manifest."""
    return DatabaseInfo(
        name=name,
        title=f"manifest {show(path.name)}",
        language="not stated",
        licence="not stated",
        citation="",
        homepage="",
        how_to_get="",
        layout="a CSV file with the columns path, speaker, emotion and optionally session; paths relative to it",
        emotions=tuple(sorted({utterance.emotion for utterance in utterances})),
    )
