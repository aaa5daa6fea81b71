"""Remove what killed processes left in a storage and in this machine's temporary folder, once no process needs it.

Knows the layout of a storage, and nothing of plans, runners or tables.
"""

from __future__ import annotations

from pathlib import Path

from tfser.errors import counted
from tfser.record import Record
from tfser.storage import places, temporary
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place

_FOLDERS = ("ledger", "features", "checkpoints", "logs", "search", "sweeps")
"""Folders of a storage that tfser writes to."""

_EACH = "[0-9a-f][0-9a-f]/*"
"""Pattern of the files of trials, in the ledger and among the checkpoints."""


def clear(storage: Place, out: Place, ledger: Ledger) -> list[str]:
    """Remove leftovers; return a line each on what was removed and on what is kept and why.

    Args:
        storage: a storage, which other drivers may be using.
        out: where the tables go.
        ledger: the storage's.

    Raises:
        OSError: something cannot be looked at or removed.
    """
    folders, unclear = temporary.clear()
    halves = sum(
        places.remove_unfinished(place)
        for place in (*(storage / name for name in _FOLDERS), out)
        if isinstance(place, Path)
    )
    checkpoints = 0
    saved = places.listed(storage / "checkpoints", _EACH + ".pt")
    for path, entry in zip(saved, ledger.each(path.stem for path in saved), strict=True):
        if isinstance(entry, Record):
            places.remove(path)
            checkpoints += 1
    damaged, kept = 0, []
    aside = places.listed(ledger.root, _EACH + ".damaged")
    for path, entry in zip(aside, ledger.each(path.stem for path in aside), strict=True):
        if entry is None:
            kept.append(path)
        else:
            places.remove(path)
            damaged += 1
    lines = []
    removed = [
        (folders, "temporary folder", None),
        (halves, "half-written file", None),
        (checkpoints, "checkpoint of a done trial", "checkpoints of done trials"),
        (damaged, "damaged entry whose trial was trained again", "damaged entries whose trials were trained again"),
    ]
    if told := ", ".join(counted(*each) for each in removed if each[0]):
        lines.append(f"Removed what earlier starts had left: {told}")
    if kept:
        what = counted(len(kept), "damaged ledger entry", "damaged ledger entries")
        lines.append(f"Kept {what}, not trained again yet: {_first(kept)}")
    if unclear:
        what = counted(len(unclear), "temporary folder")
        why = "perhaps still in use; to be removed when no sweep of an earlier version runs"
        lines.append(f"Kept {what} of an earlier version: {_first(unclear)} ({why})")
    return lines


def _first(paths: list[Path] | list[Place]) -> str:
    return str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
