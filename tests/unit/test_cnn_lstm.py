"""CNN-LSTM: its sizes, its convolutions against plain loops, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, pad

from tests.helpers.small_trainings import built, noise, overfitted, parameters, settings_of, synthetic_uar
from tfser.audio.files import Waveform
from tfser.features.spectrogram import Spectrogram

SMALL = {"maps_1": 3, "maps_2": 4, "maps_3": 5, "lstm_hidden": 6, "hidden": 7, "fft": 800, "top_hz": 460.0}
SMALL["segment_frames"] = 19


@pytest.mark.parametrize(("fft", "bands", "count"), [(1600, 400, 1_855_116), (800, 200, 1_035_916)])
def test_cnn_lstm_has_the_parameters_of_the_paper_on_both_grids(fft, bands, count):
    assert parameters("cnn_lstm", "full", fft=fft) == count
    assert settings_of("cnn_lstm", "full", fft=fft)["input_bands"] == bands


def test_cnn_lstm_reads_three_seconds_on_the_10_hz_grid_unless_asked_otherwise():
    values = settings_of("cnn_lstm", "full")
    assert (values["fft"], values["window_ms"], values["hop_ms"], values["top_hz"]) == (1600, 40.0, 10.0, 4000.0)
    assert (values["segment_frames"], values["input_bands"], values["utterance_rule"]) == (300, 400, "mean")


def test_every_second_point_of_the_10_hz_grid_is_the_20_hz_grid():
    wave = Waveform(np.random.default_rng(0).normal(size=(1, 8000)).astype(np.float32) / 9, 16000)
    fine, coarse = Spectrogram(fft=1600)(wave), Spectrogram(fft=800)(wave)
    np.testing.assert_allclose(fine[:, ::2], coarse, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("in_float64")
def test_cnn_lstm_is_its_layers_in_plain_functions():
    net = built("cnn_lstm", "full", **SMALL).eval()
    x = noise("cnn_lstm", "full", **SMALL).double()
    assert x.shape == (3, 1, 23, 19)
    p = {name: value.detach() for name, value in net.named_parameters()}
    maps = x
    for number, (high, wide) in enumerate(((12, 16), (8, 12), (5, 7))):
        maps = pad(maps, ((wide - 1) // 2, wide // 2, (high - 1) // 2, high // 2))
        weight, bias = (p[f"convolutions.{number}.1.{name}"] for name in ("weight", "bias"))
        maps = conv2d(maps, weight, bias).clamp(min=0)
        bands, frames = maps.shape[2:]
        patches = [
            [maps[:, :, f : f + 2, t : t + 2].amax(dim=(2, 3)) for t in range(0, frames, 2)] for f in range(0, bands, 2)
        ]
        maps = torch.stack([torch.stack(row, dim=2) for row in patches], dim=2)
    assert maps.shape == (3, 5, 3, 3)
    steps = torch.stack([maps[..., t].flatten(1) for t in range(3)], dim=1)
    _, (states, _) = net.recurrence.layer(steps)
    hidden = (torch.cat([states[0], states[1]], dim=1) @ p["hidden.weight"].T + p["hidden.bias"]).clamp(min=0)
    expected = hidden @ p["classifier.weight"].T + p["classifier.bias"]
    torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("fft", "top_hz", "frames"), [(800, 100.0, 8), (32, 8000.0, 9), (1600, 8000.0, 11)])
def test_no_grid_and_no_segment_is_too_small_to_pool(fft, top_hz, frames):
    sizes = {**SMALL, "window_ms": 2.0, "fft": fft, "top_hz": top_hz, "segment_frames": frames}
    assert built("cnn_lstm", "full", **sizes).eval()(noise("cnn_lstm", "full", **sizes)).shape == (3, 4)


NARROW = {
    "maps_1": 3,
    "maps_2": 4,
    "maps_3": 6,
    "lstm_hidden": 16,
    "hidden": 16,
    "dropout": 0.0,
    "fft": 800,
    "segment_frames": 60,
    "batch_size": 8,
    "learning_rate": 0.003,
}


@pytest.mark.full
def test_cnn_lstm_learns_eight_utterances_by_heart():
    assert overfitted("cnn_lstm", "full", 40, **NARROW) == 1


@pytest.mark.full
def test_cnn_lstm_is_clearly_better_than_chance_on_a_held_out_speaker():
    assert synthetic_uar("cnn_lstm", "full", 6, **{**NARROW, "top_hz": 2000.0}) > 0.5
