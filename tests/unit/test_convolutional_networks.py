"""The compared networks that read time-frequency pictures, and the head on self-supervised features.

Their layers against plain NumPy and torch functions; what they learn; what they refuse.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.helpers import small_trainings
from tests.helpers.small_trainings import built, noise, overfitted, parameters, settings_of, synthetic_uar
from tests.helpers.tiny_hubert import tiny_hubert
from tfser.models import MODELS, Network
from tfser.models.alexnet import AlexNetConvolutions, ResponseNormalisation, positions, smallest, widths
from tfser.models.fcn_attention import FullyConvolutionalNetwork, nearest
from tfser.models.stacked import StackedModel
from tfser.planning import own_models
from tfser.planning.settings import missing_here, published_settings, setting_problems
from tfser.training.utterance_rules import UtteranceRule

SMALL = {
    "fcn_attention": {"channels": 6, "segment_frames": 80, "dropout": 0.0},
    "dtpm": {"channels": 6, "hidden": 9, "dropout": 0.0},
    "stc_attention": {"channels": 3, "segment_frames": 40},
    "ssl_head": {"hidden": 5, "segment_frames": 10},
}
NAMES = tuple(SMALL)
EVERY = [(name, ablation) for name in NAMES for ablation in MODELS[name].ablations]


def state(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def unsettled(module: nn.Module) -> nn.Module:
    """Every parameter away from where it starts: a fresh bias or norm would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return module.double().eval()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize(("name", "count"), [("fcn_attention", 3_791_044), ("ssl_head", 197_892), ("dtpm", 301_588)])
def test_the_published_form_has_its_number_of_parameters(name: str, count: int) -> None:
    assert parameters(name, "full") == count


def test_the_convolutions_of_alexnet_keep_their_proportions_at_any_width() -> None:
    assert widths(96) == (96, 256, 384, 384, 256)
    assert widths(24) == (24, 64, 96, 96, 64)
    # Krizhevsky et al. 2012, with one group per convolution
    weights = 96 * 121 + 256 * 96 * 25 + 384 * 256 * 9 + 384 * 384 * 9 + 256 * 384 * 9 + 96 + 256 + 384 + 384 + 256
    assert sum(p.numel() for p in AlexNetConvolutions(1, 96, 11, 4, "response").parameters()) == weights


@pytest.mark.parametrize(("kernel", "stride"), [(11, 4), (5, 2)])
def test_positions_are_what_the_convolutions_leave_and_one_cell_less_than_the_smallest_leaves_none(
    kernel: int, stride: int
) -> None:
    least = smallest(kernel, stride)
    encoder = AlexNetConvolutions(1, 3, kernel, stride, "response")
    for size in (least, least + 31, 140):
        assert encoder(torch.zeros(1, 1, size, least)).shape[2:] == (positions(size, kernel, stride), 1)
    assert positions(least - 1, kernel, stride) < 1
    with pytest.raises(RuntimeError):
        encoder(torch.zeros(1, 1, least - 1, least))


def test_three_seconds_of_200_bands_become_5_by_8_positions_of_256_values() -> None:
    network = built("fcn_attention", "full")
    assert isinstance(network, FullyConvolutionalNetwork)
    with torch.inference_mode():
        assert network.annotations(noise("fcn_attention", "full", 1)).shape == (1, 5, 8, 256)
    assert settings_of("fcn_attention", "full")["input_bands"] == 200
    assert settings_of("dtpm", "full")["input_channels"] == 3


@pytest.mark.parametrize("name", ["fcn_attention", "stc_attention", "ssl_head"])
def test_a_network_of_any_length_takes_other_lengths_and_scores_whole_utterances(name: str) -> None:
    network = built(name, "full", **SMALL[name]).eval()
    for frames in (SMALL[name]["segment_frames"], 93, 151):
        assert network(noise(name, "full", 2, **{**SMALL[name], "segment_frames": frames})).shape == (2, 4)
    model = MODELS[name]
    assert isinstance(model, Network)
    assert model.any_length
    assert setting_problems(model, "full", published_settings(name) | {"utterance_rule": "whole"}) == []


# ------------------------------------------------------------------ equations


def test_response_normalisation_is_that_of_alexnet() -> None:
    x = torch.randn(2, 9, 3, 4, dtype=torch.float64)
    expected = np.empty(x.shape)
    for channel in range(9):  # section 3.3 of the paper, as it is written
        near = x[:, max(0, channel - 2) : min(8, channel + 2) + 1].square().sum(dim=1)
        expected[:, channel] = (x[:, channel] / (2 + 1e-4 * near) ** 0.75).numpy()
    torch.testing.assert_close(ResponseNormalisation()(x), torch.from_numpy(expected))
    torch.testing.assert_close(ResponseNormalisation()(x), functional.local_response_norm(x, 5, 5e-4, 0.75, 2.0))


