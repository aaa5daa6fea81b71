r"""Printed tables in LaTeX, each laid out for the width of a page or a column.

Needs only ``booktabs``; grey needs ``xcolor`` and check marks ``amssymb`` to look as they should. The body is in
\footnotesize throughout. Where a table is too wide, the layout changes and never the size: columns move together, the
titles of parts break, a column that groups the rows becomes lines of its own, databases stand below each other, and at
last names break. Widths are those of ``tex_width``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from tfser.report.tables.formats import beyond_pdflatex, escape_latex
from tfser.report.tables.table import Column, Row, Table, parted, text_and_marks
from tfser.report.tables.tex_width import marks_width, width, wrapped
from tfser.text.streams import one_line

PAGE, COLUMN = 122.0, 88.0
"""Width of a text of LNCS and of a column of IEEE, in millimetres."""

_SCALES = {PAGE: 1.1}
"""Size of \\footnotesize, beside 8 pt: LNCS makes it \\small, 9 pt, whose letters are up to 1.09 times as wide."""

_POINTS = 72.27 / 25.4
_LINES = 48
"""Most rows of one float, so that it fits the height of a page of LNCS."""

_MARKS = {"†": r"\dagger", "‡": r"\ddagger", "§": r"\S", "¶": r"\P"}


class _Cell(NamedTuple):
    """What stands in a cell, before any escaping."""

    text: str
    marks: str = ""
    bold: bool = False
    small: bool = False
    grey: bool = False

    def width(self, scale: float) -> float:
        small = self.small or self.grey
        return (width(self.text, bold=self.bold, small=small) + marks_width(self.marks)) * (1 if small else scale)

    def latex(self) -> str:
        text = escape_latex(self.text)
        text = rf"\textbf{{{text}}}" if self.bold and text else text
        if self.marks:
            text += f"$^{{{''.join(_MARKS.get(mark, mark) for mark in self.marks)}}}$"
        if not text or not (self.small or self.grey):
            return text
        return rf"{{\scriptsize \textcolor{{gray}}{{{text}}}}}" if self.grey else rf"{{\scriptsize {text}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a table is set."""

    columns: tuple[Column, ...]
    gap: float
    """\\tabcolsep in points."""
    scale: float
    """Size of the body, beside 8 pt."""
    broken: int = 0
    """How titles break into lines: 1 at the last hyphen, 2 within words too, 3 as often as it takes, groups too."""
    stub: str = ""
    """Key of the column whose values stand in lines of their own."""
    limits: tuple[tuple[str, float], ...] = ()
    """Keys of columns and the width at which their texts break, in points."""


def to_latex(tables: Sequence[Table], sentences: Sequence[str] = (), *, millimetres: float = PAGE) -> str:
    r"""Write the tables for a text of that width; the file also compiles by itself.

    Args:
        tables: printed tables, of two rows or more.
        sentences: what stands in place of a table with one row.
        millimetres: width of the text, or of the column.
    """
    limit, scale = millimetres * _POINTS, _SCALES.get(millimetres, 1.0)
    parts = [_float(part, limit, scale) for table in tables for part in _pages(table)]
    parts += [escape_latex(sentence) + "\n" for sentence in sentences]
    body = "\n".join(parts) or "% no rows\n"
    page = rf"\usepackage[a4paper,textwidth={millimetres:g}mm,textheight=235mm]{{geometry}}"
    page += r"\let\footnotesize\small" if scale > 1 else ""
    head = [
        rf"% {millimetres:g} mm wide. \input this into a document that loads booktabs, or compile it as it is",
        r"\makeatletter\ifx\@nodocument\relax\else",
        rf"\documentclass[10pt]{{article}}\usepackage{{booktabs,amssymb,xcolor}}{page}"
        r"\begin{document}\def\tfseralone{\end{document}}\fi\makeatother",
    ]
    if r"\checkmark" in body:
        head.append("% with \\usepackage{amssymb} the check marks are check marks, without it root signs")
        head.append(r"\providecommand{\checkmark}{\surd}")
    if r"\textcolor" in body:
        head.append("% with \\usepackage{xcolor} printed figures are grey")
        head.append(r"\providecommand{\textcolor}[2]{#2}")
    if beyond_pdflatex(body):
        head.append(
            "% holds characters that pdfLaTeX has no glyph for: "
            "compile with XeLaTeX or LuaLaTeX and a font that has them"
        )
    return "\n".join([*head, "", body, r"\ifdefined\tfseralone\expandafter\tfseralone\fi", ""])


