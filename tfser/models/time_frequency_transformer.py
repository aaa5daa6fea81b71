"""Time-Frequency Transformer, after Wang et al. (2023).

"Time-Frequency Transformer: A Novel Time Frequency Joint Learning Method for Speech Emotion Recognition", section 2.

Axes: B batch, C channels (64), F mel bands (80), D frames (80), f = F / 4 and d = D / 4 (20, 20).

    x^'  = Act(BN(C_t(Act(BN(C_t(x))))))    B C f D    time encoder, one frame at a time              (1)
    s^'  = mean of x^' over C, transposed   B D f
    m    = LN(MSA(s^') + s^')               B D f      D tokens of width f                            (2)
    q^   = LN(MLP(m) + m)                   B D f                                                     (3)
    x^'' = Act(BN(C_f(Act(BN(C_f(x))))))    B C F d    frequency encoder, one band at a time          (4)
    s^'' = mean of x^'' over C              B F d
    n    = LN(MSA(s^'') + s^'')             B F d      F tokens of width d                            (5)
    k^   = LN(MLP(n) + n)                   B F d                                                     (6)
    x^   = Act(BN(C(Act(BN(C(x))))))        B C f d    time-frequency encoder                         (7)
    v    = mean of x^ over C                B f d
    q, k = linear maps of q^, k^            B f d
    p    = LN(MA(q, k, v) + v)              B f d      f tokens of width d                            (8)
    y    = LN(MLP(p) + p)                   B f d                                                     (9)
    y^   = [mean, standard deviation] of y over f, B 2d                                               (10)
    y^'  = FC(y^)                           B emotions                                                (11)

Numbers are the paper's, and the defaults are those of its tables 2 and 3. (12) and (13), softmax and cross-entropy,
belong to the training: this module returns the logits of (11).

Ours, where the paper is silent or not exact; docs/readings.md has what was measured of the switches:
    - C_t, C_f and C stand for two different convolutions each, without bias (the batch normalisation that
      follows would subtract it). Padding is (kernel - 1) / 2, as in table 2, so that two strides of 2
      leave ceil(F / 4) bands and ceil(D / 4) frames of any F and D.
    - The linear maps act over the axis that must shrink: q over the frames of q^ (D -> d), k over the
      bands of k^ (F -> f).
    - The ablations of table 5, which the paper does not draw. T+TF uses v in place of k, F+TF in place of q. A part
      that an ablation lacks is not created.
    - T+F has no y to pool. ``pooling`` ``apart`` pools each of q and k as in (10) and concatenates the results: FC is
      80 wide. ``together`` pools them as one set of 2 f tokens, which leaves the 40-wide FC of (11) as it is.
      In small trainings on EmoDB, ``together`` scored 7.7 points of UAR less, in 5 of 5 folds, and so gave the paper's
      order of ablations, in which T+F is the worst. The text says of T+F only that TF-Trans is removed, and an order
      of results is no description of a classifier. So the default is ``apart``: ``together`` mixes tokens of two kinds
      in one mean, which takes more from T+F than the missing attention, and would flatter the part under test.
    - With several Time-Frequency layers (the paper has one), each takes the output of the one before it as v, and the
      same q and k.
    - The biased standard deviation in (10) (``deviation`` chooses), ReLU in the MLPs, and where dropout acts: see
      ``layers``.
    - Attention maps: the paper does not say how its figure 3 was computed. Ours shows the attention that a token
      receives: its softmax weight, averaged over the heads and over the attending tokens, times the number of tokens.
      It is 1 if all tokens are attended to alike. T-Attention is that of the last Time Transformer layer (2), one
      value per frame; F-Attention that of the last Frequency Transformer layer (5), one value per band. TF-Attention
      is that of the last Time-Frequency Transformer layer (8), whose tokens are groups of bands. It is multiplied by
      the magnitude of the values v, which are groups of frames: one value per patch of f x d.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import relu

from tfser.models.base import Attention, AttentionMap, Network, builder
from tfser.models.layers import DEVIATIONS, SMALLEST_WIDTH, EncoderLayer, MultiHeadAttention, mean_and_deviation, mlp
from tfser.models.settings import divisor_problems, odd_problems, range_problems
from tfser.models.stacked import Form, OneByOne, StackedLayer, StackedModel
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("T+F+TF", "T+F", "T+TF", "F+TF")
"""Names of the ablations, after the parts that remain; the full model first (table 5)."""

POOLINGS = ("apart", "together")
"""How T+F can pool q and k: each by itself, or as one set of tokens."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "channels": Hyperparameter(default=64, low=1, high=1024, help="output channels of every convolution (table 2)"),
    "kernel": Hyperparameter(
        default=5, low=1, high=31, help="convolution kernel along the strided axes, odd, cells (table 2)"
    ),
    "stride": Hyperparameter(
        default=2, low=1, high=8, help="stride of every convolution, cells; an encoder applies it twice (table 2)"
    ),
    "time_layers": Hyperparameter(default=1, low=1, high=12, help="encoder layers of the Time Transformer"),
    "frequency_layers": Hyperparameter(default=1, low=1, high=12, help="encoder layers of the Frequency Transformer"),
    "time_frequency_layers": Hyperparameter(
        default=1, low=1, high=12, help="encoder layers of the Time-Frequency Transformer"
    ),
    "time_heads": Hyperparameter(
        default=2, low=1, high=64, help="heads of the Time Transformer, a divisor of n_mels / 4 (table 3)"
    ),
    "frequency_heads": Hyperparameter(
        default=2, low=1, high=64, help="heads of the Frequency Transformer, a divisor of segment_frames / 4 (table 3)"
    ),
    "time_frequency_heads": Hyperparameter(
        default=4,
        low=1,
        high=64,
        help="heads of the Time-Frequency Transformer, a divisor of segment_frames / 4 (table 3)",
    ),
    "feed_forward": Hyperparameter(
        default=512, low=1, high=8192, help="MLP width of the Time and the Frequency Transformer (table 3)"
    ),
    "time_frequency_feed_forward": Hyperparameter(
        default=1024, low=1, high=8192, help="MLP width of the Time-Frequency Transformer (table 3)"
    ),
    "dropout": Hyperparameter(
        default=0.0, low=0.0, high=0.9, help="probability, on the output of every sub-layer (not in the paper)"
    ),
    "pooling": Hyperparameter(
        default="apart",
        implied="apart",
        choices=POOLINGS,
        help="how T+F pools the outputs of both Transformers: each apart, or as one set of tokens (not in the paper)",
    ),
    "deviation": Hyperparameter(
        default="biased",
        implied="biased",
        choices=DEVIATIONS,
        help="standard deviation of the pooling: divided by the number of tokens, or by one less (not in the paper)",
    ),
}


