"""Widths of LaTeX tables in points, from matplotlib's copy of Computer Modern; knows nothing of the product's own."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font, LoadFlags

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

WIDER = {7.0: 1.139, 8.0: 1.0625, 9.0: 1.028}
"""How much wider the digits of cmr7, cmr8 and cmr9 are than those of cmr10 at the same size (Knuth's metrics)."""

_SIGNS = {
    r"$\checkmark$": "VV",  # wider than both the mark of amssymb and a root sign
    r"$\times$": "x",
    "--": "-",
    r"\&": "&",
    r"\%": "%",
    r"\_": "_",
    r"\#": "#",
    "$<$": "<",
    "$>$": ">",
    "$|$": "m",
    r"\textbackslash": "m",
}


@cache
def _advance(font: str, character: str) -> float:
    """A character's width at 1 pt."""
    face = FT2Font(str(FONTS / f"{font}.ttf"))
    face.set_size(100, 72)
    glyph = face.load_char(ord(character), flags=LoadFlags.NO_HINTING)
    return glyph.linearHoriAdvance / 65536 / 100


def _text_width(text: str, size: float, bold: bool) -> float:
    font = "cmb10" if bold else "cmr10"
    wider = 1.13 if bold else 1.0  # matplotlib has cmb10, and LaTeX takes the extended cmbx
    return sum(_advance(font, c if c.isascii() else "M") for c in text) * size * WIDER[size] * wider


def cell_width(cell: str, size: float) -> float:
    """The width of one cell of a row."""
    bold = "\textbf" in cell
    size = 7.0 if r"\scriptsize" in cell else size
    marks = "".join(re.findall(r"\$\^\{(.*?)\}\$", cell)).replace(r"\dagger", "x").replace(r"\ddagger", "x")
    cell = re.sub(r"\$\^\{.*?\}\$", "", cell)
    for written, seen in _SIGNS.items():
        cell = cell.replace(written, seen)
    indent = 4.0 if r"\enspace" in cell else 0.0
    cell = re.sub(r"\\(textbf|emph|scriptsize|enspace|textcolor\{gray\})(?![a-z]) ?", "", cell)
    cell = re.sub(r"(?<!\\)[{}]", "", cell).replace("\\", "").strip()
    return indent + _text_width(cell, size, bold) + 4.5 * len(marks)


def tabular_widths(text: str, size: float) -> list[float]:
    """The natural width of every table in a file, with its body at ``size``."""
    widths, gap = [], 6.0
    for line in re.split(r"(?=\\begin\{tabular\})|(?=\\begin\{table\})", text):
        if found := re.search(r"\\setlength\{\\tabcolsep\}\{([\d.]+)pt\}", line):
            gap = float(found[1])
        if line.startswith(r"\begin{tabular}"):
            widths.append(_tabular(line.partition(r"\end{tabular}")[0], size, gap))
    return widths


def _tabular(text: str, size: float, gap: float) -> float:
    rows = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
    plain = [row.split(" & ") for row in rows if r"\multicolumn" not in row]
    columns = [max(cell_width(row[i], size) for row in plain) for i in range(len(plain[0]))]
    whole = sum(columns) + 2 * gap * (len(columns) - 1)
    for row in rows:
        start, over = 0, 0.0
        for cell in row.split(" & "):
            found = re.match(r"\\multicolumn\{(\d+)\}\{[^}]*\}(?:\}|)\{(.*)\}$", cell.replace("@{}", ""))
            span = int(found[1]) if found else 1
            own = cell_width(found[2] if found else cell, size)
            over += max(0.0, own - sum(columns[start : start + span]) - 2 * gap * (span - 1))
            start += span
        whole = max(whole, sum(columns) + 2 * gap * (len(columns) - 1) + over)
    return whole