def _pages(table: Table) -> Iterator[Table]:
    """Divide a table that is too long for a page, between blocks of rows where it can be."""
    parts: list[list[Row]] = [[]]
    for _, block in groupby(table.rows, key=lambda row: row.block):
        rows = list(block)
        if parts[-1] and len(parts[-1]) + len(rows) > _LINES:
            parts.append([])
        for row in rows:
            if len(parts[-1]) == _LINES:
                parts.append([])
            parts[-1].append(row)
    for number, rows in enumerate(parts, start=1):
        if number == 1:
            yield replace(table, rows=tuple(rows), notes=table.notes if len(parts) == 1 else ())
            continue
        head, dot, rest = table.caption.partition(". ")
        first = replace(rows[0], values={**rows[0].values, table.stub: rows[0].block}) if table.stub else rows[0]
        yield replace(
            table,
            rows=(first, *rows[1:]),
            name=f"{table.name}-{number}",
            caption=f"{head.rstrip('.')}, continued{dot or '.'}{rest}",
            notes=table.notes if number == len(parts) else (),
        )


def _float(table: Table, limit: float, scale: float) -> str:
    """Write one ``table`` environment."""
    layouts = _fitting(table, limit, scale)
    lines = [
        r"\begin{table}",
        rf"\centering\footnotesize\setlength{{\tabcolsep}}{{{layouts[0].gap:g}pt}}",
        rf"\caption{{{escape_latex(table.caption or table.title)}}}",
        rf"\label{{tab:{table.name}}}",
    ]
    for number, layout in enumerate(layouts):
        lines += [r"\par\medskip"] if number else []
        lines += _tabular(table, layout)
    if table.paper_notes:
        lines += [
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\raggedright\footnotesize",
            *(_note(note) + r"\par" for note in table.paper_notes),
            r"\end{minipage}",
        ]
    lines += [r"\end{table}", ""]
    return "\n".join(lines)


def _note(note: str) -> str:
    """Escape a note, with the asterisks that it explains raised."""

    def raised(found: re.Match[str]) -> str:
        return f"{found[1]}$^{{{'*' * found[2].count('*')}}}$ "

    return re.sub(r"(^|; )((?:\{\*\})+) ", raised, escape_latex(note))


def _fitting(table: Table, limit: float, scale: float) -> list[_Layout]:
    """Return the first layout that fits, or those of several tables below each other."""
    columns = tuple(c for c in table.columns if c.paper)
    rest = tuple(c for c in columns if c.key != table.stub)
    tried = [
        _Layout(columns=columns, gap=gap, scale=scale, broken=broken)
        for gap, broken in ((4.0, 0), (3.0, 0), (3.0, 1), (3.0, 2))
    ]
    if table.stub:
        tried += [_Layout(columns=rest, gap=gap, scale=scale, stub=table.stub) for gap in (4.0, 3.0)]
    for layout in tried:
        if _total(table, layout) <= limit:
            return [layout]
    last = replace(tried[-1], gap=2.0)
    if _total(table, last) <= limit:
        return [last]
    panels = list(_panels(table, last, limit)) if any(c.group for c in columns) else [last]
    return [_narrowed(table, panel, limit) for panel in panels]


