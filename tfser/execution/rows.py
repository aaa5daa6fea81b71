"""A sweep's rows and the trials in them, kept beside the ledger so that tables need no MLflow.

The ledger knows trials and no sweeps. One file per sweep says which trials are in which row. ``assembled`` joins these
rows with the entries of the ledger (or of MLflow, where there is no ledger) into the rows of a table.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfser.execution.results import Results
from tfser.planning.configuration import Configuration, from_dict, to_dict
from tfser.planning.settings import fixed_settings, is_published
from tfser.planning.settings_in_words import recorded, unrecorded
from tfser.record import Entry, Record
from tfser.search import history
from tfser.search.history import History
from tfser.storage.places import Place, commit_text, listed, make_folder, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a sweep's table, without the scores."""

    sweep: str
    configuration: Configuration
    """The row's configuration, with the folds and seeds of the last start."""
    finals: Mapping[str, Mapping[str, str]]
    """Fold to seed to the id of the final trial, where known; it includes those of earlier starts."""
    deploy: str = ""
    """The id of the trial that is trained on every speaker; empty where there is none. No table shows it."""
    deployed_by: str = ""
    """The command line of the start that asked for that."""
    histories: tuple[History, ...] = ()
    """What its studies tried."""
    command: str = ""
    """The command line of the last start."""
    sweep_file: str = ""
    """The request of the last start as the content of a sweep file; empty in rows of an earlier version."""
    written_unix: float = 0.0
    """When it was last written."""
    run: str = ""
    """The id of its MLflow run, where it is known."""

    def after(self, earlier: Row) -> Row:
        """Return this row with the trials of those folds and seeds that only an earlier start asked for."""
        last = self if self.deploy else earlier
        if not self.configuration.folds:  # a start that asked for no fold: all of its results stay
            return replace(earlier, deploy=last.deploy, deployed_by=last.deployed_by)
        asked = {(fold, str(seed)) for fold in self.configuration.folds for seed in self.configuration.seeds}
        finals = {fold: dict(seeds) for fold, seeds in self.finals.items()}
        for fold, seeds in earlier.finals.items():
            for seed, trial in seeds.items():
                if (fold, seed) not in asked:
                    finals.setdefault(fold, {})[seed] = trial
        mine = {h.folds for h in self.histories}
        histories = (*self.histories, *(h for h in earlier.histories if h.folds not in mine))
        return replace(self, finals=finals, histories=histories, deploy=last.deploy, deployed_by=last.deployed_by)

    @property
    def is_result(self) -> bool:
        """Whether a table can show it: a row that has only a model for use asked for no fold."""
        return bool(self.configuration.folds or self.finals)


def merged(rows: Iterable[Row], earlier: Iterable[Row]) -> list[Row]:
    """Return a sweep's rows, with the rows and trials that only earlier starts of it asked for."""
    made = {row.configuration.key: row for row in earlier}
    for row in rows:
        key = row.configuration.key
        made[key] = row.after(made[key]) if key in made else row
    return [row for _, row in sorted(made.items())]


def current(rows: Sequence[Row]) -> list[Row]:
    """Return rows without those of an earlier source of a model that was edited since, within each sweep."""
    newest: dict[tuple[str, str], tuple[float, str]] = {}
    for row in rows:
        c = row.configuration
        if c.source and row.is_result:
            key = row.sweep, c.model
            newest[key] = max(newest.get(key, (0.0, "")), (row.written_unix, c.source))
    return [
        row
        for row in rows
        if not (row.configuration.source and row.is_result)
        or newest[row.sweep, row.configuration.model][1] == row.configuration.source
    ]


def write(storage: Place, sweep: str, rows: Sequence[Row]) -> None:
    """Write a sweep's rows; they replace those of earlier starts."""

    def value(row: Row) -> dict[str, Any]:
        histories = json.loads(history.to_json(row.histories)) if row.histories else []
        return {
            "configuration": to_dict(row.configuration),
            "finals": row.finals,
            "histories": histories,
            "command": row.command,
            **({"sweep_file": row.sweep_file} if row.sweep_file else {}),
            **({"deploy": row.deploy, "deployed_by": row.deployed_by} if row.deploy else {}),
        }

    values = {"sweep": sweep, "written_unix": time.time(), "rows": [value(row) for row in rows]}
    make_folder(storage / "rows")
    commit_text(_path(storage, sweep), json.dumps(values, sort_keys=True, ensure_ascii=True) + "\n")


def read(storage: Place, sweep: str) -> list[Row]:
    """Return a sweep's rows; none where there are none or they cannot be parsed."""
    try:
        return _read(_path(storage, sweep))
    except FileNotFoundError:
        return []


def every(storage: Place) -> list[Row]:
    """Return the rows of every sweep in this storage."""
    return [row for path in listed(storage / "rows", "*.json") for row in _read(path)]


