r"""The written forms of a table: CSV, Markdown and LaTeX, whatever it is about.

CSV holds the rows' typed values (fractions, true/false, nothing for a missing number). Markdown and LaTeX hold the text
of ``table.shown``, escaped. LaTeX needs only ``booktabs``.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len

from tfser.report.tables.table import (
    Column,
    Row,
    Table,
    Value,
    beneath,
    beneath_line,
    exact,
    known,
    parted,
    shown,
)
from tfser.text.streams import one_line


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    r"""Write one header row and typed rows, with ``\n`` at each end of line.

    A float is written with ``repr``, so that reading it gives the same float; ``None`` and NaN are empty;
    true and false are ``true`` and ``false``.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_csv_value(value) for value in row])
    return out.getvalue()


def _csv_value(value: Value) -> str:
    if value is None or not known(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def to_csv(keys: Sequence[str], tables: Sequence[Table]) -> str:
    """Write the rows of all tables below one header; measured floats are rounded by ``table.exact``."""
    rows = (row for table in tables for row in table.rows)
    values = ([row.values.get(key) for key in keys] for row in rows)
    return csv_text(keys, ([exact(v) if isinstance(v, float) and known(v) else v for v in row] for row in values))


DETAILS_COLUMNS = ("table", "title", "database", "row", "name", "key", "column", "value", "text")
"""Columns of details.csv, a line per printed cell, or per value of a cell that prints several, and per note.

``row`` counts the rows of ``table`` from 1 and ``name`` is what it says of itself first; ``value`` is the exact number,
a fraction; ``text`` is what is printed. A note has the key ``note`` and no row.
"""


def details_csv(tables: Sequence[Table]) -> str:
    """Write every cell and every note of full tables, as values and as they are printed."""
    return csv_text(DETAILS_COLUMNS, (line for table in tables for line in _details(table)))


def _details(table: Table) -> Iterator[list[Value]]:
    place = (table.name, table.title, table.database)
    columns = [c for c in table.columns if c.paper]
    for number, row in enumerate(table.rows, start=1):
        name = shown(columns[0], row)
        for c in columns:
            title = f"{c.group}: {c.title}" if c.group else c.title
            lines = [((c.key, *([c.spread] if c.spread else [])), shown(c, row))]
            lines += [(line.keys, beneath_line(line, row)) for line in c.beneath]
            for keys, text in lines:
                for key in keys if text else ():
                    value = row.values.get(key)
                    there = exact(value) if isinstance(value, float) and known(value) else value
                    yield [*place, number, name, key, title, there, text]
    for note in table.paper_notes:
        yield [*place, None, None, "note", None, None, one_line(note)]


def escape_markdown(text: str) -> str:
    """Escape a text so that GitHub-flavoured Markdown prints it unchanged, inside a table too."""
    text = re.sub(r"([\\`*\[\]<>|~$#])", r"\\\1", one_line(text))
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)  # only if it would be read as an entity
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # an underscore within a word needs no escape


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",  # \textquotedbl is missing from LaTeX's default encoding
    "[": "{[}",  # right after \\ a bracket or star would be read as its argument
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "¶": r"\textsuperscript{\P}",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "–": "--",
    "−": "$-$",
    "’": "'",
}


