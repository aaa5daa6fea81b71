"""What printed figures can be: marks of those that are no share of their utterances, and the arithmetic in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tfser.evaluation.possible_shares import Share
from tfser.report.published import Shares
from tfser.report.tables.table import NO_SHARE

_CHANCE = 0.001
"""Ours: how improbable it has to be by chance that all figures of a table are shares, for a note to say so."""


class Printed(NamedTuple):
    """The figures of one published row."""

    name: str
    shares: Shares


def marks(shares: Shares, key: str = "{}") -> dict[str, str]:
    """Return the marks of a row's figures by the key of their column.

    Args:
        shares: the row's.
        key: the key of the column, with ``{}`` for ``war`` or ``uar``.
    """
    return {key.format(measure): NO_SHARE for measure, share in shares.items() if share.how == "none"}


def notes(rows: Iterable[Printed]) -> list[str]:
    """Say which figures are no share of their utterances, and which are one only if read in another way."""
    told: dict[Share, dict[str, dict[str, None]]] = {}
    for name, shares in rows:
        for measure, share in shares.items():
            told.setdefault(share, {}).setdefault(name, {})[measure.upper()] = None
    found = []
    for n, of_recalls in dict.fromkeys((share.n, share.of_recalls) for share in told):
        for how, text in _WORDS.items():
            of = {s: by for s, by in told.items() if (s.n, s.of_recalls, s.how) == (n, of_recalls, how)}
            if of and (how == "none" or not of_recalls):
                what = (
                    f"mean of class recalls, which are multiples of 1/{n}" if of_recalls else f"share of {n} utterances"
                )
                found.append(f"{text.format(what)}: {'; '.join(_said(s, by) for s, by in of.items())}.")
    return found


_WORDS = {
    "none": f"{NO_SHARE} No {{}}, neither rounded nor cut off, so neither pooled nor a mean over folds of equal size",
    "truncated": "A {} only if cut off, not rounded",
    "padded": "A {} only if the last 0 was added to a figure of fewer digits",
}


def _said(share: Share, by: Mapping[str, Iterable[str]]) -> str:
    """Return a figure with the rows that print it, and the arithmetic."""
    names: dict[str, list[str]] = {}
    for name, measures in by.items():
        names.setdefault(" and ".join(measures), []).append(name)
    who = ", ".join(f"{' and '.join(rows)}, {measures}" for measures, rows in names.items())
    return f"{who} {share.text} ({share.k}/{share.n} = {share.percent:.4f} %)"


def pooled(rows: Iterable[Printed]) -> list[str]:
    """Say that every WAR of a table is a share of its utterances, where chance would hardly make it so."""
    shares = [row.shares["war"] for row in rows if "war" in row.shares]
    if not shares or any(share.how != "rounded" for share in shares) or len({share.n for share in shares}) > 1:
        return []
    n, chance = shares[0].n, 1.0
    for share in shares:
        chance *= min(1.0, n / 100 / 10 ** len(share.text.partition(".")[2]))
    if chance > _CHANCE:
        return []
    counts = ", ".join(str(share.k) for share in shares)
    return [
        f"Each WAR in print is a share of {n} utterances ({counts}), as it is where it is pooled over all folds or "
        "averaged over folds of equal size."
    ]