CPU_CHANNELS = 8
"""Fewest channels for which a CPU convolves an encoder's members one by one.

Its kernels for that many channels are faster than those for groups (``python -m tfser.benchmark --only fused``).
"""


def shrunk(size: int, stride: int) -> int:
    """Return how many of ``size`` cells two strided convolutions leave: ceil(size / stride^2), 80 -> 20."""
    return -(-size // stride**2)


class Encoder(nn.Module):
    """(1), (4) or (7): x_B1FD -> (B, f or F, d or D), including the mean over the channels.

    Args:
        channels: C, output channels of both convolutions.
        kernel: (along frequency, along time), odd.
        stride: (along frequency, along time).

    Raises:
        ValueError: if a kernel is even.
    """

    def __init__(self, channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        if not (kernel[0] % 2 and kernel[1] % 2):
            raise ValueError(f"kernel: {kernel} has an even size, which cannot be padded alike on both sides")
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_1 = nn.Conv2d(1, channels, kernel, stride, padding, bias=False)
        self.norm_1 = nn.BatchNorm2d(channels)
        self.conv_2 = nn.Conv2d(channels, channels, kernel, stride, padding, bias=False)
        self.norm_2 = nn.BatchNorm2d(channels)

    def forward(self, x_B1FD: Tensor) -> Tensor:
        """Encode, then average over the channels."""
        x_BCFD = relu(self.norm_1(self.conv_1(x_B1FD)), inplace=True)
        x_BCFD = relu(self.norm_2(self.conv_2(x_BCFD)), inplace=True)
        # A product with 1 / C instead of mean(dim=1), whose gradient is not channels_last in memory: one training step
        # is 10 % faster (torch 2.11, one CPU thread).
        mean_C = x_BCFD.new_full((x_BCFD.shape[1],), 1 / x_BCFD.shape[1])
        return x_BCFD.permute(0, 2, 3, 1) @ mean_C

    def stacked_form(self) -> Form:
        """Return how several encoders are computed as one."""
        return StackedEncoder if StackedEncoder.fits(self) else OneByOne


class StackedEncoder(StackedLayer):
    """``Encoder``, on a GPU or narrow: x (M B, 1, F, D) -> (M B, f or F, d or D).

    Inside, the members are groups of channels: (B, M C, F, D).
    """

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, Encoder)
        whole.wants(path)
        self.stride, self.padding = layer.conv_1.stride, layer.conv_1.padding
        self.norms = {"norm_1": layer.norm_1, "norm_2": layer.norm_2}

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Tell whether a layer can take this form."""
        if not isinstance(layer, Encoder):
            return False
        return layer.conv_1.weight.device.type != "cpu" or layer.conv_1.out_channels < CPU_CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """Encode, then average over each member's channels."""
        x_BMFD = x.view(self.whole.members, -1, *x.shape[2:]).transpose(0, 1)
        for convolution, norm in (("conv_1", "norm_1"), ("conv_2", "norm_2")):
            # (M C, channels of one member's input, ...)
            weight = self.parameter_of_all(f"{convolution}.weight").flatten(0, 1)
            x_BMFD = F.conv2d(x_BMFD, weight, None, self.stride, self.padding, groups=self.whole.members)
            x_BMFD = F.relu(self._normalised(x_BMFD, norm), inplace=True)
        means_BMfd = x_BMFD.view(len(x_BMFD), self.whole.members, -1, *x_BMFD.shape[2:]).mean(dim=2)
        return means_BMfd.transpose(0, 1).flatten(0, 1)

    def _normalised(self, x_BMFD: Tensor, name: str) -> Tensor:
        """Apply M batch normalisations, each with the statistics of its own true rows."""
        layer = self.norms[name]
        assert layer.momentum is not None, "a cumulative average would need each member's number of batches"
        weight_MC, bias_MC = self.parameter_of_all(f"{name}.weight"), self.parameter_of_all(f"{name}.bias")
        mean_MC, variance_MC = (
            self.whole.stacked_buffer(f"{self.path}.{name}.running_{what}") for what in ("mean", "var")
        )
        self.whole.stacked_buffer(f"{self.path}.{name}.num_batches_tracked").add_(1)
        momentum, epsilon = layer.momentum, layer.eps
        if self.whole.rows is None:
            flat = (mean_MC.view(-1), variance_MC.view(-1), weight_MC.reshape(-1), bias_MC.reshape(-1))
            return F.batch_norm(x_BMFD, *flat, training=True, momentum=momentum, eps=epsilon)
        out = []
        members = zip(
            x_BMFD.chunk(self.whole.members, dim=1),
            mean_MC,
            variance_MC,
            weight_MC,
            bias_MC,
            self.whole.rows,
            strict=True,
        )
        for x_BCFD, mean, variance, weight, bias, rows in members:
            y_BCFD = F.batch_norm(
                x_BCFD[:rows], mean, variance, weight, bias, training=True, momentum=momentum, eps=epsilon
            )
            out.append(F.pad(y_BCFD, (0, 0, 0, 0, 0, 0, 0, len(x_BCFD) - rows)))
        return torch.cat(out, dim=1)


class Transformer(nn.Module):
    """Encoder layers in sequence: q_BSE, k_BSE, v_BSE -> (B, S, E).

    With one input, every layer is self-attention. With three, every layer has the same q and k, and the output of the
    layer before it as v.
    """

    def __init__(self, layers: int, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, mlp(width, feed_forward), dropout) for _ in range(layers)
        )

    def forward(self, q_BSE: Tensor, k_BSE: Tensor | None = None, v_BSE: Tensor | None = None) -> Tensor:
        """Apply (2)-(3) or (5)-(6) with one argument, (8)-(9) with three."""
        if k_BSE is None or v_BSE is None:
            for layer in self.layers:
                q_BSE = layer(q_BSE, q_BSE, q_BSE)
            return q_BSE
        for layer in self.layers:
            v_BSE = layer(q_BSE, k_BSE, v_BSE)
        return v_BSE


