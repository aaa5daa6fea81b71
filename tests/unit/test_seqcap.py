"""SeqCap: its sizes, its capsules against loops in NumPy, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.small_trainings import built, noise, overfitted, parameters, settings_of, synthetic_uar
from tfser.models import MODELS
from tfser.models.seqcap import Routing
from tfser.planning.settings import published_settings, setting_problems

SMALL = {
    "first_maps": 3,
    "maps": 16,
    "window_capsule": 3,
    "capsule": 5,
    "gru_hidden": 4,
    "hidden": 6,
    "top_hz": 460.0,
    "segment_frames": 66,
}


@pytest.mark.parametrize(("ablation", "count"), [("CNN-GRU", 349_560), ("CNN", 162_100)])
def test_seqcap_has_a_third_of_a_million_parameters_more_than_half_of_them_in_the_gru(ablation, count):
    assert parameters("seqcap", ablation) == count


def test_seqcap_reads_two_seconds_up_to_4_khz_and_scores_with_the_mean_of_its_segments():
    values = settings_of("seqcap", "CNN-GRU")
    assert (values["segment_frames"], values["segment_hop"], values["fft"], values["top_hz"]) == (200, 100, 800, 4000.0)
    assert (values["input_bands"], values["input_channels"], values["utterance_rule"]) == (200, 1, "mean")
    assert len(built("seqcap", "CNN").starts) == 9


def squash(s):
    length = np.sqrt((s**2).sum())
    return s / length * length**2 / (1 + length**2)


def routed(u, weight, outputs, iterations):
    """Dynamic routing of one row: u (inputs, width), weight (inputs, width, outputs x values)."""
    inputs = len(u)
    predicted = [[u[i] @ np.split(weight[i], outputs, axis=1)[j] for j in range(outputs)] for i in range(inputs)]
    b = np.zeros((inputs, outputs))
    for _ in range(iterations):
        c = np.exp(b) / np.exp(b).sum(axis=1, keepdims=True)
        v = [squash(sum(c[i, j] * predicted[i][j] for i in range(inputs))) for j in range(outputs)]
        for i in range(inputs):
            for j in range(outputs):
                b[i, j] += predicted[i][j] @ v[j]
    return np.array(v)


@pytest.mark.parametrize("iterations", [1, 3, 6])
@pytest.mark.usefixtures("in_float64")
def test_routing_is_the_routing_by_agreement_of_the_original(iterations):
    layer = Routing(inputs=7, width=4, outputs=3, values=5, iterations=iterations)
    u = np.random.default_rng(0).normal(size=(2, 7, 4)) * 2
    expected = [routed(row, layer.weight.detach().numpy(), 3, iterations) for row in u]
    np.testing.assert_allclose(layer(torch.from_numpy(u)).detach().numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("in_float64")
def test_capsules_are_routed_within_windows_and_then_over_them():
    net, x = built("seqcap", "CNN", **SMALL).eval(), noise("seqcap", "CNN", **SMALL).double()
    with torch.no_grad():
        maps = net.maps(x)
        assert maps.shape == (3, 16, 3, 17)  # 23 bands / 8, 66 frames / 4
        found = net.capsules(maps).numpy()
    windows, segments = net.of_windows.weight.detach().numpy(), net.of_segment.weight.detach().numpy()
    for one, capsules in zip(maps.numpy(), found, strict=True):
        rows = []
        for start in (0, 5):
            cells = one[:, :, start : start + 10]
            u = [squash(cells[8 * half : 8 * half + 8, f, t]) for half in (0, 1) for f in range(3) for t in range(10)]
            v = routed(np.array(u), windows, 4, 3)
            rows.append(np.concatenate([v.flatten(), np.linalg.norm(v, axis=1)]))
        np.testing.assert_allclose(capsules, routed(np.array(rows), segments, 4, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("in_float64")
def test_probabilities_are_six_parts_of_the_capsules_and_four_of_the_gru():
    net, x = built("seqcap", "CNN-GRU", **SMALL).eval(), noise("seqcap", "CNN-GRU", **SMALL).double()
    with torch.no_grad():
        maps = net.maps(x)
        capsules = net.classifier(net.capsules(maps).flatten(1)).softmax(dim=1)
        _, (forward, backward) = net.recurrence.layer(torch.stack([maps[..., t].flatten(1) for t in range(17)], dim=1))
        gru = net.gru_classifier(net.hidden(torch.cat([forward, backward], dim=1)).relu()).softmax(dim=1)
        torch.testing.assert_close(net(x).softmax(dim=1), 0.6 * capsules + 0.4 * gru, rtol=1e-9, atol=1e-12)


def test_maps_that_are_no_whole_capsules_are_refused_and_no_segment_is_too_short():
    (problem,) = setting_problems(MODELS["seqcap"], "CNN", {**published_settings("seqcap"), "maps": 12})
    assert problem == "maps: 12 is no multiple of 8, the values of a primary capsule"
    short = {**SMALL, "segment_frames": 9, "top_hz": 100.0}
    assert built("seqcap", "CNN-GRU", **short).eval()(noise("seqcap", "CNN-GRU", **short)).shape == (3, 4)


NARROW = {
    "first_maps": 3,
    "maps": 8,
    "gru_hidden": 8,
    "hidden": 16,
    "dropout": 0.0,
    "top_hz": 2000.0,
    "segment_frames": 60,
    "segment_hop": 0,
    "batch_size": 8,
    "learning_rate": 0.005,
}


@pytest.mark.full
@pytest.mark.parametrize("ablation", ["CNN-GRU", "CNN"])
def test_seqcap_learns_eight_utterances_by_heart(ablation):
    assert overfitted("seqcap", ablation, 40, **NARROW) == 1


@pytest.mark.full
@pytest.mark.parametrize("ablation", ["CNN-GRU", "CNN"])
def test_seqcap_is_clearly_better_than_chance_on_a_held_out_speaker(ablation):
    assert synthetic_uar("seqcap", ablation, 6, **{**NARROW, "top_hz": 1600.0}) > 0.5
