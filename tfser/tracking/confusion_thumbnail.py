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

LINE = 22
"""Height of a line, pixels."""

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

    image, left, top = _frame(tuple(Labels(emotions, "emotion").shown), len(heading))
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for index, text in enumerate(map(drawable, heading)):
        _write(draw, GAP, GAP + LINE * index, _cut(text, 17, image.width - 2 * GAP), 17, "la")
    for i, row in enumerate(counts):
        total = sum(row)
        for j, count in enumerate(row):
            image.paste(_cell(count, total), (left + CELL * j + 1, top + CELL * i + 1))
    out = io.BytesIO()
    # A few shades are enough, and a quarter of the bytes; to choose them for each picture takes as long as the rest.
    image.quantize(palette=_shades(), dither=Image.Dither.NONE).save(out, format="png")
    return out.getvalue()


@lru_cache(maxsize=8)
def _frame(names: tuple[str, ...], headings: int) -> tuple[Any, int, int]:
    """Draw what the pictures of a database share; return it with the left and upper edge of the cells, in pixels.

    Args:
        names: of the emotions.
        headings: lines above.
    """
    from PIL import Image, ImageDraw

    font, size = _font(16, own()), len(names)
    left = GAP + int(max(_width(e, 16) for e in names)) + GAP
    top = GAP + LINE * headings + GAP + LINE
    width, height = max(left + CELL * size + GAP, NARROWEST), top + CELL * size + LINE + GAP
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for i, name in enumerate(names):
        _write(draw, left - GAP, top + CELL * i + CELL // 2, name, 16, "rm")
        _write(draw, left + CELL * i + CELL // 2, top - LINE // 2, _cut(name, 16, CELL - 4), 16, "mm")
    note = _cut("rows: true; columns: recognised; % of the row (count)", 16, width - 2 * GAP)
    draw.text((GAP, height - GAP - LINE // 2), note, fill="black", font=font, anchor="lm")
    return image, left, top


@lru_cache(maxsize=1)
def _shades() -> Any:
    """Return an image whose palette has what cells and letters of every share need."""
    from PIL import Image

    image, step = Image.new("RGB", (CELL * 42, 2 * CELL), "white"), 40  # half white, else the background is bluish
    for count in range(step + 1):
        image.paste(_cell(count, step), (CELL * count, 0))
    image.paste(_cell(0, 0), (CELL * (step + 1), 0))
    return image.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


@lru_cache(maxsize=512)
def _cell(count: int, total: int) -> Any:
    """Draw a cell; a sweep has few different ones, and their letters are what takes time.

    Args:
        count: utterances.
        total: of the row.
    """
    from PIL import Image, ImageDraw

    share = count / total if total else 0.0
    colour = tuple(int(v) for v in np.rint(_PALE + share * (_DARK - _PALE)))
    image = Image.new("RGB", (CELL - 2, CELL - 2), colour if total else "white")
    words = f"{100 * share:.2f}\n({count})" if total else "–"
    middle = CELL // 2 - 1, CELL // 2 - 1
    ink = "white" if share > 0.5 else "black"
    ImageDraw.Draw(image).multiline_text(middle, words, fill=ink, font=_font(16, own()), anchor="mm", align="center")
    return image


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
