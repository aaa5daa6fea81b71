"""One figure, drawn once, as a PNG for a folder and as an SVG inside a page.

Equal figures give equal bytes: neither file holds a date, a version or a random id, and both use matplotlib's own
defaults and font, whatever the user's settings. This module knows no metric and no configuration.

Black in the SVG takes the colour of the page's text, so that it is readable on a dark page too. Parts that must stay
black there are drawn in ``INK``.
"""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tfser.text.fonts import Labels, beside_our_own, drawable
from tfser.text.streams import one_line

INK = "#111111"
"""Black that stays black on a dark page."""

COLOURS = ("#0072b2", "#c8553d", "#2a8c5c", "#a8559b", "#8a7322", "#4f7fa8", "#b04a6a", "#6f6fb8", "#5d8a3a", "#9a6a4a")
"""Colours of series; each has a contrast of at least 3 to white and to the page's dark ground."""

MARKERS = "os^vDP<>*X"
"""Marks of series, for readers who cannot tell the colours apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished figure."""

    name: str
    """Name of its file, without ending."""
    kind: str
    """What it shows, in a few words."""
    description: str
    """Its content in words, for readers who do not see it."""
    png: bytes
    svg: str
    """An ``svg`` element for a page; its ids begin with a hash of the name."""


def picture(
    name: str,
    kind: str,
    heading: str,
    description: str,
    size: tuple[float, float],
    draw: Callable[[Any], None],
    *,
    constrained: bool = False,
    labels: Sequence[Labels] = (),
) -> Picture:
    """Draw a figure.

    Args:
        name: name of its file, without ending.
        kind: what it shows, in a few words.
        heading: all that its numbers depend on; stands above the PNG, each line wrapped to the width.
        description: its content in words, for readers who do not see it.
        size: width and height, inches, without the heading.
        draw: called with an empty matplotlib ``SubFigure`` of that size.
        constrained: whether matplotlib lays out the axes.
        labels: all names in it from outside tfser. The SVG holds the names themselves, since a reader has other fonts.
    """
    # Late: matplotlib takes a second to import, and most commands draw nothing.
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = size
    lines = [part for line in heading.split("\n") for part in textwrap.wrap(drawable(one_line(line)), int(width * 12))]
    head = 0.12 + 0.19 * len(lines)
    fonts = families([*lines, *(name for each in labels for name in each.shown)])
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "tfser", "text.parse_math": False, "font.family": fonts}
    with matplotlib.style.context("default"), matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, head + height), dpi=150, layout="constrained" if constrained else None)
        FigureCanvasAgg(figure)
        parts: Any = figure.subfigures(2, 1, height_ratios=(head, height))
        draw(parts[1])
        text = figure.text(
            0.5, 1 - 0.08 / (head + height), "\n".join(lines), ha="center", va="top", fontsize=9, linespacing=1.3
        )
        text.set_in_layout(False)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        text.set_visible(False)
        figure.savefig(
            svg, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    named = {shown: own for each in labels for shown, own in zip(each.shown, each.names, strict=True) if shown != own}
    page = svg.getvalue()
    for shown, own in named.items():
        page = page.replace(f">{shown}</text>", f">{escape(own, quote=False)}</text>")
    return Picture(
        name=name, kind=kind, description=description, png=png.getvalue(), svg=_embedded(page, name, size, head)
    )


def families(texts: Sequence[str]) -> list[str]:
    """Return the names of the fonts for a text, matplotlib's own first, and register the others with matplotlib."""
    from matplotlib import font_manager

    found = ["DejaVu Sans"]
    for path in beside_our_own(texts):
        family = font_manager.FontProperties(fname=path).get_name()
        if all(entry.fname != str(path) for entry in font_manager.fontManager.ttflist):
            font_manager.fontManager.addfont(path)
        found.append(family)
    return found


def _embedded(svg: str, name: str, size: tuple[float, float], head: float) -> str:
    """Return the ``svg`` element for a page: no prologue, no heading, no style or id that reaches beyond it."""
    prefix = f"f{hashlib.sha256(name.encode()).hexdigest()[:8]}-"
    body = svg[svg.index(">", svg.index("<svg ")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace("#000000", "currentColor")
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'href="#', f'href="#{prefix}', body)
    body = re.sub(r"url\(#", f"url(#{prefix}", body)
    body = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"\n\s*", "\n", body).strip()
    width, height, above = (72 * inches for inches in (*size, head))
    # At 1.4 pixels per point a label of 9 points is readable; below 1 it is not, so a narrow page scrolls instead.
    style = f"max-width:{1.4 * width:.0f}px;min-width:{width:.0f}px"
    return f'<svg viewBox="0 {above:.2f} {width:.2f} {height:.2f}" style="{style}">\n{body}'


def thin(values: Sequence[float], most: int = 200) -> tuple[list[int], list[float]]:
    """Thin a curve to about ``most`` evenly spaced points with its last: their places, counted from 1, and values.

    >>> thin([5.0, 4.0, 3.0, 2.0, 1.0], most=3)
    ([1, 3, 5], [5.0, 3.0, 1.0])
    """
    step = -(-len(values) // most)
    places = sorted({*range(0, len(values), step), len(values) - 1}) if values else []
    return [place + 1 for place in places], [values[place] for place in places]
