"""The printed tables in a terminal of 80 columns, and as plain text if the output is no terminal.

This module only prints. The tables come from ``printed``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tfser.execution.results import Results
from tfser.report import published
from tfser.report.summary import summarise
from tfser.report.tables import printed
from tfser.report.tables.paired import Rows
from tfser.report.tables.table import Column, Row, Table, beneath, parted, shown
from tfser.storage.places import Place
from tfser.text.streams import one_line

_ASCII = str.maketrans(
    {
        "±": "+-",
        "−": "-",
        "†": "+",
        "‡": "++",
        "§": "(t)",
        "¶": "(k)",
        "✓": "yes",
        "✗": "no",
        "–": "-",
        "’": "'",
        "…": "...",
    }
)


def show(results: Results, console: Console, more: Sequence[Place] = (), averaging: str = "pooled") -> None:
    """Print the comparison and the ablations, ours in bold, with missing folds marked and counted below.

    Args:
        results: the sweep's rows and records.
        console: the target; without colour, and with ASCII lines and marks if it cannot show others.
        more: files of published figures beside those that come with tfser.
        averaging: ``pooled`` or ``mean``.

    Raises:
        RecordError: a record contradicts itself or its row.
    """
    summaries = summarise(results)
    figures = published.load(*more).of_rows(s.configuration for s in summaries)
    rows = Rows(summaries, figures)
    made = printed.make(summaries, figures, rows, averaging)
    for sentence in made.sentences:
        console.print(Text(_text(sentence, console)), soft_wrap=not console.is_terminal)
        console.print()
    show_tables([part for table in (*made.comparison, *made.ablation) for part in panels(table)], console)
    if not summaries:
        console.print("No rows to show.")


GROUPS = 3
"""Most databases side by side in 80 columns."""


def panels(table: Table) -> list[Table]:
    """Divide a table with more databases side by side than 80 columns hold; the notes stand below the last part."""
    groups = list(dict.fromkeys(c.group for c in table.columns if c.group))
    parts = [groups[i : i + GROUPS] for i in range(0, len(groups), GROUPS)] or [[]]
    return [
        replace(
            table,
            columns=tuple(c for c in table.columns if not c.group or c.group in part),
            notes=table.notes if part is parts[-1] else (),
        )
        for part in parts
    ]


def show_tables(tables: Sequence[Table], console: Console) -> None:
    """Print some tables, each with its notes below.

    Args:
        tables: in this order.
        console: the target; see ``show``.
    """
    for table in tables:
        console.print(_rich(table, console))
        for note in table.notes if table.terminal_notes is None else table.terminal_notes:
            console.print(Text(_text(note, console), style="dim"), soft_wrap=not console.is_terminal)
        console.print()


def _text(text: str, console: Console) -> str:
    clean = one_line(text)
    if console.encoding.lower().startswith("utf"):
        return clean
    return clean.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def _rich(table: Table, console: Console) -> RichTable:
    columns = [c for c in table.columns if c.terminal]
    grid = RichTable(
        title=_text(table.caption or table.title, console),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,  # rich uses an ASCII box if the console has no other characters
        show_edge=False,
        padding=0,
    )
    for before, column in zip([None, *columns], columns, strict=False):
        over = _over(column) if before is None or before.group != column.group else []
        title = "\n".join(_text(line, console) for line in (*over, *_broken(column.title, column.width)))
        grid.add_column(title, justify="right" if column.numeric else "left", no_wrap=column.numeric, overflow="fold")
    for index, row in enumerate(table.rows):
        ends = table.ruled and index + 1 < len(table.rows) and parted(row, table.rows[index + 1])
        grid.add_row(*(_cell(column, row, console) for column in columns), end_section=ends)
    return grid


def _over(column: Column) -> list[str]:
    """Return the lines above a column's title: the name of its group, which stands above the first column of it."""
    return textwrap.wrap(column.group, 8) if column.group else []


def _broken(title: str, width: int) -> list[str]:
    """Break a title into lines of about ``width``, at spaces and, unlike textwrap, at any hyphen."""
    if not width or len(title) <= width:
        return [title]
    return textwrap.wrap(title.replace("-", "- "), width, break_long_words=False, break_on_hyphens=False)


def _cell(column: Column, row: Row, console: Console) -> Text:
    lines = [_text(line, console) for line in [*shown(column, row).split("\n"), *beneath(column, row)]]
    if column.width and not column.numeric:
        # textwrap breaks a long word at its hyphens, rich anywhere: leave-one- / speaker-out.
        lines = [part for line in lines for part in textwrap.wrap(line, column.width)]
    return Text("\n".join(lines), style="bold" if row.ours else "dim" if row.grey else "")
