"""What several networks share: multi-head attention, the encoder layer around it, pooling, recurrence.

Axes: B batch, S query tokens, T key tokens, E token width, H heads, D = E / H width of one head.

    MA(q, k, v) = concat_h(softmax(q W_q^h (k W_k^h)^T / sqrt(D)) v W_v^h) W_o      (MA)
    m           = LN(MA(q, k, v) + v)                                             (2), (5), (8)
    out         = LN(MLP(m) + m)                                                  (3), (6), (9)

Numbers are those of Wang et al. 2023, "Time-Frequency Transformer"; (MA) is from Vaswani et al. 2017,
"Attention Is All You Need", section 3.2. Self-attention is MA(x, x, x).

Ours, where the papers are silent: the key projection has no bias (a bias would add the same number to every logit of
a query, which the softmax cancels, so that it would never be trained); the MLP's activation is ReLU; dropout acts on
the output of each sub-layer before it is added and normalised (Vaswani et al., section 5.4) and nowhere else; the
standard deviation is the biased one unless a model asks for the other, see ``mean_and_deviation``.

The layers are written out because ``nn.TransformerEncoderLayer`` switches to other kernels in evaluation, and because
the residual of (8) is ``v``, not the query.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, scaled_dot_product_attention

from tfser.models.stacked import Form, OneByOne

DEVIATION_EPSILON = 1e-8
"""Added to a variance before its root: keeps the gradient finite if all values are equal."""

SMALLEST_WIDTH = 3
"""Smallest token width. Layer normalisation removes all of a token of width 1; of width 2 it keeps only which value is
larger, and no gradient passes."""


class MultiHeadAttention(nn.Module):
    """(MA): q_BSE, k_BTE, v_BTE -> (B, S, E).

    Args:
        width: E, of the tokens of all three inputs and of the output.
        heads: H, a divisor of ``width``.

    Raises:
        ValueError: if ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: {heads} does not divide the token width {width}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def _split(self, x_BSE: Tensor) -> Tensor:
        """Split the heads, (B, S, E) -> (B, H, S, D), as a view."""
        return x_BSE.view(*x_BSE.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, q_BSE: Tensor, k_BTE: Tensor, v_BTE: Tensor) -> Tensor:
        """Attend from every query to all keys."""
        a_BHSD = scaled_dot_product_attention(
            self._split(self.query(q_BSE)), self._split(self.key(k_BTE)), self._split(self.value(v_BTE))
        )
        out: Tensor = self.out(a_BHSD.transpose(1, 2).flatten(-2))
        return out

    def weights(self, q_BSE: Tensor, k_BTE: Tensor, *_: Tensor) -> Tensor:
        """Return the softmax of (MA), (B, H, S, T), which ``forward`` does not keep.

        It takes the arguments of ``forward``, so that attention maps need no second forward pass:
        ``module.register_forward_pre_hook(lambda module, inputs: maps.append(module.weights(*inputs)))``.
        """
        q_BHSD, k_BHTD = self._split(self.query(q_BSE)), self._split(self.key(k_BTE))
        logits_BHST: Tensor = q_BHSD @ k_BHTD.mT / q_BHSD.shape[-1] ** 0.5
        return logits_BHST.softmax(dim=-1)


class EncoderLayer(nn.Module):
    """A post-norm encoder layer, as (2)-(3): q_BSE, k_BSE, v_BSE -> (B, S, E).

    Args:
        width: E, at least ``SMALLEST_WIDTH``.
        heads: H, a divisor of ``width``.
        mlp: the second sub-layer, (B, S, E) -> (B, S, E).
        dropout: probability, 0 to below 1, on the output of both sub-layers.

    Raises:
        ValueError: if ``width`` is below ``SMALLEST_WIDTH`` or ``heads`` does not divide it.
    """

    def __init__(self, width: int, heads: int, mlp: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        if width < SMALLEST_WIDTH:
            raise ValueError(f"token width: {width}; legal: at least {SMALLEST_WIDTH}")
        self.attention = MultiHeadAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.mlp = mlp
        self.mlp_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, q_BSE: Tensor, k_BSE: Tensor, v_BSE: Tensor) -> Tensor:
        """Apply (8) and (9); with the same tensor three times, (2) and (3)."""
        return self.after_attention(self.attention(q_BSE, k_BSE, v_BSE), v_BSE)

    def after_attention(self, a_BSE: Tensor, v_BSE: Tensor) -> Tensor:
        """Apply all but the attention itself, whose output is ``a_BSE``."""
        m_BSE = self.attention_norm(self.dropout(a_BSE) + v_BSE)  # (2), (5), (8)
        out: Tensor = self.mlp_norm(self.dropout(self.mlp(m_BSE)) + m_BSE)  # (3), (6), (9)
        return out


