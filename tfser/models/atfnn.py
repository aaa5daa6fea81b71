"""Attentive time-frequency neural network (ATFNN), after Lu et al. (2022).

"Speech Emotion Recognition via an Attentive Time-Frequency Neural Network", section II.

Axes: B batch, F mel bands (80), T frames (128), C channels (8), G groups of 5 bands or of 8 frames, H hidden units
(128).

    a^f  = F_a(x), mean over C, repeated   B 1 F T   one weight per group of 5 bands and per frame          (1)
    x'   = x + a^f * x                     B 1 F T                                                          (1)
    x~   = x' w + b                        F x T x C the linear layer of figure 2
    m    = LN(MSA(x~) + x~)                F x T x C within one frame, tokens are its F bands               figure 2
    x^'  = LN(Conv(Conv(m)) + m)           F x T x C 1x5 kernels with 32, then C channels                   fig. 2, (3)
    a^t  = T_a(x), mean over C, repeated   B 1 F T   one weight per group of 8 frames and per band          (2)
    x^'' = x^' + a^t * x^'                 F x T x C                                                        (2)
    h    = last states of the Bi-LSTM over the frames of x^'', B 2H                                         (4)
    logits = FC(h), B emotions

Numbers are the paper's. Softmax and cross-entropy belong to the training.

Ours, where the paper is silent or contradicts itself; docs/readings.md has what was measured of the switches:
    - A sigmoid squashes the attention weights before their mean over the channels; without it, that mean of linear
      convolutions would be one linear convolution. ``attention_weights`` chooses: ``linear`` leaves them as the
      convolution computes them, ``softmax`` lets the groups of a frame (F-Attention) or of a band (T-Attention) share
      a weight of 1 in each channel.
    - T-Attention computes its weights from the log-mel spectrogram x, as in (2) and figure 4; (4) computes them from
      the encoding x^'. ``time_attention_from`` chooses. Without an F-Encoder (ATNN) both are x.
    - F-Encoder: a token is one band of one frame, of width C (``band_token`` ``frame``). The text would also bear a
      token that is one band of the whole segment, of width T C (``segment``), which takes 4 (T C)^2 weights for the
      attention: 4.2 million. Either way the kernels run along frequency. There are 2 heads, and a ReLU between its two
      convolutions.
    - The last state of each direction is the one it reaches last: forward at the last frame, backward at the first.
    - Ablations (table III). AFNN: mean of x^' over the frames, flattened, FC. ATNN: T-Attention and Bi-LSTM on x
      itself. TFNN: both encoders, no attention. A part that an ablation lacks is not created.
    - Dropout, which the paper does not mention (default 0), acts on the output of the F-Encoder's sub-layers,
      between the layers of the LSTM and before FC.

Attention maps, as in the paper's figure 6: the weights a^f and a^t of (1) and (2), one per cell; 0 to 1 unless they are
``linear``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tfser.models import compiled_rank_one
from tfser.models.base import Attention, AttentionMap, Network, builder
from tfser.models.layers import SMALLEST_WIDTH, EncoderLayer, last_states
from tfser.models.rank_one import softmax_means
from tfser.models.settings import divisor_problems, odd_problems, range_problems
from tfser.models.stacked import Form, OneByOne, StackedLayer, StackedModel
from tfser.trial import Hyperparameter, Value

ABLATIONS = ("ATFNN", "AFNN", "ATNN", "TFNN")
"""Names of the ablations, the full model first (table III)."""

PARTS: Mapping[str, frozenset[str]] = {
    "ATFNN": frozenset({"F-Attention", "F-Encoder", "T-Attention", "T-Encoder"}),
    "AFNN": frozenset({"F-Attention", "F-Encoder"}),
    "ATNN": frozenset({"T-Attention", "T-Encoder"}),
    "TFNN": frozenset({"F-Encoder", "T-Encoder"}),
}
"""The parts that each ablation keeps."""

SOURCES = ("spectrogram", "encoding")
"""What T-Attention's weights can be computed from: (2) or (4)."""

WEIGHTS = ("sigmoid", "linear", "softmax")
"""How both attentions can turn the output of their convolution into weights."""

