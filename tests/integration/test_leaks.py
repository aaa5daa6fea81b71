"""Leaking trials on Ray: they reach a worker in another process as what they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.leaks import arguments, written
from tfser.leaks import command

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]


def test_ray_gives_the_table_of_the_in_process_runner_to_the_byte(tiny_manifest, tmp_path):
    more = ("--leak", "standardisation", "random_split")
    assert command.main(arguments(tiny_manifest, tmp_path / "alone", *more, epochs="1")) == 0
    words = [word for word in arguments(tiny_manifest, tmp_path / "ray", *more, epochs="1") if word != "--in-process"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tfser.leaks", *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trained 12 trials" in done.stdout
    assert written(tmp_path / "ray") == written(tmp_path / "alone")
