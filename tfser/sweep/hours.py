"""Estimates the cost of a plan on this machine: a few training steps are timed, the rest is arithmetic.

An estimator has no steps to time, and its cost depends on how hard its data are to fit. It is guessed from the cost
that the model declares; without one it is not known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import soundfile
import torch

from tfser.databases.base import Database, Utterance
from tfser.execution.trial_work import cost
from tfser.features.segments import hop_of
from tfser.models import PROPOSED, Network, of
from tfser.models.sources import described
from tfser.planning.configuration import Configuration
from tfser.planning.plan import Plan, Study
from tfser.planning.settings import build_settings, extractor, published_settings
from tfser.training.ingredients import without_data
from tfser.training.training import Training, TrialData
from tfser.trial import Value


def seconds(database: Database, utterance: Utterance) -> float:
    """Return the length of an utterance, from the header of its file if it has one; 0 for one that cannot be read."""
    if utterance.path is None:
        waveform = database.read(utterance)
        return float(waveform.samples.shape[1] / waveform.rate_hz)
    try:
        return float(soundfile.info(utterance.path).duration)
    except (OSError, RuntimeError):
        return 0.0


FEW = 8
"""Segments of a batch that says what a slow network costs; of fewer, one segment can take many times as long."""

SLOW_S = 2.0
"""Seconds of an epoch of ``FEW`` segments from which a larger batch would only take longer to say the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a model costs, roughly."""

    hours: float | None
    """Of one CPU core of this machine; ``None`` where it is not known."""
    how: str
    """How that was estimated, or why not."""
    guess: bool = False
    """Whether nothing was timed but the model's own word was taken."""
    failed: str = ""
    """What went wrong where it could not be estimated."""
    of_a_trial: Mapping[Configuration, float] = field(default_factory=dict)
    """Hours of a trial of each of its rows; empty where they are not known."""

    def less(self, left: Callable[[Configuration], int]) -> Estimate:
        """Return the cost of a part of its trials.

        Args:
            left: returns how many trials of a row are left.
        """
        if self.hours is None:
            return self
        return replace(self, hours=sum(hours * left(row) for row, hours in self.of_a_trial.items()))


def segment_seconds(study: Study) -> float:
    """Return the seconds that one CPU core trains on one segment: the better of two timed epochs of a batch of noise.

    The settings are those given; what a search samples may cost more or less.
    """
    c = study.configuration
    model = of(c)
    assert isinstance(model, Network)
    return _timed(model, c.ablation, study.given, c.emotions)


def _timed(model: Network, ablation: str, settings: Mapping[str, Value], emotions: tuple[str, ...]) -> float:
    """Return the seconds of a segment, from a small batch where a larger one would take long."""
    batch = min(int(settings["batch_size"]), 32)
    few = min(batch, FEW)
    small = _epoch_seconds(model, ablation, settings, emotions, few, 1)
    if small > SLOW_S:
        return small / few
    return _epoch_seconds(model, ablation, settings, emotions, batch, 2) / batch


def _epoch_seconds(
    model: Network, ablation: str, settings: Mapping[str, Value], emotions: tuple[str, ...], batch: int, times: int
) -> float:
    """Return the seconds of the fastest of some epochs of one batch of noise, after one that is not timed."""
    built, reads = build_settings(model, settings), extractor(model, settings)
    length = int(settings["segment_frames"])
    frames = np.random.default_rng(0).normal(size=(batch * length, reads.channels * reads.bands)).astype(np.float32)
    segments = tuple((i * length, length, i % len(emotions)) for i in range(batch))
    data = TrialData(frames=frames, emotions=emotions, train=segments, scored=segments[:1])
    # A step costs the same.
    usual: dict[str, Value] = {
        "segment_hop": 0,
        "training_hop": 0,
        "segment_share": 1.0,
        "standardisation": "training",
        "utterance_rule": "mean",
    }

    def build() -> torch.nn.Module:
        return model.build(ablation, built, len(emotions))

    training = Training(build, data, without_data({**built, **usual}), 0, 1 + times, torch.device("cpu"))
    training.run_epoch()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        training.run_epoch()
        took.append(time.perf_counter() - started)
    return min(took)


