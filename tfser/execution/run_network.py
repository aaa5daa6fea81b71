"""Train one network, or several together, from task to ledger entry.

Knows the ledger, the packs and the training; knows nothing of Ray, Optuna or MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from tfser.errors import MachineError
from tfser.evaluation import leaky_protocols
from tfser.evaluation.scores import scores
from tfser.execution import known_sound
from tfser.execution import task as task_module
from tfser.execution.attempt import Attempt, Ended
from tfser.execution.faults import of_the_device, of_the_machine, out_of_memory
from tfser.execution.task import Task, committed, open_pack, rows
from tfser.execution.this_machine import device
from tfser.execution.under_way import Epoch
from tfser.features.augmentation import copies
from tfser.features.base import loudness_of
from tfser.features.pack import Pack
from tfser.models import Network, isolated, of
from tfser.planning.settings import build_settings, extractor
from tfser.record import Curves, Outcome, Pruned, Record, ScoredUtterance, Scores, Standardisation, from_dict, to_dict
from tfser.storage.checkpoints import Checkpoint
from tfser.storage.places import Place
from tfser.training.determinism import weights_digest
from tfser.training.together import OWN_SETTINGS, FusedTraining, fusion_key
from tfser.training.training import Training, TrialData, copied
from tfser.training.variation import Copy
from tfser.trial import TrialSpec

_LAYOUT = "2"
"""Version of a checkpoint's contents; a checkpoint of another version is not used."""


def trial_data(pack: Pack, frames: np.ndarray, spec: TrialSpec) -> TrialData:
    """Return what a trial may see: a search trial no test utterance, a leaking trial what its spec says.

    Raises:
        ValueError: the pack is another database's.
    """
    train, scored = task_module.sides(pack, spec)
    inner = task_module.inner_names(pack, spec)
    kept, apart = task_module.without(pack, spec, train, inner)
    settings = spec.settings
    asked = {"segment_share", "augmented_copies", "vtlp"} & settings.keys()
    reads = extractor(of(spec), settings) if asked else None
    return TrialData(
        frames=frames,
        emotions=pack.emotions,
        train=rows(pack, kept),
        scored=rows(pack, scored),
        speakers=tuple(pack.utterances[i].speaker for i in (*kept, *scored, *apart)),
        loudness=loudness_of(reads) if reads and "segment_share" in settings else None,
        copies=tuple(
            _copy(task_module.beside(pack, each), spec, pack, kept)
            for each in (copies(reads, settings) if reads else ())
        ),
        centres_hz=reads.band_centres_hz if reads else None,
        inner=rows(pack, apart),
        beyond=rows(pack, leaky_protocols.beyond(spec, scored)),
    )


def _copy(path: Place, spec: TrialSpec, pack: Pack, train: list[int]) -> Copy:
    """Return an augmented copy of training utterances alone.

    Raises:
        FeaturesError: it cannot be read, or is not one of the database's utterances.
    """
    copy, frames = open_pack(path, spec.database_digest)
    if [u.id for u in copy.utterances] != [u.id for u in pack.utterances]:
        raise task_module.FeaturesError(f"{path} holds other utterances than {pack.path}")
    return Copy(frames, rows(copy, train))


def run(task: Task) -> Outcome:
    """Train one trial by itself; see ``tfser.execution.run_trial.run``."""
    trial = _Trial(task)
    outcome = trial.attempt(trial.alone)
    assert outcome is not None  # ``alone`` trains to the end
    return outcome


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
        if (there := committed(task)) is not None:
            outcomes[task.spec.trial_id] = there
            continue
        trial = _Trial(task, trained_together=str(len(tasks)))
        if (outcome := trial.attempt(trial.begin)) is not None:
            outcomes[task.spec.trial_id] = outcome
        else:
            trials[id(trial.training)] = trial
    try:
        _train_together(trials, outcomes)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not isolated.asked_to_end(error):
            raise
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        if of_the_device(error) or (isinstance(error, OSError) and of_the_machine(error)):
            raise
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


