"""The errors that a person's request can cause, each carrying every reason at once.

Nothing here knows about databases, models or Ray; every other module may import it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

_OF_THE_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS)


class TfserError(Exception):
    """Base of the errors that a command prints as plain text, without a traceback."""


class RequestError(TfserError):
    """A request that cannot be met; nothing was started.

    Args:
        source: what was read (a command line, a file, a folder).
        problems: every reason, each naming what was read, where, and what is legal.
        more: reasons beyond the lines of ``problems``, where one line stands for several.
    """

    def __init__(self, source: str, problems: list[str], more: int = 0) -> None:
        super().__init__(source, problems, more)  # args as given, so that it survives a trip from a worker

    @property
    def source(self) -> str:
        """What was read."""
        return str(self.args[0])

    @property
    def problems(self) -> list[str]:
        """Every reason, in the order found."""
        return list(self.args[1])

    @property
    def named(self) -> list[str]:
        """Every reason with what was read in front, for a list with those of others."""
        return [f"{self.source}: {problem}" for problem in self.problems]

    @property
    def more(self) -> int:
        """Reasons that have no line of their own."""
        return int(self.args[2])

    def __str__(self) -> str:
        head = f"{self.source}: {counted(len(self.problems) + self.more, 'problem')}, nothing was started"
        return "\n  - ".join([head, *self.problems])


class Problems(list[str]):
    """Everything that is wrong, a line each."""

    more = 0
    """Number of problems without a line of their own."""

    def take(self, error: RequestError, *, named: bool = True) -> None:
        """Add what an error says, with its source in front if that is to be named."""
        self.extend(f"{error.source}: {problem}" if named else problem for problem in error.problems)
        self.more += error.more


class AudioError(TfserError):
    """An audio file that cannot be used.

    Args:
        kind: one of the words of ``tfser.databases.base.PROBLEM_KINDS``.
        path: the file, as text.
        detail: what is wrong with it, for its owner.
    """

    def __init__(self, kind: str, path: str, detail: str) -> None:
        super().__init__(kind, path, detail)

    @property
    def kind(self) -> str:
        """The kind of problem."""
        return str(self.args[0])

    @property
    def path(self) -> str:
        """The file."""
        return str(self.args[1])

    @property
    def detail(self) -> str:
        """What is wrong with it."""
        return str(self.args[2])

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.detail}"


class TrialError(TfserError):
    """A trial that cannot finish and would fail again in the same way, by a non-finite loss for example.

    Args:
        reason: what happened, with the epoch.
    """


class MachineError(OSError):
    """A fault of a trial's machine or of its software. The trial may succeed elsewhere, or once the fault is mended.

    Args:
        reason: what happened.
    """


class DeviceError(MachineError):
    """A fault of a GPU or of its software that is not about memory; the process that met it trains nothing more.

    Args:
        reason: what happened.
    """


class NoDeviceError(DeviceError):
    """A process that was promised a GPU and sees none; that is never the trial's fault.

    Args:
        reason: what is missing.
    """


def of_the_system(error: BaseException) -> bool:
    """Return whether an error is about a disk, files or memory that are used up or broken, whoever ran into it.

    >>> of_the_system(OSError(28, "No space left on device")), of_the_system(FileNotFoundError(2, "No such file"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "trial"), counted(0, "trial"), counted(2, "entry", "entries")
    ('1 trial', '0 trials', '2 entries')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def in_a_line(error: BaseException, most: int = 300) -> str:
    """Return an error's class and text on one line, the text cut after ``most`` characters.

    >>> in_a_line(OSError("the disk   is full"))
    'OSError: the disk is full'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:most]}"


MOST_NAMED, MOST_LISTED = 12, 20
"""Most names that a sentence lists where a command lists them all too: if one of them is near, and if none is."""


def unknown(what: str, given: object, known: object, *, every: str = "") -> str:
    """Return the sentence for a name that does not exist: what was read and what is legal.

    Args:
        what: what was read.
        given: the name that was read.
        known: every legal name.
        every: the command that lists them all. Of a long list only the names that are near are then given.

    >>> unknown("--protocol", "Speaker", ["session", "speaker"])
    "--protocol: no 'Speaker'; there are session, speaker (did you mean 'speaker'?)"
    >>> unknown("--model", "svn", ["svm", *map(str, range(20))], every="tfser models list")
    "--model: no 'svn' (did you mean 'svm'?); tfser models list names all 21"
    """
    text = str(given)
    text = text if len(text) <= 100 else f"{text[:100]}..."
    names = sorted(str(name) for name in known)  # type: ignore[attr-defined]
    near = near_names(text, names)
    if every and len(names) > (MOST_NAMED if near else MOST_LISTED):
        return f"{what}: no {text!r}{near}; {every} names all {len(names)}"
    return f"{what}: no {text!r}; there are {', '.join(names)}{near_names(text, names, 1)}"


def near_names(given: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> str:
    """Return the question for the legal names that are near to one that is not, the nearest first; empty if none is.

    Args:
        given: the name that was read.
        known: every legal name.
        most: how many names the question offers.
        cutoff: how near a name has to be, from 0 to 1.

    >>> near_names("SES01F", ["Ses01F", "Ses05M"], most=1), near_names("xyz", ["svm"])
    (" (did you mean 'Ses01F'?)", '')
    """
    from difflib import get_close_matches

    spelt: dict[str, str] = {}
    for name in known:
        spelt.setdefault(name.casefold(), name)
    close = [spelt[name] for name in get_close_matches(given.casefold(), spelt, n=most, cutoff=cutoff)]
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
