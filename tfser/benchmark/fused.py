"""Fused trainings beside the same trainings one after another, on the GPU if there is one, else on one core."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from tfser.benchmark.figures import Figure, Scale, figure, one_core, seconds
from tfser.models import PROPOSED
from tfser.planning import settings as planning_settings
from tfser.training.together import FusedTraining
from tfser.training.training import Training, TrialData
from tfser.trial import Value

NARROW: Mapping[str, Mapping[str, Value]] = {
    "time_frequency_transformer": {"channels": 4, "feed_forward": 32, "time_frequency_feed_forward": 32},
    "atfnn": {
        "channels": 4,
        "encoder_channels": 8,
        "lstm_hidden": 8,
        "lstm_layers": 1,
        "band_group": 4,
        "frame_group": 4,
    },
}
"""Sizes of small models, whose training is mostly calls: 16 bands, 16 frames and batches of 16."""

EMOTIONS = 6
ENDLESS = 1_000_000
"""Epochs, so many that no member leaves."""


def measure(scale: Scale) -> list[Figure]:
    """Measure segments per second of a training epoch: M members fused, beside the same one after another.

    A second figure uses ``torch.func``: forward and backward of the stacked model under ``vmap``, beside the models one
    by one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = []
    with one_core() if device.type == "cpu" else contextlib.nullcontext():
        for model in PROPOSED:
            for sizes in ("narrow",) if scale.quick else ("narrow", "published"):
                # Large products take a CPU's time: more members change nothing there and would take minutes.
                many = (
                    (2,) if scale.quick else (2, 4) if (device.type, sizes) == ("cpu", "published") else (2, 4, 8, 14)
                )
                for members in many:
                    figures.append(_fused(scale, model, sizes, members, device))
                    if model == "time_frequency_transformer" and members == many[0 if sizes == "published" else -1]:
                        figures.append(_vmapped(scale, model, sizes, members, device))
    return figures


def _settings(model: str, sizes: str) -> dict[str, Any]:
    """Return the settings of model and training: the published ones, or narrow ones."""
    architecture = PROPOSED[model]
    known = {**planning_settings.HYPERPARAMETERS, **architecture.hyperparameters}
    settings = {name: parameter.default for name, parameter in known.items()} | dict(architecture.published)
    if sizes == "narrow":
        settings |= {"n_mels": 16, "segment_frames": 16, "batch_size": 16, **NARROW[model]}
    return settings


def _trainings(
    model: str, settings: Mapping[str, Any], members: int, steps: int, device: torch.device
) -> list[Training]:
    """Make trainings on noise, with ``steps`` full batches in an epoch and seeds from 0."""
    length, segments = int(settings["segment_frames"]), int(settings["batch_size"]) * steps
    frames = np.random.default_rng(0).standard_normal((segments * length, int(settings["n_mels"])), dtype=np.float32)
    rows = tuple((number * length, length, number % EMOTIONS) for number in range(segments))
    data = TrialData(frames=frames, emotions=tuple(f"emotion{n}" for n in range(EMOTIONS)), train=rows, scored=rows[:1])
    architecture = PROPOSED[model]

    def build() -> nn.Module:
        return architecture.build(architecture.ablations[0], settings, EMOTIONS)

    return [Training(build, data, settings, seed, ENDLESS, device) for seed in range(members)]


def _fused(scale: Scale, model: str, sizes: str, members: int, device: torch.device) -> Figure:
    """Measure whole epochs as a trial trains them, with input and optimiser."""
    settings = _settings(model, sizes)
    steps = 1 if scale.quick or (device.type, sizes) == ("cpu", "published") else 10
    alone = _trainings(model, settings, members, steps, device)
    together = FusedTraining(_trainings(model, settings, members, steps, device))
    segments = members * steps * int(settings["batch_size"])
    values: list[float] = []
    baselines: list[float] = []

    def one_by_one() -> None:
        for member in alone:
            member.run_epoch()  # ends with the loss on the CPU: nothing is left to wait for

    for repeat in range(scale.repeats + 1):
        pair = segments / seconds(together.until_an_epoch_ends), segments / seconds(one_by_one)
        if repeat:  # the first round warms up, and stacks
            values.append(pair[0])
            baselines.append(pair[1])
    return figure(f"training of {members} {sizes} {model}, fused, {device.type}", "segment/s", values, baselines)


def _vmapped(scale: Scale, model: str, sizes: str, members: int, device: torch.device) -> Figure:
    """Measure forward and backward alone, without input and optimiser."""
    settings = _settings(model, sizes)
    models = [training.model.train() for training in _trainings(model, settings, members, 1, device)]
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    batch = int(settings["batch_size"])
    x = torch.randn(members, batch, 1, int(settings["n_mels"]), int(settings["segment_frames"]), device=device)
    labels = torch.randint(EMOTIONS, (members, batch), device=device)

    def loss(parameters: Any, buffers: Any, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(skeleton, (parameters, buffers), (x,)), labels)

    def wait() -> None:
        for tensor in (*parameters.values(), *(p for m in models for p in m.parameters())):
            tensor.grad = None
        if device.type == "cuda":
            torch.cuda.synchronize()

    def together() -> None:
        with warnings.catch_warnings():
            # The CPU's attention kernel has no batching rule.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            vmap(loss)(parameters, buffers, x, labels).sum().backward()  # type: ignore[no-untyped-call]
        wait()

    def one_by_one() -> None:
        for member, own, truth in zip(models, x, labels, strict=True):
            F.cross_entropy(member(own), truth).backward()  # type: ignore[no-untyped-call]
        wait()

    values: list[float] = []
    baselines: list[float] = []
    for repeat in range(scale.repeats + 1):
        pair = members * batch / seconds(together), members * batch / seconds(one_by_one)
        if repeat:
            values.append(pair[0])
            baselines.append(pair[1])
    return figure(
        f"forward and backward of {members} {sizes} {model}, vmap, {device.type}", "segment/s", values, baselines
    )
