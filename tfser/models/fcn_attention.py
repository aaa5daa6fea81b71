"""Fully convolutional network with attention over time-frequency positions, after Zhang et al. (2018), from scratch.

"Attention Based Fully Convolutional Network for Speech Emotion Recognition", APSIPA 2018. Of the paper only the
abstract could be read: a fully convolutional network takes speech of any length, attention says which time-frequency
regions matter, and weights pretrained on natural images help. The layers are those of two independent
re-implementations that agree with each other.

Axes: B batch, F bands (200), T frames (300 in training, any number at test), L = F' T' positions (5 x 8), C channels
(256), K emotions.

    a   = convolutions of AlexNet, no FC         B 1 F T -> B C F' T', as L annotation vectors
    e_i = u . tanh(W a_i + b)                    B L, W of C x C
    w   = softmax over the positions of 0.3 e    B L
    c   = sum of w_i a_i                         B C
    logits = FC(c)                               B K

For one channel and four emotions it has 3,791,044 parameters.

The gap that matters: the paper's best row starts from ImageNet weights, which cannot be had here. This network starts
from scratch, and its title says so.

Ours:
    - The input: log magnitudes from 0 to 4 kHz with a window of 40 ms, as in the papers of the time.
    - Training on segments of 3 s, and the whole utterance in one pass at test (utterance rule ``whole``). An utterance
      shorter than a segment is repeated.
    - Learning rate, batch size, epochs and dropout (before FC) are those of a re-implementation.
    - ``normalisation`` ``batch`` has batch normalisation after each convolution, as in that re-implementation.
      ``response`` is AlexNet's own.
    - ``channels`` scales all convolutions; 96 is AlexNet.

Every setting is fixed or searched by Optuna; nothing is chosen in the training. The attention map has the weight w of
the position whose field of view has its centre nearest to a cell, times L: 1 if all positions weigh the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from tfser.features.spectrogram import Spectrogram
from tfser.models.alexnet import NORMALISATIONS, AlexNetConvolutions, smallest
from tfser.models.base import Attention, AttentionMap, Network, builder
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("full", "no-attention")
"""The second has the mean over the positions in place of the attention."""

KERNEL, STRIDE = 11, 4
"""Of the first convolution, along both axes."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "channels": Hyperparameter(
        default=96, low=3, high=192, help="channels of the first convolution; the others keep AlexNet's proportions"
    ),
    "normalisation": Hyperparameter(
        default="response",
        choices=NORMALISATIONS,
        help="AlexNet's local response normalisation, or batch normalisation after each convolution",
    ),
    "attention_scale": Hyperparameter(
        default=0.3, low=0.0, high=10.0, help="factor of the scores in the softmax over positions; 0 is the mean"
    ),
    "dropout": Hyperparameter(default=0.2, low=0.0, high=0.9, help="probability, before the classifier"),
}


