"""Of rows that stand in several sweeps: the newest whole one of each, and what is left out for it.

Knows nothing of where rows and trials were read from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tfser.errors import counted
from tfser.execution.rows import Row
from tfser.record import Entry, Record


def newest(rows: Sequence[Row], entries: Mapping[str, Entry]) -> tuple[list[Row], list[str]]:
    """Return the rows that make one set of tables, and a sentence for each that is left out.

    Of rows with one key the newest whole one stays, alone. Where none is whole, all stay: together they may be.

    Args:
        rows: of several sweeps.
        entries: trial id to its ledger entry.
    """
    by_key: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in sorted((row for row in rows if row.is_result), key=lambda row: (row.written_unix, row.sweep)):
        by_key[row.configuration.key].append(row)
    kept: list[Row] = []
    left: list[str] = []
    for _, alike in sorted(by_key.items()):
        whole = [row for row in alike if _is_whole(row, entries)]
        if not whole:
            kept += alike
            continue
        kept.append(whole[-1])
        left += [_left_out(row, whole[-1], entries) for row in alike if row is not whole[-1]]
    return kept, left


def _done(row: Row, entries: Mapping[str, Entry]) -> int:
    """Return how many folds have every seed of the row."""
    seeds = [str(seed) for seed in row.configuration.seeds]
    of_fold = (row.finals.get(fold, {}) for fold in row.configuration.folds)
    return sum(all(isinstance(entries.get(finals.get(seed, "")), Record) for seed in seeds) for finals in of_fold)


def _is_whole(row: Row, entries: Mapping[str, Entry]) -> bool:
    return _done(row, entries) == row.configuration.folds_total


def _left_out(row: Row, better: Row, entries: Mapping[str, Entry]) -> str:
    c = row.configuration
    what = f"{' / '.join(c.words)} of sweep {row.sweep}"
    extent = f"{_done(row, entries)} of {c.folds_total} folds, {counted(len(c.seeds), 'seed')}"
    return f"{what} ({extent}): sweep {better.sweep} has the newest whole row of it"
