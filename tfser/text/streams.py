"""Standard output and error that print every text, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# fmt: off
_PLAIN = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "×": "x", "·": ".", "…": "...", "†": "+", "‡": "++",
    "→": "->", "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"', "█": "#",
}
# fmt: on
"""ASCII for the signs in our own sentences and tables."""

_HANDLER = "tfser.plain"


class _MayFail(io.FileIO):
    """A descriptor that forgets what it cannot write: the work behind a command's output goes on without it."""

    why = ""
    """Why something could not be written; empty where only a pipe's reader has left, as after ``| head``."""

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]  # None where it would block
        """Write bytes; return how many were taken."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes
        except OSError as error:
            self.why = self.why or error.strerror or str(error)
            return memoryview(data).nbytes


def take_any_text() -> None:
    """Let this process print what the encoding lacks: our own signs as ASCII, letters by their number.

    Every command calls it first. It also makes paths with undecodable bytes printable, and lets a command end its work
    although nobody reads its output any more, or its output's disk is full (``unwritten``).
    """
    codecs.register_error(_HANDLER, _replaced)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream is getattr(sys, f"__{name}__") and not isinstance(getattr(stream.buffer, "raw", None), _MayFail):
            stream.flush()
            raw = _MayFail(stream.fileno(), "w", closefd=False)
            through = stream.write_through
            stream = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, line_buffering=stream.line_buffering, write_through=through
            )
            setattr(sys, name, stream)
        stream.reconfigure(errors=_HANDLER)


def unwritten() -> str:
    """Return why standard output could not take all that was printed, after ``take_any_text``; empty where it could."""
    if not isinstance(sys.stdout, io.TextIOWrapper) or sys.stdout.closed:
        return ""
    sys.stdout.flush()
    raw = getattr(sys.stdout.buffer, "raw", None)
    return raw.why if isinstance(raw, _MayFail) else ""


def takes(text: str) -> bool:
    """Tell whether standard output can print a text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, encoding: str) -> str:
    """Return a text as a stream of an encoding prints it, after ``take_any_text``."""
    try:
        text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        codecs.register_error(_HANDLER, _replaced)
        return text.encode("ascii", _HANDLER).decode("ascii")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(
        _PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii") for letter in lost
    ), error.end


def one_line(text: str) -> str:
    """Replace line breaks and control characters, which would break a table in any format, by spaces."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text).split())
