"""Every ablation against the second writing of its equations in ``tests/helpers/equations.py``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.equations import Array, Weights, atfnn, time_frequency_transformer
from tfser.models.atfnn import ATFNN
from tfser.models.time_frequency_transformer import TimeFrequencyTransformer


def settle(model: nn.Module) -> nn.Module:
    """Norms and running statistics away from their defaults, as after training; evaluation mode, float64."""
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.3, 2, generator=generator)
    return model


def compare(model: nn.Module, rewrite: Callable[[Array, Weights], Array], x_B1FT: torch.Tensor) -> None:
    weights = Weights({name: value.numpy() for name, value in model.state_dict().items()})
    with torch.no_grad():
        logits = model(x_B1FT.to(memory_format=torch.channels_last)).numpy()
    np.testing.assert_allclose(logits, rewrite(x_B1FT.numpy(), weights), rtol=1e-9, atol=1e-9)
    assert np.ptp(logits, axis=0).max() > 1e-3, "a comparison of two constants shows nothing"


TRANSFORMER_SIZES = {
    "published": {"n_mels": 80, "segment_frames": 80},
    "odd": {"n_mels": 11, "segment_frames": 13, "channels": 3, "kernel": 3, "time_heads": 3, "feed_forward": 7}
    | {"time_layers": 2, "frequency_layers": 3, "time_frequency_layers": 2, "time_frequency_feed_forward": 5},
    "stride 3": {"n_mels": 29, "segment_frames": 22, "channels": 2, "kernel": 7, "stride": 3}
    | {"frequency_heads": 3, "time_frequency_heads": 1, "feed_forward": 6, "time_frequency_feed_forward": 3},
}

ATFNN_SIZES = {
    "published": {"n_mels": 80, "segment_frames": 128},
    "odd": {"n_mels": 9, "segment_frames": 10, "channels": 6, "heads": 3, "encoder_channels": 5, "encoder_kernel": 3}
    | {"lstm_hidden": 4, "lstm_layers": 2, "band_group": 3, "frame_group": 5},
    "one group": {"n_mels": 7, "segment_frames": 3, "channels": 3, "heads": 1, "encoder_kernel": 1}
    | {"lstm_hidden": 3, "lstm_layers": 1, "band_group": 7, "frame_group": 3},
}


@pytest.mark.parametrize("size", TRANSFORMER_SIZES)
@pytest.mark.parametrize("ablation", ["T+F+TF", "T+F", "T+TF", "F+TF"])
def test_the_time_frequency_transformer_computes_its_equations(ablation: str, size: str) -> None:
    torch.manual_seed(0)
    defaults = {"stride": 2, "time_layers": 1, "frequency_layers": 1, "time_frequency_layers": 1}
    defaults |= {"time_heads": 2, "frequency_heads": 2, "time_frequency_heads": 4}
    arguments = defaults | TRANSFORMER_SIZES[size]
    model = settle(TimeFrequencyTransformer(emotions=5, ablation=ablation, **arguments))
    x = torch.randn(3, 1, arguments["n_mels"], arguments["segment_frames"], dtype=torch.float64)
    compare(model, lambda x, w: time_frequency_transformer(x, w, ablation, arguments), x)


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.full if size == "published" else []) for size in ATFNN_SIZES]
)
@pytest.mark.parametrize("source", ["spectrogram", "encoding"])
@pytest.mark.parametrize("ablation", ["ATFNN", "AFNN", "ATNN", "TFNN"])
def test_atfnn_computes_its_equations(ablation: str, source: str, size: str) -> None:
    torch.manual_seed(0)
    arguments = {"heads": 2, "band_group": 5, "frame_group": 8, "lstm_layers": 3} | ATFNN_SIZES[size]
    model = settle(ATFNN(emotions=5, ablation=ablation, time_attention_from=source, **arguments))
    x = torch.randn(2, 1, arguments["n_mels"], arguments["segment_frames"], dtype=torch.float64)
    compare(model, lambda x, w: atfnn(x, w, ablation, arguments, source), x)


@pytest.mark.parametrize("deviation", ["biased", "unbiased"])
@pytest.mark.parametrize("pooling", ["apart", "together"])
@pytest.mark.parametrize("ablation", ["T+F+TF", "T+F"])
def test_the_readings_of_the_pooling_compute_what_they_say(ablation: str, pooling: str, deviation: str) -> None:
    torch.manual_seed(0)
    arguments = {"stride": 2, "time_layers": 1, "frequency_layers": 1, "time_frequency_layers": 1}
    arguments |= {"time_heads": 2, "frequency_heads": 2, "time_frequency_heads": 4, "channels": 4}
    arguments |= {"n_mels": 16, "segment_frames": 16}
    model = settle(
        TimeFrequencyTransformer(emotions=5, ablation=ablation, pooling=pooling, deviation=deviation, **arguments)
    )
    x = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    said = {"together": pooling == "together", "fewer": int(deviation == "unbiased")}
    compare(model, lambda x, w: time_frequency_transformer(x, w, ablation, arguments, **said), x)


def test_t_and_f_pooled_together_leave_the_classifier_as_wide_as_that_of_the_whole_model() -> None:
    widths = {
        (ablation, pooling): TimeFrequencyTransformer(
            emotions=5, ablation=ablation, pooling=pooling
        ).classifier.in_features
        for ablation in ("T+F+TF", "T+F")
        for pooling in ("apart", "together")
    }
    whole = {("T+F+TF", "apart"): 40, ("T+F+TF", "together"): 40}
    assert widths == whole | {("T+F", "apart"): 80, ("T+F", "together"): 40}


@pytest.mark.parametrize("token", ["frame", "segment"])
@pytest.mark.parametrize("squash", ["sigmoid", "linear", "softmax"])
@pytest.mark.parametrize("source", ["spectrogram", "encoding"])
@pytest.mark.parametrize("ablation", ["ATFNN", "AFNN", "ATNN", "TFNN"])
def test_the_readings_of_atfnn_compute_what_they_say(ablation: str, source: str, squash: str, token: str) -> None:
    torch.manual_seed(0)
    arguments = {"heads": 2, "lstm_layers": 1, "lstm_hidden": 4, "encoder_channels": 5, "channels": 4}
    arguments |= {"band_group": 3, "frame_group": 5, "n_mels": 9, "segment_frames": 10}
    model = settle(
        ATFNN(
            emotions=5,
            ablation=ablation,
            time_attention_from=source,
            attention_weights=squash,
            band_token=token,
            **arguments,
        )
    )
    x = torch.randn(2, 1, 9, 10, dtype=torch.float64)
    compare(model, lambda x, w: atfnn(x, w, ablation, arguments, source, squash, token), x)