class TimeFrequencyTransformer(nn.Module):
    """The model and its ablations: x_B1FD float -> logits (B, emotions).

    Args:
        emotions: number of classes.
        n_mels: F, mel bands, more than twice ``stride`` squared.
        segment_frames: D, frames of a segment, more than twice ``stride`` squared.
        ablation: one of ``ABLATIONS``.
        channels: C of table 2.
        kernel: kernel of table 2, cells, odd.
        stride: stride of table 2, cells.
        time_layers: encoder layers of the Time Transformer.
        frequency_layers: encoder layers of the Frequency Transformer.
        time_frequency_layers: encoder layers of the Time-Frequency Transformer.
        time_heads: divides f, which is table 3's embed dimension here.
        frequency_heads: divides d.
        time_frequency_heads: divides d.
        feed_forward: MLP width of the Time and the Frequency Transformer.
        time_frequency_feed_forward: MLP width of the Time-Frequency Transformer.
        dropout: probability, 0 to below 1.
        pooling: one of ``POOLINGS``; without effect where there is a Time-Frequency Transformer.
        deviation: one of ``DEVIATIONS``.

    Raises:
        ValueError: for an unknown ablation or word, an even kernel, a size that leaves tokens too narrow, or heads that
            do not divide their token's width; ``problems`` lists all reasons beforehand.
    """

    def __init__(
        self,
        *,
        emotions: int,
        n_mels: int = 80,
        segment_frames: int = 80,
        ablation: str = "T+F+TF",
        channels: int = 64,
        kernel: int = 5,
        stride: int = 2,
        time_layers: int = 1,
        frequency_layers: int = 1,
        time_frequency_layers: int = 1,
        time_heads: int = 2,
        frequency_heads: int = 2,
        time_frequency_heads: int = 4,
        feed_forward: int = 512,
        time_frequency_feed_forward: int = 1024,
        dropout: float = 0.0,
        pooling: str = "apart",
        deviation: str = "biased",
    ) -> None:
        super().__init__()
        for name, word, known in (
            ("ablation", ablation, ABLATIONS),
            ("pooling", pooling, POOLINGS),
            ("deviation", deviation, DEVIATIONS),
        ):
            if word not in known:
                raise ValueError(f"{name}: no {word!r}; there are {', '.join(known)}")
        self.pooling, self.deviation = pooling, deviation
        bands, frames = shrunk(n_mels, stride), shrunk(segment_frames, stride)  # f, d
        if min(bands, frames) < SMALLEST_WIDTH:
            least = stride**2 * (SMALLEST_WIDTH - 1) + 1
            raise ValueError(f"n_mels {n_mels} and segment_frames {segment_frames} must be at least {least}")
        parts = ablation.split("+")
        self.has_time, self.has_frequency, self.has_time_frequency = (part in parts for part in ("T", "F", "TF"))
        if self.has_time:
            self.time_encoder = Encoder(channels, (kernel, 1), (stride, 1))  # C_t
            self.time_transformer = Transformer(time_layers, bands, time_heads, feed_forward, dropout)
            self.time_map = nn.Linear(segment_frames, frames)
        if self.has_frequency:
            self.frequency_encoder = Encoder(channels, (1, kernel), (1, stride))  # C_f
            self.frequency_transformer = Transformer(frequency_layers, frames, frequency_heads, feed_forward, dropout)
            self.frequency_map = nn.Linear(n_mels, bands)
        if self.has_time_frequency:
            self.time_frequency_encoder = Encoder(channels, (kernel, kernel), (stride, stride))  # C
            self.time_frequency_transformer = Transformer(
                time_frequency_layers, frames, time_frequency_heads, time_frequency_feed_forward, dropout
            )
        pooled = 1 if self.has_time_frequency or pooling == "together" else 2
        self.classifier = nn.Linear(pooled * 2 * frames, emotions)

    def time(self, x_B1FD: Tensor) -> Tensor:
        """Apply (1) to (3) and the linear map: q, (B, f, d)."""
        q_BDf = self.time_transformer(self.time_encoder(x_B1FD).mT)  # (1), (2), (3)
        q_Bfd: Tensor = self.time_map(q_BDf.mT)
        return q_Bfd

    def frequency(self, x_B1FD: Tensor) -> Tensor:
        """Apply (4) to (6) and the linear map: k, (B, f, d)."""
        k_BFd = self.frequency_transformer(self.frequency_encoder(x_B1FD))  # (4), (5), (6)
        k_Bdf: Tensor = self.frequency_map(k_BFd.mT)
        return k_Bdf.mT

    def forward(self, x_B1FD: Tensor) -> Tensor:
        """Compute the logits of log-mel segments, without the softmax of (12)."""
        if not self.has_time_frequency:  # T+F
            q_Bfd, k_Bfd = self.time(x_B1FD), self.frequency(x_B1FD)
            if self.pooling == "together":
                pooled = mean_and_deviation(torch.cat([q_Bfd, k_Bfd], dim=1), self.deviation)  # B 2d
            else:
                each = (mean_and_deviation(q_Bfd, self.deviation), mean_and_deviation(k_Bfd, self.deviation))
                pooled = torch.cat(each, dim=1)  # B 4d
        else:
            v_Bfd = self.time_frequency_encoder(x_B1FD)  # (7)
            q_Bfd = self.time(x_B1FD) if self.has_time else v_Bfd
            k_Bfd = self.frequency(x_B1FD) if self.has_frequency else v_Bfd
            y_Bfd = self.time_frequency_transformer(q_Bfd, k_Bfd, v_Bfd)  # (8), (9)
            pooled = mean_and_deviation(y_Bfd, self.deviation)  # (10), B 2d
        logits: Tensor = self.classifier(pooled)  # (11)
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why ``settings`` (the hyperparameters, n_mels, segment_frames) cannot be built, in words.

    Every hyperparameter must be within its range. Relations between hyperparameters are checked only for the parts
    that the ablation has: T+F accepts any ``time_frequency_heads``.
    """
    found = range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings)
    if found:
        return found
    n = {
        name: int(value)
        for name, value in settings.items()
        if not isinstance(value, str) and (name in HYPERPARAMETERS or name in ("n_mels", "segment_frames"))
    }
    cells = n["stride"] ** 2
    found += odd_problems("kernel", n["kernel"])
    for name in ("n_mels", "segment_frames"):
        width, least = shrunk(n[name], n["stride"]), cells * (SMALLEST_WIDTH - 1) + 1
        if width < SMALLEST_WIDTH:
            found.append(
                f"{name}: {n[name]} / {cells} (stride {n['stride']}, twice) leaves a token width of {width}; "
                f"legal: at least {least}"
            )
    parts = ablation.split("+")
    for part, heads, size in (
        ("T", "time_heads", "n_mels"),
        ("F", "frequency_heads", "segment_frames"),
        ("TF", "time_frequency_heads", "segment_frames"),
    ):
        if part in parts:
            width = shrunk(n[size], n["stride"])
            found += divisor_problems(heads, n[heads], width, f"the token width {width} ({size} {n[size]} / {cells})")
    return found


MAPS: Mapping[str, tuple[str, str]] = {
    "time_transformer": ("t", "T-Trans attention"),
    "frequency_transformer": ("f", "F-Trans attention"),
    "time_frequency_transformer": ("tf", "TF-Trans attention"),
}
"""Parts with attention by their name in the module: the map's short name and its title."""


