"""Settings that were given and never act within the epochs of a trial: tables would tell of what changed nothing.

With a search, a trial has at most the epochs that are compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.errors import counted

READ = ("swa_from", "warmup_epochs", "plateau_patience", "schedule", "schedule_epochs")
"""The settings that are looked at, and those that say whether they count."""


def idle(settings: Mapping[str, Any], epochs: int) -> dict[str, str]:
    """Return which settings never act, and why and what is legal.

    Args:
        settings: a trial's.
        epochs: the most that it trains.
    """
    trained, found = f"{counted(epochs, 'epoch')} are trained" if epochs != 1 else "1 epoch is trained", {}
    if int(settings["swa_from"]) > epochs:
        found["swa_from"] = f"{trained}, and the average begins after them; legal: at most {epochs}"
    schedule, warmup, patience = settings["schedule"], int(settings["warmup_epochs"]), int(settings["plateau_patience"])
    whole = epochs if schedule == "warmup" else int(settings["schedule_epochs"]) or epochs
    if schedule in ("warmup", "warmup_cosine") and warmup > whole:
        there_are = trained if whole == epochs else f"schedule_epochs is {whole}"
        found["warmup_epochs"] = f"{there_are}, and the warm-up does not end within them; legal: at most {whole}"
    if schedule == "plateau" and patience > epochs - 3:
        # The first epoch sets the mark, patience + 1 miss it, and only the one after them has the lower rate.
        legal = f"at most {epochs - 3}" if epochs >= 3 else "none, as 0 needs 3 epochs; use another schedule"
        found["plateau_patience"] = f"{trained}, and the rate never falls within them; legal: {legal}"
    return found
