"""From a task to a ledger entry: what every runner does for one trial, in whichever process it runs.

Knows the ledger, the packs and the training; knows nothing of Ray, Optuna or MLflow.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from tfser import __version__, folds, leaking, metrics
from tfser.checkpoint import Checkpoint
from tfser.errors import TrialError
from tfser.features import Pack
from tfser.files import Place, commit_text, make_folder
from tfser.ledger import Ledger
from tfser.models import MODELS
from tfser.train import Training, TrialData, weights_digest
from tfser.trial import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial and where this cluster keeps what it needs. Nothing but ``spec`` can change a number."""

    spec: TrialSpec
    pack: Place
    """The database's frames, without suffix."""
    storage: Place
    """Holds the ledger, checkpoints and the logs of failed trials."""
    checkpoint_s: float = 120.0
    """Seconds of training between checkpoints; infinite for none."""
    bar: tuple[float, ...] = ()
    """Of a search trial: validation UAR that it must have reached by each epoch, else it is pruned. It says
    whether the trial is finished, never with which numbers: a pruned trial leaves no entry."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """What the entry says of where it was trained, beside what the process knows of itself."""

    @property
    def ledger(self) -> Ledger:
        """Where the entry goes."""
        return Ledger(self.storage / "ledger")


@lru_cache(maxsize=4)
def _open_pack(path: Place) -> tuple[Pack, np.ndarray]:
    """Loaded once per process; the frames are memory-mapped, so a machine holds them once."""
    pack = Pack.open(path)
    return pack, pack.frames()


def trial_data(pack: Pack, frames: np.ndarray, spec: TrialSpec) -> TrialData:
    """What the trial may see; for a search trial that is no test utterance, and for a leaking one what it says.

    Raises:
        ValueError: the pack is not the spec's database.
    """
    if pack.database_digest != spec.database_digest:
        raise ValueError(f"{pack.path} holds database {pack.database_digest}; the trial is about {spec.database_digest}")
    train, scored = _sides(pack, spec)
    index = {emotion: i for i, emotion in enumerate(pack.emotions)}

    def rows(chosen: list[int]) -> tuple[tuple[int, int, int], ...]:
        return tuple((u.start, u.frames, index[u.emotion]) for u in (pack.utterances[i] for i in chosen))

    beyond = rows(leaking.beyond(spec, scored))
    return TrialData(frames=frames, emotions=pack.emotions, train=rows(train), scored=rows(scored), beyond=beyond)


def _sides(pack: Pack, spec: TrialSpec) -> tuple[list[int], list[int]]:
    if "random_split" in spec.leaks:
        return leaking.random_split(pack.utterances, spec.protocol, spec.fold)
    return folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)


def device() -> torch.device:
    """The GPU where Ray or the user left one visible, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(task: Task) -> dict[str, Any]:
    """Train one trial, commit its entry, and return it.

    A trial that would fail again in the same way is committed as failed, with the place of its log. What may go well
    elsewhere or later (a full disk, a store that does not answer, a full memory) is raised. A pruned trial is returned
    and not committed. A checkpoint of an earlier attempt is taken up; the numbers are those of an attempt without one.

    Raises:
        OSError: something could not be read or written.
        MemoryError: this process or its GPU has too little memory.
    """
    spec = task.spec
    if (there := _committed(task)) is not None:
        return there
    started = time.time()
    base: dict[str, Any] = {
        "trial_id": spec.trial_id,
        "spec": spec.to_dict(),
        "started_unix": started,
        "versions": versions(),
        "machine": {"host": socket.gethostname(), "device": _device_name(), "system": platform.platform(), **task.machine},
    }
    checkpoint = Checkpoint(task.storage / "checkpoints", spec.trial_id, {**versions(), "device": _device_name()})
    weights: Mapping[str, torch.Tensor] | None = None
    try:
        record, weights = _trained(task, base, checkpoint)
    except OSError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        reason = str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"
        record = {**base, "status": "failed", "reason": reason, "seconds": time.time() - started, "log": str(_write_log(task, base))}
    if record["status"] != "pruned":
        if (there := _committed(task)) is not None:
            return there
        task.ledger.commit(record, None if spec.purpose == "search" or spec.leaks else weights)
    checkpoint.remove()
    return record


