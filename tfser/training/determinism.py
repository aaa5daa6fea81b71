"""Equal work gives equal numbers in every process: threads, kernels, precision and random state are fixed here.

This module knows PyTorch and nothing of trials. ``tfser.training.allocator`` handles a process's memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tfser import name_the_account
from tfser.training.allocator import keep_freed_memory, unfilled

Precision = Literal["float32", "tf32", "bfloat16"]
"""Of training. ``tf32`` rounds the inputs of matrix products on a GPU, ``bfloat16`` computes them in it."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def precision_of(settings: Mapping[str, Any]) -> Precision:
    """Return the precision that a trial's settings name.

    Raises:
        ValueError: there is no such precision.
    """
    return PRECISIONS[PRECISIONS.index(settings["precision"])]


def computes_bfloat16() -> bool:
    """Tell whether this machine's CPU has instructions for products in bfloat16, by any vendor's name."""
    return any("bf16" in name and value is True for name, value in torch.cpu.get_capabilities().items())


@contextlib.contextmanager
def settled(device: torch.device, precision: Precision = "float32") -> Iterator[None]:
    """Fix one thread, deterministic kernels, one precision and private random states; restore all of it at the end.

    Meanwhile, what is printed goes to stderr.

    Args:
        device: the device of the work.
        precision: of matrix products on a GPU. PyTorch's own default there is a mixture: convolutions and LSTMs round,
            matrix products do not.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn: Any = torch.backends.cudnn  # its parts are missing in torch's stubs
    products: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [kind.fp32_precision for kind in products]
    python, numbers = random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    if "torch._inductor" not in sys.modules:
        name_the_account()  # the next line imports it, and it asks for the account's name
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    for kind in products:
        kind.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    if device.type == "cpu":
        keep_freed_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it with its first product
    try:
        # Some commands print JSON, so that what a model prints must not get there.
        with (
            unfilled(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            # A GPU's faster kernels of attention sum gradients in whatever order its threads end.
            sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else contextlib.nullcontext(),
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        for kind, was in zip(products, before, strict=True):
            kind.fp32_precision = was
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def seed_all(seed: int) -> None:
    """Seed the global random states of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # else that takes milliseconds, for nothing
        torch.cuda.manual_seed_all(seed)


def derived_seed(*parts: object) -> int:
    """Derive a 63-bit seed from its purpose: the same in every process, unlike ``hash``."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def weights_digest(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all parameters and buffers of a model or state dictionary; equal models, equal digest."""
    digest = hashlib.sha256()
    for name, tensor in (weights.state_dict() if isinstance(weights, nn.Module) else weights).items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()