@pytest.mark.parametrize("normalisation", ["response", "batch"])
def test_the_convolutions_are_those_of_alexnet(normalisation: str) -> None:
    encoder = unsettled(AlexNetConvolutions(2, 3, 5, 2, normalisation))
    w = {name: torch.from_numpy(value) for name, value in state(encoder).items()}
    x = wanted = torch.randn(2, 2, 70, 50, dtype=torch.float64)
    for i, (stride, padding) in enumerate(((2, 0), (1, 2), (1, 1), (1, 1), (1, 1))):
        wanted = functional.conv2d(wanted, w[f"convolutions.{i}.weight"], w[f"convolutions.{i}.bias"], stride, padding)
        if normalisation == "batch":
            running = (w[f"norms.{i}.running_mean"], w[f"norms.{i}.running_var"])
            wanted = functional.batch_norm(wanted, *running, w[f"norms.{i}.weight"], w[f"norms.{i}.bias"])
        wanted = wanted.clamp(min=0)
        if normalisation == "response" and i < 2:
            wanted = functional.local_response_norm(wanted, 5, 5e-4, 0.75, 2.0)
        if i in (0, 1, 4):
            wanted = wanted.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(4, 5))
    torch.testing.assert_close(encoder(x), wanted)


def test_attention_over_positions_is_the_softmax_of_a_third_of_their_scores() -> None:
    network = unsettled(built("fcn_attention", "full", **SMALL["fcn_attention"]))
    assert isinstance(network, FullyConvolutionalNetwork)
    w, x = state(network), noise("fcn_attention", "full", 3, segment_frames=120).double()
    with torch.inference_mode():
        a = network.annotations(x).numpy().reshape(3, -1, 16)
        found = network(x).numpy()
    for segment in range(3):
        scores = np.array(
            [w["attention.score.weight"][0] @ np.tanh(w["attention.hidden.weight"] @ one + w["attention.hidden.bias"])
             for one in a[segment]]
        )  # fmt: skip
        weights = np.exp(0.3 * scores) / np.exp(0.3 * scores).sum()
        context = sum(weight * one for weight, one in zip(weights, a[segment], strict=True))
        np.testing.assert_allclose(found[segment], w["classifier.weight"] @ context + w["classifier.bias"], rtol=1e-9)


def test_without_attention_or_with_scale_zero_the_positions_are_averaged() -> None:
    x = noise("fcn_attention", "full", 2, **SMALL["fcn_attention"]).double()
    with_scores = unsettled(built("fcn_attention", "full", **SMALL["fcn_attention"], attention_scale=0.0))
    without = built("fcn_attention", "no-attention", **SMALL["fcn_attention"]).double().eval()
    without.load_state_dict({k: v for k, v in with_scores.state_dict().items() if not k.startswith("attention")})
    with torch.inference_mode():
        torch.testing.assert_close(with_scores(x), without(x))


