"""How many trials share a GPU: the largest one is trained for a few steps on one, and the rest is arithmetic.

``probe`` measures, in a process that has the GPU to itself. ``share`` decides, from numbers alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tfser.execution import run_trial
from tfser.execution.faults import out_of_memory
from tfser.execution.this_machine import device
from tfser.features.pack import Pack
from tfser.features.segments import hop_of
from tfser.models import Network, of
from tfser.planning.settings import build_settings
from tfser.training.ingredients import without_data
from tfser.training.training import SCORING_SEGMENTS, Training, TrialData
from tfser.trial import Value

HEAD_ROOM = 0.15
"""Ours: share of a GPU's memory that stays free, as a process that trains trial after trial keeps a little more."""

MOST = 16
"""Ours: most trials that share one GPU; more of them wait for each other, however small they are."""

STEPS = 3
"""Training steps of the probe: the optimiser's state is there after the first, and the peak after the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Needs of one trial, measured on a GPU."""

    device: str
    peak_bytes: int
    """Peak memory of its tensors, and what the process needs beside them."""
    total_bytes: int
    """Memory of the device."""
    mps: bool
    """Whether processes that share the device compute at the same moment."""


def share(probes: Sequence[Probe], cpus_per_gpu: float, trial_cpus: float, together: int = 1) -> float:
    """Return the smallest share of a GPU that is enough for a trial.

    Args:
        probes: of the largest trials; the one that needs most counts.
        cpus_per_gpu: CPUs of the cluster for each of its GPUs.
        trial_cpus: CPUs of one trial.
        together: trials that one process trains at once. Each is counted with all that a process needs, which is a
            little too much.

    Returns:
        One over a whole number from 1 to ``MOST``, rounded down to ten-thousandths, in which Ray counts.
    """
    by_memory = min(
        (int(p.total_bytes * (1 - HEAD_ROOM)) // max(p.peak_bytes * together, 1) for p in probes), default=1
    )
    number = max(1, min(by_memory, int(cpus_per_gpu / trial_cpus + 1e-9), MOST))
    return 10_000 // number / 10_000


def described(probes: Sequence[Probe], chosen: float) -> str:
    """Say in a line what was measured and what follows."""
    worst = max(probes, key=lambda p: p.peak_bytes / p.total_bytes)
    taken, total = worst.peak_bytes / 2**30, worst.total_bytes / 2**30
    mps = "MPS is on there" if worst.mps else "MPS is not on there, so that they compute in turns"
    number = int(1 / chosen)
    they = "1 trial has a GPU to itself" if number == 1 else f"{number} trials share a GPU"
    return f"{they}: the largest takes {taken:.1f} of the {total:.1f} GiB of {worst.device}; {mps}"


def probe(task: run_trial.Task, cuda: Any = torch.cuda) -> Probe:
    """Train and score a trial for a few steps on this process's GPU, and measure what it took.

    Nothing is kept. Memory that other processes hold counts as the trial's own.

    Args:
        task: the trial; its features have to be there.
        cuda: answers questions about the device.

    Raises:
        MemoryError: not even one such trial fits.
        OSError, ValueError: its features cannot be read.
    """
    spec, pack = task.spec, Pack.open(task.pack)
    data = run_trial.trial_data(pack, pack.frames(), spec)
    model = of(spec)
    assert isinstance(model, Network)
    # None of these changes the memory of a step, and this data lacks the speakers.
    usual: dict[str, Value] = {"segment_share": 1.0, "standardisation": "training", "utterance_rule": "mean"}
    settings = without_data(build_settings(model, spec.settings) | usual)
    hop = max(hop_of(settings, "training"), hop_of(settings, "scoring"))
    data = TrialData(
        frames=data.frames,
        emotions=data.emotions,
        train=_some(data.train, hop, STEPS * int(settings["batch_size"])),
        scored=_some(data.train, hop, SCORING_SEGMENTS),
    )
    run_trial.give_back_memory()  # what an earlier probe of this process left would count as this one's
    cuda.reset_peak_memory_stats()
    on = device(task.device)
    try:
        training = Training(
            lambda: model.build(spec.ablation, settings, len(data.emotions)),
            data,
            settings,
            0,
            1,
            on,
            captured=task.captured and on.type == "cuda",  # a graph keeps the memory of its own pool
        )
        training.run_epoch()
        training.score(at_once=SCORING_SEGMENTS)
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise
    cuda.synchronize()
    free, total = cuda.mem_get_info()
    beside = max(total - free - cuda.memory_reserved(), 0)  # the context, and other processes
    return Probe(
        device=cuda.get_device_name(0),
        peak_bytes=cuda.max_memory_reserved() + beside,
        total_bytes=total,
        mps=mps_is_on(),
    )


def _some(rows: Sequence[tuple[int, int, int]], hop: int, segments: int) -> tuple[tuple[int, int, int], ...]:
    """Return the first utterances that together have that many segments."""
    count = 0
    for number, (_, frames, _) in enumerate(rows, 1):
        count += max(frames // hop, 1)
        if count >= segments:
            return tuple(rows[:number])
    return tuple(rows)


def mps_is_on() -> bool:
    """Return whether a CUDA MPS daemon serves this machine: it answers, or its program is not here and its pipe is."""
    if shutil.which("nvidia-cuda-mps-control"):
        try:
            asked = subprocess.run(
                ["nvidia-cuda-mps-control"], input=b"get_server_list\n", capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return asked.returncode == 0
    return (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps") / "control").exists()
