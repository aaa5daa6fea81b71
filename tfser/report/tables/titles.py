"""The titles of rows, with the mark of a transductive one, and of databases and averagings. Knows no numbers."""

from __future__ import annotations

from tfser.databases import KNOWN
from tfser.databases.combined import named
from tfser.planning.configuration import Configuration
from tfser.report.published import Published
from tfser.report.tables.table import TRANSDUCTIVE


def marked(row: Configuration, published: Published) -> str:
    """Return a row's title: the name of its method, its ablation unless that is the whole model, and its mark."""
    return published.row_title(row.model, row.ablation) + (TRANSDUCTIVE if row.transductive else "")


def database(name: str) -> str:
    """Return a database's name as papers print it; a database of a person's own keeps its name.

    >>> database("emodb from casia+mine")
    'EmoDB (from CASIA, mine)'
    """
    test, training = named(name)
    if training:
        return f"{database(test)} (from {', '.join(database(other) for other in training)})"
    return (KNOWN[name].info.printed if name in KNOWN else "") or name