def gated(h: np.ndarray, w: dict[str, np.ndarray], at: str, kernel: int) -> np.ndarray:
    """An attention module of the network, in loops over cells: h (C, F, T)."""

    def shared(pooled: np.ndarray) -> np.ndarray:
        hidden = np.maximum(w[f"{at}.channel_gate.0.weight"] @ pooled + w[f"{at}.channel_gate.0.bias"], 0)
        return np.asarray(w[f"{at}.channel_gate.2.weight"] @ hidden + w[f"{at}.channel_gate.2.bias"])

    def along(pooled: np.ndarray, gate: str) -> np.ndarray:
        padded = np.pad(pooled, ((0, 0), (kernel // 2, kernel // 2)))
        weight, bias = w[f"{at}.{gate}.conv.weight"][0], w[f"{at}.{gate}.conv.bias"][0]
        sums = [(weight * padded[:, i : i + kernel]).sum() + bias for i in range(pooled.shape[1])]
        return sigmoid(np.array(sums))

    channel = sigmoid(shared(h.mean(axis=(1, 2))) + shared(h.max(axis=(1, 2))))
    frequency = along(np.stack([h.mean(axis=(0, 2)), h.max(axis=(0, 2))]), "frequency_gate")
    time = along(np.stack([h.mean(axis=(0, 1)), h.max(axis=(0, 1))]), "time_gate")
    out = np.empty_like(h)
    for c, f, t in np.ndindex(*h.shape):
        out[c, f, t] = h[c, f, t] * (1 + channel[c] * frequency[f] * time[t])
    return out


@pytest.mark.parametrize("ablation", ["full", "no-attention"])
def test_spectro_temporal_channel_attention_is_a_product_of_three_gates_after_each_block(ablation: str) -> None:
    changes = {**SMALL["stc_attention"], "gate_kernel": 3}
    network = unsettled(built("stc_attention", ablation, **changes))
    w, x = state(network), noise("stc_attention", ablation, 2, **changes).double()
    with torch.inference_mode():
        found = network(x).numpy()
    step = 2 if ablation == "full" else 1
    for segment in range(2):
        h = x[segment].numpy()
        for block in range(4):
            at = f"blocks.{step * block}"
            y = functional.conv2d(torch.from_numpy(h)[None], torch.from_numpy(w[f"{at}.conv.weight"]), padding=1)[
                0
            ].numpy()
            mean, variance, scale, shift = (
                w[f"{at}.norm.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
            )
            y = np.maximum((y - mean) / np.sqrt(variance + 1e-5) * scale + shift, 0)
            f, t = y.shape[1] // 2, y.shape[2] // 2
            h = y[:, : 2 * f, : 2 * t].reshape(-1, f, 2, t, 2).max(axis=(2, 4))
            if ablation == "full":
                h = gated(h, w, f"blocks.{2 * block + 1}", 3)
        logits = w["classifier.weight"] @ h.mean(axis=(1, 2)) + w["classifier.bias"]
        np.testing.assert_allclose(found[segment], logits, rtol=1e-8)


def test_the_head_is_the_mean_over_frames_of_a_rectified_linear_layer() -> None:
    network = unsettled(built("ssl_head", "full", **SMALL["ssl_head"]))
    w, x = state(network), noise("ssl_head", "full", 2, segment_frames=17).double()
    h = np.maximum(x[:, 0].numpy().transpose(0, 2, 1) @ w["hidden.weight"].T + w["hidden.bias"], 0)
    wanted = h.mean(axis=1) @ w["classifier.weight"].T + w["classifier.bias"]
    np.testing.assert_allclose(network(x).detach().numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize(("name", "ablation"), EVERY)
def test_several_networks_at_once_have_the_logits_of_each_alone(name: str, ablation: str) -> None:
    alone = [built(name, ablation, seed=seed, **SMALL[name]).double().train() for seed in range(3)]
    x = noise(name, ablation, 6, **SMALL[name]).double()
    expected = torch.cat([network(part) for network, part in zip(alone, x.split(2), strict=True)])
    stacked = StackedModel([built(name, ablation, seed=s, **SMALL[name]).double() for s in range(3)]).double()
    torch.testing.assert_close(stacked(x), expected)


# ------------------------------------------------------------------ the pyramid


def test_the_pyramid_is_the_rule_of_its_segments_and_can_be_put_on_another_network_or_taken_away() -> None:
    settings = settings_of("dtpm", "full")
    rule = UtteranceRule.of(settings)
    assert (rule.name, rule.p, rule.c) == ("pyramid", 2.0, 1.0)
    assert (settings["segment_frames"], settings["segment_hop"]) == (64, 30)
    for name in ("fcn_attention", "stc_attention", "atfnn"):
        model = MODELS[name]
        put = published_settings(name) | {"utterance_rule": "pyramid"}
        assert setting_problems(model, model.ablations[0], put) == []
    assert setting_problems(MODELS["dtpm"], "full", published_settings("dtpm") | {"utterance_rule": "mean"}) == []


# ------------------------------------------------------------------ attention maps


def test_a_cell_has_the_weight_of_the_position_whose_centre_is_nearest() -> None:
    at = nearest(300, 8)
    assert [int(at[cell]) for cell in (0, 48, 50, 65, 257, 299)] == [0, 0, 1, 1, 7, 7]
    # The centre of a position is where the gradient of a network of ones is largest around.
    encoder = AlexNetConvolutions(1, 3, 11, 4, "batch").eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(0.01)
    x = torch.ones(1, 1, 300, 300, requires_grad=True)
    encoder(x)[0, 0, 2, 2].backward()
    assert x.grad is not None
    (touched,) = np.nonzero(x.grad[0, 0].abs().sum(dim=1).numpy())
    assert touched[0] <= 33 + 2 * 32 <= touched[-1]


def test_the_map_of_the_fully_convolutional_network_is_its_weights_times_their_number() -> None:
    model, changes = MODELS["fcn_attention"], SMALL["fcn_attention"]
    assert isinstance(model, Network)
    assert model.attention is not None
    network = built("fcn_attention", "full", **changes).eval()
    x = noise("fcn_attention", "full", 2, segment_frames=150)
    with torch.inference_mode():
        (found,) = model.attention.maps(network, x, settings_of("fcn_attention", "full", **changes)).values()
        without = built("fcn_attention", "no-attention", **changes).eval()
        assert model.attention.maps(without, x, settings_of("fcn_attention", "no-attention")) == {}
    assert found.cells.shape == (2, 200, 150)
    np.testing.assert_allclose(found.weights.sum(axis=(1, 2)), 1, rtol=1e-6)
    assert found.cells[1, 33, 65] == pytest.approx(found.weights[1, 0, 1] * found.weights[1].size)


def test_the_maps_of_spectro_temporal_channel_attention_are_the_gates_of_the_last_block() -> None:
    model, changes = MODELS["stc_attention"], SMALL["stc_attention"]
    assert isinstance(model, Network)
    assert model.attention is not None
    network, x = built("stc_attention", "full", **changes).eval(), noise("stc_attention", "full", 2, segment_frames=37)
    seen: list[torch.Tensor] = []
    network.get_submodule("blocks.7.frequency_gate").register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.inference_mode():
        found = model.attention.maps(network, x, settings_of("stc_attention", "full", **changes))
        without = built("stc_attention", "no-attention", **changes).eval()
        assert model.attention.maps(without, x, settings_of("stc_attention", "no-attention")) == {}
    assert {name: (m.short, m.cells.shape) for name, m in found.items()} == {
        "frequency_gate": ("f", (2, 80, 37)),
        "time_gate": ("t", (2, 80, 37)),
    }
    np.testing.assert_allclose(found["frequency_gate"].cells[1, 33, 5], float(seen[0][1, 2]))
    assert len(np.unique(found["time_gate"].cells[0])) <= 2  # 37 frames: two groups of 16, and five of the last


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("fcn_attention", {"segment_frames": 66}, "segment_frames: 66 leaves no position; legal: at least 67"),
        ("fcn_attention", {"top_hz": 1000.0}, "fft 800 and top_hz 1000 give 50 bands, which leave no position; "),
        ("dtpm", {"n_mels": 32}, "n_mels: 32 leaves nothing after the convolutions; legal: at least 33"),
        ("dtpm", {"segment_frames": 20}, "segment_frames: 20 leaves nothing after the convolutions; legal: at least"),
        ("stc_attention", {"n_mels": 8}, "n_mels: 8 leaves nothing after 4 poolings; legal: at least 16"),
        ("stc_attention", {"gate_kernel": 4}, "gate_kernel: 4 is even"),
        ("ssl_head", {"hidden": 0}, "hidden: 0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused_in_words(name: str, changes: dict[str, int], said: str) -> None:
    model = MODELS[name]
    (problem,) = model.problems("full", published_settings(name) | changes)
    assert said in problem
    assert own_models.build_problems(model, "full", published_settings(name)) == []


def test_the_head_on_self_supervised_features_says_which_file_it_needs_and_downloads_nothing(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (lacking,) = missing_here(MODELS["ssl_head"], published_settings("ssl_head"))
    assert "WAV2VEC2_BASE needs its weights" in lacking
    assert str(tmp_path) in lacking


# ------------------------------------------------------------------ what they learn

LEARNS = {
    "fcn_attention": {"channels": 12, "segment_frames": 100, "batch_size": 8, "learning_rate": 1e-3, "dropout": 0.0},
    "dtpm": {"channels": 12, "hidden": 32, "batch_size": 16},
    "stc_attention": {"channels": 6, "segment_frames": 100, "batch_size": 8},
}


@pytest.mark.full
@pytest.mark.parametrize(("name", "epochs"), [("fcn_attention", 100), ("dtpm", 20), ("stc_attention", 40)])
def test_eight_utterances_are_learnt_by_heart(name: str, epochs: int) -> None:
    assert overfitted(name, "full", epochs, **LEARNS[name]) == 1.0


@pytest.mark.full
@pytest.mark.parametrize(("name", "epochs"), [("fcn_attention", 6), ("dtpm", 4), ("stc_attention", 4)])
def test_the_emotions_of_a_new_speaker_of_the_built_in_database_are_told(name: str, epochs: int) -> None:
    assert synthetic_uar(name, "full", epochs, **LEARNS[name]) > 0.6  # four emotions: chance is 0.25


@pytest.mark.full
def test_the_head_learns_from_the_frames_of_a_tiny_network_with_random_weights(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in tiny_hubert(tmp_path, monkeypatch):
        changes = {"bundle": "HUBERT_BASE", "segment_frames": 20, "batch_size": 8, "learning_rate": 0.01}
        changes["standardisation"] = "training"
        assert built("ssl_head", "full", **changes).get_parameter("hidden.weight").shape == (256, 12)
        assert overfitted("ssl_head", "full", 60, **changes) == 1.0
        assert synthetic_uar("ssl_head", "full", 20, **changes) > 0.4  # the features know no emotion
    small_trainings._synthetic.cache_clear()
