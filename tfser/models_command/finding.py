"""What a check of a model found."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Literal

from tfser.errors import RequestError, TfserError, in_a_line
from tfser.models import isolated
from tfser.models.sources import Source

Status = Literal["ok", "remark", "wrong"]
"""``remark``: something to know of; the model can be trained with it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    status: Status
    said: str = ""
    """In words: what was found, where, and what to do."""


Told = list[tuple[Status, str]]
"""Status and words of what a check found; empty where all is well."""


def wrong(said: str) -> Told:
    """Return one thing that is wrong."""
    return [("wrong", said)]


def remark(said: str) -> Told:
    """Return one thing to know of."""
    return [("remark", said)]


def described(error: BaseException, source: Source | None) -> str:
    """Return an error with the file and line of the person's code, also where another error came of it."""
    each: BaseException | None = error
    while each is not None:
        if place := _place(each, source):
            return f"{_words(error)} ({place})"
        each = each.__cause__
    return _words(error)


def _words(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return "; ".join(error.problems)
    return str(error) if isinstance(error, TfserError) else in_a_line(error)


def _place(error: BaseException, source: Source | None) -> str | None:
    """Return file, line and text of the person's code at which an error arose."""
    if (place := isolated.place(error)) is not None:
        return place
    if source is None or source.package is None:
        return None
    top = source.package.module
    walked = list(traceback.walk_tb(error.__traceback__))
    own = [(frame, line) for frame, line in walked if str(frame.f_globals.get("__name__", "")).split(".")[0] == top]
    return f"{own[-1][0].f_code.co_filename}, line {own[-1][1]}" if own else None
