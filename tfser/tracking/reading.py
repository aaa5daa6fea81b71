"""Reads back what was trained: from the ledger where there is one at hand, else from MLflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tfser.errors import RequestError, TfserError, unknown
from tfser.execution import rows
from tfser.execution.newest import newest
from tfser.execution.results import Results
from tfser.execution.rows import Row
from tfser.record import Entry
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place
from tfser.tracking.names import every_key
from tfser.tracking.run_reader import RunReader

READERS = 8
"""Entries fetched side by side: through a server each takes a request."""


class _MissingError(TfserError):
    """Something finished that cannot be read; the text says what, and where it was looked for."""


def from_mlflow(uri: str, wanted: Sequence[str] = ()) -> list[Results]:
    """Read results from MLflow alone, one value per sweep or database (see ``gather``).

    Args:
        uri: the tracking URI.
        wanted: names of sweeps or databases; empty is every sweep.

    Raises:
        RequestError: a name that no run has, or an MLflow that cannot be read.
        TfserError: artifacts are missing, or MLflow contradicts itself.
    """
    found, missing = gather(None, uri, wanted)
    if missing:
        raise TfserError("\n".join(missing))
    return found


def gather(
    storage: Place | None, uri: str | None, wanted: Sequence[str] = (), warn: Callable[[str], None] = lambda text: None
) -> tuple[list[Results], list[str]]:
    """Read results of sweeps and databases from the ledger, and from MLflow what no ledger at hand holds.

    Args:
        storage: holds the ledger and what is kept beside it; ``None`` for none at hand.
        uri: MLflow's; ``None`` for none.
        wanted: names of sweeps or databases; empty is every sweep.
        warn: called with a sentence when the ledger's rows have to do without MLflow.

    Returns:
        A value per name, or one per state of a database that has several. A name whose tables would lack finished
        trials has no value but a sentence that says why.

    Raises:
        RequestError: an unknown name, or an MLflow that cannot be read and holds what the ledger lacks.
    """
    kept, reader = _sources(storage, uri, wanted, warn)
    return _gathered(storage, reader, kept, wanted)


def _sources(
    storage: Place | None, uri: str | None, wanted: Sequence[str], warn: Callable[[str], None]
) -> tuple[list[Row], RunReader | None]:
    """Return the rows beside the ledger, and the reader of MLflow where that can be read."""
    kept = rows.every(storage) if storage is not None else []
    names = {name for row in kept for name in (row.sweep, row.configuration.database, row.configuration.data)}
    try:
        reader = RunReader(uri, storage) if uri is not None else None
    except RequestError as error:
        if not kept or not set(wanted) <= names:
            raise
        warn(f"The tables are made from the ledger, because MLflow cannot be read: {'; '.join(error.problems)}")
        reader = None
    return kept, reader


def _places(
    storage: Place | None, reader: RunReader | None, kept: Sequence[Row], wanted: Sequence[str]
) -> tuple[list[Any], Ledger | None]:
    """Return the runs of rows in MLflow, and the ledger.

    Raises:
        RequestError: a name that neither knows.
    """
    parents = reader.parents if reader is not None else []
    sweeps = {row.sweep for row in kept} | {run.data.tags["tfser.sweep"] for run in parents}
    databases = {name for row in kept for name in (row.configuration.database, row.configuration.data)}
    databases |= {run.data.tags["tfser.database"] for run in parents}
    names = sweeps | databases
    problems = [unknown("SWEEP or DATABASE", name, names) for name in wanted if name not in names]
    if not sweeps:
        problems = ["it holds no tfser run; run a sweep first, or name another store with --tracking-uri"]
    if problems:
        raise RequestError(reader.source if reader is not None else f"storage {storage}", problems)
    return list(parents), Ledger(storage / "ledger") if storage is not None else None


def _of_name(name: str, kept: Sequence[Row], parents: Sequence[Any]) -> tuple[list[Row], list[Any]]:
    """Return the rows and the runs of a sweep or, where no sweep has that name, of a database."""
    sweeps = {row.sweep for row in kept} | {run.data.tags["tfser.sweep"] for run in parents}
    if name in sweeps:
        own = [row for row in kept if name == row.sweep]
    else:
        own = [row for row in kept if name in (row.configuration.database, row.configuration.data)]
    tag = "tfser.sweep" if name in sweeps else "tfser.database"
    return own, [run for run in parents if run.data.tags[tag] == name]


def _left(name: str, error: _MissingError) -> str:
    return f"{name}: its tables are left as they are, because finished trials cannot be read:\n  - {error}"


def _no_results(kept: Sequence[Row]) -> str:
    """Return why a name has no tables, in words."""
    if any(row.deploy for row in kept):
        return "it holds a model for use and no result of a fold; its command without --purpose deploy trains those"
    return "it was stopped before it had a trial; the command of its sweep goes on"


def _gathered(
    storage: Place | None, reader: RunReader | None, kept: Sequence[Row], wanted: Sequence[str]
) -> tuple[list[Results], list[str]]:
    parents, ledger = _places(storage, reader, kept, wanted)
    sweeps = {row.sweep for row in kept} | {run.data.tags["tfser.sweep"] for run in parents}
    found: list[Results] = []
    missing: list[str] = []
    for name in wanted or sorted(sweeps):
        own, of_name = _of_name(name, kept, parents)
        try:
            made = rows.assembled(name, *_read(own, of_name, ledger, reader))
        except _MissingError as error:
            missing.append(_left(name, error))
            continue
        found += made
        if not made and wanted:
            missing.append(f"{name}: {_no_results(own)}")
    return found, missing if found or missing else ["nothing has been trained yet; the command of a sweep goes on"]


def gather_together(
    storage: Place | None, uri: str | None, wanted: Sequence[str], warn: Callable[[str], None] = lambda text: None
) -> tuple[Results | None, list[str], list[str]]:
    """Read results of several sweeps and databases as one set, with the newest whole row of each key.

    Args:
        storage: as for ``gather``.
        uri: as for ``gather``.
        wanted: the names; rows that belong to two of them count once.
        warn: as for ``gather``.

    Returns:
        The results under all names joined by ``+``; the rows that were left out; and why there is no value, which is
        so where a name's finished trials cannot be read.

    Raises:
        RequestError: as for ``gather``.
    """
    kept, reader = _sources(storage, uri, wanted, warn)
    parents, ledger = _places(storage, reader, kept, wanted)
    made: dict[tuple[str, tuple[str, ...]], Row] = {}
    entries: dict[str, Entry] = {}
    runs: dict[str, str] = {}
    missing: list[str] = []
    for name in wanted:
        own, of_name = _of_name(name, kept, parents)
        try:
            found, finals, of_finals = _read(own, of_name, ledger, reader)
        except _MissingError as error:
            missing.append(_left(name, error))
            continue
        made |= {(row.sweep, row.configuration.key): row for row in found}
        entries |= finals
        runs |= of_finals
    if missing:
        return None, [], missing
    chosen, left = newest([*made.values()], entries)
    joined = rows.assembled("+".join(wanted)[:LONGEST], chosen, entries, runs, apart=False)
    return (joined[0], left, []) if joined else (None, left, ["nothing has been trained yet"])


LONGEST = 120
"""Most characters of the name of a set of several."""


def older_rows(storage: Place, uri: str, sweep: str) -> list[Row]:
    """Read from MLflow the rows of a sweep that an earlier version did not keep beside the ledger.

    Raises:
        RequestError: MLflow cannot be read.
        TfserError: it knows of finished trials that neither it nor the ledger holds.
    """
    reader = RunReader(uri, storage)
    parents = reader.of_sweep(sweep)
    return _read([], parents, Ledger(storage / "ledger"), reader)[0] if parents else []


def with_runs(results: Results, storage: Place, uri: str) -> Results:
    """Return a sweep's results with the ids of their MLflow runs.

    Args:
        results: of one sweep.
        storage: holds the sweep's ledger.
        uri: MLflow's.

    Raises:
        RequestError: MLflow cannot be read.
    """
    reader = RunReader(uri, storage)
    parents = {run.data.tags["tfser.key"]: run.info.run_id for run in reader.of_sweep(results.sweep)}
    children = reader.children({results.sweep})
    runs = {key: children[e.trial_id].info.run_id for key, e in results.entries.items() if e.trial_id in children}
    row_runs = {c: parents[key] for c in results.configurations for key in every_key(c)[::-1] if key in parents}
    return replace(results, runs=runs, row_runs=row_runs)


def _read(
    kept: Sequence[Row], parents: Sequence[Any], ledger: Ledger | None, reader: RunReader | None
) -> tuple[list[Row], dict[str, Entry], dict[str, str]]:
    """Return rows, the entries of their trials by id, and the ids of their trials' runs.

    Args:
        kept: rows that are kept beside the ledger.
        parents: the runs in MLflow of these rows and of further ones.
        ledger: where trials are read from first.
        reader: reads rows and trials that are not there, and the ids of runs.

    Raises:
        _MissingError: a finished trial or row cannot be read.
    """
    missing: dict[str, list[str]] = defaultdict(list)
    runs = {(run.data.tags["tfser.sweep"], run.data.tags["tfser.key"]): run for run in parents}
    made: list[Row] = []
    for row in kept:
        keys = [(row.sweep, key) for key in every_key(row.configuration)]
        own = [runs.pop(key).info.run_id for key in keys if key in runs]
        made.append(replace(row, run=own[0] if own else ""))
    if reader is not None:
        read = [reader.row(run, missing) for run in runs.values()]
        made += [row for row in read if row is not None]
    entries, run_ids = _entries(made, ledger, reader, missing)
    if missing:
        elsewhere = f"; the ledger {ledger.root} does not hold them either" if ledger is not None else ""
        lines = [f"{len(found)} x {what}, such as {found[0]}{elsewhere}" for what, found in sorted(missing.items())]
        raise _MissingError("\n  - ".join(lines))
    digests = {run.info.run_id: run.data.params.get("database_digest", "") for run in runs.values()}
    whole = [rows.identified(row, entries, digests.get(row.run, "")) for row in made]
    return rows.current(whole), entries, run_ids


def _entries(
    made: Sequence[Row], ledger: Ledger | None, reader: RunReader | None, missing: Mapping[str, list[str]]
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the entries of the rows' trials, and the ids of their runs, by trial id."""
    trials = sorted({trial for row in made for seeds in row.finals.values() for trial in seeds.values()})
    entries: dict[str, Entry] = {}
    run_ids: dict[str, str] = {}
    with ThreadPoolExecutor(READERS) as threads:
        if ledger is not None:
            read = zip(trials, ledger.each(trials), strict=True)
            entries = {trial: entry for trial, entry in read if entry is not None}
        if reader is not None:
            children = reader.children({row.sweep for row in made})
            run_ids = {trial: children[trial].info.run_id for trial in trials if trial in children}
            rest = [trial for trial in run_ids if trial not in entries]
            fetched = threads.map(reader.entry, [children[trial] for trial in rest], [missing] * len(rest))
            entries |= {trial: entry for trial, entry in zip(rest, fetched, strict=True) if entry is not None}
    return entries, run_ids