def _read(path: Place) -> list[Row]:
    try:
        values = json.loads(read_text(path))
        made = []
        for row in values["rows"]:
            c = from_dict(row["configuration"])
            histories = tuple(replace(h, configuration=c) for h in history.from_json(json.dumps(row["histories"])))
            own = {"command": row["command"], "written_unix": values["written_unix"]}
            own |= {name: row.get(name, "") for name in ("sweep_file", "deploy", "deployed_by")}
            made.append(Row(sweep=values["sweep"], configuration=c, finals=row["finals"], histories=histories, **own))
        return made
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # the next start of the sweep writes the file again


def _path(storage: Place, sweep: str) -> Place:
    return storage / "rows" / f"{sweep}.json"


def identified(row: Row, entries: Mapping[str, Entry], digest: str = "") -> Row:
    """Fill in digest and settings of a row of an earlier version, as far as its trials tell them.

    Args:
        row: the row; one that has its settings is returned unchanged.
        entries: trial id to its ledger entry.
        digest: the database's, where the caller knows it.
    """
    c = row.configuration
    if c.settings:
        return row
    known = [entries.get(trial) for seeds in row.finals.values() for trial in seeds.values()]
    specs = [entry.spec for entry in known if entry is not None and entry.spec is not None]
    digests = sorted({spec.database_digest for spec in specs} | ({digest} if digest else set()))
    asked = {fixed_settings(spec.settings, spec.epochs) for spec in specs}
    selection, settings = c.selection, unrecorded(row.sweep)
    if len(asked) == 1 and not row.histories and selection not in ("nested", "global"):
        (settings,) = asked
        if selection in ("published", "fixed"):
            selection = "published" if is_published(c.model, settings) else "fixed"
    c = replace(
        c,
        database_digest=c.database_digest or (digests[0] if len(digests) == 1 else ""),
        selection=selection,
        settings=settings,
    )
    return replace(row, configuration=c, histories=tuple(replace(h, configuration=c) for h in row.histories))


def assembled(
    name: str,
    rows: Sequence[Row],
    entries: Mapping[str, Entry],
    runs: Mapping[str, str] | None = None,
    *,
    apart: bool = True,
) -> list[Results]:
    """Join rows and entries into results: one value, or one per digest where databases of one name differ.

    Rows that asked for no fold are left out.

    A row can be in several sweeps, or have been asked for with other folds and seeds. Its folds and seeds are then
    those with the most folds done; on ties, those with the most seeds.

    Args:
        name: name of the sweep or the database.
        rows: the rows, from one sweep or several.
        entries: trial id to its ledger entry.
        runs: trial id to its MLflow run.
        apart: whether databases of one name that differ have a value each.
    """
    by_key: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in sorted(filter(lambda row: row.is_result, rows), key=lambda row: (row.written_unix, row.sweep)):
        by_key[row.configuration.key].append(row)
    groups: dict[str, list[list[Row]]] = defaultdict(list)
    digests: dict[str, set[str]] = defaultdict(set)
    for database, digest, *_ in by_key:
        digests[database].add(digest)
    for (database, digest, *_), alike in sorted(by_key.items()):
        groups[f"{name}-{digest[:8] or 'unknown'}" if apart and len(digests[database]) > 1 else name].append(alike)
    return [_results(title, group, entries, runs or {}) for title, group in sorted(groups.items())]


def _results(
    name: str, rows: Sequence[Sequence[Row]], entries: Mapping[str, Entry], runs: Mapping[str, str]
) -> Results:
    configurations: list[Configuration] = []
    found: dict[tuple[Configuration, str, int], Entry] = {}
    found_runs: dict[tuple[Configuration, str, int], str] = {}
    row_runs: dict[Configuration, str] = {}
    histories: list[History] = []
    for alike in rows:
        trials = _trials(alike, entries)
        c = _extent(alike, {key for key, trial in trials.items() if isinstance(entries.get(trial), Record)})
        configurations.append(c)
        for (fold, seed), trial in trials.items():
            if fold in c.folds and seed in c.seeds:
                if trial in entries:
                    found[c, fold, seed] = entries[trial]
                if trial in runs:
                    found_runs[c, fold, seed] = runs[trial]
        if run := next((row.run for row in reversed(alike) if row.run), ""):
            row_runs[c] = run
        tried = {h.folds: replace(h, configuration=c) for row in alike for h in row.histories}
        histories += tried.values()
    commands = {row.command for alike in rows for row in alike}
    files = {row.sweep_file for alike in rows for row in alike}
    return Results(
        sweep=name,
        configurations=tuple(sorted(configurations, key=lambda c: c.key)),
        entries=found,
        runs=found_runs,
        row_runs=row_runs,
        histories=tuple(histories),
        command=commands.pop() if len(commands) == 1 else "",
        sweep_file=files.pop() if len(files) == 1 else "",
    )


