"""Sequential capsules beside a GRU (CNN-GRU-SeqCap), after Wu et al. (2019).

"Speech Emotion Recognition Using Capsule Networks", ICASSP 2019. The paper's text could not be had. This is after the
abstract of its longer version, a reader's notes of its equations, and implementations by others, which disagree with
each other in places.

Axes: B batch, F DFT points from 0 to 4 kHz (200, 20 Hz apart), T frames (200), N windows (9), P primary capsules (500),
K emotions, H hidden units (64).

    x       B 1 F T             log magnitudes, 40 ms Hamming window, every 10 ms
    maps    B 16 F/8 T/4        convolutions of 2 x 8 and of 8 x 2 (8 maps each, side by side), 5 x 5, 5 x 5; ReLU and
                                pooling after each: 2 x 2, 2 x 2, and 2 bands
    u       B N P 8             windows of 40 frames, every 20 frames; the maps of a window as vectors of 8, squashed
    v_k     B N K 8             routing: a capsule per emotion and window
    o       B N 9K              all v_k and their lengths
    w_k     B K 16              routing over the windows: a capsule per emotion, with a matrix per window
    p_c     softmax(FC(w))      the capsules' probabilities
    p_g     softmax(FC(dropout(ReLU(FC(h))))), h B 2H the last states of a Bi-GRU over the T/4 steps of the maps
    logits  log(0.6 p_c + 0.4 p_g)

Routing (Sabour, Frosst and Hinton 2017) from u_i to v_j, three times: c_i = softmax over j of b_i, s_j = sum over i of
c_ij u_i W_ij, v_j = s_j |s_j| / (1 + |s_j|^2), b_ij grows by v_j . u_i W_ij; b begins at 0.

Ablations: "CNN-GRU" is all of it; "CNN" has the capsules alone, p_c.

Parameters with 4 emotions: 349,560 (CNN-GRU), 162,100 (CNN).

Settings are chosen by Optuna (``search_spaces/seqcap.yaml``); nothing is chosen inside the training.

Ours, and gaps:
    - Which pooling there is: 2 x 2, 2 x 2 and 2 bands x 1 frame, so that a window of 40 frames and a shift of 20 are
      whole numbers of steps. It keeps a last patch that is not full. A window is no longer than its segment, and steps
      that fill no further window are left out of the capsules.
    - Primary capsules are the 16 maps of each cell, as two vectors of 8.
    - Both branches are trained at once, by the cross-entropy of their mixture, which is also what scores.
    - No gradient passes through c. The matrices begin with a deviation of K / sqrt(P), so that capsules of any number
      and size have a length that can be learned from; with Xavier's, those of a narrow network begin near 0.
    - The paper also has a recurrent form, which adds a linear term of o of the window before to each window's
      predictions. It is not built.
    - Segments are 2 s long and begin every second, in training and in test; the mean of their probabilities is the
      utterance's.
    - The learning rate stays as it is. One implementation lowers it in steps from 1e-3 to 1e-4 as the loss falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tfser.models.base import Network, builder
from tfser.models.layers import Recurrence, last_states, pooled, pooled_size, same_convolution
from tfser.models.settings import range_problems
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("CNN-GRU", "CNN")
"""With the GRU beside the capsules, and without."""

PRIMARY = 8
"""Values of a primary capsule."""

POOLS = ((2, 2), (2, 2), (2, 1))
"""Bands and frames that are pooled after each layer of convolutions."""

WINDOW, SHIFT = 10, 5
"""Length and shift of the windows, steps of four frames."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "first_maps": Hyperparameter(default=8, low=1, high=128, help="feature maps of each of the two first convolutions"),
    "maps": Hyperparameter(
        default=16, low=8, high=256, help="feature maps of the other convolutions, a multiple of 8 (a primary capsule)"
    ),
    "window_capsule": Hyperparameter(default=8, low=1, high=64, help="values of an emotion's capsule of a window"),
    "capsule": Hyperparameter(default=16, low=1, high=128, help="values of an emotion's capsule of the segment"),
    "routings": Hyperparameter(default=3, low=1, high=10, help="iterations of routing"),
    "gru_hidden": Hyperparameter(default=64, low=1, high=1024, help="hidden units of the Bi-GRU, each direction"),
    "hidden": Hyperparameter(default=64, low=1, high=1024, help="units of the fully connected layer after it"),
    "dropout": Hyperparameter(default=0.5, low=0.0, high=0.9, help="probability, on those units"),
    "capsule_share": Hyperparameter(
        default=0.6, low=0.05, high=0.95, help="share of the capsules in the probabilities; the rest is the GRU's"
    ),
}


