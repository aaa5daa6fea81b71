"""What --plan says: what is done and what is left, what that costs, where it will lie, and what this machine lacks.

In words, and with --json as one JSON object. Its keys are stable; ``docs/plan.md`` lists them. Nothing is written, and
no lock is taken, so that a plan can be made while another driver runs the sweep.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tfser.errors import counted
from tfser.models import MODELS, Network, of
from tfser.planning.configuration import Configuration
from tfser.storage.passwords import redacted
from tfser.storage.places import Place, absolute
from tfser.sweep import footprint, remaining
from tfser.sweep import hours as sweep_hours
from tfser.sweep.footprint import Need
from tfser.sweep.hours import Estimate
from tfser.sweep.progress import duration
from tfser.sweep.remaining import Count, Remaining
from tfser.sweep.request import Sweep
from tfser.text.row_names import with_ablation


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A sweep and what is left of it."""

    sweep: Sweep
    left: Remaining
    costs: Mapping[str, Estimate]
    """Of the models of which something is left, the cost of that alone."""
    need: Need

    @property
    def lacking(self) -> list[str]:
        """What this machine lacks to train what is left, such as extras and weights, in words."""
        return list(self.sweep.lacking) if self.left.to_train else []

    @property
    def gpus(self) -> list[str]:
        """Which GPUs are missing here, in words, but for --fast (``lacking``); a cluster's are not looked at."""
        options = self.sweep.options
        networks = any(self.left.of(row) and isinstance(of(row), Network) for row in self.left.rows)
        asked = (options.trial_gpus or 0) > 0
        elsewhere = options.address is not None and not options.in_process
        if options.fast or elsewhere or options.trial_gpus == 0 or not (networks or asked) or torch.cuda.is_available():
            return []
        if asked and self.left.to_train:
            return [f"a GPU that torch can use, for --trial-gpus {options.trial_gpus:g}"]
        return ["a GPU that torch can use; networks train on CPUs"] if networks else []


def plan(sweep: Sweep) -> Planned:
    """Look at what a sweep's storage holds, and return what is left of it.

    Raises:
        RequestError: its studies cannot be read.
        OSError: its storage cannot be read.
    """
    left = remaining.look(sweep)
    part = replace(sweep.plan, configurations=tuple(row for row in sweep.plan.configurations if left.of(row)))
    costs = sweep.costs or (sweep_hours.by_model(part, sweep.databases) if left.to_train else {})
    models = {row.model for row in part.configurations}
    return Planned(
        sweep=sweep,
        left=left,
        costs={model: cost.less(left.of) for model, cost in costs.items() if model in models},
        need=footprint.measure(sweep, left),
    )


def in_words(planned: Planned) -> list[str]:
    """Return what --plan adds to the description of a sweep, a line each."""
    lines = [*_counts(planned.left), *_failures(planned)]
    lines += _cost(planned)
    lines += _sizes(planned)
    lines += [f"{what}: {place}" for what, place in _places(planned.sweep).items()]
    return [*lines, *(f"missing here: {line}" for line in (*planned.lacking, *planned.gpus))]


def _counts(left: Remaining) -> list[str]:
    """Return what is done and what is left, in sum and, where there are several rows, of each."""

    def said(count: Count) -> str:
        failed = f", {count.failed} failed" if count.failed else ""
        without = f", {count.undecided} without a setting" if count.undecided else ""
        return f"{count.done} done{failed}{without}, {count.to_train} to train"

    def both(search: Count, final: Count) -> str:
        return f"search {said(search)}; final {said(final)}" if search.planned else said(final)

    in_all = f"{left.done} done, {left.to_train} to train"
    lines = [f"{in_all} (search trials: {said(left.search)}; final trials: {said(left.final)})"]
    if not left.search.planned:
        lines = [said(left.final)]
    if len(left.rows) > 1:
        lines += [
            f"  {with_ablation(of(row).title, row.ablation)} on {row.database}, {row.label}: {both(*each)}"
            for row, each in left.rows.items()
        ]
    return lines


