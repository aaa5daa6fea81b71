"""A convolutional network with spectro-temporal-channel attention, after Guo et al. (2021), from the abstract.

"Representation Learning with Spectro-Temporal-Channel Attention for Speech Emotion Recognition", ICASSP 2021. Only the
abstract could be read: a module that infers an attention map along time, frequency and channel is inserted into a CNN
and raises its F1 score on IEMOCAP by 3.13 points. It gives no layer, no size and no setting. Everything below is ours.

Axes: B batch, F mel bands (80), T frames (200), C channels, K emotions. Four blocks, of 16, 32, 48 and 64 channels:

    h   = pool(ReLU(BN(conv 3x3(x))))                       B C F T, pooled 2x2: F and T are halved, rounded down
    g^c = sigmoid(M(mean of h) + M(maximum of h))           B C 1 1   over F and T; M has C / 16 hidden units, ReLU
    g^f = sigmoid(conv 7([mean, maximum] of h))             B 1 F 1   over C and T
    g^t = sigmoid(conv 7([mean, maximum] of h))             B 1 1 T   over C and F
    out = h + g^c g^f g^t h                                 B C F T
    logits = FC(mean of the last out over F and T)          B K

The ablation ``no-attention`` is the CNN alone, to which the abstract compares itself. Every setting is fixed or
searched by Optuna; nothing is chosen in the training.

Attention maps: the gates g^f and g^t of the last block, 0 to 1; a cell has the gate of the group of bands or frames
that its poolings put it into.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from tfser.models.base import Attention, AttentionMap, Network, builder
from tfser.models.settings import odd_problems, range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("full", "no-attention")

BLOCKS = 4
"""Each halves bands and frames."""

REDUCTION = 16
"""Channels per hidden unit of the channel gate."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "channels": Hyperparameter(
        default=16, low=1, high=128, help="channels of the first block; the next have two, three and four times as many"
    ),
    "gate_kernel": Hyperparameter(
        default=7, low=1, high=31, help="kernel of the frequency and the time gate, odd, cells"
    ),
    "dropout": Hyperparameter(default=0.0, low=0.0, high=0.9, help="probability, before the classifier"),
}


def mean_and_maximum(h: Tensor, axes: tuple[int, int]) -> Tensor:
    """Return mean and maximum over two of the last three axes of (B, C, F, T): (B, 2, the axis that is left)."""
    return torch.stack([h.mean(dim=axes), h.amax(dim=axes)], dim=1)


class Gate(nn.Module):
    """g^f or g^t: mean and maximum along an axis, (B, 2, N) -> (B, N), 0 to 1."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 1, kernel, padding=kernel // 2)

    def forward(self, pooled_B2N: Tensor) -> Tensor:
        """Compute the gate; a forward hook on this module sees the attention map."""
        gate_BN: Tensor = self.conv(pooled_B2N).squeeze(1).sigmoid()
        return gate_BN


class SpectroTemporalChannelAttention(nn.Module):
    """h -> h + g^c g^f g^t h, (B, C, F, T).

    Args:
        channels: C.
        kernel: of the frequency and the time gate, odd.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.channel_gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.frequency_gate, self.time_gate = Gate(kernel), Gate(kernel)

    def forward(self, h_BCFT: Tensor) -> Tensor:
        """Attend."""
        logits_B2C: Tensor = self.channel_gate(mean_and_maximum(h_BCFT, (2, 3)))
        g_BC = logits_B2C.sum(dim=1).sigmoid()
        g_BF = self.frequency_gate(mean_and_maximum(h_BCFT, (1, 3)))
        g_BT = self.time_gate(mean_and_maximum(h_BCFT, (1, 2)))
        gates: Tensor = g_BC[:, :, None, None] * g_BF[:, None, :, None] * g_BT[:, None, None, :]
        return h_BCFT + gates * h_BCFT


class Block(nn.Module):
    """Convolution, batch normalisation, ReLU, pooling: x (B, S, F, T) -> (B, C, F // 2, T // 2)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and pool."""
        # ReLU after the pooling: the same values, at a quarter of the cells.
        out: Tensor = max_pool2d(self.norm(self.conv(x)), 2).relu()
        return out


