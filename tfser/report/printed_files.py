"""The files of the tables that go into a paper: Markdown, and LaTeX for a page and for a column."""

from __future__ import annotations

from collections.abc import Sequence

from tfser.report.file_names import file_names
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import formats, print_latex, printed, printed_settings
from tfser.report.tables.paired import Rows
from tfser.report.tables.table import Table

_NO_ROWS = "No rows."
_NO_ABLATIONS = "No model was run with more than one of its ablations; details.md has every row."


def contents(summaries: Sequence[Summary], published: Published, rows: Rows, averaging: str) -> dict[str, str | bytes]:
    """Return the files by name: over all databases and, where there are several, the results of each too.

    Args:
        summaries: every row.
        published: the cited figures.
        rows: intervals and comparisons.
        averaging: ``pooled`` or ``mean``.
    """
    databases = list(dict.fromkeys(s.configuration.database for s in summaries))
    parts = file_names((database,) for database in databases)
    each = [(f"_{parts[d,]}", [s for s in summaries if s.configuration.database == d]) for d in databases]
    made: dict[str, str | bytes] = {}
    for ending, wanted in [("", list(summaries)), *(each if len(each) > 1 else [])]:
        values = printed.make(wanted, published, rows, averaging)
        shown = {s.configuration.database for s in wanted}
        cited = any(row.database in shown for row in published.comparison)
        heading = "Comparison with the published figures" if cited else "Comparison"
        made |= _files(f"comparison{ending}", heading, values.comparison, values.sentences)
        nothing = _NO_ABLATIONS if wanted else _NO_ROWS
        made |= _files(f"ablation{ending}", "Ablations", values.ablation, nothing=nothing)
    described = printed_settings.databases(summaries, published, rows)
    several = [described] if described is not None and len(described.rows) > 1 else []
    single = [printed_settings.in_words(described)] if described is not None and not several else []
    made |= _files("databases", "Databases", several, single)
    tables = printed_settings.settings(summaries, published)
    layers = any(not table.name.startswith("settings-") for table in tables)
    return made | _files("settings", "Layers and settings" if layers else "Settings", tables)


def _files(
    stem: str, heading: str, tables: Sequence[Table], sentences: Sequence[str] = (), nothing: str = _NO_ROWS
) -> dict[str, str | bytes]:
    return {
        f"{stem}.md": formats.to_markdown(heading, tables, sentences, nothing),
        f"{stem}.tex": print_latex.to_latex(tables, sentences),
        f"{stem}-column.tex": print_latex.to_latex(tables, sentences, millimetres=print_latex.COLUMN),
    }
