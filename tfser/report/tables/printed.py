"""The tables that go into a paper: one averaging, a row per method, and notes only where a row needs one.

What they leave out stands in the details. This module only builds values; ``formats``, ``print_latex`` and ``terminal``
write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import printed_ablation, printed_comparison
from tfser.report.tables.paired import Rows
from tfser.report.tables.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """The printed tables, each of two rows or more."""

    comparison: tuple[Table, ...] = ()
    """By protocol: the cited rows and ours, by database."""
    sentences: tuple[str, ...] = ()
    """What would have been a comparison of one row."""
    ablation: tuple[Table, ...] = ()
    """By model: its ablations, all databases side by side."""


def make(summaries: Sequence[Summary], published: Published, rows: Rows, averaging: str = "pooled") -> Printed:
    """Make the printed tables.

    Args:
        summaries: sorted by key.
        published: the papers' figures, with the titles of every model.
        rows: intervals and comparisons of these summaries, or of more.
        averaging: ``pooled`` or ``mean``.
    """
    compared = printed_comparison.tables(summaries, published, rows, averaging) if summaries else []
    return Printed(
        comparison=tuple(table for table in compared if len(table.rows) > 1),
        sentences=tuple(printed_comparison.sentence(table) for table in compared if len(table.rows) == 1),
        ablation=tuple(printed_ablation.tables(summaries, published, rows, averaging)),
    )
