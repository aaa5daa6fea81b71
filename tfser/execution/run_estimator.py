"""Fit one estimator, from task to ledger entry, and fit it again where its state was not kept.

Knows the ledger, the packs and the fitting; knows nothing of Ray, Optuna or MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from tfser.errors import TrialError
from tfser.evaluation import leaky_protocols
from tfser.evaluation.scores import scores
from tfser.execution import fitted_state, known_sound
from tfser.execution import task as task_module
from tfser.execution.attempt import Attempt, Ended, keeps_weights
from tfser.execution.task import Task, open_pack, rows
from tfser.execution.this_machine import cpu_name
from tfser.features.base import Extractor
from tfser.features.pack import Pack
from tfser.features.standardise import KINDS, Kind, Statistics, statistics
from tfser.models import Estimator, of
from tfser.planning.settings import complete, extractor, is_transductive
from tfser.record import Fitted, Outcome, Record, ScoredUtterance, Standardisation
from tfser.training import estimators
from tfser.training.estimators import Fit, FitData, Inputs
from tfser.trial import TrialSpec

PACKAGES = ("scikit-learn", "scipy")
"""Packages that can change an estimator's numbers, beside those of every trial."""


def run(task: Task) -> Outcome:
    """Fit and score one trial, commit its entry, and return it; see ``tfser.execution.run_trial.run``.

    An oracle trial has the numbers of a final one: without epochs there is none to choose on the test fold.
    """
    trial = Attempt(task, device=cpu_name(), packages=PACKAGES)
    outcome = trial.attempt(partial(_fitted_and_scored, trial))
    assert outcome is not None  # it is one piece of work
    return outcome


def refitted(spec: TrialSpec, pack: Pack) -> Fit:
    """Fit a final trial's estimator again, as the trial did.

    Raises:
        OSError, ValueError: its features cannot be read, or are another database's.
        TrialError: it fails.
    """
    return _fit(spec, _data(spec, pack, pack.frames()))


@lru_cache(maxsize=4)
def _sound_features(reads: Extractor) -> np.ndarray:
    """Return the known sound's features; kept, because short trials would take longer to listen than to fit."""
    return known_sound.features(reads)


def sound_scores(fit: Fit, spec: TrialSpec, kept: Standardisation | None) -> tuple[float, ...]:
    """Return the scores of the known sound, by which an estimator is checked later; empty where it gets none.

    Where it is standardised per speaker, the sound is one of its own, as for a network. Of a single row
    that leaves zeros.
    """
    reads = extractor(of(spec), spec.settings)
    try:
        frames = _sound_features(reads)  # type: ignore[arg-type]  # mypy takes no protocol for hashable
        found = fit.probabilities(heard(spec, [frames], kept))
    except (TrialError, ValueError):  # some features, or some estimators, have no use for noise
        return ()
    return tuple(found[0].tolist())


def heard(spec: TrialSpec, utterances: Sequence[np.ndarray], kept: Standardisation | None) -> Inputs:
    """Return what a trial's estimator gets of utterances that are in no database.

    Args:
        spec: the trial.
        utterances: their features, shape (rows, values) each. Where it is standardised per speaker, they are
            those of one.
        kept: the record's standardisation, for kind ``training``.
    """
    reads, kind = extractor(of(spec), spec.settings), _kind(spec)
    lengths = [len(each) for each in utterances]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    values = np.concatenate(utterances).astype(reads.dtype, copy=False)
    where = [(start, length, 0) for start, length in zip(starts, lengths, strict=True)]
    made: Statistics | None = None
    if kind == "training":
        assert kept is not None
        made = Statistics(np.array([kept.mean]), np.array([kept.std]), np.zeros(len(where), dtype=np.int64))
    elif kind != "none":
        made = statistics(values, where, kind, speakers=[""] * len(where))
    return estimators.inputs(values, where, reads.vector, made)


def _kind(spec: TrialSpec) -> Kind:
    return KINDS[KINDS.index(complete(of(spec), spec.settings)["standardisation"])]


def _data(spec: TrialSpec, pack: Pack, frames: np.ndarray) -> FitData:
    sides = task_module.sides(pack, spec)
    (train, scored), kind = (rows(pack, side) for side in sides), _kind(spec)
    beyond = rows(pack, leaky_protocols.beyond(spec, sides[1]))
    speakers = [tuple(pack.utterances[i].speaker for i in side) for side in sides]
    made = None
    if kind != "none":
        together = (*speakers[0], *speakers[1])
        made = statistics(frames, (*train, *scored), kind, training=(*train, *beyond), speakers=together)
    return FitData(
        features=frames,
        vector=extractor(of(spec), spec.settings).vector,
        emotions=pack.emotions,
        train=train,
        speakers=speakers[0],
        scored=scored,
        statistics=made,
    )


def _kept(spec: TrialSpec, data: FitData) -> Standardisation | None:
    """Return what has to be known to standardise other utterances: the training's mean and deviation of that kind."""
    if spec.purpose == "search" or data.statistics is None or _kind(spec) != "training":
        return None
    made = data.statistics
    return Standardisation(mean=tuple(made.mean[0].tolist()), std=tuple(made.std[0].tolist()))


def _fit(spec: TrialSpec, data: FitData) -> Fit:
    model = _declared(spec)
    settings: Mapping[str, Any] = complete(model, spec.settings)
    return estimators.fit(lambda: model.build(spec.ablation, settings, spec.seed), data, spec.seed)


def _declared(spec: TrialSpec) -> Estimator:
    model = of(spec)
    assert isinstance(model, Estimator)
    return model


def _fitted_and_scored(trial: Attempt) -> Ended:
    task, spec = trial.task, trial.task.spec
    pack, frames = open_pack(task.pack, spec.database_digest)
    data, model = _data(spec, pack, frames), _declared(spec)
    fit, kept = _fit(spec, data), _kept(spec, data)
    found = fit.score(data, transductive=model.transductive)
    sound = () if spec.purpose == "search" else sound_scores(fit, spec, kept)
    state, unkept = _state(fit, spec, sound, kept) if keeps_weights(task) else (None, "")
    _, scored = task_module.sides(pack, spec)
    utterances = [
        ScoredUtterance(id=u.id, speaker=u.speaker, truth=u.emotion, p=tuple(p.tolist()))
        for u, p in zip((pack.utterances[i] for i in scored), found.probabilities, strict=True)
    ]
    record = Record(
        spec=spec,
        scores=scores(pack.emotions, utterances, None),
        epochs=1,
        started_unix=trial.started_unix,
        seconds=trial.seconds(),
        machine=trial.machine,
        versions=trial.versions,
        standardisation=kept,
        weights_sha256=fitted_state.digest(state) if state is not None else "",
        known_sound=sound,
        training=task_module.training_set(pack, spec),
        fitted=Fitted(notes=found.notes, transductive=is_transductive(model, spec.settings), unkept=unkept),
    )
    return record, state


def _state(
    fit: Fit, spec: TrialSpec, sound: tuple[float, ...], kept: Standardisation | None
) -> tuple[bytes | None, str]:
    """Return the fitted state, or why it cannot be kept: it holds foreign types, or does not score as the original."""
    try:
        state = fitted_state.dump(fit.model)
        again = Fit(fitted_state.load(state), fit.emotions, frozenset(fit.emotions), spec.seed)
        if sound_scores(again, spec, kept) != sound:
            return None, "what skops writes of it gives other scores"
    except (fitted_state.StateError, TrialError) as error:
        return None, str(error)
    return state, ""
