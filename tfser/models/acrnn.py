"""Attention-based convolutional recurrent network (ACRNN), after Chen, He, Yang and Zhang (2018).

"3-D Convolutional Recurrent Neural Networks with Attention Model for Speech Emotion Recognition", IEEE Signal
Processing Letters. The paper was read in full, and its authors' code beside it.

Axes: B batch, C channels of the input (static, deltas, delta-deltas), F mel bands (40), T frames (300), M feature maps
(128, then 256), L linear units (768), H hidden units (128).

    x       B C F T                       "3-D": C = 3; "2-D": the static channel alone
    conv    B 128 F T                     5 frames x 3 bands, leaky ReLU
    pool    B 128 F/2 T/2                 the largest of 2 x 2
    convs   B 256 F/2 T/2                 ``conv_layers`` - 1 of them, as the first
    linear  B T/2 768                     each step's maps and bands to 768, batch normalisation, leaky ReLU
    h       B T/2 2H                      Bi-LSTM
    a_t     softmax over t of W h_t       the attention; c = sum over t of a_t h_t, B 2H
    logits  FC(BN(FC(c)))                 64 units with batch normalisation and leaky ReLU, then B emotions

An utterance's score is the largest of each emotion over its segments (``utterance_rule`` ``maximum``). Its segments are
3 s long and do not overlap; the last one ends with the utterance.

Parameters with 4 emotions: 9,301,956 (3-D, six convolutions), 2,910,916 (3-D, one), 9,298,116 (2-D, six); 7,335,876
with ``pool_bands=4``.

The paper's figures for one convolution are within 1.3 points of the best depth, at a fifteenth of the cost:
``conv_layers=1`` is what a CPU can train. Six are its best on IEMOCAP, five on EmoDB.

Settings are chosen by Optuna (``search_spaces/acrnn.yaml``); nothing is chosen inside the training.

Where paper and code differ, this follows the paper: pooling of 2 x 2 (the code: 4 bands x 2 frames, ``pool_bands=4``),
learning rate 1e-4 (1e-5), batches of 40 (60), Adam with Nesterov momentum (Adam), maximum of the probabilities (of the
logits), batch normalisation of the 64 units (none). Taken from the code, where the paper is silent: the slope of 0.01
of the leaky ReLU, and batch normalisation after the linear layer.

Ours, and gaps:
    - A segment that is longer than its utterance is filled by repeating the utterance, as everywhere in tfser; the
      paper pads with zeros.
    - The paper gives each waveform mean 0 and deviation 1 before the mel bands. tfser does not: the loudness of a
      recording stays in its frames. ``standardisation=utterance`` takes it out of them.
    - Each band is standardised with its own mean and deviation over the training utterances; the paper says global
      mean and deviation.
    - Batch normalisation keeps running statistics for scoring; the code uses those of the test batch.
    - Pooling keeps a last patch that is not full, so that no segment is too short.
    - Epochs: the paper takes the best of a validation speaker and does not say how many there were.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from tfser.models.base import Network, builder
from tfser.models.layers import Recurrence, pooled, pooled_size
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("3-D", "2-D")
"""With deltas and delta-deltas, and without; the paper compares both."""

KERNEL = (3, 5)
"""Bands and frames of every convolution."""

SLOPE = 0.01
"""Of the leaky ReLU below 0."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "conv_layers": Hyperparameter(default=6, low=1, high=8, help="convolutions; 1 costs a fifteenth of 6"),
    "first_maps": Hyperparameter(default=128, low=1, high=1024, help="feature maps of the first convolution"),
    "maps": Hyperparameter(default=256, low=1, high=1024, help="feature maps of the other convolutions"),
    "pool_bands": Hyperparameter(
        default=2, low=1, high=16, help="mel bands that are pooled after the first convolution (the authors' code: 4)"
    ),
    "linear": Hyperparameter(default=768, low=1, high=4096, help="units of the linear layer before the Bi-LSTM"),
    "lstm_hidden": Hyperparameter(default=128, low=1, high=1024, help="hidden units of the Bi-LSTM, each direction"),
    "hidden": Hyperparameter(default=64, low=1, high=1024, help="units of the fully connected layer after it"),
}


