"""Both models written plainly: the baseline of tfser's training step, and the tests' second form.

They use only modules of the library, the default memory layout and no shortcut: ``nn.MultiheadAttention`` on every
token, means over axes, ``torch.optim.Adam`` as it is. They are the full models at any published size, without dropout;
equations and axes are those of ``tfser.models``. ``reference`` copies the weights of tfser's model, so that equal
losses and gradients show equal equations. The module is not among the tests because the benchmark runs where only the
package is installed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tfser.models.atfnn import ATFNN
from tfser.models.time_frequency_transformer import TimeFrequencyTransformer


class PlainTransformer(nn.Module):
    """A post-norm encoder layer: q, k, v (B, tokens, E) -> (B, tokens, E), (8) and (9)."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, feed_forward), nn.ReLU(), nn.Linear(feed_forward, width))
        self.mlp_norm = nn.LayerNorm(width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        m = self.attention_norm(self.attention(q, k, v, need_weights=False)[0] + v)
        out: Tensor = self.mlp_norm(self.mlp(m) + m)
        return out


class PlainEncoder(nn.Module):
    """(1), (4) or (7) without the mean over the channels: (B, 1, F, D) -> (B, C, f or F, d or D)."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_1 = nn.Conv2d(1, channels, kernel, stride, padding, bias=False)
        self.norm_1 = nn.BatchNorm2d(channels)
        self.conv_2 = nn.Conv2d(channels, channels, kernel, stride, padding, bias=False)
        self.norm_2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_1(self.conv_1(x)).relu()
        encoded: Tensor = self.norm_2(self.conv_2(x)).relu()
        return encoded


class PlainTimeFrequencyTransformer(nn.Module):
    """T+F+TF with one layer in each Transformer: (B, 1, F, D) -> logits (B, emotions)."""

    def __init__(
        self, emotions: int, n_mels: int, segment_frames: int, channels: int, feed_forward: int, feed_forward_2: int
    ) -> None:
        super().__init__()
        f, d = n_mels // 4, segment_frames // 4
        self.time_encoder = PlainEncoder(channels, (5, 1), (2, 1))
        self.frequency_encoder = PlainEncoder(channels, (1, 5), (1, 2))
        self.time_frequency_encoder = PlainEncoder(channels, (5, 5), (2, 2))
        self.time_transformer = PlainTransformer(f, 2, feed_forward)
        self.frequency_transformer = PlainTransformer(d, 2, feed_forward)
        self.time_frequency_transformer = PlainTransformer(d, 4, feed_forward_2)
        self.time_map, self.frequency_map = nn.Linear(segment_frames, d), nn.Linear(n_mels, f)
        self.classifier = nn.Linear(2 * d, emotions)

    def forward(self, x: Tensor) -> Tensor:
        s = self.time_encoder(x).mean(dim=1).transpose(1, 2)
        q = self.time_map(self.time_transformer(s, s, s).transpose(1, 2))
        s = self.frequency_encoder(x).mean(dim=1)
        k = self.frequency_map(self.frequency_transformer(s, s, s).transpose(1, 2)).transpose(1, 2)
        v = self.time_frequency_encoder(x).mean(dim=1)
        y = self.time_frequency_transformer(q, k, v)
        deviation = (y.var(dim=1, correction=0) + 1e-8).sqrt()
        logits: Tensor = self.classifier(torch.cat([y.mean(dim=1), deviation], dim=1))
        return logits


class PlainATFNN(nn.Module):
    """ATFNN with T-Attention's weights from the spectrogram: (B, 1, F, T) -> logits (B, emotions)."""

    def __init__(self, emotions: int, n_mels: int, channels: int, hidden: int, lstm_hidden: int) -> None:
        super().__init__()
        self.frequency_attention = nn.Conv2d(1, channels, (5, 1), (5, 1))
        self.lift = nn.Linear(1, channels)
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.attention_norm = nn.LayerNorm(channels)
        self.conv_1 = nn.Conv2d(channels, hidden, (5, 1), padding=(2, 0))
        self.conv_2 = nn.Conv2d(hidden, channels, (5, 1), padding=(2, 0))
        self.mlp_norm = nn.LayerNorm(channels)
        self.time_attention = nn.Conv2d(1, channels, (1, 8), (1, 8))
        self.lstm = nn.LSTM(n_mels * channels, lstm_hidden, 3, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * lstm_hidden, emotions)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, bands, frames = x.shape
        a = self.frequency_attention(x).sigmoid().mean(dim=1, keepdim=True).repeat_interleave(5, dim=2)
        enhanced = x + a * x
        lifted = self.lift(enhanced.transpose(1, 3).reshape(batch * frames, bands, 1))
        m = self.attention_norm(self.attention(lifted, lifted, lifted, need_weights=False)[0] + lifted)
        m_image = m.view(batch, frames, bands, -1).permute(0, 3, 2, 1).contiguous()
        out = self.conv_2(self.conv_1(m_image).relu()).permute(0, 3, 2, 1)
        encoding = self.mlp_norm(out + m.view(batch, frames, bands, -1))
        a = self.time_attention(x).sigmoid().mean(dim=1, keepdim=True).repeat_interleave(8, dim=3)
        encoding = encoding + a.permute(0, 3, 2, 1) * encoding
        _, (h, _) = self.lstm(encoding.flatten(2))
        logits: Tensor = self.classifier(torch.cat([h[-2], h[-1]], dim=1))
        return logits


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape weights or gradients of tfser's model to those of the plain form."""
    out: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        name = (
            theirs.replace("layers.0.", "")
            .replace("_attention.conv.", "_attention.")
            .replace("time_encoder.lstm.", "lstm.")
        )
        # ATFNN's kernels are (1, 5) there and (5, 1) here.
        if name.startswith(("frequency_encoder.l", "frequency_encoder.m")):
            name = name.removeprefix("frequency_encoder.").removeprefix("layer.").removeprefix("mlp.")
            tensor = tensor.mT if tensor.ndim == 4 else tensor
        if "attention.key" in name or "attention.value" in name:
            continue  # they go with the query, in one tensor
        if "attention.query" in name:
            name = name.replace("query.", "in_proj_")
            value = tensors[theirs.replace("query", "value")]
            key = tensors.get(theirs.replace("query", "key"), torch.zeros_like(value))  # the keys' bias changes nothing
            tensor = torch.cat([tensor, key, value])
        out[name.replace("attention.out.", "attention.out_proj.")] = tensor
    return out


def reference(model: nn.Module) -> nn.Module:
    """Return the plain form of ``model``, with its weights, of its type and on its device.

    Args:
        model: a full model as published, except for the widths of convolutions, MLPs and LSTM.

    Raises:
        TypeError: for any other model.
    """
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    emotions = len(state["classifier.bias"])
    plain: nn.Module
    if (
        isinstance(model, TimeFrequencyTransformer)
        and model.has_time
        and model.has_frequency
        and model.has_time_frequency
    ):
        channels, feed_forward = (
            len(state["time_encoder.norm_1.bias"]),
            len(state["time_transformer.layers.0.mlp.0.bias"]),
        )
        last = len(state["time_frequency_transformer.layers.0.mlp.0.bias"])
        n_mels, frames = state["frequency_map.weight"].shape[1], state["time_map.weight"].shape[1]
        plain = PlainTimeFrequencyTransformer(emotions, n_mels, frames, channels, feed_forward, last)
    elif isinstance(model, ATFNN) and len(model.parts) == 4 and model.time_attention_from == "spectrogram":
        channels, hidden = state["frequency_encoder.layer.mlp.conv_2.weight"].shape[:2]
        n_mels = state["time_encoder.lstm.weight_ih_l0"].shape[1] // channels
        plain = PlainATFNN(emotions, n_mels, channels, hidden, state["time_encoder.lstm.weight_hh_l0"].shape[1])
    else:
        raise TypeError(f"there is no plain form of {type(model).__name__} with these parts")
    plain.to(state["classifier.bias"])
    plain.load_state_dict(renamed(state))
    return plain
