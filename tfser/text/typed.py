"""Numbers and words from the command line, read strictly.

Python's own ``int`` and ``float`` accept too much: ``1_0`` is 10, digits may be of any script, and ``nan`` is a number.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def whole(text: str) -> int:
    """Read a whole number.

    >>> whole("64")
    64

    Raises:
        ValueError: it is none.
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    hint = " (write it in the digits 0-9 alone, at most 18 of them)" if _numeric(text) else ""
    raise ValueError(f"{clipped(text)} is not a whole number{hint}")


def number(text: str) -> float:
    """Read a finite number.

    >>> number("1e-4")
    0.0001

    Raises:
        ValueError: it is none.
    """
    if _NUMBER.fullmatch(text) and math.isfinite(value := float(text)):
        return value + 0.0  # -0.0 is 0.0
    if not _numeric(text):
        raise ValueError(f"{clipped(text)} is not a number")
    why = "number; write it as 10, 0.5 or 1e-4" if math.isfinite(float(text)) else "finite number"
    raise ValueError(f"{clipped(text)} is not a {why}")


def given(text: str) -> str:
    """Read a text that can name something.

    Raises:
        ValueError: it is blank, or holds what no name can.
    """
    if not text.strip():
        raise ValueError("it is empty; give it a value, or leave the option out")
    if "\0" in text:
        raise ValueError(f"{clipped(text)} holds a zero byte, which no name can")
    return text


def option(read: Callable[[str], T], also: str = "") -> Callable[[str], T]:
    """Turn a reader of this file into a ``type`` for argparse.

    Args:
        read: the reader; it raises ``ValueError`` with the reason.
        also: an environment variable that the text may come from.
    """

    def typed(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{error} (typed, or from {also})" if also else str(error)) from None

    return typed


typed_whole, typed_number, typed_words = option(whole), option(number), option(given)


def _path(text: str) -> Path:
    return Path(given(text))


typed_path = option(_path)


def clipped(value: object, most: int = 80) -> str:
    """Return the ``repr`` of what was read, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number with more digits than Python prints
        return "a number with thousands of digits"
    return text if len(text) <= most else f"{text[:most]}..."


def _numeric(text: str) -> bool:
    """Tell whether Python would read it as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
