"""Train one trial, or several together, from task to ledger entry; every runner does it by this module.

Knows the ledger, the packs and the training; knows nothing of Ray, Optuna or MLflow.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from tfser.errors import MachineError, TrialError, in_a_line
from tfser.evaluation import folds, leaky_protocols
from tfser.evaluation.scores import scores
from tfser.execution import known_sound
from tfser.execution.faults import of_the_machine, out_of_memory
from tfser.execution.this_machine import device, device_name, versions
from tfser.features.pack import DAMAGED, Pack
from tfser.models import Network, of
from tfser.planning.settings import build_settings
from tfser.record import (
    Curves,
    Failure,
    Machine,
    Outcome,
    Pruned,
    Record,
    ScoredUtterance,
    Scores,
    Standardisation,
    from_dict,
    to_dict,
)
from tfser.storage.checkpoints import Checkpoint
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place, commit_text, make_folder
from tfser.training.determinism import weights_digest
from tfser.training.together import OWN_SETTINGS, FusedTraining, fusion_key
from tfser.training.training import Training, TrialData, copied
from tfser.trial import TrialSpec

_LAYOUT = "2"
"""Version of a checkpoint's contents; a checkpoint of another version is not used."""

_Ended = tuple[Outcome, Mapping[str, torch.Tensor]]
"""How a trial ended, and its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial and where its files are. Only ``spec`` can change a number."""

    spec: TrialSpec
    pack: Place
    """Path of the database's frames, without suffix."""
    storage: Place
    """Holds the ledger, checkpoints and the logs of failed trials."""
    checkpoint_s: float = 120.0
    """Seconds of training between checkpoints; infinite for none."""
    bar: tuple[float, ...] = ()
    """Validation UAR that a search trial must have reached by each epoch, else it is pruned.

    It decides whether the trial finishes and never changes its numbers: a pruned trial leaves no entry.
    """
    captured: bool = False
    """Whether a trial that trains alone on a GPU replays full batches as a CUDA graph, which runs the same kernels."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Facts for the entry's ``machine`` that the process itself does not know."""

    @property
    def ledger(self) -> Ledger:
        """The ledger that the entry is committed to."""
        return Ledger(self.storage / "ledger")


class FeaturesError(OSError):
    """The features of a trial are gone or damaged. That is never the trial's fault, and they can be extracted again."""


def _open_pack(path: Place, database_digest: str) -> tuple[Pack, np.ndarray]:
    """Open a pack and load its frames.

    Raises:
        FeaturesError: they cannot be read, or are another database's.
    """
    try:
        files = [path.with_suffix(suffix).stat() for suffix in (".json", ".npy")] if isinstance(path, Path) else []
        return _opened(path, database_digest, tuple((file.st_ino, file.st_size, file.st_mtime_ns) for file in files))
    except DAMAGED as error:
        raise FeaturesError(f"the features {path} cannot be read: {in_a_line(error)}") from error


@lru_cache(maxsize=4)
def _opened(path: Place, database_digest: str, state: tuple[tuple[int, ...], ...]) -> tuple[Pack, np.ndarray]:
    """Load a pack once per process, and again when its files have changed.

    The processes of a machine share the memory of the frames.
    """
    pack = Pack.open(path, database_digest)
    return pack, pack.frames()


def trial_data(pack: Pack, frames: np.ndarray, spec: TrialSpec) -> TrialData:
    """Return what a trial may see: a search trial no test utterance, a leaking trial what its spec says.

    Raises:
        ValueError: the pack is another database's.
    """
    if pack.database_digest != spec.database_digest:
        raise ValueError(
            f"{pack.path} holds database {pack.database_digest}; the trial is about {spec.database_digest}"
        )
    train, scored = _sides(pack, spec)
    speakers = tuple(pack.utterances[i].speaker for i in (*train, *scored))
    index = {emotion: i for i, emotion in enumerate(pack.emotions)}

    def rows(chosen: list[int]) -> tuple[tuple[int, int, int], ...]:
        return tuple((u.start, u.frames, index[u.emotion]) for u in (pack.utterances[i] for i in chosen))

    beyond = rows(leaky_protocols.beyond(spec, scored))
    return TrialData(
        frames=frames, emotions=pack.emotions, train=rows(train), scored=rows(scored), speakers=speakers, beyond=beyond
    )