def _failures(planned: Planned) -> list[str]:
    """Return how many trials failed, and what becomes of them."""
    left, lines = planned.left, []
    if left.final.failed:
        which = (
            f"{left.final.failed} failed"
            if not left.search.planned
            else f"{counted(left.final.failed, 'final trial')} failed"
        )
        lines.append(f"{which}; --retry-failed trains {'it' if left.final.failed == 1 else 'them'} again")
    if left.search.failed:
        lines.append(f"{counted(left.search.failed, 'search trial')} failed; a search goes on without their settings")
    if left.final.undecided:
        whose = counted(left.final.undecided, "final trial")
        lines.append(f"{whose} cannot be trained, because no setting of the search could be")
    return lines


def each_cost(costs: Mapping[str, Estimate], of_what: str) -> list[str]:
    """Return what each model costs, in words.

    Args:
        costs: by model.
        of_what: end of the line above them.
    """
    lines = [f"rough costs in time of one CPU core of this machine, {of_what}:"]
    for model, cost in costs.items():
        about = "not known" if cost.hours is None else f"about {_rough(cost.hours)}"
        lines.append(f"  {MODELS[model].title} ({model}): {about} ({cost.how})")
    return lines


def _rough(hours: float) -> str:
    return duration(max(3600 * hours, 1))


def _cost(planned: Planned) -> list[str]:
    """Return what the rest costs, in words: of each model, where there are several, and in all."""
    left, costs = planned.left, planned.costs
    if not left.to_train:
        some = left.final.failed or left.final.undecided
        return ["Nothing is left to train" if some else "Every trial is finished, so that nothing is trained"]
    guessed = any(cost.guess for cost in costs.values())
    each = each_cost(costs, "for what is left") if len(costs) > 1 or guessed else []
    known = [cost.hours for cost in costs.values() if cost.hours is not None]
    failed = [cost.failed for cost in costs.values() if cost.failed]
    unknown = [model for model, cost in costs.items() if cost.hours is None and not cost.failed]
    said = [
        f"about {_rough(sum(known))} of one CPU core of this machine for what is left, beside start-up and tables"
    ] * bool(known)
    said += [f"how long {'the rest' if known else 'it'} takes is not known, because {why}" for why in failed]
    said += [f"how long {', '.join(unknown)} takes is known only once it was fitted"] * bool(unknown)
    return [*each, "; beside that, ".join(said)]


def _sizes(planned: Planned) -> list[str]:
    """Return what the rest takes of disk and memory."""
    need = planned.need
    if not planned.left.to_train:
        return []
    parts = {
        "features": need.features,
        "weights": need.weights,
        "ledger and studies": need.entries,
        "MLflow": need.mlflow,
    }
    free = free_disk(planned.sweep.storage)
    there = "" if free is None else f"; {in_bytes(free)} are free"
    disk = (
        f"disk: about {in_bytes(need.disk)} ({', '.join(f'{n} {in_bytes(v)}' for n, v in parts.items() if v)}){there}"
    )
    if need.checkpoint:
        disk += f"; a running trial has a checkpoint of about {in_bytes(need.checkpoint)}"
    if need.unknown:
        disk += f"; how large a fitted {', '.join(need.unknown)} is, is not known before"
    lines = [disk]
    if free is not None and need.disk > free:
        lines.append("that is more than is free: name another folder with --storage, or free space")
    if need.memory:
        of_each = ", ".join(f"{model} {in_bytes(value)}" for model, value in need.memory.items())
        lines.append(f"memory of a trial: about {of_each}; {in_bytes(free_memory())} are free here")
    return lines