class _Trial(Attempt):
    """A trial under way: call ``begin``, then ``after_epoch`` after each epoch of ``training``."""

    training: Training
    """Set by ``begin``."""
    _pack: Pack
    """Set by ``begin``; the trial goes on even if the files are deleted, because they stay mapped."""

    def __init__(self, task: Task, **circumstances: str) -> None:
        super().__init__(task, circumstances=circumstances)
        self._checkpoint = Checkpoint(
            task.storage / "checkpoints",
            task.spec.trial_id,
            {**self.versions, "device": self.machine.device, "layout": _LAYOUT},
        )
        self._best: tuple[Record, Mapping[str, torch.Tensor]] | None = None
        """For an oracle trial: the record and weights of its best epoch so far."""
        self._resumed = 0
        self._told_from = 0, 0.0
        """The epoch at which this attempt began to train, and the trial's seconds until then."""
        self._saved = time.monotonic()

    def after_commit(self) -> None:
        """Remove the checkpoint."""
        self._checkpoint.remove()

    def alone(self) -> Ended:
        """Train the trial by itself to its end."""
        ended = self.begin()
        while ended is None:
            self.training.run_epoch()
            ended = self.after_epoch()
        return ended

    def begin(self) -> Ended | None:
        """Make the training; resume a checkpoint where there is one."""
        spec = self.task.spec
        self._pack, frames = open_pack(self.task.pack, spec.database_digest)
        model = of(spec)
        assert isinstance(model, Network)
        settings, on = build_settings(model, spec.settings), device(self.task.device)
        if lacks := model.missing(spec.ablation, settings):
            raise MachineError(f"this machine cannot train it: {'; '.join(lacks)}")
        self.training = Training(
            lambda: model.build(spec.ablation, settings, len(self._pack.emotions)),
            trial_data(self._pack, frames, spec),
            settings,
            spec.seed,
            spec.epochs,
            on,
            captured=self.task.captured and on.type == "cuda",
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
        self._told_from = self.training.epoch, self.seconds()
        self._tell()
        return None

    def after_epoch(self) -> Ended | None:
        """Score and save as the trial's purpose requires; return how it ended, by pruning or with its last epoch."""
        training, spec, bar = self.training, self.task.spec, self.task.bar
        if spec.purpose == "search":
            training.validate()
        self._tell()
        if spec.purpose == "search":
            reached = max(training.curves.validation_uar)
            if bar and training.epoch < spec.epochs and reached < bar[training.epoch - 1]:
                return Pruned(trial_id=spec.trial_id, epochs=training.epoch), None
        elif spec.purpose in ("final", "deploy") and training.is_past_its_best:
            return self._ended()
        elif spec.purpose == "oracle":
            record = self._record()
            if self._best is None or record.scores.uar > self._best[0].scores.uar:
                self._best = record, copied(training.weights())
        if training.epoch < spec.epochs:
            if time.monotonic() - self._saved >= self.task.checkpoint_s:
                self._save()
            return None
        return self._ended()

    def _tell(self) -> None:
        """Tell how far the trial is."""
        best = max(self.training.curves.validation_uar, default=None)
        epoch, (first, before_s) = self.training.epoch, self._told_from
        self.task.tell(Epoch(self.task.spec.trial_id, epoch, best, epoch - first, self.seconds() - before_s))

    def _ended(self) -> Ended:
        """Return the record and weights of a training that is over."""
        training = self.training
        if self.task.spec.purpose in ("final", "deploy"):
            training.take_best()
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
                inner_uar=tuple(curves.inner_uar),
            ),
            started_unix=self.started_unix,
            seconds=self.seconds(),
            resumed_at_epoch=self._resumed,
            machine=self.machine,
            versions=self.versions,
            standardisation=Standardisation(mean=tuple(training.mean.tolist()), std=tuple(training.std.tolist())),
            parameters=sum(p.numel() for p in training.model.parameters()),
            weights_sha256=weights_digest(training.weights()),
            known_sound=_known_sound(training, spec),
            inner_speakers=task_module.inner_names(self._pack, spec),
            training=task_module.training_set(self._pack, spec),
        )

    def _save(self) -> None:
        best = {"record": to_dict(self._best[0]), "weights": self._best[1]} if self._best else None
        self._checkpoint.save({"training": self.training.state(), "best": best, "seconds": self.seconds()})
        self._saved = time.monotonic()


def _scores(training: Training, pack: Pack, spec: TrialSpec) -> Scores:
    """Score a training as it is now."""
    found = training.score()
    _, scored = task_module.sides(pack, spec)
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
