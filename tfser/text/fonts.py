"""Names in any script: which installed fonts have their letters, and what a figure shows if none has.

Figures use matplotlib's own font, so that they look alike everywhere. Letters that it lacks come from installed
fonts. A name with a letter that no font has is replaced by a number, because empty boxes cannot be told apart.
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

INSTALL = (
    "Install one (Debian: apt-get install fonts-noto-core fonts-noto-cjk), "
    "and make the figures again with tfser collect."
)


class Labels:
    """Names as a figure shows them.

    Args:
        names: the names, in the order of the tables.
        noun: ``emotion`` or ``speaker``. A name that cannot be drawn becomes this word with a number.
    """

    def __init__(self, names: Sequence[str], noun: str) -> None:
        self.names = [one_line(name) for name in names]
        lacking = [name for name in self.names if lacks(name)]
        self.shown = [f"{noun} {i}" if name in lacking else name for i, name in enumerate(self.names, 1)]
        """The names as they are drawn, in the same order."""
        if lacking:
            _say(lacking)


def drawable(text: str) -> str:
    """Return the text, with its Unicode number in place of every letter that no font has."""
    lacking = lacks(text)
    if not lacking:
        return text
    _say(word.strip(",.;:") for word in text.split() if lacking & set(word))
    return re.sub(
        f"[{re.escape(''.join(lacking))}]+", lambda run: " ".join(f"U+{ord(letter):04X}" for letter in run[0]), text
    )


def lacks(text: str) -> set[str]:
    """Return the letters that no installed font has."""
    return {letter for letter in _foreign(text) if _font_of(letter) is None}


def beside_our_own(texts: Iterable[str]) -> list[Path]:
    """Return the installed fonts that have the letters matplotlib's own font lacks."""
    found = (_font_of(letter) for text in texts for letter in sorted(_foreign(text)))
    return list(dict.fromkeys(path for path in found if path is not None))


def runs(text: str) -> list[tuple[Path, str]]:
    """Split a text into pieces, each with a font that has its letters, for programs that draw with one font at once."""
    made: list[tuple[Path, str]] = []
    foreign = _foreign(text)
    if not foreign:
        return [(own(), text)] if text else []
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
    """Find matplotlib's own font, which has most European scripts, without importing matplotlib."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


def _foreign(text: str) -> set[str]:
    """Return the letters that matplotlib's own font lacks, without spaces and invisible signs."""
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
    """List the installed fonts, upright sans-serif ones first."""
    from matplotlib.font_manager import findSystemFonts  # late: few names need it, and it takes a second

    def order(path: Path) -> tuple[bool, bool, bool, str]:
        name = path.name.lower()
        return "italic" in name or "oblique" in name, "sans" not in name, "regular" not in name, str(path)

    return tuple(sorted({Path(path) for path in findSystemFonts()}, key=order))


@lru_cache(maxsize=512)
def _letters(path: Path) -> frozenset[int]:
    """Return the letters of a font; none if it cannot be read."""
    from fontTools.ttLib import TTFont

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # whatever its reader raises about a damaged file
        return frozenset()


_said: set[str] = set()


def _say(names: Iterable[str]) -> None:
    """Print once per name that it cannot be drawn."""
    new = list(_new(names))
    if new:
        what = f"No font of this machine has the letters of {', '.join(new)}; figures show numbers in their place."
        print(f"{what} {INSTALL}", file=sys.stderr)


def _new(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name not in _said:
            _said.add(name)
            yield name