class PositionAttention(nn.Module):
    """Weighted mean over positions: a_BLC -> (B, C).

    Args:
        width: C.
        scale: factor of the scores in the softmax.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def weights(self, a_BLC: Tensor) -> Tensor:
        """Return the weight of each position, (B, L); they add up to 1."""
        e_BL: Tensor = self.score(self.hidden(a_BLC).tanh()).squeeze(-1)
        return (self.scale * e_BL).softmax(dim=1)

    def forward(self, a_BLC: Tensor) -> Tensor:
        """Attend."""
        return (self.weights(a_BLC)[:, None] @ a_BLC).squeeze(1)


class FullyConvolutionalNetwork(nn.Module):
    """The network: x (B, channels of the input, F, T) -> logits (B, emotions); F and T at least 67.

    Args:
        ablation: one of ``ABLATIONS``.
        emotions: number of classes.
        input_channels: channels of the input.
        channels: after the first convolution.
        normalisation: one of ``NORMALISATIONS``.
        attention_scale: factor of the scores in the softmax.
        dropout: probability, 0 to below 1.
    """

    def __init__(
        self,
        *,
        ablation: str,
        emotions: int,
        input_channels: int,
        channels: int,
        normalisation: str,
        attention_scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.encoder = AlexNetConvolutions(input_channels, channels, KERNEL, STRIDE, normalisation)
        width = self.encoder.out_channels
        if ablation == "full":
            self.attention = PositionAttention(width, attention_scale)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, emotions)

    def annotations(self, x: Tensor) -> Tensor:
        """Return the annotation vectors of segments, (B, F', T', C)."""
        a_BCFT: Tensor = self.encoder(x)
        return a_BCFT.permute(0, 2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of segments or whole utterances."""
        a_BLC = self.annotations(x).flatten(1, 2)
        c_BC = self.attention(a_BLC) if hasattr(self, "attention") else a_BLC.mean(dim=1)
        logits: Tensor = self.classifier(self.dropout(c_BC))
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why ``settings`` cannot be built, in words."""
    found = range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, sizes=("segment_frames",), any_channels=True)
    if found:
        return found
    least = smallest(KERNEL, STRIDE)
    if int(settings["segment_frames"]) < least:
        found.append(f"segment_frames: {settings['segment_frames']} leaves no position; legal: at least {least}")
    bands = Spectrogram.of(settings).bands
    if bands < least:
        found.append(
            f"fft {settings['fft']} and top_hz {settings['top_hz']:g} give {bands} bands, which leave no position; "
            f"legal: at least {least}"
        )
    return found


def nearest(size: int, count: int) -> np.ndarray:
    """Return the position whose centre is nearest to each of ``size`` cells: int64, shape (size,).

    Three poolings and the first convolution move a position by 32 cells; the first is centred on cell 33.
    """
    return np.clip(np.rint((np.arange(size) - 33) / 32).astype(np.int64), 0, count - 1)


def attention_maps(module: nn.Module, x: Tensor, settings: Mapping[str, Value]) -> dict[str, AttentionMap]:
    """Return the weight of every position of every segment; none of the ablation without attention."""
    if not isinstance(module, FullyConvolutionalNetwork) or not hasattr(module, "attention"):
        return {}
    a_BFTC = module.annotations(x)
    bands, frames = a_BFTC.shape[1:3]
    assert isinstance(module.attention, PositionAttention)
    w_BL = module.attention.weights(a_BFTC.flatten(1, 2))
    w_BFT = w_BL.view(-1, bands, frames).double().cpu().numpy()
    cells = bands * frames * w_BFT[:, nearest(x.shape[2], bands)][:, :, nearest(x.shape[3], frames)]
    return {
        "attention": AttentionMap(
            short="tf", title="Attention", unit="weight (1 if all positions weigh the same)", cells=cells, weights=w_BFT
        )
    }


MODEL = Network(
    name="fcn_attention",
    title="FCN+Attention (re-run, from scratch)",
    reruns=("FCN+Attention Model",),
    features="spectrogram",
    ablations=ABLATIONS,
    parts={"full": {"attention": True}, "no-attention": {"attention": False}},
    cost={"full": 1.2, "no-attention": 1.2},
    hyperparameters=HYPERPARAMETERS,
    published={"segment_frames": 300, "utterance_rule": "whole", "learning_rate": 0.0001, "batch_size": 32},
    ours={
        "epochs": "the paper's text could not be had; a re-implementation trains 200",
        "segment_frames": "the paper takes utterances of any length; 3 s fit into a batch",
        "learning_rate": "the paper's text could not be had; a re-implementation has 0.0001",
        "batch_size": "the paper's text could not be had; a re-implementation has 32",
        "dropout": "the paper's text could not be had; a re-implementation has 0.2",
        "normalisation": "AlexNet's own",
    },
    problems=problems,
    epochs_where_silent=200,
    build=builder("fcn_attention", FullyConvolutionalNetwork, HYPERPARAMETERS, problems, sizes=("input_channels",)),
    attention=Attention(maps=attention_maps, ablations=("full",), lacking="the mean over the positions"),
    any_length=True,
)
"""What tfser has to know of it."""
