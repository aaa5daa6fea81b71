"""Names in any script: which installed fonts have their letters, and what stands in a figure where none has.

A figure is drawn with matplotlib's own font as far as that goes, so that it looks alike everywhere. Letters that it lacks come from
installed fonts. A name with letters that none of them has is numbered, because boxes cannot be told apart.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from tfser.text.streams import one_line

INSTALL = "Install one (Debian: apt-get install fonts-noto-core fonts-noto-cjk), and make the figures again with python -m tfser.collect."


class Labels:
    """Names as a figure shows them.

    Args:
        names: in the order of the tables.
        noun: what they are: ``emotion``, ``speaker``. A name that cannot be drawn is this word with its number.
    """

    def __init__(self, names: Sequence[str], noun: str) -> None:
        self.names = [one_line(name) for name in names]
        lacking = [name for name in self.names if lacks(name)]
        self.shown = [f"{noun} {i}" if name in lacking else name for i, name in enumerate(self.names, 1)]
        """The same, in that order."""
        if lacking:
            _say(lacking)


def drawable(text: str) -> str:
    """The text with every letter that no font has as its number in Unicode."""
    lacking = lacks(text)
    if not lacking:
        return text
    _say(word.strip(",.;:") for word in text.split() if lacking & set(word))
    return re.sub(
        f"[{re.escape(''.join(lacking))}]+", lambda run: " ".join(f"U+{ord(letter):04X}" for letter in run[0]), text
    )


def lacks(text: str) -> set[str]:
    """The letters that no installed font has."""
    return {letter for letter in _foreign(text) if _font_of(letter) is None}


def beside_our_own(texts: Iterable[str]) -> list[Path]:
    """The installed fonts with the letters that matplotlib's own font lacks."""
    found = (_font_of(letter) for text in texts for letter in sorted(_foreign(text)))
    return list(dict.fromkeys(path for path in found if path is not None))


def runs(text: str) -> list[tuple[Path, str]]:
    """The text in pieces, each with the font that has its letters, for a program that draws with one font at a time."""
    made: list[tuple[Path, str]] = []
    foreign = _foreign(text)
    for letter in text:
        drawn = unicodedata.category(letter)[0] not in "CZ"
        path = (_font_of(letter) if letter in foreign else own() if drawn or not made else made[-1][0]) or own()
        if made and made[-1][0] == path:
            made[-1] = path, made[-1][1] + letter
        else:
            made.append((path, letter))
    return made


@lru_cache(maxsize=1)
def own() -> Path:
    """Matplotlib's own font, which has most scripts of Europe and beyond; found without importing matplotlib."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def _foreign(text: str) -> set[str]:
    """Letters that matplotlib's own font lacks; without spaces and signs that are not drawn."""
    if text.isascii():
        return set()
    return {
        letter for letter in text if unicodedata.category(letter)[0] not in "CZ" and ord(letter) not in _letters(own())
    }


@lru_cache(maxsize=4096)
def _font_of(letter: str) -> Path | None:
    return next((path for path in _installed() if ord(letter) in _letters(path)), None)


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    """Upright sans-serif fonts first."""
    from matplotlib.font_manager import findSystemFonts  # late: it is needed for few names, and takes a second

    def order(path: Path) -> tuple[bool, bool, bool, str]:
        name = path.name.lower()
        return "italic" in name or "oblique" in name, "sans" not in name, "regular" not in name, str(path)

    return tuple(sorted({Path(path) for path in findSystemFonts()}, key=order))


@lru_cache(maxsize=512)
def _letters(path: Path) -> frozenset[int]:
    """What a font has; nothing where it cannot be read."""
    from fontTools.ttLib import TTFont

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # whatever its reader raises about a damaged file
        return frozenset()


_said: set[str] = set()


def _say(names: Iterable[str]) -> None:
    """Say once of each name that it cannot be drawn."""
    new = list(_new(names))
    if new:
        what = (
            f"No font of this machine has the letters of {', '.join(new)}, so that figures show numbers in their place."
        )
        print(f"{what} {INSTALL}", file=sys.stderr)


def _new(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name not in _said:
            _said.add(name)
            yield name
