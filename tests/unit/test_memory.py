"""What a trial does with memory leaves its numbers, and what is not its own, as they were."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch.utils import deterministic

from tfser.training.allocator import unfilled
from tfser.training.training import settled


def test_new_tensors_are_left_as_they_come_only_inside() -> None:
    before = deterministic.fill_uninitialized_memory
    with settled(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not deterministic.fill_uninitialized_memory
    assert deterministic.fill_uninitialized_memory == before
    with pytest.raises(ZeroDivisionError), unfilled():
        1 / 0  # noqa: B018
    assert deterministic.fill_uninitialized_memory == before


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_freed_memory_is_kept_unless_the_environment_has_decided() -> None:
    code = "from tfser.training.allocator import keep_freed_memory; print(keep_freed_memory())"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for added, expected in (({}, "True"), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, "False")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=plain | added, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