def _trials(alike: Sequence[Row], entries: Mapping[str, Entry]) -> dict[tuple[str, int], str]:
    """Return the trial of each (fold, seed): the last one that is done, else the last one.

    Of trials with different numerics versions, only those with the newest stay.
    """
    done = {trial: entry for trial, entry in entries.items() if isinstance(entry, Record)}
    trials: dict[tuple[str, int], str] = {}
    for row in alike:
        for fold, seeds in row.finals.items():
            for seed, trial in seeds.items():
                key = fold, int(seed)
                if trial in done or trials.get(key) not in done:
                    trials[key] = trial
    versions = {key: done[trial].spec.numerics for key, trial in trials.items() if trial in done}
    newest = max(versions.values(), default=0)
    return {key: trial for key, trial in trials.items() if versions.get(key, newest) == newest}


def _extent(alike: Sequence[Row], done: set[tuple[str, int]]) -> Configuration:
    """Return the last row's configuration, with the folds and seeds of which most is done."""
    last = alike[-1].configuration
    extents = [(row.configuration.folds, row.configuration.seeds) for row in alike]
    folds = {fold for row in alike for fold in (*row.configuration.folds, *row.finals)}
    seeds = {
        seed
        for row in alike
        for seed in (*row.configuration.seeds, *(int(s) for by_seed in row.finals.values() for s in by_seed))
    }
    extents.append((last.folds if folds <= set(last.folds) else tuple(sorted(folds)), tuple(sorted(seeds))))

    def size(number: int) -> tuple[int, int, int]:
        folds, seeds = extents[number]
        return sum(all((fold, seed) in done for seed in seeds) for fold in folds), len(seeds), number

    folds_, seeds_ = extents[max(range(len(extents)), key=size)]
    return replace(last, folds=folds_, seeds=seeds_)


KEPT_EVERY_S = 20.0
"""Seconds between two writes of a running sweep's rows, so that a killed driver loses little."""


class Keeper:
    """Keeps the rows of one sweep while it runs.

    Args:
        storage: holds the ledger.
        sweep: the sweep's name.
        command: the command line.
        asked: the rows that this start asks for.
        earlier: rows of earlier starts. Rows of a database that now has other data, or of a model that now has
            another source, are left out.
        sweep_file: the command line as the content of a sweep file.
    """

    def __init__(
        self,
        storage: Place,
        sweep: str,
        command: str,
        asked: Sequence[Configuration],
        earlier: Iterable[Row],
        sweep_file: str = "",
    ) -> None:
        self._storage, self._sweep, self._asked = storage, sweep, asked
        self._command, self._sweep_file = command, sweep_file
        states = {c.database: c.database_digest for c in asked}
        sources = {c.model: c.source for c in asked}
        same = [
            row
            for row in earlier
            if states.get(row.configuration.database, "") in ("", row.configuration.database_digest)
            and sources.get(row.configuration.model, "") in ("", row.configuration.source)
        ]
        self._earlier = [_told(row, asked) for row in same]
        self._kept = float("-inf")  # due at once: nothing has been written

    def rows(
        self, finals: Mapping[tuple[Configuration, str, int], str], histories: Sequence[History] = ()
    ) -> list[Row]:
        """Return every row of the sweep.

        Args:
            finals: (row, fold, seed) to the id of the final trial, where known; with an empty fold, of a model for use.
            histories: what its studies tried.
        """
        made: dict[Configuration, dict[str, dict[str, str]]] = {c: {} for c in self._asked}
        for (c, fold, seed), trial in finals.items():
            made[c].setdefault(fold, {})[str(seed)] = trial
        deployed = {c: trials.pop("", {}).get("0", "") for c, trials in made.items()}
        mine = [
            Row(
                sweep=self._sweep,
                configuration=c,
                finals=trials,
                deploy=deployed[c],
                deployed_by=self._command if deployed[c] else "",
                histories=tuple(h for h in histories if h.configuration == c and c.folds),
                command=self._command,
                sweep_file=self._sweep_file,
                written_unix=time.time(),
            )
            for c, trials in made.items()
        ]
        return merged(mine, self._earlier)

    def keep(self, rows: Sequence[Row]) -> None:
        """Write rows beside the ledger."""
        write(self._storage, self._sweep, rows)
        self._kept = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the rows were last written more than ``KEPT_EVERY_S`` ago."""
        return time.monotonic() - self._kept > KEPT_EVERY_S


def _told(row: Row, asked: Sequence[Configuration]) -> Row:
    """Fill in the settings of a row of an earlier version.

    They are those that the sweep asks for now: an earlier version allowed one sweep no others.
    """
    if recorded(row.configuration.settings):
        return row
    same = [c for c in asked if c.words == row.configuration.words]
    if not same:
        return row
    c = replace(row.configuration, database_digest=same[0].database_digest, settings=same[0].settings)
    return replace(row, configuration=c, histories=tuple(replace(h, configuration=c) for h in row.histories))