def _panels(table: Table, layout: _Layout, limit: float) -> Iterator[_Layout]:
    """Divide the groups of columns over tables that fit, each with the columns that are in no group."""
    fixed = tuple(c for c in layout.columns if not c.group)
    taken: tuple[Column, ...] = ()
    for _, members in groupby((c for c in layout.columns if c.group), key=lambda c: c.group):
        group = tuple(members)
        wider = replace(layout, columns=(*fixed, *taken, *group))
        if taken and _total(table, wider) > limit:
            yield replace(layout, columns=(*fixed, *taken))
            taken = ()
        taken += group
    yield replace(layout, columns=(*fixed, *taken))


def _narrowed(table: Table, layout: _Layout, limit: float) -> _Layout:
    """Let titles and then the widest texts break until the table fits."""
    if _total(table, layout) <= limit:
        return layout
    layout = replace(layout, broken=3)
    texts = [c for c in layout.columns if not c.numeric and not c.small and not _marked(table, c)]
    limits: dict[str, float] = {}
    for _ in range(len(texts) + 1):
        over = _total(table, replace(layout, limits=tuple(limits.items()))) - limit
        if over <= 0 or not texts:
            break
        widest = max(texts, key=lambda c: _width(table, c, layout, limits.get(c.key)))
        limits[widest.key] = max(40.0, _width(table, widest, layout, limits.get(widest.key)) - over - 0.01)
        texts = [c for c in texts if c is not widest]
    return replace(layout, limits=tuple(limits.items()))


def _marked(table: Table, column: Column) -> bool:
    """Tell whether a column holds check marks."""
    return any(isinstance(row.values.get(column.key), bool) for row in table.rows)


def _cell(column: Column, row: Row) -> _Cell:
    text, marks = text_and_marks(column, row)
    return _Cell(one_line(text), marks, column.key in row.best, column.small, row.grey)


def _lines(column: Column, row: Row, scale: float, limit: float | None) -> list[_Cell]:
    """Return the cell, as several where its text breaks."""
    cell = _cell(column, row)
    if limit is None or cell.width(scale) <= limit:
        return [cell]
    small = cell.small or cell.grey
    left = limit / (1 if small else scale) - marks_width(cell.marks) - _INDENT
    parts = wrapped(cell.text, left, small=small)
    return [cell._replace(text=part, marks=cell.marks if part is parts[-1] else "") for part in parts]


_INDENT = 4.0
"""Points by which the further lines of a text that breaks are indented: \\enspace of 8 pt."""


_SYLLABLES = {"Architecture": "Archi-tecture", "Attention": "Atten-tion"}
"""Titles that break elsewhere than at a hyphen of their own."""


_NARROW = 34.0
"""Points at which every title breaks where nothing else helps."""


def _title(column: Column, layout: _Layout) -> list[str]:
    """Return the lines of a column's title; all but the last stand beside the titles of groups."""
    if layout.broken > 2:
        return wrapped(_SYLLABLES.get(column.title, column.title), _NARROW)
    if not layout.broken or column.group:
        return [column.title]
    title = _SYLLABLES.get(column.title, column.title) if layout.broken > 1 else column.title
    above, hyphen, below = title.rpartition("-")
    return [f"{above}{hyphen}", below] if hyphen else [column.title]


def _over(group: str, layout: _Layout, points: float) -> list[str]:
    """Return the lines of a group's title over columns that are so wide together."""
    return wrapped(group, max(points / layout.scale, _NARROW)) if layout.broken > 2 else [group]


def _width(table: Table, column: Column, layout: _Layout, limit: float | None) -> float:
    heads = [_Cell(part, small=column.small).width(layout.scale) for part in _title(column, layout)]
    cells = [_lines(column, row, layout.scale, limit) for row in table.rows]
    widths = [cell.width(layout.scale) + (_INDENT if number else 0.0) for c in cells for number, cell in enumerate(c)]
    return max([*heads, *widths])


