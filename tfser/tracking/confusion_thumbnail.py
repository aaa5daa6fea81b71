"""A confusion matrix as a small picture, for MLflow's runs.

The report's pictures take about ten times as long, too long for every fold of every configuration. And matplotlib
changes settings of the whole process, so that a thread must not draw with it while another one works. This needs Pillow
alone. Equal matrices give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tfser.text.fonts import Labels, drawable, own, runs

CELL = 84
"""Width and height of a cell, pixels: room for ``100.00`` and a count."""

GAP, NARROWEST = 12, 480
"""Pixels around everything; least width in pixels, so that a heading fits above two emotions."""

_PALE, _DARK = np.array([247, 251, 255]), np.array([8, 48, 107])
"""Colours of the shares 0 and 1: both ends of ColorBrewer's Blues."""


def confusion(emotions: Sequence[str], counts: Sequence[Sequence[int]], heading: Sequence[str]) -> bytes:
    """Draw a PNG of row percentages with the counts below, darker for more.

    Args:
        emotions: names of rows (the truth) and columns (what was recognised).
        counts: shape (emotions, emotions).
        heading: lines above it; each is cut to the width.
    """
    from PIL import Image, ImageDraw

    names = Labels(emotions, "emotion").shown
    above = [drawable(text) for text in heading]
    font, size = _font(16, own()), len(names)
    line = 22
    left = GAP + int(max(_width(e, 16) for e in names)) + GAP
    columns = [_cut(e, 16, CELL - 4) for e in names]
    top = GAP + line * len(heading) + GAP + line
    width, height = max(left + CELL * size + GAP, NARROWEST), top + CELL * size + line + GAP
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for index, text in enumerate(above):
        _write(draw, GAP, GAP + line * index, _cut(text, 17, width - 2 * GAP), 17, "la")
    for i, truth in enumerate(names):
        middle = top + CELL * i + CELL // 2
        _write(draw, left - GAP, middle, truth, 16, "rm")
        _write(draw, left + CELL * i + CELL // 2, top - line // 2, columns[i], 16, "mm")
        total = sum(counts[i])
        for j, count in enumerate(counts[i]):
            x, y = left + CELL * j, top + CELL * i
            share = count / total if total else 0.0
            colour = tuple(int(v) for v in np.rint(_PALE + share * (_DARK - _PALE)))
            ink = "white" if share > 0.5 else "black"
            draw.rectangle((x + 1, y + 1, x + CELL - 2, y + CELL - 2), fill=colour if total else "white")
            words = f"{100 * share:.2f}\n({count})" if total else "–"
            draw.multiline_text((x + CELL // 2, middle), words, fill=ink, font=font, anchor="mm", align="center")
    note = _cut("rows: true; columns: recognised; % of the row (count)", 16, width - 2 * GAP)
    draw.text((GAP, height - GAP - line // 2), note, fill="black", font=font, anchor="lm")
    out = io.BytesIO()
    # A few shades are enough, and a quarter of the bytes.
    image.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, format="png")
    return out.getvalue()


@lru_cache(maxsize=64)
def _font(pixels: int, path: Path) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(str(path), pixels)


def _width(text: str, pixels: int) -> float:
    return sum(float(_font(pixels, path).getlength(part)) for path, part in runs(text))


def _write(draw: Any, x: float, y: float, text: str, pixels: int, anchor: str) -> None:
    """Draw a text with as many fonts as its letters need.

    Args:
        draw: where.
        x: of the anchor, pixels.
        y: likewise.
        text: one line.
        pixels: size of the fonts.
        anchor: Pillow's two letters.
    """
    x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * _width(text, pixels)
    for path, part in runs(text):
        font = _font(pixels, path)
        draw.text((x, y), part, fill="black", font=font, anchor=f"l{anchor[1]}")
        x += font.getlength(part)


def _cut(text: str, pixels: int, width: int) -> str:
    """Return the text, shortened to ``width`` pixels."""
    if _width(text, pixels) <= width:
        return text
    while text and _width(f"{text}…", pixels) > width:
        text = text[:-1]
    return f"{text}…"