def escape_latex(text: str) -> str:
    """Escape a text so that LaTeX prints it unchanged."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def beyond_pdflatex(text: str) -> bool:
    """Tell whether pdfLaTeX has no glyph for a character: neither ASCII nor an accented Latin letter."""
    return any(
        ord(c) > 127 and ord(unicodedata.normalize("NFD", c)[0]) > 127 for c in text if c not in "ßæøåœÆØÅŒ§©®°·"
    )


def to_markdown(heading: str, tables: Sequence[Table], sentences: Sequence[str] = (), nothing: str = "No rows.") -> str:
    """Write a heading, then each table with its notes; columns are aligned in the source too.

    Args:
        heading: of the file.
        tables: a printed table has its caption above it, any other its title.
        sentences: what stands in place of tables with one row.
        nothing: what the file says where there is neither.
    """
    parts = [f"# {escape_markdown(heading)}\n"]
    parts += [_markdown(table) for table in tables]
    parts += [f"{escape_markdown(sentence)}\n" for sentence in sentences]
    if not tables and not sentences:
        parts.append(f"{nothing}\n")
    return "\n".join(parts)


def _markdown(table: Table) -> str:
    columns = [c for c in table.columns if c.paper]
    # Markdown has one header row, so a group's name precedes each of its titles.
    header = [escape_markdown(f"{c.group}: {c.title}" if c.group else c.title) for c in columns]
    body = []
    for row in table.rows:
        body.append([_markdown_cell(c, row) for c in columns])
    widths = [max(3, *(cell_len(line[i]) for line in [header, *body])) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for column, cell, width in zip(columns, cells, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if column.numeric else cell + space)
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (w - 1) + ":") if c.numeric else "-" * w for c, w in zip(columns, widths, strict=True)]
    above = escape_markdown(table.caption) if table.caption else f"## {escape_markdown(table.title)}"
    lines = [above, "", line(header), line(rule), *map(line, body)]
    if table.paper_notes:
        lines += ["", *(f"- {escape_markdown(note)}" for note in table.paper_notes)]
    return "\n".join(lines) + "\n"


def _markdown_cell(column: Column, row: Row) -> str:
    first = escape_markdown(shown(column, row))
    # The further lines are our own numbers and words, which need no escape.
    return " ".join([f"**{first}**" if column.key in row.best else first, *beneath(column, row)])


def to_latex(tables: Sequence[Table]) -> str:
    """Write one ``table`` environment each, for a document that loads booktabs; the file also compiles by itself."""
    body = "\n".join(_latex(table) for table in tables) or "% no rows\n"
    head = [
        r"% \input this into a document that loads booktabs (wide: in two columns make it table*), "
        r"or compile it as it is",
        r"\makeatletter\ifx\@nodocument\relax\else",
        r"\documentclass{article}\usepackage{booktabs,amssymb}\usepackage[margin=15mm]{geometry}"
        r"\begin{document}\def\tfseralone{\end{document}}\fi\makeatother",
    ]
    if r"\checkmark" in body:
        head.append("% with \\usepackage{amssymb} the check marks are check marks, without it root signs")
        head.append(r"\providecommand{\checkmark}{\surd}")
    if beyond_pdflatex(body):
        head.append(
            "% holds characters that pdfLaTeX has no glyph for: "
            "compile with XeLaTeX or LuaLaTeX and a font that has them"
        )
    return "\n".join([*head, "", body, r"\ifdefined\tfseralone\expandafter\tfseralone\fi", ""])


def _latex(table: Table) -> str:
    columns = [c for c in table.columns if c.paper]
    marks = [any(isinstance(row.values.get(c.key), bool) for row in table.rows) for c in columns]
    alignment = "".join("c" if mark else "r" if c.numeric else "l" for c, mark in zip(columns, marks, strict=True))
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\makebox[\linewidth][c]{%  centred where it is wider than the text",
        rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"\toprule",
    ]
    if any(c.group for c in columns):
        lines += _latex_groups(columns)
    lines += [" & ".join(escape_latex(c.title) for c in columns) + r" \\", r"\midrule"]
    for previous, row in zip([None, *table.rows], table.rows, strict=False):
        if table.ruled and previous is not None and parted(previous, row):
            lines.append(r"\midrule")
        cells = [_latex_cell(c, row) for c in columns]
        lines.append(" & ".join(cells) + (r" \\\addlinespace" if any(r"\\" in cell for cell in cells) else r" \\"))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.paper_notes:
        notes = [escape_latex(note) + r"\par" for note in table.paper_notes]
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\raggedright\scriptsize", *notes, r"\end{minipage}"]
    lines += [r"\end{table}", ""]
    return "\n".join(lines)


def _latex_cell(column: Column, row: Row) -> str:
    text = one_line(shown(column, row))
    wrapped = [escape_latex(part) for part in (textwrap.wrap(text, column.width) if column.width else [text])] or [""]
    first = [rf"\textbf{{{line}}}" if column.key in row.best else line for line in wrapped]
    lines = [*first, *(rf"{{\scriptsize {escape_latex(line)}}}" for line in beneath(column, row))]
    if len(lines) == 1:
        return lines[0]
    return rf"\begin{{tabular}}[t]{{@{{}}{'r' if column.numeric else 'l'}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    heads, rules, start = [], [], 1
    for group, members in groupby(columns, key=lambda c: c.group):
        span = len(list(members))
        if group:
            heads.append(rf"\multicolumn{{{span}}}{{c}}{{{escape_latex(group)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        else:
            heads.extend([""] * span)
        start += span
    return [" & ".join(heads) + r" \\", "".join(rules)]
