"""What a sweep's name stands for: the same name with other options is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from tfser.errors import RequestError
from tfser.storage.places import commit_text, read_text
from tfser.sweep.request import Sweep, memory_place


def recall(sweep: Sweep) -> dict[str, Any]:
    """What the sweep's name stands for from now on; the caller holds the lease and writes it with ``remember``.

    Databases, models, ablations, folds and seeds may be added under the same name. What would change the
    trials already there may not.

    Raises:
        RequestError: the name stands for other options, or a database by that name held something else.
    """
    r = sweep.request
    now: dict[str, Any] = {
        "protocol": r.protocol,
        "trials": r.trials,
        "epochs": r.epochs,
        "selection": r.selection,
        "validation_folds": r.validation_folds,
        "pruning": r.prune,
        "sampler": r.sampler,
        "search_seed": r.search_seed,
        "set": dict(r.fixed),
        "space": {study.configuration.model: study.space.digest for study in sweep.plan.studies if study.space},
        "databases": dict(sweep.digests),
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        before = json.loads(read_text(memory_place(sweep)))
        differs = []
        for key, what in (
            ("space", "the search space of {} is another one"),
            ("databases", "{} holds other utterances, labels or audio"),
        ):
            differs += [
                what.format(name) for name, value in before.get(key, {}).items() if now[key].get(name, value) != value
            ]
            now[key] = {**before.get(key, {}), **now[key]}
        differs += [
            f"{k}: {before[k]!r} then, {now[k]!r} now"
            for k in before
            if k not in ("space", "databases") and before[k] != now[k]
        ]
        if differs:
            raise RequestError(
                f"sweep {sweep.name}", [f"{text}; choose another --name, or ask for what it was" for text in differs]
            )
    return now


def remember(sweep: Sweep, memory: Mapping[str, Any]) -> None:
    """Keep what ``recall`` gave, once nothing can be wrong with the request any more."""
    commit_text(memory_place(sweep), json.dumps(memory, sort_keys=True, indent=1))
