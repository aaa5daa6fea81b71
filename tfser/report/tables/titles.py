"""The titles of rows, with the mark of a transductive one. Knows no numbers."""

from __future__ import annotations

from tfser.planning.configuration import Configuration
from tfser.report.published import Published
from tfser.report.tables.table import TRANSDUCTIVE


def marked(row: Configuration, published: Published) -> str:
    """Return a row's title: the name of its method, its ablation unless that is the whole model, and its mark."""
    return published.row_title(row.model, row.ablation) + (TRANSDUCTIVE if row.transductive else "")
