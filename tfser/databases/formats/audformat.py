"""A database in audformat, the format of audEERING's tools and of the public audb repository.

The ``audformat`` package reads the YAML header. It is MIT-licensed, and is imported only for such a database. The
tables are read here, as text, because the package types their cells: the speakers ``3`` and ``03`` become one, a
missing cell turns ``3`` into ``3.0``, and a value outside its scheme becomes no value.

There may also be tables as pickles, which can run code while they are read. They are never opened.

Columns called ``emotion``, ``speaker`` and optionally ``session`` (or with a scheme of that name) are read, in any
tables. Several tables may repeat a file's label but not contradict each other. Nothing here decodes audio.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfser.databases.base import DatabaseInfo, Problem, Utterance
from tfser.databases.folders import show
from tfser.databases.formats.manifest import composed, label_problems, name_of
from tfser.databases.reader import Reading
from tfser.databases.typed_paths import locate_all
from tfser.errors import RequestError, counted

if TYPE_CHECKING:
    import audformat
    import pandas as pd  # type: ignore[import-untyped]

MOST_VALUES = 5_000_000
"""Most values in a header; the largest public databases have some 100,000."""

COLUMNS = ("emotion", "speaker", "session")


def read(root: Path, name: str | None = None, *, remote: bool = False) -> tuple[DatabaseInfo, Reading]:
    """Read the folder that holds ``db.yaml``.

    Args:
        root: the folder.
        name: the database's name from the request; by default the one in its header.
        remote: whether it came from a URI; its tables then may not name other files of this machine.

    Raises:
        RequestError: the package is absent, or the folder cannot be read as such a database.
    """
    source = f"audformat:{show(root)}"
    if not (root / "db.yaml").is_file():
        raise RequestError(
            source,
            [f"{show(root / 'db.yaml')} is not there; name the folder that holds an audformat database's header"],
        )
    _check_header(root / "db.yaml", source)
    try:
        import audformat
    except ImportError:
        raise RequestError(source, ["the package audformat is not installed: pip install audformat"]) from None
    try:
        with warnings.catch_warnings():
            # pandas warns audformat's authors of deprecations; a user can do nothing about them.
            warnings.simplefilter("ignore")
            database = audformat.Database.load(str(root))
            pickled = sorted(
                show(name) for name in database.tables if not _plain(root, name) and (root / f"db.{name}.pkl").exists()
            )
            if pickled:
                advice = "save the database with storage_format='csv'"
                detail = f"{', '.join(pickled)} exist as pickles only, which are not opened; {advice}"
                raise RequestError(source, [detail])
            reading = Reading()
            values = {column: _values(database, root, column, source, reading) for column in COLUMNS}
    except RequestError:
        raise
    except Exception as error:  # the package raises whatever YAML, pandas and its own checks raise
        raise RequestError(source, [f"audformat cannot read it: {type(error).__name__}: {show(str(error))}"]) from error
    absent = [f"no table has a column {column!r}" for column in ("emotion", "speaker") if not values[column]]
    if absent:
        tables = "; ".join(f"{name}: {', '.join(database.tables[name].columns)}" for name in database.tables)
        raise RequestError(source, [f"{reason}; there are {show(tables)}" for reason in absent])
    _add_utterances(reading, root, values, source, remote)
    return _info(database, name or name_of(Path(f"{database.name}.yaml")), reading), reading


def _check_header(path: Path, source: str) -> None:
    """Refuse a header that would make audformat's YAML reader hang, crash the process, or run code."""
    from tfser.storage.yaml_text import check_size  # late: a machine that only trains has no PyYAML

    try:
        check_size(path.read_text(encoding="utf-8"), MOST_VALUES)
    except (OSError, ValueError) as error:
        raise RequestError(source, [f"{show(path)} cannot be read: {show(str(error))}"]) from None


def _plain(root: Path, name: str) -> Path | None:
    """Return the file of a table that is not a pickle; Parquet before CSV, as the package does."""
    return next((path for kind in ("parquet", "csv") if (path := root / f"db.{name}.{kind}").exists()), None)