KERNELS = ("library", "compiled")
"""What computes the F-Encoder's attention in training: PyTorch's own operations, or a kernel that is compiled."""

TOKENS = ("frame", "segment")
"""What a token of the F-Encoder can hold of its band: one frame (width C) or the whole segment (width T C)."""

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "channels": Hyperparameter(
        default=8, low=SMALLEST_WIDTH, high=256, help="c: width of an F-Encoder token, channels of both attentions"
    ),
    "heads": Hyperparameter(
        default=2, low=1, high=64, help="heads of the F-Encoder, a divisor of the token width (not in the paper)"
    ),
    "encoder_channels": Hyperparameter(
        default=32, low=1, high=1024, help="channels between the F-Encoder's two convolutions"
    ),
    "encoder_kernel": Hyperparameter(
        default=5, low=1, high=31, help="kernel of the F-Encoder's convolutions, odd, mel bands"
    ),
    "lstm_hidden": Hyperparameter(default=128, low=1, high=1024, help="hidden units of the Bi-LSTM, each direction"),
    "lstm_layers": Hyperparameter(default=3, low=1, high=8, help="layers of the Bi-LSTM"),
    "band_group": Hyperparameter(
        default=5, low=1, high=512, help="mel bands that share an F-Attention weight, a divisor of n_mels"
    ),
    "frame_group": Hyperparameter(
        default=8, low=1, high=4096, help="frames that share a T-Attention weight, a divisor of segment_frames"
    ),
    "dropout": Hyperparameter(default=0.0, low=0.0, high=0.9, help="probability (not in the paper)"),
    "time_attention_from": Hyperparameter(
        default="spectrogram", choices=SOURCES, help="what T-Attention's weights are computed from: equation 2 or 4"
    ),
    "attention_weights": Hyperparameter(
        default="sigmoid",
        implied="sigmoid",
        choices=WEIGHTS,
        help="how attention weights are squashed; softmax is over the groups of a frame or band (not in the paper)",
    ),
    "band_token": Hyperparameter(
        default="frame",
        implied="frame",
        choices=TOKENS,
        help="what an F-Encoder token holds of its band: one frame (channels wide) or the whole segment "
        "(segment_frames * channels wide)",
    ),
    "attention_kernel": Hyperparameter(
        default="library",
        implied="library",
        choices=KERNELS,
        help="of the F-Encoder's attention in training: PyTorch's operations, or one kernel that PyTorch compiles "
        "(needs a C++ compiler); scores always use the first",
    ),
}


class GroupAttention(nn.Module):
    """F_a of (1) or T_a of (2): source (B, S, F, T) -> one weight per cell, (B, 1, F, T).

    The convolution runs over groups of neighbours that do not overlap, so that a group shares its weight.

    Args:
        sources: S, channels of the source: 1 for a spectrogram.
        channels: C, channels of the convolution, averaged.
        group: (bands, frames) of a group; both must divide the source's size.
        weights: one of ``WEIGHTS``; weights are within 0 to 1 unless they are linear.
        along: axis whose groups share the weight of a softmax: 2 for bands, 3 for frames.
    """

    def __init__(
        self, sources: int, channels: int, group: tuple[int, int], weights: str = "sigmoid", along: int = 2
    ) -> None:
        super().__init__()
        self.group, self.weights, self.along = group, weights, along
        self.conv = nn.Conv2d(sources, channels, kernel_size=group, stride=group)

    def forward(self, source_BSFT: Tensor) -> Tensor:
        """Compute the weights; a forward hook on this module sees the attention map.

        Raises:
            ValueError: if the groups do not fill the source.
        """
        bands, frames = source_BSFT.shape[2:]
        if bands % self.group[0] or frames % self.group[1]:
            raise ValueError(f"groups of {self.group[0]} x {self.group[1]} do not fill {bands} bands x {frames} frames")
        a_BCG = self.conv(source_BSFT)  # (B, C, F / 5, T) or (B, C, F, T / 8)
        if self.weights == "sigmoid":
            a_BCG = a_BCG.sigmoid()
        elif self.weights == "softmax":
            a_BCG = a_BCG.softmax(dim=self.along)
        a_B1G = a_BCG.mean(dim=1, keepdim=True)
        a_B1FT: Tensor = a_B1G.repeat_interleave(self.group[0], dim=2).repeat_interleave(self.group[1], dim=3)
        return a_B1FT


