"""Whose fault an error is: a trial's, this machine's, or that of too little memory.

PyTorch and Python give no types for most of these; the words of their errors are read here and nowhere else. Knows
nothing of trials.
"""

from __future__ import annotations

import sysconfig
import traceback

import torch

from tfser.errors import TrialError
from tfser.models import isolated
from tfser.training.estimators import OF_THE_MACHINE


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a process or its GPU has too little memory."""
    # PyTorch raises a plain RuntimeError where the CPU's memory, or that of a GPU library, is used up.
    said = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in said)


_DEVICE_FAULTS = (
    "CUDA error",
    "CUDA driver",
    "CUDA-capable",
    "CUDA GPU",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "cuDNN error",
    "HIP error",
)
"""Words in PyTorch's errors about a GPU that does not work, or whose context is broken for every later trial."""

_ACCOUNT_FAULTS = ("getpwuid()", "home directory")
"""Words in Python's errors about an account that the system does not know."""

_SYSTEM_MODULES = tuple(
    f"{sysconfig.get_path('stdlib')}/{name}.py" for name in ("getpass", "pathlib", "posixpath", "shutil", "tempfile")
)
"""Modules that ask the system for accounts, homes and files; an error raised there is not the trial's fault."""


def of_the_model(error: BaseException) -> bool:
    """Return whether a person's code looked for a file that is not there, or asked to end the process."""
    if isinstance(error, OSError):
        return error.errno not in OF_THE_MACHINE and isolated.place(error) is not None
    return isolated.asked_to_end(error)


def of_the_machine(error: BaseException) -> bool:
    """Return whether an error is a fault of this machine or its software, and not of the trial."""
    if isinstance(error, TrialError):
        return False
    if isinstance(error, (OSError, ImportError)) or any(
        words in str(error) for words in (*_DEVICE_FAULTS, *_ACCOUNT_FAULTS)
    ):
        return True
    files = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
    return any(name.startswith("<frozen importlib.") or name in _SYSTEM_MODULES for name in files)
