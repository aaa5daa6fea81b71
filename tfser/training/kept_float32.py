"""Operations that stay in float32 under ``precision`` bfloat16: recurrences, softmaxes, layer norms, a CPU's attention.

PyTorch's autocast keeps some of them only on a GPU, none of them on a CPU, and runs cuDNN's recurrences in float16
whatever is asked for, in which most gradients of an LSTM underflow. Knows PyTorch and nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

KEPT = frozenset(
    ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
    + ("softmax", "log_softmax", "softmin", "gumbel_softmax", "logsumexp", "multi_head_attention_forward")
    + ("layer_norm", "native_layer_norm", "group_norm", "rms_norm")
)
"""Names of PyTorch's functions, which its layers call too."""

ATTENTION = "scaled_dot_product_attention"
"""Kept too, but on CPUs alone. Its kernels sum the softmax of bfloat16 in float32 themselves, and a GPU has fast ones;
a CPU's backward pass takes five times as long in bfloat16 as in float32 (PyTorch 2.11, a CPU with AMX)."""


class KeptFloat32(TorchFunctionMode):
    """A context in which ``KEPT``, and on a CPU ``ATTENTION``, are computed in float32, or wider, with autocast off.

    Args:
        device_type: of the autocast.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self._device_type = device_type
        self._kept = KEPT | {ATTENTION} if device_type == "cpu" else KEPT

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call one of PyTorch's functions."""
        if getattr(func, "__name__", "") not in self._kept:
            return func(*args, **(kwargs or {}))
        with torch.autocast(self._device_type, enabled=False):
            return func(*tree_map(_widened, args), **tree_map(_widened, dict(kwargs or {})))


def _widened(value: Any) -> Any:
    """Return a tensor of a narrow type as float32, and everything else as it is."""
    narrow = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if narrow else value
