"""Where studies are kept: Optuna's journal, in a folder or behind a URI, or a database. Knows nothing of trials."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage

from tfser.errors import RequestError, TfserError, in_a_line
from tfser.search.journal import BATCH_S, Journal, StoredJournal
from tfser.storage.passwords import redacted
from tfser.storage.patience import Patience
from tfser.storage.places import Place, make_folder


def open_storage(path: Place, url: str | None = None, say: Callable[[str], None] = lambda text: None) -> BaseStorage:
    """Open the place where a sweep's studies are kept; ``optuna-dashboard`` can open it too.

    The caller holds the sweep's lease, so a lock that is already there was left by a killed driver.

    Args:
        path: the journal file.
        url: a database to use instead, as Optuna takes it.
        say: told when the database or the store does not answer.

    Raises:
        RequestError: the database cannot be opened.
        OSError: the journal cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        what = f"--optuna-storage {redacted(url)}"
        try:
            opened = Patience(what, _is_locked, say)(lambda again: optuna.storages.get_storage(url))
        except Exception as error:  # Optuna passes on whatever the database's driver raises
            reason = str(error) if isinstance(error, TfserError) else in_a_line(error)
            raise RequestError("--optuna-storage", [redacted(reason)]) from None
        return _patient(opened, Patience(what, _passes, say))
    make_folder(path.parent)
    return JournalStorage(Journal(path) if isinstance(path, Path) else StoredJournal(path, say, BATCH_S))


def close_storage(storage: BaseStorage | None, *, store: bool = True) -> None:
    """End the use of what ``open_storage`` returned; a journal behind a URI then stores its last lines.

    Args:
        storage: the storage, if there is one.
        store: whether to store them. A driver that lost its lease must not: they would replace another's.
    """
    journal = getattr(storage, "_backend", None)
    if isinstance(journal, StoredJournal):
        journal.close(store=store)


def _passes(error: Exception) -> bool:
    """Return whether a database may answer later: it is locked or restarting, or the network is down."""
    from sqlalchemy import exc

    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return isinstance(cause, (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError, OSError))


def _is_locked(error: Exception) -> bool:
    """Return whether an SQLite file is there and only busy; a server that does not answer at first may not exist."""
    codes = [getattr(getattr(e, "orig", None), "sqlite_errorcode", 0) & 0xFF for e in (error, error.__cause__)]
    return sqlite3.SQLITE_BUSY in codes or sqlite3.SQLITE_LOCKED in codes


def _patient(storage: BaseStorage, patience: Patience) -> BaseStorage:
    """Make every call of a storage wait for its answer."""

    def asking(method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **named: Any) -> Any:
            def once(again: bool) -> Any:
                try:
                    return method(*arguments, **named)
                except optuna.exceptions.UpdateFinishedTrialError:
                    if again:  # it was written when the answer was lost
                        return True
                    raise

            return patience(once)

        return ask

    for name, _ in inspect.getmembers(BaseStorage, inspect.isfunction):
        if not name.startswith("_"):
            setattr(storage, name, asking(getattr(storage, name)))
    return storage
