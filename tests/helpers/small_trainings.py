"""Networks with fresh weights at any settings, and small trainings of them on noise or on the built-in database."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from tfser.databases import load
from tfser.evaluation import metrics
from tfser.features.base import Extractor, loudness_of
from tfser.features.store import extract
from tfser.features.threads import one_thread
from tfser.models import MODELS, Network
from tfser.planning.settings import build_settings, extractor, published_settings, setting_problems
from tfser.training.training import Training, TrialData

CPU = torch.device("cpu")


def settings_of(name: str, ablation: str, **changes: Any) -> dict[str, Any]:
    """What a network is built from: its published settings but for ``changes``, which have to be legal."""
    values = {**published_settings(name), **changes}
    assert setting_problems(MODELS[name], ablation, values) == []
    return build_settings(MODELS[name], values)


def built(name: str, ablation: str, emotions: int = 4, seed: int = 0, **changes: Any) -> Any:
    """A network with random weights."""
    model = MODELS[name]
    assert isinstance(model, Network)
    torch.manual_seed(seed)
    return model.build(ablation, settings_of(name, ablation, **changes), emotions)


def parameters(name: str, ablation: str, emotions: int = 4, **changes: Any) -> int:
    """Number of parameters; no memory is taken for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in built(name, ablation, emotions, **changes).parameters())


def noise(name: str, ablation: str, batch: int = 3, **changes: Any) -> torch.Tensor:
    """Input of a network."""
    values = settings_of(name, ablation, **changes)
    shape = (int(values[size]) for size in ("input_channels", "input_bands", "segment_frames"))
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(7))


def training(
    name: str,
    ablation: str,
    data: TrialData,
    epochs: int,
    seed: int = 0,
    on: torch.device = CPU,
    **changes: Any,
) -> Training:
    """A training of a network that has not begun."""
    model, values = MODELS[name], settings_of(name, ablation, **changes)
    assert isinstance(model, Network)

    def build() -> nn.Module:
        return model.build(ablation, values, len(data.emotions))

    return Training(build, data, values, seed, epochs, on)


def eight(name: str, **changes: Any) -> TrialData:
    """Eight utterances of noise, two of each of four emotions, to train on and to score."""
    values = {**published_settings(name), **changes}
    reads = extractor(MODELS[name], values)
    length = int(values["segment_frames"]) + 4
    frames = np.random.default_rng(3).normal(size=(8 * length, reads.channels * reads.bands)).astype(np.float32)
    rows = tuple((i * length, length, i % 4) for i in range(8))
    return TrialData(frames=frames, emotions=tuple("abcd"), train=rows, scored=rows)


def trained(one: Training) -> Training:
    """Train to the end."""
    while one.epoch < one.epochs:
        one.run_epoch()
    return one


def overfitted(name: str, ablation: str, epochs: int, **changes: Any) -> float:
    """WAR on eight utterances that were trained on."""
    data = eight(name, **changes)
    told = loudness_of(extractor(MODELS[name], {**published_settings(name), **changes}))
    one = trained(training(name, ablation, replace(data, loudness=told), epochs, **changes))
    return metrics.war(one.score().confusion)


@cache
def _synthetic(reads: Extractor) -> tuple[np.ndarray, list[tuple[int, int, int]], list[str], tuple[str, ...]]:
    """The features of the built-in database: frames, (first, frames, emotion) and speaker of each utterance."""
    database = load("synthetic", None)
    emotions = tuple(database.info.emotions)
    pieces, rows, speakers, start = [], [], [], 0
    with one_thread():
        for utterance in database.utterances:
            found, _ = extract(database, utterance, reads)
            assert found is not None
            pieces.append(found)
            rows.append((start, len(found), emotions.index(utterance.emotion)))
            speakers.append(utterance.speaker)
            start += len(found)
    return np.concatenate(pieces), rows, speakers, emotions


def synthetic_uar(name: str, ablation: str, epochs: int, **changes: Any) -> float:
    """UAR on one held-out speaker of the built-in database, trained on the others; chance is 0.25."""
    reads = extractor(MODELS[name], {**published_settings(name), **changes})
    frames, rows, speakers, emotions = _synthetic(reads)
    held_out = sorted({*speakers})[0]
    sides = [
        tuple(row for row, speaker in zip(rows, speakers, strict=True) if (speaker == held_out) == test)
        for test in (False, True)
    ]
    data = TrialData(frames=frames, emotions=emotions, train=sides[0], scored=sides[1], loudness=loudness_of(reads))
    return metrics.uar(trained(training(name, ablation, data, epochs, **changes)).score().confusion)