@cache
def _frame_seconds() -> float:
    """Return the seconds of a frame of training of a model that declares a cost of 1."""
    model = next(iter(PROPOSED.values()))
    ablation, settings = model.ablations[0], published_settings(model.name)
    per_segment = _timed(model, ablation, settings, ("a", "b", "c", "d"))
    return per_segment / int(settings["segment_frames"]) / cost(model, ablation)


def core_hours(plan: Plan, databases: Mapping[str, Database]) -> float:
    """Return the hours of one CPU core for every network of a plan, with an empty ledger and without pruning.

    The estimate is rough: every trial is taken to train on all but one fold's share of the segments.
    """
    return _core_hours(plan.studies, {name: _lengths(database) for name, database in databases.items()})


def by_model(plan: Plan, databases: Mapping[str, Database]) -> dict[str, Estimate]:
    """Return what each model of a plan costs, as ``core_hours`` and, for estimators, from what they declare."""
    hours: dict[str, float] = {}
    rows: dict[str, dict[Configuration, float]] = {}
    lengths = {name: _lengths(database) for name, database in databases.items()}
    found: dict[str, Estimate] = {}
    for c in plan.configurations:
        model, studies = of(c), tuple(s for s in plan.studies if s.configuration == c)
        if not isinstance(model, Network) and c.ablation not in model.cost:
            found[c.model] = Estimate(hours=None, how="it declares no cost; known only once it was fitted")
            continue
        if isinstance(model, Network):
            try:
                of_row = _core_hours(studies, lengths)
            except Exception as error:  # a step with settings that a person typed
                why = f"a step of training failed: {described(error)}"
                found[c.model] = Estimate(hours=None, how=why, failed=why)
                continue
            how = "steps on noise were timed"
        else:
            frames = sum(_trials(s) * _frames(s, lengths[c.data]) for s in studies)
            of_row = frames * cost(model, c.ablation) * _frame_seconds() / 3600
            how = "from the cost per frame that it declares, a guess"
        hours[c.model] = hours.get(c.model, 0.0) + of_row
        of_a_trial = rows.setdefault(c.model, {})
        of_a_trial[c] = of_row / sum(map(_trials, studies))
        guess = not isinstance(model, Network)
        found[c.model] = Estimate(hours=hours[c.model], how=how, guess=guess, of_a_trial=of_a_trial)
    return found


def _trials(study: Study) -> int:
    """Return how many trials a study trains at most."""
    return len(study.searched_folds) * study.trials * study.validation_folds + study.finals


def _trained(study: Study) -> float:
    """Return the share of the utterances that a trial trains on, if all folds are alike."""
    return 1 - 1 / max(len(study.all_folds), 2)


def _lengths(database: Database) -> np.ndarray:
    return np.array([seconds(database, u) for u in database.utterances])


def _frames(study: Study, lengths: np.ndarray) -> float:
    """Return about how many training frames a trial of an estimator has.

    An utterance that is a vector is one. With more values than the model has by default it is the square root as many:
    about what estimators on 360 and on 6373 functionals took.
    """
    c, model = study.configuration, of(study.configuration)
    reads, usual = extractor(model, study.given), extractor(model, published_settings(c.model))
    wider = np.sqrt(reads.channels * reads.bands / (usual.channels * usual.bands))
    frames = (lengths / reads.hop_s).sum() if reads.hop_s else len(lengths) * wider
    return float(frames * _trained(study))


def _core_hours(studies: Sequence[Study], lengths: Mapping[str, np.ndarray]) -> float:
    probed: dict[tuple[str, str, str], float] = {}
    total = 0.0
    for study in studies:
        c = study.configuration
        key = (c.data, c.model, c.ablation)
        if not isinstance(of(c), Network):
            continue
        if key not in probed:
            hop_s = hop_of(study.given, "training") * extractor(of(c), study.given).hop_s
            segments = np.ceil(np.maximum(lengths[c.data] / hop_s, 1)).sum() if hop_s else len(lengths[c.data])
            share = float(study.given.get("segment_share", 1.0))
            probed[key] = segment_seconds(study) * segments * share * _trained(study)
        total += probed[key] * study.epochs * _trials(study)
    return total / 3600