class Acrnn(nn.Module):
    """The network of the module's docstring: x (B, C, F, T) -> logits (B, emotions).

    Args:
        ablation: one of ``ABLATIONS``.
        emotions: number of logits.
        input_channels: C; 2-D reads the first.
        input_bands: F.
        conv_layers: convolutions, from 1.
        first_maps: feature maps of the first.
        maps: feature maps of the others.
        pool_bands: mel bands that are pooled after the first.
        linear: L.
        lstm_hidden: H.
        hidden: units of the fully connected layer.
    """

    def __init__(
        self,
        *,
        ablation: str = ABLATIONS[0],
        emotions: int,
        input_channels: int = 3,
        input_bands: int = 40,
        conv_layers: int = 6,
        first_maps: int = 128,
        maps: int = 256,
        pool_bands: int = 2,
        linear: int = 768,
        lstm_hidden: int = 128,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.channels = 1 if ablation == "2-D" else input_channels
        self.pool_bands = pool_bands
        widths = [self.channels, first_maps, *[maps] * (conv_layers - 1)]
        padding = (KERNEL[0] // 2, KERNEL[1] // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, wider, KERNEL, padding=padding)
            for width, wider in zip(widths[:-1], widths[1:], strict=True)
        )
        self.linear = nn.Linear(widths[-1] * pooled_size(input_bands, pool_bands), linear)
        self.linear_norm = nn.BatchNorm1d(linear)
        self.recurrence = Recurrence(nn.LSTM, linear, lstm_hidden)
        self.attention = nn.Linear(2 * lstm_hidden, 1, bias=False)  # a bias would cancel in the softmax
        self.hidden = nn.Linear(2 * lstm_hidden, hidden)
        self.hidden_norm = nn.BatchNorm1d(hidden)
        self.classifier = nn.Linear(hidden, emotions)

    def forward(self, x_BCFT: Tensor) -> Tensor:
        """Compute the logits of segments."""
        x = x_BCFT[:, : self.channels]
        for number, convolution in enumerate(self.convolutions):
            x = leaky_relu(convolution(x), SLOPE)
            if number == 0:
                x = pooled(x, self.pool_bands, 2)
        h_BTH = self.recurrence(self.steps(x))
        hidden_BE = leaky_relu(self.hidden_norm(self.hidden(self.attended(h_BTH))), SLOPE)
        logits: Tensor = self.classifier(hidden_BE)
        return logits

    def steps(self, x_BMFT: Tensor) -> Tensor:
        """Apply the linear layer to each step's maps and bands: (B, T, L)."""
        segments, frames = x_BMFT.shape[0], x_BMFT.shape[3]
        x_NE = x_BMFT.permute(0, 3, 1, 2).reshape(segments * frames, -1)
        return leaky_relu(self.linear_norm(self.linear(x_NE)), SLOPE).view(segments, frames, -1)

    def attended(self, h_BTH: Tensor) -> Tensor:
        """Return the sum of the steps, weighted by the attention: (B, 2 H)."""
        weights_BT1 = self.attention(h_BTH).softmax(dim=1)
        return torch.sum(weights_BT1 * h_BTH, dim=1)


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings cannot be built, in words."""
    found = range_problems(
        ABLATIONS, HYPERPARAMETERS, ablation, settings, sizes=("n_mels", "segment_frames"), any_channels=True
    )
    if ablation == "3-D" and settings.get("deltas") != 2:
        found.append(
            f"deltas: {settings.get('deltas')!r} does not give the three channels of 3-D (static, deltas, "
            "delta-deltas); legal: 2, or --ablation 2-D"
        )
    return found


MODEL = Network(
    name="acrnn",
    title="ACRNN (re-run)",
    ablations=ABLATIONS,
    parts={"3-D": {"deltas": True}, "2-D": {"deltas": False}},
    cost={"3-D": 25.0, "2-D": 25.0},
    hyperparameters=HYPERPARAMETERS,
    published={
        "n_mels": 40,
        "window_ms": 25.0,
        "deltas": 2,
        "segment_frames": 300,
        "learning_rate": 0.0001,
        "batch_size": 40,
        "optimizer": "nadam",
        "utterance_rule": "maximum",
    },
    ours={"epochs": "the paper takes the best on a validation speaker, of a number that it does not state"},
    problems=problems,
    epochs_where_silent=50,
    build=builder("acrnn", Acrnn, HYPERPARAMETERS, problems, sizes=("input_channels", "input_bands")),
)
"""What tfser has to know of it."""
