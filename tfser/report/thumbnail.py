"""A confusion matrix as a small picture, for MLflow's runs.

The report's pictures are set with more care and take about ten times as long, too long for every fold of every
configuration; and drawing with matplotlib changes settings of the whole process, so a thread must not do it while
another one works. This needs Pillow alone. Equal matrices give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

CELL = 84
"""Width and height of a cell, pixels: room for ``100.00`` and a count."""

GAP, NARROWEST = 12, 480
"""Pixels around everything; pixels of width that a heading needs beside two emotions too."""

_PALE, _DARK = np.array([247, 251, 255]), np.array([8, 48, 107])
"""Colours of a share of 0 and of 1: both ends of ColorBrewer's Blues."""


def confusion(emotions: Sequence[str], counts: Sequence[Sequence[int]], heading: Sequence[str]) -> bytes:
    """A PNG of row percent with the counts below, darker for more.

    Args:
        emotions: names of rows (the truth) and columns (what was recognised).
        counts: shape (emotions, emotions).
        heading: lines above it; each is cut to the width.
    """
    from PIL import Image, ImageDraw

    font, bold = _font(16), _font(17)
    size = len(emotions)
    line = 22
    left = GAP + int(max(font.getlength(e) for e in emotions)) + GAP
    columns = [_cut(e, font, CELL - 4) for e in emotions]
    top = GAP + line * len(heading) + GAP + line
    width, height = max(left + CELL * size + GAP, NARROWEST), top + CELL * size + line + GAP
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for index, text in enumerate(heading):
        draw.text((GAP, GAP + line * index), _cut(text, bold, width - 2 * GAP), fill="black", font=bold)
    for i, truth in enumerate(emotions):
        middle = top + CELL * i + CELL // 2
        draw.text((left - GAP, middle), truth, fill="black", font=font, anchor="rm")
        draw.text((left + CELL * i + CELL // 2, top - line // 2), columns[i], fill="black", font=font, anchor="mm")
        total = sum(counts[i])
        for j, count in enumerate(counts[i]):
            x, y = left + CELL * j, top + CELL * i
            share = count / total if total else 0.0
            colour = tuple(int(v) for v in np.rint(_PALE + share * (_DARK - _PALE)))
            ink = "white" if share > 0.5 else "black"
            draw.rectangle((x + 1, y + 1, x + CELL - 2, y + CELL - 2), fill=colour if total else "white")
            words = f"{100 * share:.2f}\n({count})" if total else "–"
            draw.multiline_text((x + CELL // 2, middle), words, fill=ink, font=font, anchor="mm", align="center")
    note = _cut("rows: true; columns: recognised; % of the row (count)", font, width - 2 * GAP)
    draw.text((GAP, height - GAP - line // 2), note, fill="black", font=font, anchor="lm")
    out = io.BytesIO()
    # A few shades are enough, and a quarter of the bytes.
    image.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, format="png")
    return out.getvalue()


@lru_cache(maxsize=8)
def _font(pixels: int) -> Any:
    """Matplotlib's own font, which has most scripts of Europe and beyond; found without importing matplotlib."""
    from PIL import ImageFont

    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(str(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"), pixels)


def _cut(text: str, font: Any, width: int) -> str:
    """The text, shortened to ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