def mlp(width: int, hidden: int) -> nn.Sequential:
    """Build the feed-forward sub-layer: ``width`` -> ``hidden``, ReLU, -> ``width``."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width))


DEVIATIONS = ("biased", "unbiased")
"""Divisors of a variance over S tokens: S or S - 1."""


def mean_and_deviation(x_BSE: Tensor, deviation: str = "biased") -> Tensor:
    """Return mean and standard deviation over the tokens, (B, S, E) -> (B, 2 E).

    The biased deviation is sqrt(mean((x - mean(x))^2) + 1e-8). It exists for a single token, and a linear layer that
    follows can absorb the factor sqrt(S / (S - 1)) to the unbiased one, which needs two tokens.

    Args:
        x_BSE: the tokens.
        deviation: one of ``DEVIATIONS``.
    """
    variance_BE, mean_BE = torch.var_mean(x_BSE, dim=1, correction=DEVIATIONS.index(deviation))
    return torch.cat([mean_BE, (variance_BE + DEVIATION_EPSILON).sqrt()], dim=1)


class Recurrence(nn.Module):
    """A recurrent layer in both directions: x_BTE -> (B, T, 2 H), every step's outputs, forward before backward.

    Args:
        kind: ``nn.LSTM`` or ``nn.GRU``.
        width: E.
        hidden: H, units of each direction.
    """

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], width: int, hidden: int) -> None:
        super().__init__()
        self.layer = kind(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, x_BTE: Tensor) -> Tensor:
        """Read all steps in both directions."""
        out_BTH: Tensor = self.layer(x_BTE)[0]
        return out_BTH

    def stacked_form(self) -> Form:
        """Return that several are computed one by one."""
        return OneByOne


def last_states(out_BTH: Tensor) -> Tensor:
    """Return the last state of both directions, (B, 2 H), from the outputs of ``Recurrence``.

    The forward direction reaches its last at the last step, the backward one at the first.
    """
    forward_BTH, backward_BTH = out_BTH.chunk(2, dim=2)
    return torch.cat([forward_BTH[:, -1], backward_BTH[:, 0]], dim=1)


def same_convolution(channels: int, maps: int, kernel: tuple[int, int]) -> nn.Sequential:
    """Build a convolution that keeps the size: (B, channels, F, T) -> (B, maps, F, T).

    An even kernel, which cannot be padded alike on both sides, gets one cell more at the end.

    Args:
        channels: of the input.
        maps: channels of the output.
        kernel: bands and frames.
    """
    high, wide = kernel
    padding = nn.ZeroPad2d(((wide - 1) // 2, wide // 2, (high - 1) // 2, high // 2))
    return nn.Sequential(padding, nn.Conv2d(channels, maps, kernel))


def pooled(x_BCFT: Tensor, bands: int, frames: int) -> Tensor:
    """Take the largest of every ``bands`` x ``frames`` patch; a last one that is not full counts too.

    So no input is too small: 199 frames pooled by 2 are 100.
    """
    return max_pool2d(x_BCFT, (bands, frames), ceil_mode=True)


def pooled_size(size: int, patch: int) -> int:
    """Return how many patches ``pooled`` has along an axis.

    >>> pooled_size(199, 2)
    100
    """
    return -(-size // patch)