class SpectroTemporalChannelNetwork(nn.Module):
    """The network: x (B, channels of the input, F, T) -> logits (B, emotions); F and T at least 16.

    Args:
        ablation: one of ``ABLATIONS``.
        emotions: number of classes.
        input_channels: channels of the input.
        channels: of the first block.
        gate_kernel: kernel of the frequency and the time gate, odd.
        dropout: probability, 0 to below 1.
    """

    def __init__(
        self, *, ablation: str, emotions: int, input_channels: int, channels: int, gate_kernel: int, dropout: float
    ) -> None:
        super().__init__()
        widths = [input_channels, *(channels * n for n in range(1, BLOCKS + 1))]
        self.blocks = nn.Sequential()
        for number in range(BLOCKS):
            self.blocks.append(Block(widths[number], widths[number + 1]))
            if ablation == "full":
                self.blocks.append(SpectroTemporalChannelAttention(widths[number + 1], gate_kernel))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], emotions)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of segments or whole utterances."""
        pooled_BC = self.blocks(x).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(pooled_BC))
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why ``settings`` cannot be built, in words."""
    found = range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, any_channels=True)
    if found:
        return found
    least = 2**BLOCKS
    found = [
        f"{name}: {settings[name]} leaves nothing after {BLOCKS} poolings; legal: at least {least}"
        for name in ("n_mels", "segment_frames")
        if int(settings[name]) < least
    ]
    return found + (odd_problems("gate_kernel", int(settings["gate_kernel"])) if ablation == "full" else [])


MAPS = {"frequency_gate": ("f", "Frequency gate"), "time_gate": ("t", "Time gate")}
"""Parts with attention by their name in the last block: the map's short name and its title."""


def attention_maps(module: nn.Module, x: Tensor, settings: Mapping[str, Value]) -> dict[str, AttentionMap]:
    """Return the frequency and the time gate of the last block; none of the ablation without attention."""
    assert isinstance(module, SpectroTemporalChannelNetwork)
    last = module.blocks[-1]
    if not isinstance(last, SpectroTemporalChannelAttention):
        return {}
    seen: dict[str, np.ndarray] = {}
    with ExitStack() as hooks:
        for name in MAPS:
            keep = lambda _, inputs, out, name=name: seen.update({name: out.double().cpu().numpy()})  # noqa: E731
            hooks.enter_context(getattr(last, name).register_forward_hook(keep))
        module(x)
    found = {}
    for axis, (name, (short, title)) in zip((2, 3), MAPS.items(), strict=True):
        groups = np.minimum(np.arange(x.shape[axis]) // 2**BLOCKS, seen[name].shape[1] - 1)
        along = seen[name][:, groups]
        cells = along[:, :, None] if axis == 2 else along[:, None, :]
        found[name] = AttentionMap(
            short=short,
            title=title,
            unit="weight (0 to 1)",
            cells=np.broadcast_to(cells, (len(x), *x.shape[2:])),
            weights=seen[name],
        )
    return found


MODEL = Network(
    name="stc_attention",
    title="STC-Attention (re-run, from the abstract)",
    reruns=("STC-Attention",),
    ablations=ABLATIONS,
    parts={"full": {"attention": True}, "no-attention": {"attention": False}},
    cost={"full": 0.4, "no-attention": 0.3},
    hyperparameters=HYPERPARAMETERS,
    published={"segment_frames": 200, "batch_size": 32},
    ours={
        "epochs": "the abstract states none",
        "segment_frames": "the abstract states none",
        "learning_rate": "the abstract states none",
        "batch_size": "the abstract states none",
        "channels": "the abstract states none",
        "gate_kernel": "the abstract states none",
        "dropout": "the abstract states none",
    },
    problems=problems,
    epochs_where_silent=60,
    build=builder("stc_attention", SpectroTemporalChannelNetwork, HYPERPARAMETERS, problems, sizes=("input_channels",)),
    attention=Attention(maps=attention_maps, ablations=("full",)),
    any_length=True,
)
"""What tfser has to know of it."""