def squashed(s: Tensor) -> Tensor:
    """Shorten vectors of the last axis to a length below 1, and keep their direction."""
    square = s.square().sum(dim=-1, keepdim=True)
    return s * (square / (1 + square) / (square + 1e-8).sqrt())


class Routing(nn.Module):
    """Route capsules by agreement: u_RPI -> (R, K, D), with R independent rows.

    Args:
        inputs: P, capsules.
        width: I, values of each.
        outputs: K, capsules.
        values: D, values of each.
        iterations: of routing.
    """

    def __init__(self, inputs: int, width: int, outputs: int, values: int, iterations: int) -> None:
        super().__init__()
        self.outputs, self.iterations = outputs, iterations
        # Deviation K / sqrt(P): the sum of P inputs, of which each gives a K-th, is as long as they are.
        bound = math.sqrt(3 / inputs) * outputs
        self.weight = nn.Parameter(torch.empty(inputs, width, outputs * values).uniform_(-bound, bound))

    def forward(self, u_RPI: Tensor) -> Tensor:
        """Compute the capsules that the inputs agree on."""
        predicted_PRE = u_RPI.transpose(0, 1) @ self.weight  # E = K D
        predicted_RPKD = predicted_PRE.transpose(0, 1).reshape(*u_RPI.shape[:2], self.outputs, -1)
        fixed_RPKD = predicted_RPKD.detach()
        b_RPK = torch.zeros_like(fixed_RPKD[..., 0])
        for _ in range(self.iterations - 1):
            v_RKD = squashed((b_RPK.softmax(dim=2)[..., None] * fixed_RPKD).sum(dim=1))
            b_RPK = b_RPK + (fixed_RPKD * v_RKD[:, None]).sum(dim=3)
        return squashed((b_RPK.softmax(dim=2)[..., None] * predicted_RPKD).sum(dim=1))


