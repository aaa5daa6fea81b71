"""What killed processes left behind in a storage and in this machine's temporary folder: removed where nobody can need it any more.

Knows the layout of a storage, and nothing of plans, runners or tables.
"""

from __future__ import annotations

from pathlib import Path

from tfser.record import Record
from tfser.storage import places, temporary
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place

_FOLDERS = ("ledger", "features", "checkpoints", "logs", "search", "sweeps")
"""Of a storage, where this project writes."""

_EACH = "[0-9a-f][0-9a-f]/*"
"""What is kept of each trial: in the ledger, and of checkpoints."""


def clear(storage: Place, out: Place, ledger: Ledger) -> list[str]:
    """Remove leftovers; returns what was removed, and what is kept and why, a line each.

    Args:
        storage: of sweeps; others may be at work in it.
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
    for path in places.listed(storage / "checkpoints", _EACH + ".pt"):
        if isinstance(ledger.get(path.stem), Record):
            places.remove(path)
            checkpoints += 1
    damaged, kept = 0, []
    for path in places.listed(ledger.root, _EACH + ".damaged"):
        if ledger.get(path.stem) is None:
            kept.append(path)
        else:
            places.remove(path)
            damaged += 1
    lines = []
    removed = {
        "temporary folder(s)": folders,
        "half-written file(s)": halves,
        "checkpoint(s) of trials that are done": checkpoints,
        "damaged entries whose trials were trained again": damaged,
    }
    if any(removed.values()):
        told = ", ".join(f"{number} {what}" for what, number in removed.items() if number)
        lines.append(f"Removed what earlier starts had left: {told}")
    if kept:
        lines.append(
            f"Kept {len(kept)} damaged ledger entries, whose trials have not been trained again yet: {_first(kept)}"
        )
    if unclear:
        why = "nothing tells whether their processes still run; remove them when no sweep of an earlier version does"
        lines.append(f"Kept {len(unclear)} temporary folder(s) of an earlier version: {_first(unclear)} ({why})")
    return lines


def _first(paths: list[Path] | list[Place]) -> str:
    return str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
