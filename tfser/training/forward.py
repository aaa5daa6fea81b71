"""A network's forward pass under a precision, and its capture as a CUDA graph; knows nothing of trials."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from tfser.training.determinism import Precision
from tfser.training.kept_float32 import KeptFloat32


class Forward(nn.Module):
    """A model under a precision: its input to logits of float32 or wider. A captured graph holds both."""

    def __init__(self, model: nn.Module, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.model, self.device, self.precision = model, device, precision

    def forward(self, *inputs: Any) -> Tensor:
        """Compute the model's logits, shape (segments, emotions): float32, or float64 for a float64 model."""
        # Without autocast's cache of rounded weights: a pass uses each once, and a captured graph must not keep them.
        narrow = self.precision == "bfloat16"
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=narrow, cache_enabled=False),
            KeptFloat32(self.device.type) if narrow else contextlib.nullcontext(),
        ):
            logits: Tensor = self.model(*inputs)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            return logits  # for ``checked_logits``, which says why it cannot be trained
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def captured(self, like: Tensor) -> nn.Module:
        """Capture a CUDA graph, in training, for inputs shaped as ``like`` only: one launch instead of hundreds.

        Capturing needs warm-up passes; their effect on the running statistics is undone.
        """
        # The graph's gradients come from a stream of its own, for which PyTorch waits, and of which it warns.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        graphed = torch.cuda.make_graphed_callables(Forward(self.model, self.device, self.precision).train(), (like,))
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)  # in place: the graph reads and writes these tensors
        assert isinstance(graphed, nn.Module)
        return graphed