def _values(
    database: audformat.Database, root: Path, column: str, source: str, reading: Reading
) -> dict[str, dict[str, list[str]]]:
    """Return, by file and value, the tables that state it; a value outside its scheme is a problem of the reading."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, table in database.tables.items():
        chosen = [key for key, c in table.columns.items() if key == column] or [
            key for key, c in table.columns.items() if c.scheme_id == column
        ]
        for key in chosen[:1]:
            legal = _legal(database, root, table.columns[key].scheme_id)
            for file, value in _rows(table, _cells(root, name), key, name, source):
                found[file][value].append(name)
                if value and legal is not None and value not in legal:
                    reading.problems.append(
                        _outside(f"{source} {show(file)}", column, value, name, table.columns[key].scheme_id, legal)
                    )
    return found


def _legal(database: audformat.Database, root: Path, scheme: str | None) -> list[str] | None:
    """Return the labels of a scheme as text, or ``None`` if it does not list them."""
    labels = database.schemes[scheme].labels if scheme in database.schemes else None
    if labels is None:
        return None
    if isinstance(labels, str):  # the name of a table, whose first column holds them
        cells = _cells(root, labels)
        return [composed(label) for label in _text(cells[cells.columns[0]])]
    return [composed(str(label)) for label in labels]


def _outside(where: str, column: str, value: str, table: str, scheme: str, legal: list[str]) -> Problem:
    """Describe a value that its scheme does not list."""
    hint = ""
    if {"True", "False"} & set(legal) and value.lower() in ("yes", "no", "on", "off", "true", "false", "y", "n"):
        hint = f"; YAML reads a bare {value} as true or false: write it in quotes in db.yaml"
    elif "None" in legal and value.lower() in ("null", "none", "~"):
        hint = f"; YAML reads a bare {value} as nothing: write it in quotes in db.yaml"
    labels = show(", ".join(legal))
    value_is = f"{column} {show(value)!r} in table {show(table)}"
    detail = f"{value_is} is not a label of the scheme {scheme} ({labels}){hint}"
    return Problem("label", where, detail, f"{column} outside its scheme")


def _cells(root: Path, name: str) -> pd.DataFrame:
    """Return a table as written: a CSV file's cells are text, never a number or a missing value."""
    import pandas as pd

    path = _plain(root, name)
    if path is None:
        raise FileNotFoundError(f"db.{name}.csv is not there, nor db.{name}.parquet")
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    table = pd.read_parquet(path)
    return table.reset_index() if "file" not in table.columns and "file" in table.index.names else table


def _text(column: pd.Series) -> list[str]:
    """Return cells as text: a missing one is empty, and a whole number stored as a float has no decimals."""
    missing = column.isna()
    whole = [isinstance(value, float) and value.is_integer() for value in column]
    return [
        "" if nothing else str(int(value) if number else value).strip()
        for value, nothing, number in zip(column, missing, whole, strict=True)
    ]


def _rows(table: Any, cells: pd.DataFrame, column: str, name: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield (file, value) for every row; an empty cell is the empty text."""
    absent = [key for key in ("file", column) if key not in cells.columns]
    if absent:
        there = ", ".join(map(str, cells.columns))
        raise RequestError(
            source, [f"table {show(name)} has no column {absent[0]!r}, which db.yaml names; there are {show(there)}"]
        )
    if table.is_segmented and not (
        {_seconds(v) for v in cells["start"]} <= {0.0} and {_seconds(v) for v in cells["end"]} <= {None}
    ):
        advice = f"cut them into files of their own, or give a filewise table of {column}"
        detail = f"table {show(name)} holds parts of files; {advice}"
        raise RequestError(source, [detail])
    yield from zip(_text(cells["file"]), map(composed, _text(cells[column])), strict=True)


def _seconds(value: Any) -> float | None:
    """Return a time in seconds; ``None`` for an empty cell, the end of the file."""
    import pandas as pd

    time = pd.to_timedelta(value or None)
    return None if pd.isna(time) else float(time.total_seconds())


def _add_utterances(
    reading: Reading, root: Path, values: dict[str, dict[str, dict[str, list[str]]]], source: str, remote: bool
) -> None:
    """Add one utterance for every file that has an emotion."""
    files = sorted(values["emotion"])
    refused = {problem.path for problem in reading.problems}
    unlabelled = 0
    for file, found in zip(files, locate_all(files, root, remote=remote), strict=True):
        where = f"{source} {show(file)}"
        labels: dict[str, str] = {}
        wrong = []
        for column in COLUMNS:
            said = {value: tables for value, tables in values[column].get(file, {}).items() if value}
            if len(said) > 1:
                texts = " but ".join(f"{show(v)} in {', '.join(t)}" for v, t in sorted(said.items()))
                wrong.append((f"{column} twice", f"{column} is {texts}"))
            labels[column] = next(iter(said), "")
        if not labels["emotion"]:
            unlabelled += 1
            continue
        if found.refusal:
            wrong.append((found.about, found.refusal))
        wanted = COLUMNS if values["session"] else COLUMNS[:2]
        wrong += label_problems({column: labels[column] for column in wanted})
        if wrong:
            reading.problems += [Problem("label", where, detail, about) for about, detail in wrong]
        elif where in refused:
            continue
        elif not os.path.exists(found.path):
            reading.problems.append(Problem("missing", show(found.path), "named in the tables, but not there"))
        else:
            session = labels["session"] or None
            reading.utterances.append(
                Utterance(
                    id=found.id, speaker=labels["speaker"], emotion=labels["emotion"], session=session, path=found.path
                )
            )
    if unlabelled:
        have, are = ("has", "is") if unlabelled == 1 else ("have", "are")
        reading.remark = f"{counted(unlabelled, 'file')} {have} no emotion and {are} not used"
        reading.problems.append(Problem("note", source, reading.remark, "unlabelled"))


def _info(database: audformat.Database, name: str, reading: Reading) -> DatabaseInfo:
    """Collect the facts in the header."""
    return DatabaseInfo(
        name=name,
        title=f"{database.name} (audformat)",
        language=", ".join(database.languages or []) or "not stated",
        licence=str(database.license or "not stated"),
        citation=str(database.author or ""),
        homepage=str(database.source or ""),
        how_to_get="",
        layout="audformat: db.yaml and tables with the columns emotion, speaker and optionally session",
        emotions=tuple(sorted({utterance.emotion for utterance in reading.utterances})),
    )