class Convolutions(nn.Module):
    """The convolutions of figure 2, in place of an MLP: x_NFC -> (N, F, C), with N independent rows of F bands.

    Args:
        channels: C, of input and output.
        hidden: channels in between.
        kernel: mel bands, odd.

    Raises:
        ValueError: if the kernel is even.
    """

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"encoder_kernel: {kernel} is even, which cannot be padded alike on both sides")
        self.conv_1 = nn.Conv2d(channels, hidden, (1, kernel), padding=(0, kernel // 2))
        self.conv_2 = nn.Conv2d(hidden, channels, (1, kernel), padding=(0, kernel // 2))

    def forward(self, x_NFC: Tensor) -> Tensor:
        """Convolve along the bands, with ReLU between the two convolutions."""
        # On the tokens' own memory, (1, C, N, F) is channels_last, so that nothing is copied on the way in or out.
        x_1CNF = x_NFC[None].permute(0, 3, 1, 2)
        out_1CNF: Tensor = self.conv_2(self.conv_1(x_1CNF).relu_())
        return out_1CNF.permute(0, 2, 3, 1)[0]


class FEncoder(nn.Module):
    """F_e of (3), figure 2: x_B1FT -> (B, T, F, C).

    A token is one band of one frame: every frame is a sequence of F tokens of width C, without positional encoding.

    Args:
        channels: C, at least 3.
        heads: a divisor of ``channels``.
        hidden: channels between the two convolutions.
        kernel: of the convolutions, mel bands, odd.
        dropout: probability, 0 to below 1.
        attention_kernel: one of ``KERNELS``, in training.

    Raises:
        ValueError: if ``channels`` is below 3, ``heads`` does not divide it, or ``kernel`` is even.
    """

    def __init__(
        self, channels: int, heads: int, hidden: int, kernel: int, dropout: float, attention_kernel: str = "library"
    ) -> None:
        super().__init__()
        self.compiled = attention_kernel == "compiled"
        self.lift = nn.Linear(1, channels)
        self.layer = EncoderLayer(channels, heads, Convolutions(channels, hidden, kernel), dropout)

    def forward(self, x_B1FT: Tensor) -> Tensor:
        """Encode; frames come first in the output, because the T-Encoder reads it frame by frame."""
        x_NF = x_B1FT[:, 0].mT.flatten(0, 1)  # N = B T sequences
        out_NFC = self.layer.after_attention(self.attend(x_NF), self.lift(x_NF[..., None]))  # the lifted scalars are x~
        return out_NFC.view(x_B1FT.shape[0], -1, *out_NFC.shape[1:])

    def attend(self, x_NF: Tensor) -> Tensor:
        """Compute MSA(x~) within each frame, (N, F, C), from the scalars of which x~ is a rank-one image.

        Except for rounding it equals ``self.layer.attention`` on x~, at a fraction of the work: see ``rank_one``.
        """
        attention, w_C, b_C = self.layer.attention, self.lift.weight[:, 0], self.lift.bias
        heads = (attention.heads, len(w_C) // attention.heads)
        with torch.autocast(x_NF.device.type, enabled=False):  # a few products, which the softmax depends on
            key_HD = (attention.key.weight @ w_C).view(heads) * (attention.heads / len(w_C)) ** 0.5
            slope_H = ((attention.query.weight @ w_C).view(heads) * key_HD).sum(1)
            offset_H = (attention.query(b_C).view(heads) * key_HD).sum(1)
        m_NHF = softmax_means(x_NF, slope_H, offset_H, compiled=self.compiled and self.training)
        value_CHD = attention.out.weight.view(-1, *heads) * (attention.value.weight @ w_C).view(heads)
        # In (N, F, H), as the rows of one matrix: transposing F x H numbers is cheap, F x C is not.
        return linear(m_NHF.mT.contiguous(), value_CHD.sum(2), attention.out(attention.value(b_C)))

    def stacked_form(self) -> Form:
        """Return that several are computed one by one.

        The encoder uses its parts' weights itself, on long sequences: there are no small kernels to gather.
        """
        return OneByOne


class SegmentConvolutions(Convolutions):
    """``Convolutions`` on tokens that hold every frame of a band: x_BFE -> (B, F, E), E = T C."""

    def forward(self, x_BFE: Tensor) -> Tensor:
        """Convolve every frame along the bands."""
        segments, bands, width = x_BFE.shape
        x_BFTC = x_BFE.view(segments, bands, -1, self.conv_1.in_channels)
        out_NFC = super().forward(x_BFTC.transpose(1, 2).flatten(0, 1))  # N = B T
        return out_NFC.reshape(segments, -1, *out_NFC.shape[1:]).transpose(1, 2).reshape(segments, bands, width)


class SegmentFEncoder(nn.Module):
    """F_e of (3) with a token per band of the whole segment: x_B1FT -> (B, T, F, C).

    A segment is one sequence of F tokens of width T C, without positional encoding.

    Args:
        channels: C.
        heads: a divisor of T C.
        hidden: channels between the two convolutions.
        kernel: of the convolutions, mel bands, odd.
        dropout: probability, 0 to below 1.
        frames: T.

    Raises:
        ValueError: if ``heads`` does not divide T C, or ``kernel`` is even.
    """

    def __init__(self, channels: int, heads: int, hidden: int, kernel: int, dropout: float, frames: int) -> None:
        super().__init__()
        self.lift = nn.Linear(1, channels)
        convolutions = SegmentConvolutions(channels, hidden, kernel)
        self.layer = EncoderLayer(frames * channels, heads, convolutions, dropout)

    def forward(self, x_B1FT: Tensor) -> Tensor:
        """Encode; frames come first in the output, because the T-Encoder reads it frame by frame."""
        x_BFE = self.lift(x_B1FT[:, 0, ..., None]).flatten(2)  # x~
        out_BFE: Tensor = self.layer(x_BFE, x_BFE, x_BFE)
        return out_BFE.view(*out_BFE.shape[:2], -1, self.lift.out_features).transpose(1, 2)

    def stacked_form(self) -> Form:
        """Return that several are computed one by one: their matrices are large enough to fill a kernel alone."""
        return OneByOne


class TEncoder(nn.Module):
    """T_e of (4): x (B, T, F C) -> (B, 2 H), the last states of both directions.

    Args:
        width: F C, of one frame.
        hidden: H, units of each direction.
        layers: of the Bi-LSTM.
        dropout: probability between layers, 0 to below 1; without effect for a single layer.
    """

    def __init__(self, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0  # nn.LSTM warns if a single layer has dropout
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, x_BTE: Tensor) -> Tensor:
        """Read all frames, in both directions."""
        out_BTH, (h_LBH, _) = self.lstm(x_BTE)  # L = layers x directions
        if torch.compiler.is_exporting():  # the exporter mistakes the shape of the states; the outputs hold the same
            return last_states(out_BTH)
        return torch.cat([h_LBH[-2], h_LBH[-1]], dim=1)

    def stacked_form(self) -> Form:
        """Return how several Bi-LSTMs are computed as one."""
        return StackedRecurrence if StackedRecurrence.fits(self) else OneByOne


class StackedRecurrence(StackedLayer):
    """``TEncoder``, on a GPU without dropout: x (M B, T, E) -> (M B, 2 H).

    Both directions of all members take each step together. On a GPU, one member's recurrence alone is hundreds of small
    kernels one after another; all of them together need no more. On a CPU, a member's own LSTM is faster.
    """

    def __init__(self, whole: StackedModel, path: str, layer: nn.Module) -> None:
        super().__init__(whole, path, layer)
        assert isinstance(layer, TEncoder)
        # Stacked in every pass, not once: a member's own LSTM scores with cuDNN, which wants its weights in one piece.
        self._lstms = [model.get_submodule(f"{path}.lstm") for model in whole.models]
        self.layers, self.hidden = layer.lstm.num_layers, layer.lstm.hidden_size

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Tell whether a layer can take this form: on a GPU, without dropout between the layers of the LSTM."""
        return isinstance(layer, TEncoder) and not layer.lstm.dropout and next(layer.parameters()).is_cuda

    def _weights(self, name: str, layer: int) -> Tensor:
        """Stack a weight of all members and both directions: (M, 2, ...)."""
        both: list[Tensor] = [
            lstm.get_parameter(f"{name}_l{layer}{direction}") for lstm in self._lstms for direction in ("", "_reverse")
        ]
        return torch.stack(both).view(len(self._lstms), 2, *both[0].shape)

    def forward(self, x: Tensor) -> Tensor:
        """Read all frames in both directions and return the last states of the last layer, in float32 as alone."""
        with torch.autocast(x.device.type, enabled=False):
            return self._read(x.to(torch.promote_types(x.dtype, torch.float32)))

    def _read(self, x: Tensor) -> Tensor:
        members, hidden = self.whole.members, self.hidden
        x_MBTE = x.view(members, -1, *x.shape[1:])
        segments, frames = x_MBTE.shape[1:3]
        h_NBH = x.new_zeros(2 * members, segments, hidden)  # N = M x directions
        for layer in range(self.layers):
            x_MRE = x_MBTE.transpose(1, 2).flatten(1, 2)[:, None]  # R = T B rows, frame by frame
            bias_M21G = (self._weights("bias_ih", layer) + self._weights("bias_hh", layer))[:, :, None]
            # G = 4 H: what a step adds to its gates, for all frames.
            in_M2RG = x_MRE @ self._weights("weight_ih", layer).mT + bias_M21G
            in_M2TBG = in_M2RG.view(members, 2, frames, segments, -1)
            # The second direction runs backwards.
            in_NTBG = torch.stack([in_M2TBG[:, 0], in_M2TBG[:, 1].flip(1)], dim=1).flatten(0, 1)
            recurrent_NHG = self._weights("weight_hh", layer).flatten(0, 1).mT.contiguous()
            h_NBH, c_NBH = x.new_zeros(2 * members, segments, hidden), x.new_zeros(2 * members, segments, hidden)
            states = []
            for in_NBG in in_NTBG.unbind(1):
                update, forget, candidate, output = torch.baddbmm(in_NBG, h_NBH, recurrent_NHG).chunk(4, dim=2)
                c_NBH = forget.sigmoid() * c_NBH + update.sigmoid() * candidate.tanh()
                h_NBH = output.sigmoid() * c_NBH.tanh()
                states.append(h_NBH)
            if layer + 1 < self.layers:
                states_M2TBH = torch.stack(states, dim=1).view(members, 2, frames, segments, hidden)
                x_MBTE = torch.cat([states_M2TBH[:, 0], states_M2TBH[:, 1].flip(1)], dim=3).transpose(1, 2)
        return h_NBH.view(members, 2, segments, hidden).transpose(1, 2).reshape(-1, 2 * hidden)


class ATFNN(nn.Module):
    """The model and its ablations: x_B1FT float -> logits (B, emotions).

    Args:
        emotions: number of classes.
        n_mels: F, mel bands, at least 2.
        segment_frames: T, frames of a segment, at least 2.
        ablation: one of ``ABLATIONS``.
        channels: C.
        heads: of the F-Encoder, a divisor of the width of its tokens.
        encoder_channels: between the F-Encoder's two convolutions.
        encoder_kernel: of these convolutions, mel bands, odd.
        lstm_hidden: H, units of each direction.
        lstm_layers: of the Bi-LSTM.
        band_group: bands that share an F-Attention weight, a divisor of ``n_mels``.
        frame_group: frames that share a T-Attention weight, a divisor of ``segment_frames``.
        dropout: probability, 0 to below 1.
        time_attention_from: one of ``SOURCES``.
        attention_weights: one of ``WEIGHTS``.
        band_token: one of ``TOKENS``.
        attention_kernel: one of ``KERNELS``; without effect where ``band_token`` is ``segment``.

    Raises:
        ValueError: for an unknown ablation or word, or sizes that do not fit together; ``problems`` lists all reasons
            beforehand.
    """

    def __init__(
        self,
        *,
        emotions: int,
        n_mels: int = 80,
        segment_frames: int = 128,
        ablation: str = "ATFNN",
        channels: int = 8,
        heads: int = 2,
        encoder_channels: int = 32,
        encoder_kernel: int = 5,
        lstm_hidden: int = 128,
        lstm_layers: int = 3,
        band_group: int = 5,
        frame_group: int = 8,
        dropout: float = 0.0,
        time_attention_from: str = "spectrogram",
        attention_weights: str = "sigmoid",
        band_token: str = "frame",
        attention_kernel: str = "library",
    ) -> None:
        super().__init__()
        for name, word, known in (
            ("ablation", ablation, ABLATIONS),
            ("time_attention_from", time_attention_from, SOURCES),
            ("attention_weights", attention_weights, WEIGHTS),
            ("band_token", band_token, TOKENS),
            ("attention_kernel", attention_kernel, KERNELS),
        ):
            if word not in known:
                raise ValueError(f"{name}: no {word!r}; there are {', '.join(known)}")
        if min(n_mels, segment_frames) < 2:
            raise ValueError(f"n_mels {n_mels} and segment_frames {segment_frames} must be at least 2")
        self.parts = PARTS[ablation]
        self.time_attention_from = time_attention_from
        encoded = channels if "F-Encoder" in self.parts else 1  # channels of x^', or of x
        if "F-Attention" in self.parts:
            if n_mels % band_group:
                raise ValueError(f"band_group: {band_group} does not divide n_mels {n_mels}")
            self.frequency_attention = GroupAttention(1, channels, (band_group, 1), attention_weights, along=2)  # F_a
        if "F-Encoder" in self.parts:
            sizes = (channels, heads, encoder_channels, encoder_kernel, dropout)
            self.frequency_encoder = (  # F_e
                FEncoder(*sizes, attention_kernel) if band_token == "frame" else SegmentFEncoder(*sizes, segment_frames)
            )
        if "T-Attention" in self.parts:
            if segment_frames % frame_group:
                raise ValueError(f"frame_group: {frame_group} does not divide segment_frames {segment_frames}")
            sources = encoded if time_attention_from == "encoding" else 1
            self.time_attention = GroupAttention(sources, channels, (1, frame_group), attention_weights, along=3)  # T_a
        if "T-Encoder" in self.parts:
            self.time_encoder = TEncoder(n_mels * encoded, lstm_hidden, lstm_layers, dropout)  # T_e
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * lstm_hidden if "T-Encoder" in self.parts else n_mels * encoded, emotions)

    def forward(self, x_B1FT: Tensor) -> Tensor:
        """Compute the logits of log-mel segments."""
        enhanced_B1FT = x_B1FT
        if "F-Attention" in self.parts:
            enhanced_B1FT = x_B1FT + self.frequency_attention(x_B1FT) * x_B1FT  # (1)
        encoding_BTFC = (  # (3)
            self.frequency_encoder(enhanced_B1FT) if "F-Encoder" in self.parts else x_B1FT.permute(0, 3, 2, 1)
        )
        if "T-Attention" in self.parts:
            source = encoding_BTFC.permute(0, 3, 2, 1) if self.time_attention_from == "encoding" else x_B1FT
            a_BTF1 = self.time_attention(source).permute(0, 3, 2, 1)
            encoding_BTFC = encoding_BTFC * (1 + a_BTF1)  # (2), with one pass over the C channels fewer
        # (4), B 2H; for AFNN the mean over frames, B F C
        h = (
            self.time_encoder(encoding_BTFC.flatten(2))
            if "T-Encoder" in self.parts
            else encoding_BTFC.mean(dim=1).flatten(1)
        )
        logits: Tensor = self.classifier(self.dropout(h))
        return logits


def problems(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why ``settings`` (the hyperparameters, n_mels, segment_frames) cannot be built, in words.

    Every hyperparameter must be within its range. Relations between hyperparameters are checked only for the parts
    that the ablation has: AFNN accepts any ``frame_group``.
    """
    found = range_problems(ABLATIONS, HYPERPARAMETERS, ablation, settings)
    if found:
        return found
    n = {name: value for name, value in settings.items() if isinstance(value, int)}
    parts = PARTS[ablation]
    for name in ("n_mels", "segment_frames"):
        if n[name] < 2:
            found.append(f"{name}: {n[name]} leaves nothing to attend to; legal: at least 2")
    if "F-Attention" in parts:
        found += divisor_problems("band_group", n["band_group"], n["n_mels"], f"n_mels {n['n_mels']}")
    if "F-Encoder" in parts:
        width, made = n["channels"], "channels"
        if settings["band_token"] == "segment":
            width, made = width * n["segment_frames"], "segment_frames * channels"
            if settings.get("attention_kernel") == "compiled":
                found.append("attention_kernel: compiled is for band_token frame; legal with segment: library")
        found += divisor_problems("heads", n["heads"], width, f"the token width {width} ({made})")
        found += odd_problems("encoder_kernel", n["encoder_kernel"])
    if "T-Attention" in parts:
        found += divisor_problems(
            "frame_group", n["frame_group"], n["segment_frames"], f"segment_frames {n['segment_frames']}"
        )
    return found


def missing(ablation: str, settings: Mapping[str, Value]) -> list[str]:
    """Return what this machine lacks to train an ablation with these settings, in words."""
    if settings.get("attention_kernel") != "compiled" or "F-Encoder" not in PARTS[ablation]:
        return []
    return [f"attention_kernel compiled {lacks}" for lacks in compiled_rank_one.missing()]


MAPS: Mapping[str, tuple[str, str]] = {
    "frequency_attention": ("f", "F-Attention"),
    "time_attention": ("t", "T-Attention"),
}
"""Parts with attention by their name in the module: the map's short name and its title."""

UNITS: Mapping[str, str] = {
    "sigmoid": "weight (0 to 1)",
    "linear": "weight (of either sign)",
    "softmax": "weight (0 to 1; those of all groups add up to 1)",
}
"""Meaning of a map's values, by ``attention_weights``."""

SPLIT_HZ = 2700.0
"""Where figure 6 of the paper has a line; the paper calls the frequencies above it high."""


def attention_maps(module: nn.Module, x_B1FT: Tensor, settings: Mapping[str, Value]) -> dict[str, AttentionMap]:
    """Return the weights a^f and a^t of every segment, of the parts that the ablation has."""
    seen: dict[str, np.ndarray] = {}
    unit = UNITS[str(settings["attention_weights"])]

    def keep(name: str, a_B1FT: Tensor) -> None:
        seen[name] = a_B1FT[:, 0].double().cpu().numpy()

    with ExitStack() as hooks:
        for name in MAPS:
            part = getattr(module, name, None)
            if isinstance(part, GroupAttention):
                hooks.enter_context(part.register_forward_hook(lambda _, inputs, out, name=name: keep(name, out)))
        module(x_B1FT)
    return {
        name: AttentionMap(short=short, title=title, unit=unit, cells=seen[name], weights=seen[name])
        for name, (short, title) in MAPS.items()
        if name in seen
    }


MODEL = Network(
    name="atfnn",
    title="ATFNN",
    paper="lu2022atfnn",
    ablations=ABLATIONS,
    parts={
        ablation: {
            "attention": bool(kept & {"F-Attention", "T-Attention"}),
            "f_encoder": "F-Encoder" in kept,
            "t_encoder": "T-Encoder" in kept,
        }
        for ablation, kept in PARTS.items()
    },
    cost={"ATFNN": 1.5, "AFNN": 0.5, "ATNN": 0.3, "TFNN": 1.3},
    hyperparameters=HYPERPARAMETERS,
    published={"n_mels": 80, "segment_frames": 128, "preemphasis": 0.0, "learning_rate": 0.0005, "batch_size": 128},
    ours={
        "epochs": "the paper states none",
        "preemphasis": "the paper states none",
        "heads": "the paper says multi-head attention, and no number",
        "dropout": "the paper states none",
        "time_attention_from": "equations 2 and 4 contradict each other",
        "attention_weights": "the paper does not say whether they are squashed",
        "band_token": "the text bears a token per frame as well as one of the whole segment",
    },
    problems=problems,
    missing=missing,
    fast={"attention_kernel": "compiled"},
    published_epochs=None,
    build=builder("atfnn", ATFNN, HYPERPARAMETERS, problems),
    attention=Attention(
        maps=attention_maps,
        ablations=tuple(ablation for ablation in ABLATIONS if PARTS[ablation] & {"F-Attention", "T-Attention"}),
        lacking="neither F- nor T-Attention",
        line_hz=SPLIT_HZ,
    ),
)
"""What tfser has to know of it."""
