"""Softmax means of scalars: what remains of an attention whose tokens are a rank-one image of scalars.

Axes: N sequences, F tokens of one sequence, H heads, E token width, D = E / H width of one head.

A token is x~_i = x_i w + b. Per head, with q_i = x_i (W_q w) + (W_q b + b_q) and k_j = x_j (W_k w) + W_k b,

    q_i . k_j / sqrt(D) = (A x_i + C) x_j + terms without j
    A = (W_q w) . (W_k w) / sqrt(D)
    C = (W_q b + b_q) . (W_k w) / sqrt(D)

The softmax over j cancels terms without j. The values are affine in x_j too, so that one number per token and head
is enough:

    s_i  = A x_i + C
    p_ij = softmax over j of s_i x_j
    m_i  = sum_j p_ij x_j

The gradient needs only the softmax itself, which is computed again and not kept, because it is F times as large as
anything else here:

    dm_i / ds_i = sum_j p_ij x_j^2 - m_i^2
    dm_i / dx_j = p_ij (1 + s_i (x_j - m_i))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tfser.models import compiled_rank_one

CPU_CHUNK = 2**18
"""Softmax weights in one piece on a CPU: 1 MiB, which stays in a core's cache from one operation to the next."""

DEVICE_CHUNK = 2**28
"""Softmax weights in one piece on a GPU, where it only bounds the memory: 1 GiB."""


def softmax_means(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor, *, compiled: bool = False) -> Tensor:
    """Return m, the mean of a sequence's scalars as every token and head weights it, (N, H, F).

    It is differentiable once and works under ``torch.func``. Under autocast it stays in float32: the sums of a softmax
    in bfloat16 would lose what all but the largest weights add.

    Args:
        x_NF: the scalars.
        slope_H: A.
        offset_H: C.
        compiled: whether a kernel does it that PyTorch compiles; the same up to rounding, but not under ``torch.func``.

    Raises:
        MachineError: it is to be compiled, and this machine cannot.
    """
    if torch.compiler.is_exporting():
        return written_out(x_NF, slope_H, offset_H)
    with torch.autocast(x_NF.device.type, enabled=False):
        inputs = [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in (x_NF, slope_H, offset_H)]
        if compiled:
            return compiled_rank_one.softmax_means(*inputs)
        m_NHF: Tensor = _SoftmaxMeans.apply(*inputs)[0]  # type: ignore[no-untyped-call]
    return m_NHF


def written_out(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> Tensor:
    """Return what ``softmax_means`` returns, with the whole softmax in memory: for a graph that other programs run."""
    s_NHF = x_NF[:, None] * slope_H[:, None] + offset_H[:, None]
    p_NHFF = (s_NHF[..., None] * x_NF[:, None, None]).softmax(dim=-1)
    return (p_NHFF @ x_NF[:, None, :, None])[..., 0]


def _pieces(tensor: Tensor, x_NF: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Split the sequences into pieces that are computed together."""
    each = heads * x_NF.shape[1] ** 2
    return torch.split(tensor, max(1, (CPU_CHUNK if x_NF.device.type == "cpu" else DEVICE_CHUNK) // each))


def _scores(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for S = H F, each s and the scalar with the largest logit for it, both (N, S)."""
    s_NS = (x_NF[:, None] * slope_H[:, None] + offset_H[:, None]).flatten(1)
    return s_NS, torch.where(s_NS > 0, x_NF.amax(1, keepdim=True), x_NF.amin(1, keepdim=True))


class _SoftmaxMeans(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return m, and for the gradient the softmax's sums and its variances, each (N, H, F)."""
        parts = []
        for x in _pieces(x_NF, x_NF, len(slope_H)):
            s, largest = _scores(x, slope_H, offset_H)
            weights = (x[:, :, None] - largest[:, None]).mul_(s[:, None]).exp_()  # (N, F, S), at most 1
            # A product with few rows is faster than one with few columns.
            parts.append(torch.stack([torch.ones_like(x), x, x * x], 1) @ weights)
        sums, first, second = torch.cat(parts).view(len(x_NF), 3, len(slope_H), -1).unbind(1)
        m_NHF = first / sums
        return m_NHF, sums, second / sums - m_NHF * m_NHF

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_NF, slope_H, offset_H, m_NHF, sums_NHF, variance_NHF = ctx.saved_tensors
        toward_s_NHF = gradients[0] * variance_NHF
        parts = []
        means, shares = m_NHF.flatten(1), (gradients[0] / sums_NHF).flatten(1)  # (N, S)
        for x, m, share in zip(*(_pieces(tensor, x_NF, len(slope_H)) for tensor in (x_NF, means, shares)), strict=True):
            s, largest = _scores(x, slope_H, offset_H)
            weights = (x[:, None] - largest[:, :, None]).mul_(s[:, :, None]).exp_()  # (N, S, F)
            constant, linear = (torch.stack([share * (1 - s * m), share * s], 1) @ weights).unbind(1)
            parts.append(constant + linear * x)
        toward_x_NF = torch.cat(parts) + (toward_s_NHF * slope_H[:, None]).sum(1)
        return toward_x_NF, (toward_s_NHF * x_NF[:, None]).sum((0, 2)), toward_s_NHF.sum((0, 2))
