"""From a task to a ledger entry: what every runner does for one trial, in whichever process it runs.

Knows the ledger, the packs and the training; knows nothing of Ray, Optuna or MLflow.
"""

from __future__ import annotations

import copy
import platform
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tfser import __version__, folds, metrics
from tfser.errors import TrialError
from tfser.features import Pack
from tfser.ledger import Ledger
from tfser.models import MODELS
from tfser.train import Training, TrialData, weights_digest
from tfser.trial import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial and where this cluster keeps what it needs. Nothing but ``spec`` can change a number."""

    spec: TrialSpec
    pack: Path
    """The database's frames, without suffix."""
    ledger: Path
    bar: tuple[float, ...] = ()
    """Of a search trial: validation UAR that it must have reached by each epoch, else it is pruned. It says
    whether the trial is finished, never with which numbers: a pruned trial leaves no entry."""


@lru_cache(maxsize=4)
def _open_pack(path: Path) -> tuple[Pack, np.ndarray]:
    """Loaded once per process; the frames are memory-mapped, so a machine holds them once."""
    pack = Pack.open(path)
    return pack, pack.frames()


def trial_data(pack: Pack, frames: np.ndarray, spec: TrialSpec) -> TrialData:
    """What the trial may see; for a search trial that is no test utterance.

    Raises:
        ValueError: the pack is not the spec's database.
    """
    if pack.database_digest != spec.database_digest:
        raise ValueError(f"{pack.path} holds database {pack.database_digest}; the trial is about {spec.database_digest}")
    train, scored = _sides(pack, spec)
    index = {emotion: i for i, emotion in enumerate(pack.emotions)}

    def rows(chosen: list[int]) -> tuple[tuple[int, int, int], ...]:
        return tuple((u.start, u.frames, index[u.emotion]) for u in (pack.utterances[i] for i in chosen))

    return TrialData(frames=frames, emotions=pack.emotions, train=rows(train), scored=rows(scored))


def _sides(pack: Pack, spec: TrialSpec) -> tuple[list[int], list[int]]:
    return folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)


def device() -> torch.device:
    """The GPU where Ray or the user left one visible, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(task: Task) -> dict[str, Any]:
    """Train one trial, commit its entry, and return it.

    A trial that would fail again in the same way is committed as failed; anything else is raised, to be
    tried again elsewhere. A pruned trial is returned and not committed.
    """
    spec, ledger = task.spec, Ledger(task.ledger)
    started = time.time()
    pack, frames = _open_pack(task.pack)
    architecture = MODELS[spec.model]
    base = {
        "trial_id": spec.trial_id,
        "spec": spec.to_dict(),
        "started_unix": started,
        "versions": versions(),
        "machine": {"host": socket.gethostname(), "device": _device_name(), "system": platform.platform()},
    }
    try:
        training = Training(
            lambda: architecture.build(spec.ablation, spec.settings, len(pack.emotions)),
            trial_data(pack, frames, spec),
            spec.settings,
            spec.seed,
            spec.epochs,
            device(),
        )
        best: tuple[float, dict[str, Any]] | None = None
        while training.epoch < spec.epochs:
            training.run_epoch()
            if spec.purpose == "search":
                training.validate()
                reached = max(training.curves.validation_uar)
                if task.bar and training.epoch < spec.epochs and reached < task.bar[training.epoch - 1]:
                    return {**base, "status": "pruned", "epochs": training.epoch, "reached": reached}
            elif spec.purpose == "oracle":
                scores = _scores(training, pack, spec)
                if best is None or scores["uar"] > best[0]:
                    best = scores["uar"], copy.deepcopy({"scores": scores, "weights": training.model.state_dict()})
        weights = training.model.state_dict()
        scores = _scores(training, pack, spec)
        if best is not None:
            # The curves are those of the whole training; everything else is of the best epoch on the test fold.
            scores, weights = {**best[1]["scores"], "curves": scores["curves"]}, best[1]["weights"]
        record = {**base, "status": "done", **scores, "seconds": time.time() - started}
    except TrialError as error:
        record = {**base, "status": "failed", "reason": str(error), "seconds": time.time() - started}
        ledger.commit(record)
        return record
    ledger.commit(record, None if spec.purpose == "search" else weights)
    return record


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
