"""A whole training step as a CUDA graph, for steps that do the same each time but for the segments they train on.

Knows nothing of trials, settings or data: it gets a step and the network and optimiser that the step changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Step = Callable[[Tensor], Tensor]
"""Trains on segments by their numbers, int64, shape (segments,); returns their loss, a scalar."""

WARM_UP = 3
"""Steps before the capture, in which libraries choose kernels and take their working memory (PyTorch's own number)."""


class CapturedStep:
    """A step that is recorded once and replayed with a single launch: gather, forward, loss, backward, optimiser.

    What is replayed is the step's work on the device: its random numbers are drawn anew each time, but what it decides
    on the host, such as a learning rate that changes, stays as it was.

    Args:
        step: the step.
        like: numbers of as many segments as it will be called with.
        model: the network that it trains; left as it was.
        optimizer: its optimiser, PyTorch's fused Adam; left as it was.
    """

    def __init__(self, step: Step, like: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._chosen = like.clone()
        with _left_as_it_was(model, optimizer):
            self._replay, self._loss = recorded(step, self._chosen)

    def __call__(self, chosen: Tensor) -> Tensor:
        """Train on segments; return their loss, which the next call overwrites."""
        self._chosen.copy_(chosen)
        self._replay()
        return self._loss


def recorded(step: Step, chosen: Tensor) -> tuple[Callable[[], object], Tensor]:
    """Record a step on ``chosen`` as a CUDA graph; return what replays it, and the tensor that will hold its loss."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # a library's first call must not be captured, and the default stream cannot be
        for _ in range(WARM_UP):
            step(chosen)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(chosen)
    return graph.replay, loss


@contextlib.contextmanager
def _left_as_it_was(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Undo what steps do to a network and to Adam's state, in place: a graph reads and writes these very tensors.

    Meanwhile the optimiser says that it can be captured, which its fused form always can.
    """
    tensors = [*model.parameters(), *model.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    state = {
        parameter: {name: value.clone() for name, value in of.items()} for parameter, of in optimizer.state.items()
    }
    capturable = [group["capturable"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, was in zip(optimizer.param_groups, capturable, strict=True):
            group["capturable"] = was
        with torch.no_grad():
            for tensor, was in zip(tensors, before, strict=True):
                tensor.copy_(was)
            for parameter, of in optimizer.state.items():
                for name, value in of.items():
                    # Adam's state of a parameter that has not been stepped is zero.
                    value.copy_(state[parameter][name]) if parameter in state else value.zero_()
