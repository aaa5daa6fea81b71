"""Networks trained on the built-in database in this process, without a sweep."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from tfser.databases import load
from tfser.evaluation import metrics
from tfser.features.base import Extractor
from tfser.features.store import extract
from tfser.features.threads import one_thread
from tfser.models import MODELS, Network
from tfser.planning.settings import build_settings, extractor, published_settings
from tfser.training.training import Training, TrialData

CPU = torch.device("cpu")


def settings_of(name: str, **changes: Any) -> dict[str, Any]:
    """Every setting that a network is built from and trained with."""
    return build_settings(MODELS[name], {**published_settings(name), **changes})


def built(name: str, ablation: str | None = None, emotions: int = 4, seed: int = 0, **changes: Any) -> nn.Module:
    """A network with fresh weights."""
    model = MODELS[name]
    assert isinstance(model, Network)
    torch.manual_seed(seed)
    return model.build(ablation or model.ablations[0], settings_of(name, **changes), emotions)


def noise(name: str, batch: int, frames: int | None = None, seed: int = 7, **changes: Any) -> torch.Tensor:
    """Segments of noise."""
    s = settings_of(name, **changes)
    shape = (batch, s["input_channels"], s["input_bands"], frames or s["segment_frames"])
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def _features(reads: Extractor) -> tuple[np.ndarray, tuple[tuple[int, int, int], ...], tuple[str, ...]]:
    """Frames, (first frame, frames, emotion) of each utterance, and its speaker."""
    database = load("synthetic", None)
    emotions = list(database.info.emotions)
    with one_thread():
        found = [extract(database, utterance, reads)[0] for utterance in database.utterances]
    frames = [each for each in found if each is not None]
    starts = np.cumsum([0, *(len(each) for each in frames[:-1])]).tolist()
    rows = [
        (start, len(each), emotions.index(u.emotion))
        for start, each, u in zip(starts, frames, database.utterances, strict=True)
    ]
    return np.concatenate(frames), tuple(rows), tuple(u.speaker for u in database.utterances)


def trained(name: str, epochs: int, eight: bool = False, **changes: Any) -> Training:
    """Train on the built-in database without speaker ada and score on hers; or train and score on eight utterances."""
    model, settings = MODELS[name], settings_of(name, **changes)
    assert isinstance(model, Network)
    frames, rows, speakers = _features(extractor(model, settings))
    emotions = tuple(load("synthetic", None).info.emotions)
    if eight:
        of_emotion = [[row for row in rows if row[2] == emotion][:2] for emotion in range(4)]
        train = scored = tuple(row for two in of_emotion for row in two)
    else:
        train = tuple(row for row, speaker in zip(rows, speakers, strict=True) if speaker != "ada")
        scored = tuple(row for row, speaker in zip(rows, speakers, strict=True) if speaker == "ada")
    data = TrialData(frames=frames, emotions=emotions, train=train, scored=scored)
    training = Training(
        lambda: model.build(model.ablations[0], settings, len(emotions)), data, settings, 0, epochs, CPU
    )
    for _ in range(epochs):
        training.run_epoch()
    return training


def uar(training: Training) -> float:
    """Mean recall over the scored utterances."""
    return metrics.uar(training.score().confusion)