def _total(table: Table, layout: _Layout) -> float:
    """Return the table's width in points."""
    limits = dict(layout.limits)
    total = 0.0
    for group, members in groupby(layout.columns, key=lambda c: c.group):
        columns = list(members)
        own = sum(_width(table, c, layout, limits.get(c.key)) for c in columns)
        own += 2 * layout.gap * (len(columns) - 1)
        over = max(width(line) for line in _over(group, layout, own)) * layout.scale if group else 0.0
        total += max(own, over)
        total += 2 * layout.gap
    return total - 2 * layout.gap


def _tabular(table: Table, layout: _Layout) -> list[str]:
    columns, limits = layout.columns, dict(layout.limits)
    marks = [_marked(table, c) for c in columns]
    alignment = "".join("c" if mark else "r" if c.numeric else "l" for c, mark in zip(columns, marks, strict=True))
    lines = [rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule"]
    lines += [*_head(table, layout), r"\midrule"]
    for previous, row in zip([None, *table.rows], table.rows, strict=False):
        starts = previous is None or parted_by_block(previous, row)
        if table.ruled and previous is not None and starts:
            lines.append(r"\midrule")
        if layout.stub and starts:
            stub = wrapped(row.block, COLUMN * _POINTS - 10.0)
            lines += [rf"\multicolumn{{{len(columns)}}}{{@{{}}l@{{}}}}{{\emph{{{escape_latex(s)}}}}} \\" for s in stub]
        lines += _row(columns, row, layout.scale, limits.get)
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def parted_by_block(row: Row, following: Row) -> bool:
    """Tell whether two neighbouring rows stand in two blocks; without blocks none do."""
    return bool(row.block or following.block) and parted(row, following)


def _row(columns: Sequence[Column], row: Row, scale: float, limit: Callable[[str], float | None]) -> list[str]:
    """Write a row, in several lines where a text breaks."""
    cells = [_lines(column, row, scale, limit(column.key)) for column in columns]
    made = []
    for number in range(max(len(lines) for lines in cells)):
        texts = [lines[number].latex() if number < len(lines) else "" for lines in cells]
        if number:
            texts = [rf"\enspace {text}" if text else "" for text in texts]
        made.append(" & ".join(texts) + r" \\")
    return made


def _head(table: Table, layout: _Layout) -> list[str]:
    """Write the titles: those of groups over a rule, and those of columns, whose first lines stand beside them."""
    titles = [_title(c, layout) for c in layout.columns]
    groups: list[tuple[str, int, list[str]]] = []
    for group, members in groupby(layout.columns, key=lambda c: c.group):
        columns = list(members)
        own = sum(_width(table, c, layout, None) for c in columns) + 2 * layout.gap * (len(columns) - 1)
        groups.append((group, len(columns), _over(group, layout, own) if group else []))
    count = max([*(len(lines) - 1 for lines in titles), *(len(lines) for _, _, lines in groups)])
    made = []
    for level in range(count, 0, -1):
        cells, start = [], 0
        for group, span, lines in groups:
            text = lines[-level] if level <= len(lines) else ""
            if group:
                cells.append(rf"\multicolumn{{{span}}}{{c}}{{{escape_latex(text)}}}")
            else:
                own_titles = titles[start : start + span]
                small = [c.small for c in layout.columns[start : start + span]]
                texts = [t[-level - 1] if level < len(t) else "" for t in own_titles]
                cells += [_Cell(t, small=s).latex() for t, s in zip(texts, small, strict=True)]
            start += span
        made.append(" & ".join(cells) + r" \\")
    rules, start = [], 1
    for group, span, _ in groups:
        rules += [rf"\cmidrule(lr){{{start}-{start + span - 1}}}"] if group else []
        start += span
    last = (_Cell(lines[-1], small=c.small).latex() for c, lines in zip(layout.columns, titles, strict=True))
    return [*made, *(["".join(rules)] if rules else []), " & ".join(last) + r" \\"]
