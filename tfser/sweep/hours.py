"""Estimates the cost of a plan on this machine: a few training steps are timed, the rest is arithmetic.

The cost of an estimator is not estimated: it depends on how hard its data are to fit, and it has no steps to time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import soundfile
import torch

from tfser.databases.base import Database, Utterance
from tfser.models import Network, of
from tfser.planning.plan import Plan, Study
from tfser.planning.settings import build_settings, extractor
from tfser.training.training import Training, TrialData


def seconds(database: Database, utterance: Utterance) -> float:
    """Return the length of an utterance, from the header of its file if it has one; 0 for one that cannot be read."""
    if utterance.path is None:
        waveform = database.read(utterance)
        return float(waveform.samples.shape[1] / waveform.rate_hz)
    try:
        return float(soundfile.info(utterance.path).duration)
    except (OSError, RuntimeError):
        return 0.0


def segment_seconds(study: Study) -> float:
    """Return the seconds that one CPU core trains on one segment: the better of two timed epochs of a batch of noise.

    The settings are the study's base; what a search samples may cost more or less.
    """
    c, settings = study.configuration, study.base if study.space is None else {**study.base, **study.space.fixed}
    model = of(c)
    assert isinstance(model, Network)
    built, reads = build_settings(model, settings), extractor(model, settings)
    batch = min(int(settings["batch_size"]), 32)
    length = int(settings["segment_frames"])
    frames = np.random.default_rng(0).normal(size=(batch * length, reads.channels * reads.bands)).astype(np.float32)
    segments = tuple((i * length, length, i % len(c.emotions)) for i in range(batch))
    data = TrialData(frames=frames, emotions=c.emotions, train=segments, scored=segments[:1])
    # A step costs the same.
    usual = {"segment_hop": 0, "segment_share": 1.0, "standardisation": "training", "utterance_rule": "mean"}

    def build() -> torch.nn.Module:
        return model.build(c.ablation, built, len(c.emotions))

    training = Training(build, data, {**built, **usual}, 0, 3, torch.device("cpu"))
    training.run_epoch()
    times = []
    for _ in range(2):
        started = time.perf_counter()
        training.run_epoch()
        times.append(time.perf_counter() - started)
    return min(times) / batch


def unknown(plan: Plan) -> list[str]:
    """Return the models of a plan whose cost is not estimated."""
    return list(dict.fromkeys(c.model for c in plan.configurations if not isinstance(of(c), Network)))


def core_hours(plan: Plan, databases: Mapping[str, Database]) -> float:
    """Return the hours of one CPU core for every network of a plan, with an empty ledger and without pruning.

    The estimate is rough: every trial is taken to train on all but one fold's share of the segments.
    """
    lengths = {name: np.array([seconds(d, u) for u in d.utterances]) for name, d in databases.items()}
    probed: dict[tuple[str, str, str], float] = {}
    total = 0.0
    for study in plan.studies:
        c = study.configuration
        key = (c.database, c.model, c.ablation)
        if not isinstance(of(c), Network):
            continue
        if key not in probed:
            rows = int(study.base["segment_hop"] or study.base["segment_frames"])
            hop_s = rows * extractor(of(c), study.base).hop_s
            segments = np.ceil(np.maximum(lengths[c.database] / hop_s, 1)).sum() if hop_s else len(lengths[c.database])
            share = float(study.base.get("segment_share", 1.0))
            probed[key] = segment_seconds(study) * segments * share * (1 - 1 / c.folds_total)
        trials = len(study.folds) * (study.trials * study.validation_folds + len(c.seeds))
        total += probed[key] * study.epochs * trials
    return total / 3600
