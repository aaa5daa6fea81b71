"""ACRNN: its sizes, its forward pass against plain functions, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, pad

from tests.helpers.small_trainings import built, noise, overfitted, parameters, settings_of, synthetic_uar
from tfser.models import MODELS
from tfser.planning.settings import published_settings, setting_problems

SMALL = {
    "conv_layers": 2,
    "first_maps": 4,
    "maps": 5,
    "linear": 12,
    "lstm_hidden": 6,
    "hidden": 8,
    "n_mels": 10,
    "segment_frames": 21,
}


@pytest.mark.parametrize(
    ("ablation", "changes", "count"),
    [
        ("3-D", {}, 9_301_956),
        ("3-D", {"conv_layers": 1}, 2_910_916),
        ("3-D", {"pool_bands": 4}, 7_335_876),
        ("2-D", {}, 9_298_116),
    ],
)
def test_acrnn_has_the_parameters_of_the_paper(ablation, changes, count):
    assert parameters("acrnn", ablation, **changes) == count


def test_acrnns_published_settings_are_the_papers():
    values = settings_of("acrnn", "3-D")
    expected = {
        "n_mels": 40, "window_ms": 25.0, "hop_ms": 10.0, "deltas": 2, "segment_frames": 300, "learning_rate": 1e-4,
        "batch_size": 40, "optimizer": "nadam", "utterance_rule": "maximum", "input_channels": 3, "input_bands": 40,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected


def lstm(x_TE, weights, suffix):
    """A direction of an LSTM, gate by gate: input, forget, cell, output."""
    w_in, w_state, b_in, b_state = (
        weights[f"{kind}_l0{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = c = np.zeros(w_state.shape[1])
    out = []
    for x in x_TE if not suffix else x_TE[::-1]:
        gates = np.split(w_in @ x + b_in + w_state @ h + b_state, 4)
        i, f, o = (1 / (1 + np.exp(-gates[number])) for number in (0, 1, 3))
        c = f * c + i * np.tanh(gates[2])
        h = o * np.tanh(c)
        out.append(h)
    return np.stack(out if not suffix else out[::-1])


@pytest.mark.parametrize("ablation", ["3-D", "2-D"])
@pytest.mark.usefixtures("in_float64")
def test_acrnn_is_its_equations_in_plain_functions(ablation):
    net, x = built("acrnn", ablation, **SMALL), noise("acrnn", ablation, **SMALL).double()
    net(x)  # moves the running statistics
    net.eval()
    p = {name: value.detach() for name, value in (*net.named_parameters(), *net.named_buffers())}

    def leaky(v):
        return torch.where(v < 0, 0.01 * v, v)

    def normalised(v, name):
        scale = p[f"{name}.weight"] / (p[f"{name}.running_var"] + 1e-5).sqrt()
        return (v - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]

    maps = x if ablation == "3-D" else x[:, :1]
    maps = leaky(conv2d(pad(maps, (2, 2, 1, 1)), p["convolutions.0.weight"], p["convolutions.0.bias"]))
    maps = pad(maps, (0, 1, 0, 0), value=-torch.inf)  # 21 frames: the last pair holds one
    maps = maps.reshape(3, 4, 5, 2, 11, 2).amax(dim=(3, 5))
    maps = leaky(conv2d(pad(maps, (2, 2, 1, 1)), p["convolutions.1.weight"], p["convolutions.1.bias"]))
    assert maps.shape == (3, 5, 5, 11)
    recurrent = {
        name: value.numpy() for name, value in net.recurrence.layer.named_parameters() for value in [value.detach()]
    }
    expected = []
    for one in maps:
        steps = torch.stack([one[:, :, t].flatten() @ p["linear.weight"].T + p["linear.bias"] for t in range(11)])
        steps = leaky(normalised(steps, "linear_norm")).numpy()
        h = np.concatenate([lstm(steps, recurrent, ""), lstm(steps, recurrent, "_reverse")], axis=1)
        weights = np.exp(h @ p["attention.weight"].numpy()[0])
        c = torch.from_numpy((weights / weights.sum()) @ h)
        units = leaky(normalised(p["hidden.weight"] @ c + p["hidden.bias"], "hidden_norm"))
        expected.append(p["classifier.weight"] @ units + p["classifier.bias"])
    torch.testing.assert_close(net(x).detach(), torch.stack(expected), rtol=1e-9, atol=1e-9)


def test_2_d_reads_the_static_channel_alone():
    net, x = built("acrnn", "2-D", **SMALL).eval(), noise("acrnn", "2-D", **SMALL)
    other = x.clone()
    other[:, 1:] = 9
    assert torch.equal(net(x), net(other))


def test_without_both_deltas_there_is_no_3_d_and_the_message_names_the_ablation_that_does_without():
    values = {**published_settings("acrnn"), "deltas": 0}
    (problem,) = setting_problems(MODELS["acrnn"], "3-D", values)
    assert problem == (
        "deltas: 0 does not give the three channels of 3-D (static, deltas, delta-deltas); legal: 2, or --ablation 2-D"
    )
    assert setting_problems(MODELS["acrnn"], "2-D", values) == []
    assert built("acrnn", "2-D", **SMALL, deltas=0).eval()(torch.zeros(2, 1, 10, 21)).shape == (2, 4)


NARROW = {
    "conv_layers": 1,
    "first_maps": 8,
    "linear": 32,
    "lstm_hidden": 16,
    "hidden": 16,
    "segment_frames": 60,
    "learning_rate": 0.003,
    "batch_size": 8,
}


@pytest.mark.full
@pytest.mark.parametrize("ablation", ["3-D", "2-D"])
def test_acrnn_learns_eight_utterances_by_heart(ablation):
    assert overfitted("acrnn", ablation, 40, **NARROW) == 1


@pytest.mark.full
def test_acrnn_is_clearly_better_than_chance_on_a_held_out_speaker():
    assert synthetic_uar("acrnn", "3-D", 12, **NARROW) > 0.5
