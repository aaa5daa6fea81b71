"""One figure, drawn once, as PNG and PDF for a paper and as an SVG inside a page.

Widths are those of a printed column or page, text is set in 8 points and a Times-like font, and there is no title:
a paper's caption says what a figure shows. Equal figures give equal bytes: no file holds a date, a version or a random
id, and all use matplotlib's own defaults and fonts, whatever the user's settings. This module knows no metric and no
configuration.

Black in the SVG takes the colour of the page's text, so that it is readable on a dark page too. Parts that must stay
black there are drawn in ``INK``.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from html import escape
from typing import Any

from tfser.report.tables.table import exact
from tfser.text.fonts import Labels, beside_our_own, drawable
from tfser.text.streams import one_line

COLUMN = 88 / 25.4
"""Width of an IEEE column, inches."""

TEXT = 122 / 25.4
"""Width of an LNCS page's text, inches."""

TALLEST = 190 / 25.4
"""Height of a figure with room for its caption on either page, inches."""

POINTS = 8.0
"""Size of text."""

SMALL = 7.0
"""Size of numbers in cells and of legends."""

AS_WIDE = 0.84
"""Size in ``DejaVu Sans`` at which letters are as high and wide as the Times-like ones of a size of 1."""

DPI = 300
"""Dots per inch of a PNG."""

INK = "#111111"
"""Black that stays black on a dark page."""

COLOURS = ("#0072b2", "#c8553d", "#2a8c5c", "#a8559b", "#8a7322", "#4f7fa8", "#b04a6a", "#6f6fb8", "#5d8a3a", "#9a6a4a")
"""Colours of series; each has a contrast of at least 3 to white and to the page's dark ground."""

MARKERS = "os^vDP<>*X"
"""Marks of series, for readers who cannot tell the colours apart."""

_SANS = "DejaVu Sans"
"""matplotlib's own font with the most letters; those that the Times-like font lacks come from it."""

_STYLE: Mapping[str, Any] = {
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize"), POINTS),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize"), SMALL),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width", "grid.linewidth"), 0.5),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 2.0),
    **dict.fromkeys(("xtick.major.pad", "ytick.major.pad", "axes.labelpad"), 2.0),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "lines.linewidth": 0.9,
    "lines.markersize": 3.5,
    "grid.color": "#888888",
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "svg.fonttype": "none",
    "svg.hashsalt": "tfser",
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished figure."""

    name: str
    """Name of its files, without ending."""
    kind: str
    """What it shows, in a few words."""
    heading: str
    """All that its numbers depend on, for a caption: database, protocol, method, selection."""
    description: str
    """Its content in words, for readers who do not see it."""
    png: bytes
    pdf: bytes
    svg: str
    """An ``svg`` element for a page; its ids begin with a hash of the name."""

    @property
    def files(self) -> dict[str, bytes]:
        """Its files for a paper, by name."""
        return {f"{self.name}.png": self.png, f"{self.name}.pdf": self.pdf}


@dataclass(frozen=True, slots=True)
class Rendered:
    """One figure in every format."""

    png: bytes
    pdf: bytes
    svg: str
    """The whole SVG file, set in ``DejaVu Sans``, which is as wide as any font of a page."""


def render(size: tuple[float, float], draw: Callable[[Any], None], texts: Sequence[str], title: str = "") -> Rendered:
    """Draw a figure, whose axes matplotlib lays out.

    Args:
        size: width and height, inches; the files have exactly this size.
        draw: called once with an empty matplotlib ``Figure``.
        texts: all texts in it from outside tfser, as drawn.
        title: the PDF's title, which no page shows.
    """
    # Late: matplotlib takes a second to import, and most commands draw nothing.
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    fonts = families(texts)
    settings: Any = {**_STYLE, "font.family": fonts}
    with matplotlib.style.context("default"), matplotlib.rc_context(settings):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        png, pdf, svg = io.BytesIO(), io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
        figure.savefig(pdf, format="pdf", metadata={**nothing, **({"Title": title} if title else {})})
        for text in figure.findobj(Text):
            text.set(fontfamily=fonts[1:], fontsize=AS_WIDE * float(text.get_fontsize()))
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    return Rendered(png.getvalue(), pdf.getvalue(), svg.getvalue())


def picture(
    name: str,
    kind: str,
    heading: str,
    description: str,
    size: tuple[float, float],
    draw: Callable[[Any], None],
    *,
    labels: Sequence[Labels] = (),
    texts: Sequence[str] = (),
) -> Picture:
    """Draw a figure.

    Args:
        name: name of its files, without ending.
        kind: what it shows, in a few words.
        heading: all that its numbers depend on; stands in no picture.
        description: its content in words, for readers who do not see it.
        size: width and height, inches.
        draw: called with an empty matplotlib ``Figure`` of that size.
        labels: all names in it from outside tfser. The SVG holds the names themselves, since a reader has other fonts.
        texts: other texts in it that hold such names, made drawable.
    """
    made = render(size, draw, [*(name for each in labels for name in each.shown), *texts], one_line(heading))
    named = {shown: own for each in labels for shown, own in zip(each.shown, each.names, strict=True) if shown != own}
    page = made.svg
    for shown, own in named.items():
        page = page.replace(f">{shown}</text>", f">{escape(own, quote=False)}</text>")
    return Picture(
        name=name,
        kind=kind,
        heading=heading,
        description=description,
        png=made.png,
        pdf=made.pdf,
        svg=_embedded(page, name, size),
    )


def families(texts: Sequence[str]) -> list[str]:
    """Return the names of the fonts for a text, matplotlib's own first, and register the others with matplotlib."""
    from matplotlib import font_manager

    found = ["STIXGeneral", _SANS]
    for path in beside_our_own(texts):
        family = font_manager.FontProperties(fname=path).get_name()
        if all(entry.fname != str(path) for entry in font_manager.fontManager.ttflist):
            font_manager.fontManager.addfont(path)
        found.append(family)
    return found


