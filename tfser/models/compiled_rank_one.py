"""``rank_one.softmax_means`` as two kernels of PyTorch's compiler: no softmax is ever in memory.

Axes and equations are those of ``tfser.models.rank_one``; S = H F. Each kernel computes an exponential where it is
needed and adds it up at once. Only sums over one sequence are compiled. Sums over all sequences stay PyTorch's own, so
that a kernel's results do not depend on the number of sequences that it was compiled for.

Where it cannot be compiled, an error says so. Nothing falls back to another kernel, whose numbers differ in the last
digits. Knows nothing of models.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tfser import name_the_account
from tfser.errors import MachineError, in_a_line

UNCOMPILED = "needs a C++ compiler, with which PyTorch compiles the kernel"
"""What is said first where a kernel cannot be compiled."""

_WAY_OUT = "install one (Debian: g++ and python3-dev), or leave the setting out"

OPTIONS = {
    "compile_threads": 1,  # else each worker starts a pool of compiling processes
    "cpp.threads": 1,
    "fx_graph_cache": False,  # its key lacks the instruction set that ATEN_CPU_CAPABILITY allows
}
"""Of PyTorch's compiler, for both kernels."""

RECOMPUTED = {"realize_reads_threshold": 1000, "realize_opcount_threshold": 1000}
"""Has the compiler compute the exponentials of the forward pass within its three sums, and not keep them."""


def missing() -> list[str]:
    """Return what this machine lacks to compile a kernel for a CPU, in words; empty if a compiler is found.

    A compiler that is found and does not work is an error of the first step.
    """
    name = os.environ.get("CXX") or str(_configured()[-1])
    if shutil.which(name) is not None:
        return []
    where = "CXX names it" if os.environ.get("CXX") else "looked for on PATH"
    return [f"{UNCOMPILED}: no {name} is here ({where}); {_WAY_OUT}"]


def _configured() -> tuple[Any, ...]:
    """Return the names of compilers that PyTorch tries, the usual one last."""
    name_the_account()  # the import asks for the account's name
    from torch._inductor import config

    found: tuple[Any, ...] = config.cpp.cxx
    return found


def softmax_means(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> Tensor:
    """Return what ``rank_one.softmax_means`` returns; differentiable once.

    Raises:
        MachineError: this machine cannot compile it.
    """
    if len(x_NF) == 1:  # the compiler would take a size of 1 for a constant
        return softmax_means(x_NF.expand(2, -1).contiguous(), slope_H, offset_H)[:1]
    m_NHF: Tensor = _SoftmaxMeans.apply(x_NF, slope_H, offset_H)[0]  # type: ignore[no-untyped-call]
    return m_NHF


def _scores(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> tuple[Tensor, Tensor]:
    """Return, in the unit of ``exp2``, each s, and the scalar with the largest logit for it, both (N, H, F)."""
    s_NHF = (x_NF[:, None] * slope_H[:, None] + offset_H[:, None]) * math.log2(math.e)
    return s_NHF, torch.where(s_NHF > 0, x_NF.amax(1)[:, None, None], x_NF.amin(1)[:, None, None])


def _forward(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return m, the softmax's sums and its variances, each (N, H, F)."""
    s_NHF, largest_NHF = _scores(x_NF, slope_H, offset_H)
    x_N11F = x_NF[:, None, None]
    # The compiler keeps an ``exp`` that is used three times, but not an ``exp2``.
    weights_NHFF = (s_NHF[..., None] * (x_N11F - largest_NHF[..., None])).exp2()  # at most 1
    sums_NHF = weights_NHFF.sum(-1)
    m_NHF = (weights_NHFF * x_N11F).sum(-1) / sums_NHF
    return m_NHF, sums_NHF, (weights_NHFF * (x_N11F * x_N11F)).sum(-1) / sums_NHF - m_NHF * m_NHF


def _backward(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor, m_NHF: Tensor, shares_NHF: Tensor) -> Tensor:
    """Return the gradient toward each x as a key, (N, F); ``shares`` is the gradient toward m by the softmax's sum."""
    s_NHF, largest_NHF = _scores(x_NF, slope_H, offset_H)
    s_NS = s_NHF.flatten(1)
    linear_NS = shares_NHF.flatten(1) * s_NS * math.log(2)
    constant_NS = shares_NHF.flatten(1) - linear_NS * m_NHF.flatten(1)
    x_NF1 = x_NF[..., None]
    weights_NFS = (s_NS[:, None] * (x_NF1 - largest_NHF.flatten(1)[:, None])).exp2()
    return (weights_NFS * (constant_NS[:, None] + linear_NS[:, None] * x_NF1)).sum(-1)


class _SoftmaxMeans(torch.autograd.Function):
    @staticmethod
    def forward(x_NF: Tensor, slope_H: Tensor, offset_H: Tensor) -> tuple[Tensor, ...]:
        """Return m, and for the gradient the softmax's sums and its variances, each (N, H, F)."""
        made: tuple[Tensor, ...] = _called(_forward, x_NF, slope_H, offset_H)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_NF, slope_H, offset_H, m_NHF, sums_NHF, variance_NHF = ctx.saved_tensors
        toward_s_NHF = gradients[0] * variance_NHF
        toward_keys_NF: Tensor = _called(_backward, x_NF, slope_H, offset_H, m_NHF, gradients[0] / sums_NHF)
        toward_x_NF = toward_keys_NF + (toward_s_NHF * slope_H[:, None]).sum(1)
        return toward_x_NF, (toward_s_NHF * x_NF[:, None]).sum((0, 2)), toward_s_NHF.sum((0, 2))


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that PyTorch compiles when it is called; a part that cannot be compiled is an error."""
    name_the_account()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA that nobody asked for
    more = RECOMPUTED if function is _forward else {}
    return torch.compile(function, fullgraph=True, options={**OPTIONS, **more})


def _called(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """Call a compiled function; the first axis of every argument is N, but for vectors.

    Raises:
        MachineError: it cannot be compiled here.
    """
    import torch._dynamo
    from torch._dynamo.exc import TorchDynamoException

    given = [tensor.detach().contiguous() for tensor in arguments]
    for tensor in given:
        if tensor.dim() > 1:  # from the first call on, so that there is one kernel for any number of sequences
            torch._dynamo.mark_dynamic(tensor, 0)
    try:
        # A worker may train networks of any number of shapes; beyond a few, the compiler would refuse.
        with (
            torch._dynamo.config.patch(recompile_limit=10**6, accumulated_recompile_limit=10**6),
            warnings.catch_warnings(category=DeprecationWarning, action="ignore"),  # the compiler's, of its own parts
        ):
            return _compiled(function)(*given)
    except TorchDynamoException as error:
        cause = in_a_line(error.__cause__ or error)
        raise MachineError(f"the compiled attention kernel {UNCOMPILED}: {cause}; {_WAY_OUT}") from error
