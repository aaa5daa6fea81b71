"""Values that the front end and every built-in model compute, in float64, so that no change of numbers goes unnoticed.

    python -m tests.numerics_values

This writes numerics_values.json beside this file; ``tests/unit/test_numerics.py`` compares it with what the code
computes. No stored value is replaced by another one of the same ``NUMERICS_VERSION``.

Inputs and weights come from integer arithmetic, and every trial runs through ``Training``. In float64 another CPU or
number of threads moves a value by far less than ``TOLERANCE``. Only the fresh weights of ``initial`` are float32, as in
a training.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tfser.audio.files import Waveform
from tfser.features import log_mel as features_log_mel
from tfser.features.log_mel import FrontEnd, log_mel
from tfser.models import MODELS, PROPOSED
from tfser.planning.settings import HYPERPARAMETERS
from tfser.storage.places import commit_text
from tfser.training.determinism import settled
from tfser.training.training import Training, TrialData
from tfser.trial import NUMERICS_VERSION

STORED = Path(__file__).with_suffix(".json")

TOLERANCE = 1e-9
"""Largest difference, as a share of the largest value of an array or of the norm of a parameter."""

FRESH_TOLERANCE = 1e-6
"""The same for fresh weights, which are float32."""

AGAIN = (
    "Results change. Undo what changed them; or, if they are to change, raise NUMERICS_VERSION in tfser/trial.py and "
    "run python -m tests.numerics_values. If the front end changed, also raise the number in FrontEnd.id, so that "
    "features are extracted again."
)

CPU = torch.device("cpu")
EMOTIONS = ("angry", "calm", "glad", "sad")

SIZES: Mapping[str, Mapping[str, Any]] = {
    "time_frequency_transformer": {"n_mels": 16, "channels": 4, "feed_forward": 8, "time_frequency_feed_forward": 8},
    "atfnn": {"n_mels": 10, "encoder_channels": 6, "lstm_hidden": 5},
}
"""Small models that differ from the published ones in size only."""

COMMON = {"segment_frames": 16, "batch_size": 8, "frequency_mask": 0, "time_mask": 0}

TRAINING = {"class_weights": "balanced", "weight_decay": 0.1, "frequency_mask": 4, "time_mask": 5, "segment_hop": 8}
"""Everything beside a training's plain steps, except dropout, whose random numbers differ between builds of torch."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "time_frequency_transformer": {
        "time_layers": 2,
        "frequency_layers": 2,
        "time_frequency_layers": 2,
        "time_frequency_heads": 2,
    },
    "atfnn": {"time_attention_from": "encoding", "lstm_layers": 1, "heads": 4, "encoder_kernel": 3},
}

TRAIN = ((0, 41, 0), (41, 30, 1), (71, 9, 2), (80, 33, 3), (113, 48, 0))
SCORED = ((161, 37, 1), (198, 11, 2))
"""(first frame, frames, emotion) of utterances; one of each is shorter than a segment."""

FRONT_ENDS: Mapping[str, tuple[FrontEnd, int, int]] = {
    "front end, 80 bands": (FrontEnd(), 16000, 1),
    "front end, pre-emphasis": (FrontEnd(n_mels=40, preemphasis=0.97), 16000, 1),
    "front end, 44100 Hz, two channels": (FrontEnd(n_mels=40), 44100, 2),
}
"""Front end, sampling rate of the audio, channels."""


