"""What a record says of where it was made: versions and device."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from importlib.metadata import version

import torch

from tfser import __version__
from tfser.errors import NoDeviceError
from tfser.execution.task import DeviceKind


def device(wanted: DeviceKind = "any") -> torch.device:
    """Return the device of a trial.

    Args:
        wanted: ``cpu``, ``gpu``, or ``any`` for the GPU where Ray or the user left one visible, else the CPU.

    Raises:
        NoDeviceError: a GPU is wanted and none is visible; training on a CPU instead would take days in silence.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "gpu":
        built = f"PyTorch {torch.__version__}" + ("" if torch.version.cuda else ", which was built without CUDA,")
        raise NoDeviceError(f"its share of a GPU is of no use: {built} sees none here (tfser doctor says why)")
    return torch.device("cpu")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that can change a number.

    Args:
        more: packages beside those of every trial.
    """
    return {
        "tfser": __version__,
        "python": platform.python_version(),
        **{n: _version(n) for n in ("torch", "torchaudio", "numpy", *more)},
    }


_version = lru_cache(version)


def device_name() -> str:
    """Return the name of the GPU, else of the CPU's kind."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return cpu_name()


def usable_cpus() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the name of the CPU's kind."""
    return platform.processor() or platform.machine()
