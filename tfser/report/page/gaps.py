"""What a reader might overlook: missing folds with their reasons, incomplete databases, and what limits the numbers.

This module only builds values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfser.errors import counted
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import titles
from tfser.report.tables.table import TRANSDUCTIVE_NOTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What one row or database lacks."""

    name: str
    reasons: tuple[str, ...]


def heading(summary: Summary, published: Published) -> str:
    """Return the name of a row with all that its numbers depend on."""
    c = summary.configuration
    return f"{titles.marked(c, published)} on {c.database}, {c.protocol_name}, selection {summary.selection}"


def gaps(summaries: Sequence[Summary], published: Published) -> list[Gap]:
    """List what is missing: folds with their reasons, and the utterances of incomplete databases."""
    found: list[Gap] = []
    for summary in summaries:
        c = summary.configuration
        alike: dict[str, list[str]] = {}
        for fold, why in summary.missing.items():
            alike.setdefault(why, []).append(fold)
        reasons = [
            f"{c.protocol}{'s' if len(folds) > 1 else ''} {', '.join(folds)}: {why}" for why, folds in alike.items()
        ]
        unasked = c.folds_total - len(c.folds)
        if unasked > 0:
            were = "was" if unasked == 1 else "were"
            reasons.append(f"{unasked} of {counted(c.folds_total, 'fold')} {were} not asked for")
        if reasons:
            found.append(Gap(name=f"{heading(summary, published)}: {summary.folds} folds", reasons=tuple(reasons)))
    for database in dict.fromkeys(s.configuration.database for s in summaries):
        if any(not s.configuration.complete for s in summaries if s.configuration.database == database):
            lacks = "this copy of the database does not have the published counts"
            found.append(Gap(name=f"Database {database}", reasons=(lacks,)))
    return found


def caveats(summaries: Sequence[Summary]) -> list[str]:
    """List what limits the numbers although nothing is missing."""
    every = [s.configuration for s in summaries]
    if not every:
        return []
    said = [f"{titles.database(database)}: {remark.rstrip('.')}." for database, remark in _remarks(summaries)]
    seeds = {len(c.seeds) for c in every}
    if seeds == {1}:
        said.append("One seed: how much the numbers move with another is not known.")
    elif 1 in seeds:
        said.append("Some rows have one seed: how much their numbers move with another is not known.")
    if any(c.selection == "oracle" for c in every):
        said.append("Rows of the selection oracle were chosen on the test speakers: upper bounds, not results.")
    if any(c.transductive for c in every):
        said.append(TRANSDUCTIVE_NOTE)
    absent = [s for s in summaries if s.absent]
    if absent:
        c = absent[0].configuration
        units = "corpora" if c.protocol == "corpus" else f"{c.unit}s"
        said.append(
            f"Some test {units} never show every emotion: a fold's UAR is the mean recall of those that it has."
        )
    return said


def _remarks(summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    return list(
        dict.fromkeys((s.configuration.database, s.configuration.remark) for s in summaries if s.configuration.remark)
    )
