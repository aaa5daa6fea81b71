"""What a printed table says below its rows, each note only where a row needs it; the rest stands in the details.

Knows no format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tfser.errors import counted, unknown
from tfser.evaluation.uncertainty import Interval
from tfser.planning.configuration import Configuration
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import notes, titles
from tfser.report.tables.paired import SPEAKERS_OF_CORPUS, Rows
from tfser.report.tables.table import DAGGER, TRANSDUCTIVE_NOTE

AVERAGINGS: Mapping[str, str] = {"pooled": "pooled over folds", "mean": "means of folds"}
"""How a printed table can average over folds, each in words; the first is the default."""

_ACROSS: Mapping[str, str] = {
    "pooled": "over the utterances of each test corpus",
    "mean": "means over the speakers of each test corpus",
}
"""The same where corpora are held out, whose figures are never averaged over corpora."""

AVERAGING_HELP = "averaging of the printed tables: pooled over folds, or mean of folds (default: pooled)"

UPPER_BOUND = "‡"
"""Mark of a row whose settings were chosen on the test speakers."""

NOTHING = "–"
"""What stands for a number that does not exist."""

Key = tuple[str, ...]
"""The key of a configuration."""


def averaging_problems(averaging: str) -> list[str]:
    """Return what is wrong with a typed averaging, in words."""
    return [] if averaging in AVERAGINGS else [unknown("--averaging", averaging, AVERAGINGS)]


def place(configuration: Configuration, rows: Rows) -> str:
    """Return the printed name of a row's database, with its digest where other rows have another state of it."""
    c = configuration
    return titles.database(c.database) + rows.database(c).removeprefix(c.database)


def in_order(summaries: Iterable[Summary], published: Published) -> list[Summary]:
    """Sort rows by database, those of the papers first and in their order."""
    order = {name: number for number, name in enumerate(published.emotions)}

    def position(s: Summary) -> tuple[int, str, str]:
        c = s.configuration
        return order.get(c.database, len(order)), c.database, c.database_digest

    return sorted(summaries, key=position)


def averaged(summaries: Sequence[Summary], averaging: str) -> str:
    """Say how the rows average over folds, and over seeds where all have the same number of several."""
    seeds = {len(s.configuration.seeds) for s in summaries}
    several = f", {counted(max(seeds), 'seed')}" if len(seeds) == 1 and max(seeds) > 1 else ""
    across = all(s.configuration.protocol == "corpus" for s in summaries)
    return (_ACROSS if across else AVERAGINGS)[averaging] + several


def of_rows(summaries: Sequence[Summary], names: Mapping[Key, str], published: Published, rows: Rows) -> list[str]:
    """Say what the marks of our rows mean, and what has to be said of their databases.

    Args:
        summaries: the rows that stand in the table, in its order.
        names: key of a row to what the table calls it.
        published: the papers' figures, to compare the emotions with theirs.
        rows: tells states of a database apart.
    """
    said = []
    for s in summaries:
        if s.incomplete:
            where = f"{names[s.configuration.key]} on {place(s.configuration, rows)}"
            said.append(f"{DAGGER} {where}: {s.folds} folds; {_missing(s)}.")
    if any(s.configuration.selection == "oracle" for s in summaries):
        said.append(f"{UPPER_BOUND} Selection oracle: {notes.SELECTIONS['oracle']}.")
    if any(s.configuration.transductive for s in summaries):
        said.append(TRANSDUCTIVE_NOTE)
    across = [s.configuration.selection for s in summaries if s.configuration.protocol == "corpus"]
    if "nested" in across:
        said.append(f"Selection nested: {notes.NESTED_ACROSS}.")
    said += [SPEAKERS_OF_CORPUS] if across else []
    counts = {len(s.configuration.seeds) for s in summaries}
    if len(counts) > 1:
        several = [s for s in summaries if len(s.configuration.seeds) > 1]
        each = [
            f"{names[s.configuration.key]} on {place(s.configuration, rows)} {len(s.configuration.seeds)}"
            for s in several
        ]
        said.append(f"Means over seeds: {'; '.join(each)}; all others have one seed.")
    said += dict.fromkeys(note for s in summaries for note in _of_database(s.configuration, published, rows))
    return said


NAMED = 3
"""Most missing folds of a row that a note names."""


def _missing(summary: Summary) -> str:
    """Say which folds a row lacks and why, as far as there is room for them."""
    lacks = sorted(summary.missing.items())
    said = [f"{fold} ({why})" for fold, why in lacks[:NAMED]]
    said += [f"and {len(lacks) - NAMED} more"] if len(lacks) > NAMED else []
    parts = [f"missing {', '.join(said)}"] if said else []
    unasked = summary.configuration.folds_total - len(summary.configuration.folds)
    return "; ".join([*parts, *([f"{unasked} not asked for"] if unasked > 0 else [])])


def _of_database(c: Configuration, published: Published, rows: Rows) -> list[str]:
    name, theirs, said = place(c, rows), published.emotions.get(c.database), []
    if c.remark:
        said.append(f"{name}: {c.remark.rstrip('.')}.")
    if not c.complete:
        said.append(f"{name}: an incomplete copy, without the published counts.")
    if theirs is not None and theirs != set(c.emotions):
        ours = ", ".join(sorted(c.emotions))
        said.append(f"{name}: another task than the published one; emotions here: {ours}.")
    return said


def of_intervals(intervals: Iterable[Interval]) -> list[str]:
    """Say why there is none where one is missing."""
    reasons = dict.fromkeys(interval.reason for interval in intervals if interval.reason)
    return [f"No interval ({NOTHING}) is given {reason}." for reason in reasons]
