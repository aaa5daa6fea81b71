"""A bundle of torchaudio with a tiny network of random weights, for tests of what reads self-supervised features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torchaudio
from torch import nn

from tfser.features import ssl

TINY: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 12,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 3,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 16,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.1,
    "aux_num_out": None,
}


def tiny_hubert(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[nn.Module]:
    """Let HUBERT_BASE be a tiny network with random weights in a cache of its own, with no way to a network."""

    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("a download was tried")

    torch.manual_seed(0)
    model: nn.Module = torchaudio.models.wav2vec2_model(**TINY).eval()
    bundle = replace(torchaudio.pipelines.HUBERT_BASE, _path="tiny_hubert.pth", _params=TINY)
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_BASE", bundle)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder / "hub"))
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(model.state_dict(), folder / "hub" / "checkpoints" / "tiny_hubert.pth")
    ssl._network.cache_clear()
    yield model
    ssl._network.cache_clear()
