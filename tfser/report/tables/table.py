"""A table as a value: typed rows, printed columns and notes, rendered to every format.

This module knows neither the meaning of the numbers nor how Markdown, LaTeX or a terminal write them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal

Value = str | int | float | bool | None
"""A cell. ``None`` and NaN both mean that the number does not exist."""

DAGGER = "†"
"""Mark of numbers that leave out folds."""
OTHER_PROTOCOL = "‡"
"""Mark of a published row under another protocol than ours."""
NO_SHARE = "¶"
"""Mark of a published figure that cannot be a share of the utterances that it is said to be of."""
TRANSDUCTIVE = "§"
"""Mark of a row whose scores may depend on what is scored beside an utterance."""
TRANSDUCTIVE_NOTE = (
    f"{TRANSDUCTIVE} Transductive: the scores of an utterance may depend on the unlabelled utterances that are scored "
    "beside it, which are not there where one utterance is to be recognised."
)
"""Meaning of that mark; standardisation per speaker is the usual case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beneath:
    """A further line of a cell; it is left out if one of its values does not exist."""

    text: str
    """The printed text, with ``{}`` for each value."""
    keys: tuple[str, ...]
    """Keys of those values in a row."""
    form: str = "percent"
    """One of ``FORMS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A printed column; a CSV file has its own columns."""

    key: str
    """Key of the value that it prints."""
    title: str
    group: str = ""
    """Header over neighbouring columns of the same group."""
    numeric: bool = False
    """Whether it holds numbers, printed in ``form`` and aligned to the right."""
    form: str = "percent"
    """One of ``FORMS``; only percentages have a highest figure."""
    spread: str = ""
    """Key of the standard deviation printed behind the number."""
    beneath: tuple[Beneath, ...] = ()
    """Further lines of its cells."""
    published: bool = False
    """Whether it holds published figures, which are complete whatever our row lacks."""
    terminal: bool = True
    """Whether a terminal of 80 columns has room for it."""
    paper: bool = True
    """Whether Markdown and LaTeX print it."""
    width: int = 0
    """Characters at which a terminal and LaTeX wrap it; 0 for no wrapping."""
    small: bool = False
    """Whether a printed table sets it small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its values by key, and how they are printed."""

    values: Mapping[str, Value]
    ours: bool
    """Whether it was measured here and not published."""
    about: tuple[str, ...] = ()
    """Key of the row's configuration; empty for a published row."""
    about_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The same by column, for a row about several configurations."""
    marked: bool = False
    """Whether the numbers leave out folds."""
    marked_keys: frozenset[str] = frozenset()
    """Columns whose numbers leave out folds, if not the whole row does."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Column to a further mark behind its number or word."""
    never_best: frozenset[str] = frozenset()
    """Columns in which it cannot hold the best figure, if it can in others."""
    grey: bool = False
    """Whether a printed table sets it small and grey."""
    block: str = ""
    """Word for the rows that stand together; without one, published rows and ours do."""
    comparable: bool = True
    """Whether the row may hold the best figure of a column."""
    nothing: str = ""
    """Text for a number that does not exist."""
    best: frozenset[str] = frozenset()
    """Keys of the columns in which it holds the best figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns, rows, and the notes beside them."""

    name: str
    """A word for labels: letters, digits, ``-``."""
    title: str
    database: str
    """Its database; empty for a table over several."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    terminal_notes: tuple[str, ...] | None = None
    """Notes for a terminal, if another table there has the others already; ``None`` for all."""
    ruled: bool = True
    """Whether a line separates blocks of rows: published ones from ours, where they have no other."""
    best_note: str = ""
    """Meaning of bold figures; printed if there are any, but not in a terminal, which prints ours bold."""
    caption: str = ""
    """What a printed table says of itself, in place of the title."""
    stub: str = ""
    """Key of a column that a narrow page turns into lines of their own above the rows that share its value."""

    @property
    def paper_notes(self) -> tuple[str, ...]:
        """Notes for Markdown and LaTeX."""
        return (*self.notes, self.best_note) if self.best_note and any(row.best for row in self.rows) else self.notes


def known(value: Value) -> bool:
    """Tell whether a value exists."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def exact(value: float) -> float:
    """Round a float for files, to 12 decimals.

    That is far beyond what is printed, and short of the last bits, which depend on the order of a sum.
    """
    return round(float(value), 12) + 0.0  # + 0.0 turns -0.0 into 0.0