def _embedded(svg: str, name: str, size: tuple[float, float]) -> str:
    """Return the ``svg`` element for a page: no prologue, no style or id that reaches beyond it."""
    prefix = f"f{hashlib.sha256(name.encode()).hexdigest()[:8]}-"
    body = svg[svg.index(">", svg.index("<svg ")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace("#000000", "currentColor")
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'href="#', f'href="#{prefix}', body)
    body = re.sub(r"url\(#", f"url(#{prefix}", body)
    body = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"\n\s*", "\n", body).strip()
    width, height = (72 * inches for inches in size)
    # Labels of SMALL points then have 9 pixels or more; where a page is narrower, the figure scrolls instead.
    style = f"max-width:{1.8 * width:.0f}px;min-width:{1.55 * width:.0f}px"
    return f'<svg viewBox="0 0 {width:.2f} {height:.2f}" style="{style}">\n{body}'


def short(names: Sequence[str], most: int) -> list[str]:
    """Cut names to so many characters: at the end, or in the middle where they would become the same.

    >>> short(["anger", "surprise"], 6), short(["speaker 1", "speaker 2"], 6)
    (['anger', 'surpr…'], ['spe… 1', 'spe… 2'])
    """
    cut = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
    if len(set(cut)) == len(set(names)):
        return cut
    end = most // 2 - 1
    return [name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}" for name in names]


def breadth(text: str) -> int:
    """Return how many Latin letters a text is about as wide as.

    >>> breadth("anger"), breadth("生气")
    (5, 4)
    """
    marks = sum(unicodedata.category(letter) in ("Mn", "Me") for letter in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def drawn_names(names: Sequence[str], most: int) -> list[str]:
    """Return names from outside tfser as a figure shows them: on one line, drawable, and cut."""
    return short([drawable(one_line(name)) for name in names], most)


def in_percent(fraction: float, decimals: int) -> str:
    """Write a fraction in percent with so many decimals, as ``percent`` does with two; a minus sign is a true one.

    >>> in_percent(0.12345, 1), in_percent(-0.0004, 1), in_percent(-0.5, 0)
    ('12.3', '0.0', '−50')
    """
    rounded = (Decimal(repr(exact(fraction))) * 100).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)
    return str(rounded if rounded else abs(rounded)).replace("-", "−")


def spread(values: Sequence[float], near: float, step: float, most: float) -> list[float]:
    """Return an offset for each mark, across the axis of its value, so that marks at one place stay visible.

    A mark goes to the first lane in which the mark before it is far enough away: the middle, one above, one below, two
    above and so on. Nothing is random, and a mark without neighbours stays in the middle.

    Args:
        values: places of the marks along the axis.
        near: distance below which two marks hide each other, in units of the values.
        step: distance of two lanes.
        most: largest offset; lanes come closer where they would leave it.

    >>> spread([50.0, 100.0, 100.0, 100.0], near=2.0, step=0.25, most=0.25)
    [0.0, 0.0, 0.25, -0.25]
    """
    ends: list[float] = []
    lanes = [0] * len(values)
    for index in sorted(range(len(values)), key=lambda i: values[i]):
        free = (lane for lane, end in enumerate(ends) if values[index] - end >= near)
        lanes[index] = lane = next(free, len(ends))
        ends[lane:] = [values[index], *ends[lane + 1 :]]
    places = [(-1) ** (lane + 1) * ((lane + 1) // 2) for lane in lanes]
    furthest = max((abs(place) for place in places), default=0)
    step = min(step, most / furthest) if furthest else step
    return [place * step + 0.0 for place in places]


def thin(values: Sequence[float], most: int = 200) -> tuple[list[int], list[float]]:
    """Thin a curve to about ``most`` evenly spaced points with its last: their places, counted from 1, and values.

    >>> thin([5.0, 4.0, 3.0, 2.0, 1.0], most=3)
    ([1, 3, 5], [5.0, 3.0, 1.0])
    """
    step = -(-len(values) // most)
    places = sorted({*range(0, len(values), step), len(values) - 1}) if values else []
    return [place + 1 for place in places], [values[place] for place in places]