def _sides(pack: Pack, spec: TrialSpec) -> tuple[list[int], list[int]]:
    if "random_split" in spec.leaks:
        return leaky_protocols.random_split(pack.utterances, spec.protocol, spec.fold)
    return folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)


def run(task: Task) -> Outcome:
    """Train one trial, commit its entry, and return it.

    A trial that would fail again in the same way is committed as failed, with the path of its log. A fault that may not
    recur elsewhere or later (a full disk, a store that does not answer, a full memory) is raised. A pruned trial is
    returned and not committed. A checkpoint of an earlier attempt is resumed; the numbers are the same without one.

    Raises:
        OSError: something could not be read or written; ``MachineError`` for other faults of the machine.
        MemoryError: this process or its GPU has too little memory.
    """
    if (there := _committed(task)) is not None:
        return there
    trial = _Trial(task)
    outcome = trial.attempt(trial.alone)
    assert outcome is not None  # ``alone`` trains to the end
    return outcome


def run_pack(tasks: Sequence[Task]) -> list[Outcome]:
    """Train the trials that a worker was handed at once, one alone or several together; return their outcomes in order.

    Raises:
        OSError: see ``run``.
        MemoryError: see ``run``.
    """
    return [run(tasks[0])] if len(tasks) == 1 else run_together(tasks)


def run_together(tasks: Sequence[Task]) -> list[Outcome]:
    """Train several trials as one, commit each entry as ``run`` does, and return the outcomes in order.

    A trial that fails, is pruned or has fewer epochs leaves the others, which go on. Each trial has its own
    checkpoints, which a later attempt can resume alone or among other trials. After an error that no single trial
    caused, each is trained alone. ``seconds`` of an entry is the trial's share of the time.

    Args:
        tasks: trials with the same ``tfser.training.together.fusion_key`` and the same features.

    Raises:
        OSError: something could not be read or written. Trials that had ended are committed.
        MemoryError: too little memory, perhaps only for so many trials at once. Trials that had ended are committed.
        ValueError: the trials have different fusion keys.
    """
    if len({fusion_key(task.spec) for task in tasks}) > 1:
        raise ValueError(
            f"{len(tasks)} trials cannot be trained together: they differ in more than {', '.join(OWN_SETTINGS)}"
        )
    outcomes: dict[str, Outcome] = {}
    trials: dict[int, _Trial] = {}
    for task in {task.spec.trial_id: task for task in tasks}.values():
        if (there := _committed(task)) is not None:
            outcomes[task.spec.trial_id] = there
            continue
        trial = _Trial(task, trained_together=str(len(tasks)))
        if (outcome := trial.attempt(trial.begin)) is not None:
            outcomes[task.spec.trial_id] = outcome
        else:
            trials[id(trial.training)] = trial
    try:
        _train_together(trials, outcomes)
    except Exception as error:
        if isinstance(error, (OSError, MemoryError)):
            raise
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        for trial in trials.values():
            if trial.task.spec.trial_id not in outcomes:
                outcomes[trial.task.spec.trial_id] = run(trial.task)
    return [outcomes[task.spec.trial_id] for task in tasks]


def _train_together(trials: Mapping[int, _Trial], outcomes: dict[str, Outcome]) -> None:
    """Train until every trial has ended.

    Args:
        trials: ``id`` of a training to its trial.
        outcomes: trial id to outcome; the trials' are added.
    """
    if not trials:
        return
    together = FusedTraining([trial.training for trial in trials.values()])
    while members := together.members:
        started = time.monotonic()
        ended = together.until_an_epoch_ends()
        share = (time.monotonic() - started) / len(members)
        for member in members:
            trials[id(member)].spent_s += share
        for member, error in ended:
            trial = trials[id(member)]
            outcome = trial.attempt(trial.after_epoch if error is None else partial(_raise, error))
            if outcome is not None:
                outcomes[trial.task.spec.trial_id] = outcome
                together.remove(member)


