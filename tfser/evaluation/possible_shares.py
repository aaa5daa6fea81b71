"""Which printed percentages can be a share of n: k/n in percent, rounded or cut off. Exact arithmetic; no file is read.

A WAR is such a share of all test utterances. It is one too as a mean over folds of equal size. A UAR is a mean of class
recalls, k/n of each class, and so a multiple of 1 / (number of classes x least common multiple of their sizes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a printed percentage is of n."""

    text: str
    """The figure as printed."""
    n: int
    how: Literal["rounded", "truncated", "padded", "none"]
    """The first that fits: k/n rounded to the printed digits; cut off there; either, with fewer digits, if the last
    zeros were only added; or none of them."""
    k: int
    """The count that fits; where none does, the one that is nearest."""
    of_recalls: bool = False
    """Whether it is the mean of recalls of classes of unequal size, and n the denominator of every such mean."""

    @property
    def percent(self) -> float:
        """The percentage of k."""
        return 100 * self.k / self.n


def of(text: str, n: int) -> Share:
    """Tell what a printed percentage is of n.

    Args:
        text: the figure as printed, such as ``62.90``; its digits say how it was rounded.
        n: at least 1.

    Raises:
        ValueError: the text is no plain number from 0 to 100, or n is below 1.

    >>> [(s.how, s.k) for s in (of("53.17", 1200), of("48.91", 1200), of("40.32", 1200), of("57.70", 430))]
    [('rounded', 638), ('truncated', 587), ('none', 484), ('padded', 248)]
    """
    try:
        figure = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 <= figure <= 100 or n < 1:
        raise ValueError(f"{text} % of {n} is no share")
    exponent = figure.as_tuple().exponent
    digits = max(0, -int(exponent))
    for kept in range(digits, -1, -1):
        if kept < digits and (figure * 10**kept) % 1:
            break  # what follows is no zero
        k, how = _fit(Fraction(figure), kept, n)
        if k is not None:
            return Share(text=text, n=n, how=how if kept == digits else "padded", k=k)
    return Share(text=text, n=n, how="none", k=round(Fraction(figure) * n / 100))


def _fit(figure: Fraction, digits: int, n: int) -> tuple[int | None, Literal["rounded", "truncated"]]:
    """Return a count whose percentage is printed so, and how; an exact tie may be rounded either way."""
    unit = Fraction(1, 10**digits)
    nearest = min(max(round(figure * n / 100), 0), n)
    if abs(Fraction(100 * nearest, n) - figure) <= unit / 2:
        return nearest, "rounded"
    above = math.ceil(figure * n / 100)
    if above <= n and Fraction(100 * above, n) < figure + unit:
        return above, "truncated"
    return None, "rounded"


def steps_of_mean_recall(classes: Iterable[int]) -> int:
    """Return the n of which every mean of class recalls is a share; for classes of one size it is their sum.

    Args:
        classes: number of utterances of each class, at least 1.

    >>> steps_of_mean_recall([200] * 6), steps_of_mean_recall([20, 40])
    (1200, 80)
    """
    sizes = list(classes)
    return len(sizes) * math.lcm(*sizes)
