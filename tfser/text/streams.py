"""Standard output and error that take every text, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_PLAIN = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "×": "x", "·": ".", "…": "...", "†": "+", "‡": "++", "→": "->", "≤": "<=", "≥": ">=",
    "‘": "'", "’": "'", "“": '"', "”": '"', "█": "#",
}  # fmt: skip
"""Signs that our own sentences and tables hold, as ASCII."""

_HANDLER = "tfser.plain"


def take_any_text() -> None:
    """Have what an encoding lacks printed in another form, in this process: our signs as ASCII, letters by their number.

    Every command calls it first. A place whose name is not text (a path with undecodable bytes) can then be printed too.
    """
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def takes(text: str) -> bool:
    """Whether standard output can print a text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(
        _PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii") for letter in lost
    ), error.end


def one_line(text: str) -> str:
    """Without line breaks and control characters, which would break a table in any format."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text).split())