def _raise(error: Exception) -> None:
    raise error


def _committed(task: Task) -> Record | None:
    """Return the record where an earlier attempt committed it and its worker was lost before it said so."""
    entry = task.ledger.get(task.spec.trial_id)
    return entry if isinstance(entry, Record) else None


class _Trial:
    """A trial under way: call ``begin``, then ``after_epoch`` after each epoch of ``training``."""

    training: Training
    """Set by ``begin``."""
    _pack: Pack
    """Set by ``begin``; the trial goes on even if the files are deleted, because they stay mapped."""

    def __init__(self, task: Task, **circumstances: str) -> None:
        self.task = task
        self.spent_s = 0.0
        """Seconds of training so far, in earlier attempts and this one."""
        self._started_unix = time.time()
        self._machine = Machine(
            host=socket.gethostname(),
            device=device_name(),
            system=platform.platform(),
            circumstances={**circumstances, **task.machine},
        )
        self._checkpoint = Checkpoint(
            task.storage / "checkpoints",
            task.spec.trial_id,
            {**versions(), "device": device_name(), "layout": _LAYOUT},
        )
        self._best: tuple[Record, Mapping[str, torch.Tensor]] | None = None
        """For an oracle trial: the record and weights of its best epoch so far."""
        self._resumed = 0
        self._saved = time.monotonic()
        self._since = time.monotonic()

    def attempt(self, work: Callable[[], _Ended | None]) -> Outcome | None:
        """Do a part of the trial's work; return its outcome, or ``None`` where it goes on.

        A record or failure is committed.

        Raises:
            OSError: see ``run``.
            MemoryError: see ``run``.
        """
        self._since = time.monotonic()
        try:
            ended = work()
        except OSError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise MemoryError(str(error)) from error
            if of_the_machine(error):
                raise MachineError(in_a_line(error)) from error
            reason = str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"
            ended = self._failure(reason), {}
        self.spent_s = self._seconds()
        if ended is None:
            return None
        outcome, weights = ended
        if not isinstance(outcome, Pruned):
            if (there := _committed(self.task)) is not None:
                return there
            spec = self.task.spec
            kept = isinstance(outcome, Record) and spec.purpose != "search" and not spec.leaks
            self.task.ledger.commit(outcome, weights if kept else None)
        self._checkpoint.remove()
        return outcome

    def _failure(self, reason: str) -> Failure:
        """Write a log of the error that is being handled, and return the failure."""
        failure = Failure(
            trial_id=self.task.spec.trial_id,
            spec=self.task.spec,
            reason=reason,
            started_unix=self._started_unix,
            seconds=self._seconds(),
            machine=self._machine,
            versions=versions(),
        )
        return replace(failure, log=str(_write_log(self.task, failure)))

    def _seconds(self) -> float:
        """Return the trial's training time until now."""
        return self.spent_s + time.monotonic() - self._since

    def alone(self) -> _Ended:
        """Train the trial by itself to its end."""
        ended = self.begin()
        while ended is None:
            self.training.run_epoch()
            ended = self.after_epoch()
        return ended

    def begin(self) -> _Ended | None:
        """Make the training; resume a checkpoint where there is one."""
        spec = self.task.spec
        self._pack, frames = _open_pack(self.task.pack, spec.database_digest)
        model = of(spec)
        assert isinstance(model, Network)
        settings = build_settings(model, spec.settings)
        self.training = Training(
            lambda: model.build(spec.ablation, settings, len(self._pack.emotions)),
            trial_data(self._pack, frames, spec),
            settings,
            spec.seed,
            spec.epochs,
            device(),
            captured=self.task.captured and device().type == "cuda",
        )
        earlier = self._checkpoint.load()
        if earlier is not None:
            self.training.restore(earlier["training"])
            self._resumed = self.training.epoch
            if earlier["best"] is not None:
                best = from_dict(earlier["best"]["record"])
                assert isinstance(best, Record)
                self._best = best, earlier["best"]["weights"]
            self.spent_s += earlier["seconds"]
        self._saved = time.monotonic()
        return None

    def after_epoch(self) -> _Ended | None:
        """Score and save as the trial's purpose requires; return how it ended, by pruning or with its last epoch."""
        training, spec, bar = self.training, self.task.spec, self.task.bar
        if spec.purpose == "search":
            training.validate()
            reached = max(training.curves.validation_uar)
            if bar and training.epoch < spec.epochs and reached < bar[training.epoch - 1]:
                return Pruned(trial_id=spec.trial_id, epochs=training.epoch), {}
        elif spec.purpose == "oracle":
            record = self._record()
            if self._best is None or record.scores.uar > self._best[0].scores.uar:
                self._best = record, copied(training.weights())
        if training.epoch < spec.epochs:
            if time.monotonic() - self._saved >= self.task.checkpoint_s:
                self._save()
            return None
        record = self._record()
        weights: Mapping[str, torch.Tensor] = training.weights()
        if self._best is not None:
            # The curves cover the whole training; the scores and weights are the best epoch's on the test fold.
            best, weights = self._best
            record = replace(
                record,
                scores=best.scores,
                epochs=best.epochs,
                weights_sha256=best.weights_sha256,
                known_sound=best.known_sound,
            )
        return record, weights

    def _record(self) -> Record:
        """Return the record that the trial would have if it ended now."""
        training, spec = self.training, self.task.spec
        curves = training.curves
        return Record(
            spec=spec,
            scores=_scores(training, self._pack, spec),
            epochs=training.epoch,
            curves=Curves(
                train_loss=tuple(curves.train_loss),
                validation_uar=tuple(curves.validation_uar),
                validation_war=tuple(curves.validation_war),
            ),
            started_unix=self._started_unix,
            seconds=self._seconds(),
            resumed_at_epoch=self._resumed,
            machine=self._machine,
            versions=versions(),
            standardisation=Standardisation(mean=tuple(training.mean.tolist()), std=tuple(training.std.tolist())),
            parameters=sum(p.numel() for p in training.model.parameters()),
            weights_sha256=weights_digest(training.weights()),
            known_sound=_known_sound(training, spec),
        )

    def _save(self) -> None:
        best = {"record": to_dict(self._best[0]), "weights": self._best[1]} if self._best else None
        self._checkpoint.save({"training": self.training.state(), "best": best, "seconds": self._seconds()})
        self._saved = time.monotonic()


