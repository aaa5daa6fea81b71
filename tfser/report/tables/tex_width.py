r"""How wide LaTeX sets a text, in points: Computer Modern at 8 pt, which is \footnotesize of a class of 10 pt.

The widths are those of Knuth's cmr8. Times, which other classes use, is narrower. Nothing here runs LaTeX.
"""

from __future__ import annotations

_ALIKE = {
    2.36: "!',.:;<[]_`il",
    2.60: "fj",
    2.83: "-",
    3.06: "I",
    3.31: "()rt",
    3.35: "s",
    3.78: "cez",
    4.01: ">?",
    4.25: '"$*/0123456789\\^ago{}~–',
    4.36: "J",
    4.49: "kqvxy",
    4.72: "Sbdhnpu",
    5.19: "Z",
    5.31: "L",
    5.54: "F",
    5.78: "EP",
    6.02: "B",
    6.14: "CTw",
    6.25: "R",
    6.37: "AHNUVXY",
    6.49: "D",
    6.61: "&+=@OQK±−×✗",
    6.67: "G",
    7.08: "#%m✓",
    7.78: "M",
    8.50: "|",
    8.73: "W",
}
_WIDTHS = {character: width for width, characters in _ALIKE.items() for character in characters}
_SPACE = 2.83
_UNKNOWN = 8.0
"""Of a character that the font lacks; accented letters are as wide as theirs, and none is wider."""
_BOLD = 1.18
_SMALL = 0.945
_MARK = 4.6


def width(text: str, *, bold: bool = False, small: bool = False) -> float:
    r"""Return the width of a text in points.

    Args:
        text: before any escaping.
        bold: in \textbf; an upper bound.
        small: in \scriptsize, 7 pt.
    """
    points = sum(_SPACE if c == " " else _WIDTHS.get(c, _UNKNOWN) for c in text)
    return points * (_BOLD if bold else 1.0) * (_SMALL if small else 1.0)


def marks_width(marks: str) -> float:
    """Return the width of superscripts in points; an upper bound."""
    return _MARK * len(marks)


def wrapped(text: str, limit: float, *, small: bool = False) -> list[str]:
    """Break a text into lines of at most ``limit`` points: at spaces, else behind hyphens and the like, else anywhere.

    >>> wrapped("Time-Frequency Transformer (ours)", 100)
    ['Time-Frequency', 'Transformer (ours)']
    """
    lines, line = [], ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if width(joined, small=small) <= limit:
            line = joined
            continue
        lines += [line] if line else []
        *whole, line = _pieces(word, limit, small)
        lines += whole
    return [*lines, line]


def _pieces(word: str, limit: float, small: bool) -> list[str]:
    """Break a word that alone may be too wide."""
    pieces, line = [], ""
    for character in word:
        if line and width(line + character, small=small) > limit:
            at = max(line.rfind(sign) for sign in "-_+/.") + 1
            at = at if at > 1 else len(line)
            pieces.append(line[:at])
            line = line[at:]
        line += character
    return [*pieces, line]
