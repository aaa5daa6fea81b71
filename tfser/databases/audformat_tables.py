"""A database in audformat, the format of audEERING's tools and of the public audb repository.

Why the ``audformat`` package reads it and not code of ours: a database is a YAML header with schemes, plus one CSV
or Parquet table per view of it, filewise or segmented, whose cells are typed by the schemes; a second reader would get
corners of that wrong without a word. It is MIT-licensed and imported only when such a database is asked for.

Its tables may also lie beside the others as pickles, which audformat would prefer and which can run
code while they are read. They are never opened: the header and the plain tables are shown to audformat in a
temporary folder of links.

Read are columns called ``emotion``, ``speaker`` and optionally ``session`` (or with a scheme of that name), in any
tables; several tables may say the same of a file, not different things. Nothing here decodes audio.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfser.databases.base import DatabaseInfo, Problem, Utterance
from tfser.databases.folders import show
from tfser.databases.manifest import composed, label_problem, name_of, relative_path
from tfser.databases.reader import Reading
from tfser.errors import RequestError
from tfser.yaml_text import check_size

if TYPE_CHECKING:
    import audformat

MOST_VALUES = 5_000_000
"""Values in a header: the largest public databases have some 100,000."""

COLUMNS = ("emotion", "speaker", "session")


def read(root: Path, name: str | None = None) -> tuple[DatabaseInfo, Reading]:
    """Read the folder that holds ``db.yaml``.

    Args:
        root: the folder.
        name: of the database, from a person; that in its header where absent.

    Raises:
        RequestError: the package is absent, or the folder cannot be read as such a database.
    """
    source = f"audformat:{show(root)}"
    if not (root / "db.yaml").is_file():
        raise RequestError(source, [f"{show(root / 'db.yaml')} is not there; name the folder that holds an audformat database's header"])
    _check_header(root / "db.yaml", source)
    try:
        import audformat
    except ImportError:
        raise RequestError(source, ["the package audformat is not installed: pip install audformat"]) from None
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas warns audformat's authors of deprecations; a user can do nothing about them
            pickled = _linked(root, Path(folder))
            if pickled:
                detail = f"{', '.join(pickled)} exist as pickles only, which are not opened; save the database with storage_format='csv'"
                raise RequestError(source, [detail])
            database = audformat.Database.load(folder, load_data=True)
            values = {column: _values(database, column, source) for column in COLUMNS}
    except RequestError:
        raise
    except Exception as error:  # the package raises whatever YAML, pandas and its own checks raise
        raise RequestError(source, [f"audformat cannot read it: {type(error).__name__}: {show(str(error))}"]) from error
    absent = [f"no table has a column {column!r}" for column in ("emotion", "speaker") if not values[column]]
    if absent:
        tables = "; ".join(f"{name}: {', '.join(database.tables[name].columns)}" for name in database.tables)
        raise RequestError(source, [f"{reason}; there are {show(tables)}" for reason in absent])
    reading = _utterances(root, values, source)
    return _info(database, name or name_of(Path(f"{database.name}.yaml")), reading), reading


def _check_header(path: Path, source: str) -> None:
    """Refuse a header on which audformat's YAML reader would hang, end the process, or run code that it holds."""
    try:
        check_size(path.read_text(encoding="utf-8"), MOST_VALUES)
    except (OSError, ValueError) as error:
        raise RequestError(source, [f"{show(path)} cannot be read: {show(str(error))}"]) from None


def _linked(root: Path, folder: Path) -> list[str]:
    """Link the header and plain tables into ``folder``; the tables that exist as pickles only."""
    plain, pickles = set(), set()
    for path in sorted(root.iterdir()):
        if path.name == "db.yaml" or (path.name.startswith("db.") and path.suffix in (".csv", ".parquet")):
            os.symlink(path.resolve(), folder / path.name)
            plain.add(path.stem)
        elif path.name.startswith("db.") and path.suffix == ".pkl":
            pickles.add(path.stem)
    return sorted(show(name) for name in pickles - plain)


def _values(database: audformat.Database, column: str, source: str) -> dict[str, dict[str, list[str]]]:
    """File to value to the tables that say so."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, table in database.tables.items():
        chosen = [key for key, c in table.columns.items() if key == column] or [
            key for key, c in table.columns.items() if c.scheme_id == column
        ]
        for key in chosen[:1]:
            for file, value in _rows(table, key, name, source):
                found[file][value].append(name)
    return found


def _rows(table: Any, column: str, name: str, source: str) -> Iterator[tuple[str, str]]:
    """(file, value) of every row; an empty cell is the empty text."""
    series = table.df[column]
    text = ["" if missing else composed(str(value)) for value, missing in zip(series, series.isna(), strict=True)]
    if table.is_segmented:
        starts = series.index.get_level_values("start").total_seconds()
        ends = series.index.get_level_values("end")
        if (starts != 0).any() or ends.notna().any():
            detail = f"table {show(name)} holds parts of files; cut them into files of their own, or give a filewise table of {column}"
            raise RequestError(source, [detail])
    yield from zip((str(file) for file in series.index.get_level_values("file")), text, strict=True)


def _utterances(root: Path, values: dict[str, dict[str, dict[str, list[str]]]], source: str) -> Reading:
    """One utterance for every file that has an emotion."""
    reading = Reading()
    unlabelled = 0
    for file in sorted(values["emotion"]):
        labels: dict[str, str] = {}
        wrong = []
        for column in COLUMNS:
            said = {value: tables for value, tables in values[column].get(file, {}).items() if value}
            if len(said) > 1:
                wrong.append(f"{column} is " + " but ".join(f"{show(v)} in {', '.join(t)}" for v, t in sorted(said.items())))
            labels[column] = next(iter(said), "")
        if not labels["emotion"]:
            unlabelled += 1
            continue
        relative, why = relative_path(file)
        wrong += [why] if why else []
        wanted = COLUMNS if values["session"] else COLUMNS[:2]
        wrong += [f"{column} {reason}" for column in wanted if (reason := label_problem(labels[column]))]
        if wrong:
            reading.problems.append(Problem("label", f"{source} {show(file)}", "; ".join(wrong)))
        elif not os.path.exists(root / relative):
            reading.problems.append(Problem("missing", show(root / relative), "named in the tables, but not there"))
        else:
            utterance = Utterance(
                id=relative,
                speaker=labels["speaker"],
                emotion=labels["emotion"],
                session=labels["session"] or None,
                path=root / relative,
            )
            reading.utterances.append(utterance)
    if unlabelled:
        reading.problems.append(Problem("note", source, f"{unlabelled} files have no emotion and are not used"))
    return reading


def _info(database: audformat.Database, name: str, reading: Reading) -> DatabaseInfo:
    """What the header says."""
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
