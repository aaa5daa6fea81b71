"""Whose fault an error is: a trial's, this machine's, its GPU's, or that of too little memory.

Types and CUDA's numbers count where PyTorch gives them. For the rest, the words of errors are read here and nowhere
else. Knows nothing of trials.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator

import torch

from tfser.errors import DeviceError, TrialError, of_the_system
from tfser.models import isolated

_MEMORY_ALLOCATION = 2
"""CUDA's number of an allocation that failed, ``cudaErrorMemoryAllocation``; a driver's number is the same."""

_NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUSPARSE_STATUS_INSUFFICIENT_RESOURCES",
    # No algorithm of cuDNN was left whose workspace had room.
    "was unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
)
"""Words in PyTorch's errors where the CPU's memory, or that of a GPU or of one of its libraries, is used up."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, says that a process or its GPU has too little memory."""
    return any(map(_says_no_memory, _causes(error)))


def _says_no_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, torch.AcceleratorError) and (code := getattr(error, "error_code", None)) is not None:
        return bool(code == _MEMORY_ALLOCATION)
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    unsupported = "CUDNN_STATUS_NOT_SUPPORTED" in said and "workspace" in said.lower()
    return unsupported or any(words in said for words in _NO_MEMORY)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and the errors that it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


_DEVICE_FAULTS = (
    "CUDA error",
    "CUDA driver",
    "CUDA-capable",
    "CUDA GPU",
    "CUDA_ERROR_",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "CUSOLVER_STATUS",
    "CUSPARSE_STATUS",
    "CUFFT_",
    "cuBLAS error",
    "cuDNN error",
    "cuFFT error",
    "cusolver error",
    "NCCL error",
    "HIP error",
)
"""Words in PyTorch's errors about a GPU that does not work, or whose context is broken for every later trial."""


def of_the_device(error: BaseException) -> bool:
    """Return whether an error is a GPU's, and not about memory: every later trial of this process may meet it too."""
    return not isinstance(error, TrialError) and not out_of_memory(error) and any(map(_of_a_gpu, _causes(error)))


def _of_a_gpu(error: BaseException) -> bool:
    if isinstance(error, (DeviceError, torch.AcceleratorError)):
        return True
    # PyTorch's are RuntimeErrors; another error that holds these words is about something else.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _DEVICE_FAULTS)


_ACCOUNT_FAULTS = ("getpwuid()", "home directory")
"""Words in Python's errors about an account that the system does not know."""

_SYSTEM_MODULES = tuple(
    f"{sysconfig.get_path('stdlib')}/{name}.py" for name in ("getpass", "pathlib", "posixpath", "shutil", "tempfile")
)
"""Modules that ask the system for accounts, homes and files; an error raised there is not the trial's fault."""


def of_the_machine(error: BaseException) -> bool:
    """Return whether an error is a fault of this machine or its software, and not of the trial.

    What a person's own file raises, a missing file or module among it, would recur on every machine.
    """
    if isinstance(error, TrialError):
        return False
    if of_the_device(error) or any(words in str(error) for words in _ACCOUNT_FAULTS):
        return True
    if isolated.said(error) is not None:
        return of_the_system(error)
    if isinstance(error, (OSError, ImportError)):
        return True
    files = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
    return any(name.startswith("<frozen importlib.") or name in _SYSTEM_MODULES for name in files)
