"""The identity of a sweep: its name stands for certain options, and other options under that name are refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tfser.errors import RequestError
from tfser.storage.places import Place, absolute, commit_text, read_text
from tfser.sweep import remembered
from tfser.sweep.request import Sweep, memory_place


def recall(sweep: Sweep) -> dict[str, Any]:
    """Return what the sweep's name stands for from now on, for ``remember``; the caller holds the lease.

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
        "space": {
            # Of declared ranges no digest: an edit of the model's file may change them, and trains anew anyway.
            study.configuration.model: "declared" if study.space.declared else study.space.digest
            for study in sweep.plan.studies
            if study.space
        },
        "databases": dict(sweep.digests),
    }
    growing = {
        "space": "the search space of {} is another one",
        "databases": "{} holds other utterances, labels or audio",
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        before = json.loads(read_text(memory_place(sweep)))
        differs = []
        for key, text in growing.items():
            old = before.get(key, {})
            differs += [text.format(name) for name, value in old.items() if now[key].get(name, value) != value]
            now[key] = {**old, **now[key]}
        differs += [
            f"{key}: {value!r} then, {now.get(key)!r} now"
            for key, value in before.items()
            if key not in growing and value != now.get(key)
        ]
        if differs:
            what_to_do = "choose another --name, or ask for what it was"
            raise RequestError(f"sweep {sweep.name}", [f"{text}; {what_to_do}" for text in differs])
    return now


def remember(sweep: Sweep, memory: Mapping[str, Any]) -> None:
    """Keep what ``recall`` returned, once nothing can be wrong with the request any more."""
    commit_text(memory_place(sweep), json.dumps(memory, sort_keys=True, indent=1))
    remembered.keep(sweep.storage, sweep.sources)


def journal_place(sweep: Sweep) -> Place:
    """Return where the sweep's studies are kept unless --optuna-storage names a database."""
    return sweep.storage / "search" / f"{sweep.name}.journal"


def study_owner(sweep: Sweep) -> str:
    """Return what follows the names of its studies in a database that may hold those of other sweeps."""
    if not sweep.options.optuna_storage:
        return ""
    digest = hashlib.sha256(f"{absolute(sweep.storage)} {sweep.name}".encode()).hexdigest()[:8]
    return f" of {sweep.name} {digest}"
