"""What each help on small corpora costs: CPU time of an epoch beside one without it, peak memory, and that of copies.

The network is a Time-Frequency Transformer, at the published sizes or, for a quick run, a narrow one, on noise. An
epoch with the help and one without it are timed in turn on one core; inner speakers cost a scoring of theirs per epoch.
Memory is that of a process that trains an epoch with it, beside one that trains an epoch without. Copies of the audio
are extracted once: the time of an utterance's copy is beside that of its original.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from tfser.audio.files import Waveform
from tfser.benchmark import fused
from tfser.benchmark.figures import Figure, Scale, figure, one_core
from tfser.benchmark.processes import Child, peak_mib
from tfser.features.augmentation import SETTINGS, copies
from tfser.models import MODELS, Network
from tfser.planning.settings import build_settings, extractor, published_settings
from tfser.training.training import Training, TrialData
from tfser.training.variation import Copy

MODEL = "time_frequency_transformer"

CASES: Mapping[str, Mapping[str, Any]] = {
    "label_smoothing": {"label_smoothing": 0.1},
    "mixup_alpha": {"mixup_alpha": 0.2},
    "schedule": {"schedule": "one_cycle"},
    "ema_decay": {"ema_decay": 0.99},
    "swa_from": {"swa_from": 1},
    "clip_norm": {"clip_norm": 1.0},
    "sampling": {"sampling": "emotions_and_speakers"},
    "segments_together": {"segments_together": 2},
    "training_hop": {"training_hop": 0.5},
    "mask_per": {"mask_per": "segment", "frequency_mask": 8, "time_mask": 8},
    "vtlp": {"vtlp": 0.1},
    "augmented_copies": {"augmented_copies": 2},
    "adversary_weight": {"adversary_weight": 0.1},
    "inner_speakers": {"inner_speakers": 1},
}
"""Settings of each case; a ``training_hop`` is a share of a segment here."""

CHANGES: Mapping[str, Mapping[str, Any]] = {
    "speed": {"speed": 0.1},
    "pitch_semitones": {"pitch_semitones": 2.0},
    "reverberation_s": {"reverberation_s": 0.5},
    "added_noise": {"added_noise": "pink"},
    "gain_db": {"gain_db": 6.0},
}
"""What changes the audio of a copy."""

SPEAKERS, EMOTIONS = 8, 4

ENDLESS = 10**6
"""Epochs of a training, so that none ends."""


def measure(scale: Scale) -> Iterator[Figure]:
    """Measure time and memory of every case, then the time of every change of the audio."""
    with Child(serve_peak, {}, scale.quick) as child:
        without = child.receive()
    for name, settings in CASES.items():
        values: list[float] = []
        baselines: list[float] = []
        with one_core():
            plain, helped = training({}, quick=scale.quick), training(settings, quick=scale.quick)
            for repeat in range(scale.repeats + 1):
                pair = _epoch(helped), _epoch(plain)
                if repeat:  # the first round warms up
                    values.append(pair[0])
                    baselines.append(pair[1])
        yield figure(f"ingredient {name}, an epoch (to one without)", "CPU s", values, baselines)
        with Child(serve_peak, settings, scale.quick) as child:
            yield figure(f"ingredient {name}, peak memory (to that without)", "MiB", [child.receive()], [without])
    for name, settings in CHANGES.items():
        yield _extraction(name, settings, scale)


def training(settings: Mapping[str, Any], *, quick: bool) -> Training:
    """Return a training on noise: two batches of segments, two in an utterance, and as many of inner speakers."""
    model = MODELS[MODEL]
    assert isinstance(model, Network)
    base = published_settings(MODEL)
    if quick:
        base |= {"n_mels": 16, "segment_frames": 16, "batch_size": 16, **fused.NARROW[MODEL]}
    length = int(base["segment_frames"])
    own = dict(settings)
    if "training_hop" in own:
        own["training_hop"] = int(length * own["training_hop"])
    built = build_settings(model, {**base, **own})
    utterances = int(base["batch_size"])
    random = np.random.default_rng(0)
    shape = (2 * utterances * 2 * length, int(base["n_mels"]))
    rows = tuple((i * 2 * length, 2 * length, i % EMOTIONS) for i in range(2 * utterances))
    inner = rows[utterances:] if own.get("inner_speakers") else ()
    many = int(own.get("augmented_copies", 0))
    data = TrialData(
        frames=random.standard_normal(shape, dtype=np.float32),
        emotions=tuple("abcd"),
        train=rows[:utterances],
        scored=rows[:1],
        inner=inner,
        speakers=tuple(str(i // EMOTIONS % SPEAKERS) for i in range(utterances + 1 + len(inner))),
        copies=tuple(Copy(random.standard_normal(shape, dtype=np.float32), rows[:utterances]) for _ in range(many)),
        centres_hz=extractor(model, built).band_centres_hz,
    )
    return Training(
        lambda: model.build(model.ablations[0], built, EMOTIONS), data, built, 0, ENDLESS, torch.device("cpu")
    )


def _epoch(one: Training) -> float:
    """Return the CPU time of an epoch."""
    begin = time.process_time()
    one.run_epoch()
    return time.process_time() - begin


def serve_peak(connection: Connection, settings: Mapping[str, Any], quick: bool) -> None:
    """Tell how much memory a process holds that has trained an epoch."""
    with one_core():
        training(settings, quick=quick).run_epoch()
    connection.send(peak_mib())


def _extraction(name: str, settings: Mapping[str, Any], scale: Scale) -> Figure:
    """Measure a copy of two seconds of noise beside the original."""
    assert {*settings} <= {*SETTINGS}
    reads = extractor(MODELS[MODEL], published_settings(MODEL))
    (copy,) = copies(reads, {"augmented_copies": 1, **settings})
    heard = Waveform(0.1 * np.random.default_rng(0).standard_normal((1, 32000), dtype=np.float32), 16000)
    spent: dict[str, float] = {}
    with one_core():
        for what, read in (("copy", copy), ("original", reads)):
            read(heard)  # loads code
            times = 2 if scale.quick else 20
            begin = time.process_time()
            for _ in range(times):
                read(heard)
            spent[what] = 1000 * (time.process_time() - begin) / times
    return figure(f"ingredient {name}, a copy of 2 s (to the original)", "CPU ms", [spent["copy"]], [spent["original"]])
