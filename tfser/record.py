"""How a trial ended: its record, or why it has none.

Only this module knows how both are written as JSON. Knows nothing of where they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from tfser.errors import TfserError
from tfser.trial import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredUtterance:
    """An utterance that a trial was scored on."""

    id: str
    speaker: str
    truth: str
    """The labelled emotion."""
    p: tuple[float, ...]
    """The probability of each of the record's emotions, in [0, 1]."""

    @property
    def predicted(self) -> int:
        """The index of the recognised emotion: that of the largest probability, the first on ties."""
        return int(np.argmax(self.p))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentScores:
    """Recalls over segments instead of utterances, in [0, 1]."""

    count: int
    war: float
    uar: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """What a ``deploy`` trial was trained on: numbers of utterances, without the inner speakers'."""

    speakers: Mapping[str, int]
    emotions: Mapping[str, int]

    @property
    def utterances(self) -> int:
        """How many there are."""
        return sum(self.speakers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A trial's scores on its test utterances, or a search trial's on its validation utterances.

    Those of a ``deploy`` trial, which is scored on nothing, are empty.
    """

    emotions: tuple[str, ...]
    """The database's emotions, in the order of every list below."""
    utterances: tuple[ScoredUtterance, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Counts of utterances: rows are the true emotion, columns the recognised one."""
    war: float
    """Weighted average recall (accuracy), in [0, 1]; NaN, and ``null`` in JSON, where no utterance was scored."""
    uar: float
    """Unweighted average recall over the emotions that have utterances, in [0, 1]; else as ``war``."""
    recalls: Mapping[str, float | None]
    """Emotion to recall, in [0, 1]; ``None`` where no utterance has it."""
    segments: SegmentScores | None = None
    """Beside them; ``None`` for an estimator, which has no segments."""

    @property
    def matrix(self) -> np.ndarray:
        """The confusion matrix: int64, shape (emotions, emotions)."""
        return np.asarray(self.confusion, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Values after each epoch, in order. A curve that the trial's purpose does not have is empty."""

    train_loss: tuple[float, ...] = ()
    """Mean cross-entropy per training segment, nats."""
    validation_uar: tuple[float, ...] = ()
    validation_war: tuple[float, ...] = ()
    inner_uar: tuple[float, ...] = ()
    """UAR on the inner speakers, of a trial that has some (``tfser.training.inner``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardisation:
    """Mean and deviation of each band, or of each value of an estimator's features, over the training frames."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a record says of an estimator, which has no epochs, curves or segments."""

    notes: tuple[str, ...] = ()
    """What stands beside its numbers in every table, a sentence each."""
    transductive: bool = False
    """Whether the scores of an utterance may depend on what was scored beside it."""
    unkept: str = ""
    """Why its fitted state is not in the ledger; empty where it is, and for a search trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a trial was trained."""

    host: str = ""
    device: str = ""
    """Name of the GPU, else kind of the CPU."""
    system: str = ""
    circumstances: Mapping[str, str] = field(default_factory=dict)
    """Other facts, such as how many trials were trained as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The ledger's entry of a done trial."""

    spec: TrialSpec
    scores: Scores
    epochs: int
    """The epoch that was scored, counted from 1; 1 for an estimator."""
    curves: Curves = Curves()
    started_unix: float
    """Begin of the last attempt, seconds since 1970."""
    seconds: float
    """Training time of all attempts."""
    resumed_at_epoch: int = 0
    """Epoch of the checkpoint that the last attempt resumed; 0 where there was none."""
    machine: Machine = Machine()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package to version, for the packages that can change a number."""
    standardisation: Standardisation | None = None
    """Of a final trial of an estimator only where ``standardisation`` is ``training``, else ``None``."""
    parameters: int = 0
    """Number of the network's parameters; 0 for an estimator."""
    weights_sha256: str = ""
    """Of the network's parameters, or of the file that holds an estimator's fitted state."""
    known_sound: tuple[float, ...] = ()
    """The final model's probabilities for ``tfser.execution.known_sound``; empty in a record older than that."""
    fitted: Fitted | None = None
    """Of an estimator; ``None`` for a network."""
    inner_speakers: tuple[str, ...] = ()
    """Training speakers, or sessions, that were not trained on but scored after each epoch."""
    training: TrainingSet | None = None
    """Of a ``deploy`` trial only: the other trials' is all that they are not scored on."""
    status: Literal["done"] = field(default="done", init=False)

    @property
    def trial_id(self) -> str:
        """The id of its spec."""
        return self.spec.trial_id

    @property
    def validation_uar(self) -> tuple[float, ...]:
        """Of a search trial: UAR on the validation speakers after each epoch, or an estimator's only one."""
        return self.curves.validation_uar if self.fitted is None else (self.scores.uar,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a trial has no scores."""

    trial_id: str
    reason: str
    status: Literal["failed", "lost"] = "failed"
    """``failed``: it would fail again in the same way, and leaves an entry. ``lost``: it may succeed elsewhere or
    later, and leaves none."""
    spec: TrialSpec | None = None
    """``None`` where the failure is known from MLflow alone."""
    log: str = ""
    """Path of the log with the traceback."""
    started_unix: float = 0.0
    seconds: float = 0.0
    machine: Machine = Machine()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """A search trial that fell behind its study and was ended early. It leaves no entry."""

    trial_id: str
    epochs: int
    """Epochs that it trained."""
    status: Literal["pruned"] = field(default="pruned", init=False)


Status = Literal["done", "failed", "lost", "pruned"]
"""The ``status`` of an outcome."""

Entry = Record | Failure
"""What the ledger can hold of a trial."""

Outcome = Record | Failure | Pruned
"""How a trial can end."""


def to_dict(entry: Entry) -> dict[str, Any]:
    """Return the JSON values of an entry."""
    about = {
        "trial_id": entry.trial_id,
        "spec": entry.spec.to_dict() if entry.spec else {},
        "status": entry.status,
        "started_unix": entry.started_unix,
        "seconds": entry.seconds,
        "versions": dict(entry.versions),
        "machine": {
            **{name: value for name in ("host", "device", "system") if (value := getattr(entry.machine, name))},
            **entry.machine.circumstances,
        },
    }
    if isinstance(entry, Failure):
        return {**about, "reason": entry.reason, "log": entry.log}
    if entry.standardisation:
        about["standardisation"] = asdict(entry.standardisation)
    if entry.known_sound:
        about["known_sound"] = entry.known_sound
    if entry.fitted:
        about["fitted"] = asdict(entry.fitted)
    if entry.inner_speakers:
        about["inner_speakers"] = entry.inner_speakers
    if entry.training:
        about["training"] = {"speakers": dict(entry.training.speakers), "emotions": dict(entry.training.emotions)}
    scores = entry.scores
    curves = {name: curve for name, curve in asdict(entry.curves).items() if curve or name != "inner_uar"}
    return {
        **about,
        "emotions": scores.emotions,
        "utterances": [{"id": u.id, "speaker": u.speaker, "truth": u.truth, "p": u.p} for u in scores.utterances],
        "confusion": scores.confusion,
        "war": _known(scores.war),
        "uar": _known(scores.uar),
        "recalls": dict(scores.recalls),
        "segments": asdict(scores.segments) if scores.segments else None,
        "curves": curves,
        "epochs": entry.epochs,
        "resumed_at_epoch": entry.resumed_at_epoch,
        "parameters": entry.parameters,
        "weights_sha256": entry.weights_sha256,
    }


def from_dict(values: Mapping[str, Any]) -> Entry:
    """Read the entry that ``to_dict`` of this version of tfser, or of an earlier one, returned.

    Raises:
        KeyError, TypeError, ValueError: it is no entry.
    """
    spec = TrialSpec.from_dict(values["spec"])
    if values["trial_id"] != spec.trial_id:
        raise ValueError(f"the entry says trial {values['trial_id']}, its spec is trial {spec.trial_id}")
    about: dict[str, Any] = {
        "spec": spec,
        "started_unix": values["started_unix"],
        "seconds": values["seconds"],
        "versions": values.get("versions", {}),
        "machine": _machine(values.get("machine", {})),
    }
    if values["status"] == "failed":
        return Failure(trial_id=spec.trial_id, reason=values["reason"], log=values.get("log", ""), **about)
    if values["status"] != "done":
        raise ValueError(f"the entry of trial {spec.trial_id} has the status {values['status']!r}")
    return Record(
        **about,
        scores=Scores(
            emotions=tuple(values["emotions"]),
            utterances=tuple(
                ScoredUtterance(id=u["id"], speaker=u["speaker"], truth=u["truth"], p=tuple(u["p"]))
                for u in values["utterances"]
            ),
            confusion=tuple(map(tuple, values["confusion"])),
            war=_number(values["war"]),
            uar=_number(values["uar"]),
            recalls=values["recalls"],
            segments=SegmentScores(**values["segments"]) if values["segments"] else None,
        ),
        curves=Curves(**{name: tuple(curve) for name, curve in values["curves"].items()}),
        epochs=values["epochs"],
        resumed_at_epoch=values.get("resumed_at_epoch", 0),
        standardisation=standardisation(values.get("standardisation")),
        parameters=values.get("parameters", 0),
        weights_sha256=values.get("weights_sha256", ""),
        known_sound=tuple(values.get("known_sound", ())),
        fitted=_fitted(values.get("fitted")),
        inner_speakers=tuple(values.get("inner_speakers", ())),
        training=TrainingSet(**values["training"]) if "training" in values else None,
    )


def _known(recall: float) -> float | None:
    """Return a recall as a JSON value, which has no NaN."""
    return None if math.isnan(recall) else recall


def _number(recall: float | None) -> float:
    return math.nan if recall is None else recall


def standardisation(values: Mapping[str, Any] | None) -> Standardisation | None:
    """Read the standardisation in an entry; ``None`` where it has none."""
    return Standardisation(mean=tuple(values["mean"]), std=tuple(values["std"])) if values else None


def _fitted(values: Mapping[str, Any] | None) -> Fitted | None:
    return Fitted(**{**values, "notes": tuple(values["notes"])}) if values else None


def _machine(values: Mapping[str, str]) -> Machine:
    rest = dict(values)
    return Machine(**{name: rest.pop(name, "") for name in ("host", "device", "system")}, circumstances=rest)


def refuse_leaks(outcome: Outcome) -> None:
    """Refuse a trial of ``tfser.leaks`` that saw its test utterances, so that none gets among results.

    Raises:
        TfserError: it is such a trial.
    """
    if isinstance(outcome, (Record, Failure)) and outcome.spec and outcome.spec.leaks:
        raise TfserError(
            f"trial {outcome.trial_id} was shown its test utterances on purpose ({', '.join(outcome.spec.leaks)}); "
            "only the table of tfser leaks can contain it"
        )