class SeqCap(nn.Module):
    """The network of the module's docstring: x (B, C, F, T) -> logits (B, emotions).

    Args:
        ablation: one of ``ABLATIONS``.
        emotions: K.
        input_channels: channels of x.
        input_bands: F.
        segment_frames: T.
        first_maps: feature maps of each of the two first convolutions.
        maps: of the others.
        window_capsule: values of an emotion's capsule of a window.
        capsule: values of an emotion's capsule of the segment.
        routings: iterations.
        gru_hidden: H.
        hidden: units after the Bi-GRU.
        dropout: probability on them, 0 to below 1.
        capsule_share: share of the capsules in the probabilities.
    """

    def __init__(
        self,
        *,
        ablation: str = ABLATIONS[0],
        emotions: int,
        input_channels: int = 1,
        input_bands: int = 200,
        segment_frames: int = 200,
        first_maps: int = 8,
        maps: int = 16,
        window_capsule: int = 8,
        capsule: int = 16,
        routings: int = 3,
        gru_hidden: int = 64,
        hidden: int = 64,
        dropout: float = 0.5,
        capsule_share: float = 0.6,
    ) -> None:
        super().__init__()
        self.capsule_share = capsule_share
        self.wide = same_convolution(input_channels, first_maps, (2, 8))
        self.high = same_convolution(input_channels, first_maps, (8, 2))
        self.second = same_convolution(2 * first_maps, maps, (5, 5))
        self.third = same_convolution(maps, maps, (5, 5))
        bands, steps = input_bands, segment_frames
        for high, wide in POOLS:
            bands, steps = pooled_size(bands, high), pooled_size(steps, wide)
        self.window = min(WINDOW, steps)
        self.starts = range(0, steps - self.window + 1, SHIFT)
        primary = maps // PRIMARY * bands * self.window
        self.of_windows = Routing(primary, PRIMARY, emotions, window_capsule, routings)
        self.of_segment = Routing(len(self.starts), emotions * (window_capsule + 1), emotions, capsule, routings)
        self.classifier = nn.Linear(emotions * capsule, emotions)
        self.has_gru = ablation == "CNN-GRU"
        if self.has_gru:
            self.recurrence = Recurrence(nn.GRU, maps * bands, gru_hidden)
            self.hidden = nn.Linear(2 * gru_hidden, hidden)
            self.dropout = nn.Dropout(dropout)
            self.gru_classifier = nn.Linear(hidden, emotions)

    def forward(self, x_BCFT: Tensor) -> Tensor:
        """Compute the logits of segments."""
        maps_BMFT = self.maps(x_BCFT)
        capsules: Tensor = self.classifier(self.capsules(maps_BMFT).flatten(1))
        if not self.has_gru:
            return capsules
        h_BE = last_states(self.recurrence(maps_BMFT.permute(0, 3, 1, 2).flatten(2)))
        gru = self.gru_classifier(self.dropout(self.hidden(h_BE).relu()))
        return torch.logaddexp(
            capsules.log_softmax(dim=1) + math.log(self.capsule_share),
            gru.log_softmax(dim=1) + math.log(1 - self.capsule_share),
        )

    def maps(self, x_BCFT: Tensor) -> Tensor:
        """Convolve: (B, M, F / 8, T / 4)."""
        x = pooled(torch.cat([self.wide(x_BCFT), self.high(x_BCFT)], dim=1).relu(), *POOLS[0])
        x = pooled(self.second(x).relu(), *POOLS[1])
        return pooled(self.third(x).relu(), *POOLS[2])

    def capsules(self, maps_BMFT: Tensor) -> Tensor:
        """Return the capsules of segments, one per emotion: (B, K, D)."""
        windows = [maps_BMFT[..., start : start + self.window] for start in self.starts]
        stacked_BNMFT = torch.stack(windows, dim=1)
        segments, count, maps = stacked_BNMFT.shape[:3]
        cells_RGIC = stacked_BNMFT.reshape(segments * count, maps // PRIMARY, PRIMARY, -1)
        v_RKD = self.of_windows(squashed(cells_RGIC.transpose(2, 3).flatten(1, 2)))
        lengths_RK = (v_RKD.square().sum(dim=2) + 1e-8).sqrt()
        o_RO = torch.cat([v_RKD.flatten(1), lengths_RK], dim=1)
        segment_BKD: Tensor = self.of_segment(o_RO.view(segments, count, -1))
        return segment_BKD


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings cannot be built, in words."""
    found = range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings, sizes=("segment_frames",))
    if not found and int(settings["maps"]) % PRIMARY:
        found.append(f"maps: {settings['maps']} is no multiple of {PRIMARY}, the values of a primary capsule")
    return found


MODEL = Network(
    name="seqcap",
    title="SeqCap (re-run)",
    reruns=("CNN_GRU-SeqCap", "GRU-CNN-SeqCap"),
    ablations=ABLATIONS,
    features="spectrogram",
    parts={"CNN-GRU": {"gru": True}, "CNN": {"gru": False}},
    cost={"CNN-GRU": 1.0, "CNN": 1.0},
    hyperparameters=HYPERPARAMETERS,
    published={"segment_frames": 200, "segment_hop": 100, "batch_size": 16},
    ours={
        "epochs": "the paper's text could not be had; an implementation by others has 20",
        "segment_frames": "the paper's text could not be had; about 2 s in implementations by others",
        "segment_hop": "the paper's text could not be had",
        "window_capsule": "the paper's text could not be had; 8, as a primary capsule",
    },
    problems=problems,
    epochs_where_silent=20,
    build=builder(
        "seqcap", SeqCap, HYPERPARAMETERS, problems, sizes=("input_channels", "input_bands", "segment_frames")
    ),
)
"""What tfser has to know of it."""