def pattern(shape: tuple[int, ...], number: int) -> np.ndarray:
    """Make values from -0.5 to 0.5 without order: float64, the same on every machine."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return ((i * i * 31 + i * 7919 + number * 104729) % 65521 / 65521 - 0.5).reshape(shape)


def summary(tensor: Tensor, number: int) -> list[float]:
    """Reduce a parameter to two numbers: its product with a pattern, and its norm."""
    values = tensor.detach().double().numpy()
    return _rounded([float((values * pattern(values.shape, number)).sum()), float(np.linalg.norm(values))])


def _rounded(value: Any) -> Any:
    """Round to 12 digits, more than are compared."""
    return [_rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.12g}")


def set_weights(model: nn.Module) -> nn.Module:
    """Turn the model into float64, with every weight from ``pattern``."""
    model = model.double()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            values = 3 / fan_in**0.5 * pattern(tuple(parameter.shape), number)
            scale = name.endswith("weight") and parameter.dim() == 1  # of a normalisation
            parameter.copy_(torch.from_numpy(values + 1 if scale else values))
    return model


def of_trial(model: str, ablation: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Compute fresh weights, a forward pass, and an epoch of two steps with the scores after it."""
    architecture = MODELS[model]
    every = {**HYPERPARAMETERS, **architecture.feature_set.hyperparameters, **architecture.hyperparameters}
    own = {name: h.default for name, h in every.items()}
    settings = {**own, **architecture.published, **SIZES[model], **COMMON, **changes}
    last = SCORED[-1]
    data = TrialData(
        frames=2 * pattern((last[0] + last[1], settings["n_mels"]), 99) - 5,
        emotions=EMOTIONS,
        train=TRAIN,
        scored=SCORED,
    )

    def build() -> nn.Module:
        return architecture.build(ablation, settings, len(EMOTIONS))

    fresh = Training(build, data, settings, 3, 1, CPU).model
    training = Training(lambda: set_weights(build()), data, settings, 3, 1, CPU)
    x = torch.from_numpy(3 * pattern((3, 1, settings["n_mels"], settings["segment_frames"]), 5))
    with settled(CPU), torch.inference_mode():
        logits = training.model.eval()(x)
    training.run_epoch()
    numbered = list(enumerate(training.model.named_parameters()))
    return {
        "initial": {name: summary(p, n) for n, (name, p) in enumerate(fresh.named_parameters())},
        "logits": _rounded(logits.tolist()),
        "loss": _rounded(training.curves.train_loss),
        "gradients": {name: summary(p.grad, n) for n, (name, p) in numbered if p.grad is not None},
        "weights": {name: summary(p, n) for n, (name, p) in numbered},
        "statistics": {name: summary(b, 0) for name, b in training.model.named_buffers()},
        "probabilities": _rounded(training.score().probabilities.tolist()),
    }


@contextmanager
def _float64() -> Iterator[None]:
    """Make windows, filters and resamplers in float64, and drop them at the end."""
    made = (features_log_mel._mel_spectrogram, features_log_mel._resampler)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    for each in made:
        each.cache_clear()
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        for each in made:
            each.cache_clear()


def of_front_end(wanted: FrontEnd, rate_hz: int, channels: int) -> dict[str, Any]:
    """Compute log-mel frames of noise."""
    samples = 0.4 * pattern((channels, rate_hz // 20), 11)
    with settled(CPU), _float64():
        if rate_hz != wanted.rate_hz:
            # The resampler's filter is float32 whatever the default is.
            features_log_mel._resampler(features_log_mel.rate_ratio(rate_hz, wanted.rate_hz)).double()
        return {"log_mel": _rounded(log_mel(Waveform(samples, rate_hz), wanted).tolist())}


def cases() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the computations whose values are stored, by name."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, arguments in FRONT_ENDS.items():
        found[name] = partial(of_front_end, *arguments)
    for model, architecture in PROPOSED.items():
        if model in SIZES:
            for ablation in architecture.ablations:
                found[f"{model} {ablation}"] = partial(of_trial, model, ablation, {})
            whole, changes = architecture.ablations[0], {**TRAINING, **OPTIONS[model]}
            found[f"{model} {whole}, every option"] = partial(of_trial, model, whole, changes)
    return found


def differences(found: Any, stored: Any, where: str = "") -> list[str]:
    """List what differs from the stored values, a line each."""
    if isinstance(stored, dict):
        if not isinstance(found, dict) or found.keys() != stored.keys():
            return [f"{where}: has {', '.join(sorted(found))}; stored are {', '.join(sorted(stored))}"]
        return [
            line
            for name in stored
            for line in differences(found[name], stored[name], f"{where}: {name}" if where else name)
        ]
    one, other = np.array(found), np.array(stored)
    if one.shape != other.shape:
        return [f"{where}: shape {one.shape}; stored is {other.shape}"]
    tolerance = FRESH_TOLERANCE if "initial:" in where else TOLERANCE
    moved = np.abs(one - other)
    # The floor allows a gradient that is 0 except for rounding.
    if not (moved <= tolerance * max(float(np.abs(other).max()), 1e-6)).all():
        place = np.unravel_index(np.nanargmax(moved), moved.shape)
        return [f"{where}: {one[place]!s} is not the stored {other[place]!s}"]
    return []


def stored() -> dict[str, Any]:
    """Read the file."""
    values: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return values


def main() -> int:
    """Compute everything and write the file, unless that would change a value of the same numerics version."""
    values = {name: compute() for name, compute in cases().items()}
    before = stored() if STORED.exists() else {"numerics": None, "cases": {}}
    if before["numerics"] == NUMERICS_VERSION:
        problems = [
            line
            for name, value in before["cases"].items()
            if name in values
            for line in differences({name: values[name]}, {name: value})
        ]
        if problems:
            print("\n".join([*problems, AGAIN]), file=sys.stderr)
            return 1
    lines = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in sorted(values.items())
    )
    commit_text(STORED, f'{{"numerics": {NUMERICS_VERSION}, "cases": {{\n{lines}\n}}}}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