def attention_maps(module: nn.Module, x_B1FD: Tensor, settings: Mapping[str, Value]) -> dict[str, AttentionMap]:
    """Return the attention that bands, frames and patches of every segment receive, of the parts that there are."""
    seen: dict[str, AttentionMap] = {}
    step = int(settings["stride"]) ** 2

    def keep(name: str, attention: MultiHeadAttention, inputs: tuple[Tensor, ...]) -> None:
        weights = attention.weights(*inputs).double().cpu().numpy()
        cells = _cells(name, weights, inputs[2], tuple(x_B1FD.shape[2:]), step)
        short, title = MAPS[name]
        unit = "attention received x |v|" if short == "tf" else "attention received (1: all alike)"
        seen[name] = AttentionMap(short=short, title=title, unit=unit, cells=cells, weights=weights)

    with ExitStack() as hooks:
        for name in MAPS:
            part = getattr(module, name, None)
            if isinstance(part, Transformer):
                last: Any = part.layers[-1]
                hook = lambda layer, inputs, name=name: keep(name, layer, inputs)  # noqa: E731
                hooks.enter_context(last.attention.register_forward_pre_hook(hook))
        module(x_B1FD)
    return {name: seen[name] for name in MAPS if name in seen}


def _cells(name: str, weights: np.ndarray, v_BSE: Tensor, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Spread what each token receives over the cells of a segment: (segments, bands, frames)."""
    received = weights.mean(axis=(1, 2)) * weights.shape[3]  # (segments, tokens)
    if name == "time_transformer":
        return np.array(np.broadcast_to(received[:, None, :], (len(received), *shape)))
    if name == "frequency_transformer":
        return np.array(np.broadcast_to(received[:, :, None], (len(received), *shape)))
    patches = received[:, :, None] * np.abs(v_BSE.double().cpu().numpy())  # (segments, f, d)
    bands, frames = (nearest(size, count, step) for size, count in zip(shape, patches.shape[1:], strict=True))
    return np.array(patches[:, bands][:, :, frames])


def nearest(size: int, count: int, step: int) -> np.ndarray:
    """Return the patch of each of ``size`` cells: int64, shape (size,).

    Patch j of a convolution with an odd kernel, padded alike on both sides, is centred at cell j * step.

    >>> nearest(9, 3, 4).tolist()
    [0, 0, 1, 1, 1, 1, 2, 2, 2]
    """
    return np.minimum((np.arange(size) + step // 2) // step, count - 1)


MODEL = Network(
    name="time_frequency_transformer",
    title="Time-Frequency Transformer",
    paper="wang2023tft",
    ablations=ABLATIONS,
    parts={
        ablation: {f"{part.lower()}_trans": part in ablation.split("+") for part in ("T", "F", "TF")}
        for ablation in ABLATIONS
    },
    cost={"T+F+TF": 1.0, "T+F": 0.7, "T+TF": 0.6, "F+TF": 0.7},
    hyperparameters=HYPERPARAMETERS,
    published={"n_mels": 80, "segment_frames": 80, "preemphasis": 0.97, "learning_rate": 0.001, "batch_size": 64},
    ours={
        "dropout": "the paper states none",
        "pooling": "the paper does not say what the classifier of T+F reads",
        "deviation": "the paper says standard deviation, and not which",
    },
    problems=problems,
    published_epochs=1000,
    build=builder("time_frequency_transformer", TimeFrequencyTransformer, HYPERPARAMETERS, problems),
    attention=Attention(maps=attention_maps, ablations=ABLATIONS),
)
"""What tfser has to know of it."""