def percent(fraction: float) -> str:
    """Write a fraction in percent, with two decimals; exact ties go to the even digit, as in Python's own formatting.

    >>> percent(0.7443), percent(1 / 3), percent(0.00625)
    ('74.43', '33.33', '0.62')
    """
    # Through decimal: 100 * 0.28855 is 28.854999999999997 in binary, and would round down.
    return str((Decimal(repr(exact(fraction))) * 100).quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN))


def tenths(fraction: float) -> str:
    """Write a fraction in percent, with one decimal, as the ends of an interval are printed.

    >>> tenths(0.1968), tenths(0.0)
    ('19.7', '0.0')
    """
    return str((Decimal(repr(exact(fraction))) * 100).quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN))


def points(fraction: float) -> str:
    """Write a difference in percentage points, always with its sign.

    >>> points(0.0123), points(-0.5), points(0.0)
    ('+1.23', '−50.00', '+0.00')
    """
    text = percent(fraction)
    return f"−{text[1:]}" if text.startswith("-") and float(text) else f"+{text.lstrip('-')}"


def probability(p: float) -> str:
    """Write a p-value with three decimals, or as smaller than 0.001.

    >>> probability(0.125), probability(0.00004)
    ('0.125', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else str(Decimal(repr(exact(p))).quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN))


FORMS: Mapping[str, Callable[[float], str]] = {
    "percent": percent,
    "points": points,
    "probability": probability,
    "whole": lambda number: str(int(number)),
}
"""Forms in which a number is printed."""


def beneath(column: Column, row: Row) -> list[str]:
    """Return the further lines of the cell, before any escaping."""
    return [text for line in column.beneath if (text := beneath_line(line, row))]


def beneath_line(line: Beneath, row: Row) -> str:
    """Return one further line of a cell; empty if one of its values does not exist."""
    values = [row.values.get(key) for key in line.keys]
    if not all(known(value) for value in values):
        return ""
    return line.text.format(*(FORMS[line.form](float(value)) for value in values))  # type: ignore[arg-type]


def shown(column: Column, row: Row) -> str:
    """Return the first line of the cell, before any escaping."""
    return "".join(text_and_marks(column, row))


def text_and_marks(column: Column, row: Row) -> tuple[str, str]:
    """Return the first line of the cell in two parts, before any escaping: what it says, and the marks behind it."""
    value, marks = row.values.get(column.key), row.marks.get(column.key, "")
    if not known(value):
        return (row.nothing if column.numeric else ""), ""
    if isinstance(value, bool):
        return "✓" if value else "✗", ""
    if not column.numeric:
        return str(value), marks
    assert isinstance(value, (int, float))
    text = FORMS[column.form](value)
    spread = row.values.get(column.spread) if column.spread else None
    if known(spread):
        assert isinstance(spread, (int, float))
        text += f" ± {percent(spread)}"
    marked = column.key in row.marked_keys or (row.marked and not column.published)
    return text, f"{DAGGER if marked else ''}{marks}"


def parted(row: Row, following: Row) -> bool:
    """Tell whether two neighbouring rows stand in two blocks."""
    return (row.block or row.ours) != (following.block or following.ours)


def with_best(rows: Sequence[Row], columns: Sequence[Column], thing: str) -> tuple[Row, ...]:
    """Mark the highest figure of each numeric column, ties included, compared as printed.

    Args:
        rows: the table's rows; those that are not comparable cannot hold the best.
        columns: the columns; only numeric ones matter.
        thing: key of what a row is about; nothing is best among rows that are all about one thing.
    """
    best: list[set[str]] = [set() for _ in rows]
    for column in columns:
        if not column.numeric or column.form != "percent":
            continue
        able = [
            i
            for i, row in enumerate(rows)
            if (row.comparable or column.published)
            and column.key not in row.never_best
            and known(row.values.get(column.key))
        ]
        if len({rows[i].values[thing] for i in able}) < 2:
            continue
        figures = {i: Decimal(percent(float(rows[i].values[column.key] or 0.0))) for i in able}
        for i in able:
            if figures[i] == max(figures.values()):
                best[i].add(column.key)
    return tuple(replace(row, best=frozenset(keys)) for row, keys in zip(rows, best, strict=True))
