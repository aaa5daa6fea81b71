"""The image of every node: built and run where a builder answers, else read for what can be read.

``tests/unit/test_cluster_files.py`` compares its versions, sources and scripts with the rest of the repository.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tfser import __version__

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster" / "Dockerfile"
READ = "test_cluster_files.py and test_image.py still compare its versions, sources, scripts and shell lines"


def builder():
    """The first program of the three that answers; or what each one says instead."""
    said = []
    for name in ("docker", "podman", "buildah"):
        if shutil.which(name) is None:
            said.append(f"{name} is not installed")
            continue
        try:
            done = subprocess.run([name, "info"], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            said.append(f"{name}: {error}")
            continue
        if done.returncode == 0:
            return name, ""
        said.append(f"{name}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return None, "; ".join(said)


def ran(*words, **more):
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{shlex.join(map(str, words))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.mark.full
def test_the_image_is_built_and_trains():
    name, why_not = builder()
    if name is None:
        pytest.skip(f"the image was not built, for no builder answers ({why_not}); {READ}")
    image, sweep = f"tfser-test:{__version__}", "synthetic --epochs 1 --trials 0 --fold ada --in-process"
    if name == "buildah":
        ran(name, "build", "-f", FILE, "-t", image, ROOT, timeout=2400)
        container = ran(name, "from", image)
        try:
            version = ran(name, "run", container, "--", "tfser", "--version", timeout=120)
            table = ran(name, "run", container, "--", "tfser", "sweep", *sweep.split(), timeout=600)
        finally:
            ran(name, "rm", container)
    else:
        ran(name, "build", "-f", FILE, "-t", image, ROOT, timeout=2400)
        version = ran(name, "run", "--rm", image, "tfser", "--version", timeout=120)
        table = ran(name, "run", "--rm", image, "tfser", "sweep", *sweep.split(), timeout=600)
    assert version == f"tfser {__version__}"
    assert "Trained 1 trial in" in table


@pytest.mark.full
def test_a_linter_finds_no_error_in_the_file():
    if shutil.which("hadolint") is None:
        pytest.skip(f"hadolint is not installed; {READ}")
    ran("hadolint", "--failure-threshold", "error", FILE)


def instructions():
    """Every instruction of the file, its lines joined, without comments."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line.split(None, 1) for line in joined.splitlines() if line.strip()]


def test_every_line_of_the_file_is_an_instruction_that_a_builder_knows():
    words = [word for word, _ in instructions()]
    assert words[0] == "FROM"
    assert set(words) <= {"FROM", "ENV", "USER", "RUN", "COPY", "WORKDIR"}
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users[-1] == "ray", "the image runs as root"
    (image,) = [rest for word, rest in instructions() if word == "FROM"]
    assert re.fullmatch(r"\S+:[\d.]+-py\d+", image), "the base has no fixed version"


def test_the_shell_and_the_python_of_the_file_can_be_read():
    commands = [rest for word, rest in instructions() if word == "RUN"]
    assert len(commands) >= 4
    for command in commands:
        done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), command
        words = shlex.split(command)
        if words[:2] == ["python", "-c"]:
            compile(words[2], str(FILE), "exec")
    for text in [rest for word, rest in instructions() if word == "ENV"]:
        assert all(re.fullmatch(r"\w+=\S+", word) for word in shlex.split(text))


def test_a_builder_that_is_missing_or_silent_is_named_with_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert builder() == (None, "docker is not installed; podman is not installed; buildah is not installed")
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'no daemon' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    assert builder() == (None, "docker: no daemon; podman is not installed; buildah is not installed")
    (tmp_path / "podman").write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    (tmp_path / "podman").chmod(0o755)
    assert builder() == ("podman", "")