def _write_log(task: Task, failure: Failure) -> Place:
    """Write the error that is being handled for a person to read; return the path."""
    path = task.storage / "logs" / f"{task.spec.trial_id}.log"
    make_folder(path.parent)
    facts = json.dumps({**to_dict(failure), "pid": os.getpid()}, indent=1, sort_keys=True)
    commit_text(path, f"{traceback.format_exc()}\n{facts}\n")
    return path


def _scores(training: Training, pack: Pack, spec: TrialSpec) -> Scores:
    """Score a training as it is now."""
    found = training.score()
    _, scored = _sides(pack, spec)
    utterances = [
        ScoredUtterance(id=u.id, speaker=u.speaker, truth=u.emotion, p=tuple(p.tolist()))
        for u, p in zip((pack.utterances[i] for i in scored), found.probabilities, strict=True)
    ]
    return scores(pack.emotions, utterances, found.segment_confusion)


def _known_sound(training: Training, spec: TrialSpec) -> tuple[float, ...]:
    """Return the scores of the known sound, by which the weights are checked later; empty where they are not kept."""
    if spec.purpose == "search":
        return ()
    heard = known_sound.scores(training.scorer, of(spec), spec.settings, training.rule)
    return tuple(heard) if np.isfinite(heard).all() else ()