def _places(sweep: Sweep) -> dict[str, str]:
    """Return where everything will lie, without passwords."""
    places = {"tables": _shown(sweep.out / sweep.name), "ledger, features, studies": _shown(sweep.storage)}
    if sweep.options.optuna_storage and sweep.request.trials:
        places = {
            "tables": places["tables"],
            "ledger, features": _shown(sweep.storage),
            "studies": redacted(sweep.options.optuna_storage),
        }
    return {**places, "MLflow": redacted(sweep.tracking_uri)} if sweep.options.mlflow else places


def _shown(place: Place) -> str:
    return redacted(str(absolute(place)))


def free_disk(place: Place) -> int | None:
    """Return the free bytes of the disk on which a folder is or would be; ``None`` behind a URI."""
    if not isinstance(place, Path):
        return None
    there = next((folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists()), None)
    return None if there is None else shutil.disk_usage(there).free


def free_memory() -> int:
    """Return the free bytes of this machine's memory."""
    import psutil

    return int(psutil.virtual_memory().available)


def in_bytes(number: float) -> str:
    """Return a number of bytes in words.

    >>> in_bytes(900), in_bytes(1536), in_bytes(3 * 2**30)
    ('1 KiB', '2 KiB', '3.0 GiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{max(number / 1024, 1):.0f} KiB"


def to_json(planned: Planned, kind: str) -> dict[str, Any]:
    """Return the same facts as JSON values.

    Args:
        planned: the plan.
        kind: ``Sweep`` or ``Leaks``.
    """
    sweep, left = planned.sweep, planned.left
    known = [cost.hours for cost in planned.costs.values() if cost.hours is not None]
    return {
        "kind": kind.lower(),
        "name": sweep.name,
        "databases": [
            {
                "name": database.name,
                "digest": sweep.digests[database.name],
                "utterances": len(database.utterances),
                "speakers": len(database.speakers),
                "emotions": list(database.emotions),
                "complete": database.complete,
                "remark": database.remark,
            }
            for database in sweep.databases.values()
        ],
        "done": left.done,
        "to_train": left.to_train,
        "failed": left.search.failed + left.final.failed,
        "search": _numbers(left.search),
        "final": _numbers(left.final),
        "configurations": [_row(row, *each) for row, each in left.rows.items()],
        "left_out": dict(sweep.left_out),
        "cost": {
            "core_hours": sum(known) if known or not left.to_train else None,
            "models": {m: {"core_hours": c.hours, "how": c.how, "guess": c.guess} for m, c in planned.costs.items()},
        },
        **_needs(planned),
        "missing": {"needed": planned.lacking, "gpus": planned.gpus},
    }


def _numbers(count: Count) -> dict[str, int]:
    return {"planned": count.planned, **asdict(count)}


def _row(row: Configuration, search: Count, final: Count) -> dict[str, Any]:
    return {
        "database": row.database,
        "protocol": row.protocol,
        "model": row.model,
        "ablation": row.ablation,
        "selection": row.label,
        "folds": list(row.folds),
        "seeds": list(row.seeds),
        "search": _numbers(search),
        "final": _numbers(final),
    }


def _needs(planned: Planned) -> dict[str, Any]:
    """Return sizes and places."""
    sweep, need = planned.sweep, planned.need
    return {
        "disk": {
            "bytes": need.disk,
            "features": need.features,
            "weights": need.weights,
            "ledger": need.entries,
            "mlflow": need.mlflow,
            "checkpoint_of_a_trial": need.checkpoint,
            "not_known": list(need.unknown),
            "free": free_disk(sweep.storage),
        },
        "memory": {"of_a_trial": dict(need.memory), "free": free_memory()},
        "places": {
            "tables": _shown(sweep.out / sweep.name),
            "storage": _shown(sweep.storage),
            "ledger": _shown(sweep.storage / "ledger"),
            "features": _shown(sweep.storage / "features"),
            "studies": redacted(sweep.options.optuna_storage or _shown(sweep.storage / "search")),
            "mlflow": redacted(sweep.tracking_uri) if sweep.options.mlflow else None,
        },
    }
