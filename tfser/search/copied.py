"""Copies of a sweep's studies in memory, for a plan: to ask them writes nothing where the studies are kept.

The sweep may be running meanwhile; a copy holds what was written until it was made.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage

from tfser.errors import RequestError, in_a_line
from tfser.search.journal import CopiedJournal
from tfser.storage.passwords import redacted
from tfser.storage.places import Place


def copied(path: Place, url: str | None, names: Iterable[str]) -> BaseStorage:
    """Return a copy of a sweep's studies; an empty one where there are none yet.

    Args:
        path: the journal file.
        url: the database that keeps the studies instead, as Optuna takes it.
        names: of the studies in that database.

    Raises:
        RequestError: the database cannot be read.
        OSError: the journal cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        return JournalStorage(CopiedJournal(path))
    try:
        return _of_database(url, names)
    except Exception as error:  # Optuna and SQLAlchemy pass on whatever the database's driver raises
        raise RequestError("--optuna-storage", [redacted(in_a_line(error))]) from None


def _of_database(url: str, names: Iterable[str]) -> BaseStorage:
    copy = InMemoryStorage()
    if not _holds_studies(url):
        return copy
    stored = optuna.storages.get_storage(url)
    there = set(optuna.get_all_study_names(stored))
    for name in names:
        if name in there:
            optuna.copy_study(from_study_name=name, from_storage=stored, to_storage=copy)
    return copy


def _holds_studies(url: str) -> bool:
    """Return whether Optuna has written to a database; to open another one, it would write its tables there."""
    import sqlalchemy

    made = sqlalchemy.make_url(url)
    file = made.database or ""
    if made.get_backend_name() == "sqlite" and not file.startswith("file:") and not Path(file).is_file():
        return False  # SQLite makes a file that is not there
    engine = sqlalchemy.create_engine(made)
    try:
        return bool(sqlalchemy.inspect(engine).has_table("studies"))
    finally:
        engine.dispose()