def _committed(task: Task) -> dict[str, Any] | None:
    """The entry of another attempt: its worker may have been lost between its commit and its last word."""
    record = task.ledger.get(task.spec.trial_id)
    return record if record is not None and record["status"] == "done" else None


def _trained(task: Task, base: Mapping[str, Any], checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The entry and the weights of a trial that was trained to its end, or pruned."""
    spec = task.spec
    pack, frames = _open_pack(task.pack)
    architecture = MODELS[spec.model]
    training = Training(
        lambda: architecture.build(spec.ablation, spec.settings, len(pack.emotions)),
        trial_data(pack, frames, spec),
        spec.settings,
        spec.seed,
        spec.epochs,
        device(),
    )
    best: dict[str, Any] | None = None
    earlier = checkpoint.load()
    if earlier is not None:
        training.restore(earlier["training"])
        best = earlier["best"]
    resumed, spent_s = training.epoch, earlier["seconds"] if earlier is not None else 0.0
    started = saved = time.monotonic()
    while training.epoch < spec.epochs:
        training.run_epoch()
        if spec.purpose == "search":
            training.validate()
            reached = max(training.curves.validation_uar)
            if task.bar and training.epoch < spec.epochs and reached < task.bar[training.epoch - 1]:
                return {**base, "status": "pruned", "epochs": training.epoch, "reached": reached}, {}
        elif spec.purpose == "oracle":
            scores = _scores(training, pack, spec)
            if best is None or scores["uar"] > best["scores"]["uar"]:
                best = copy.deepcopy({"scores": scores, "weights": training.model.state_dict()})
        if training.epoch < spec.epochs and time.monotonic() - saved >= task.checkpoint_s:
            checkpoint.save({"training": training.state(), "best": best, "seconds": spent_s + time.monotonic() - started})
            saved = time.monotonic()
    weights = training.model.state_dict()
    scores = _scores(training, pack, spec)
    if best is not None:
        # The curves are those of the whole training; everything else is of the best epoch on the test fold.
        scores, weights = {**best["scores"], "curves": scores["curves"]}, best["weights"]
    seconds = spent_s + time.monotonic() - started
    return {**base, "status": "done", **scores, "resumed_at_epoch": resumed, "seconds": seconds}, weights


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a process or its GPU has too little memory."""
    # PyTorch raises a plain RuntimeError where the CPU's memory is used up.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _write_log(task: Task, base: Mapping[str, Any]) -> Place:
    """What is known of the error being handled, for a person; returns where it lies."""
    path = task.storage / "logs" / f"{task.spec.trial_id}.log"
    make_folder(path.parent)
    facts = json.dumps({**base, "pid": os.getpid()}, indent=1, sort_keys=True)
    commit_text(path, f"{traceback.format_exc()}\n{facts}\n")
    return path


def _scores(training: Training, pack: Pack, spec: TrialSpec) -> dict[str, Any]:
    """What the entry says of a finished training."""
    scores = training.score()
    _, scored = _sides(pack, spec)
    matrix = scores.confusion
    recalls = metrics.recalls(matrix)
    return {
        "emotions": list(pack.emotions),
        "utterances": [
            {"id": u.id, "speaker": u.speaker, "truth": u.emotion, "p": p.tolist()}
            for u, p in zip((pack.utterances[i] for i in scored), scores.probabilities, strict=True)
        ],
        "confusion": matrix.tolist(),
        "war": metrics.war(matrix),
        "uar": metrics.uar(matrix),
        "recalls": {e: None if np.isnan(r) else float(r) for e, r in zip(pack.emotions, recalls, strict=True)},
        "segments": {
            "count": int(scores.segment_confusion.sum()),
            "war": metrics.war(scores.segment_confusion),
            "uar": metrics.uar(scores.segment_confusion),
        },
        "curves": {name: getattr(training.curves, name) for name in ("train_loss", "validation_uar", "validation_war")},
        "epochs": training.epoch,
        "standardisation": {"mean": training.mean.tolist(), "std": training.std.tolist()},
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "weights_sha256": weights_digest(training.model),
    }


def versions() -> dict[str, str]:
    """Versions of what can change a number."""
    return {"tfser": __version__, "python": platform.python_version(), **{n: version(n) for n in ("torch", "torchaudio", "numpy")}}


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return platform.processor() or platform.machine()
