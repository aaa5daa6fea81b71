"""Findings about one machine: versions, devices, disk. The facts come from ``probe`` and from tfser's own metadata."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tfser.doctor.findings import Finding, gib, note, ok, problem, warning
from tfser.errors import counted

ROOT = Path(__file__).resolve().parents[2]

LITTLE_SPACE = 2 * 2**30
"""Bytes of free space below which there is a warning: the features of seven hours of speech alone are 0.8 GiB."""

FULL = 2**26
"""Bytes of free space below which a disk counts as full."""

MEMORY_OF_A_TRIAL = 2**29
"""Bytes that a worker process with torch takes in any training."""

LITTLE_SHARED_MEMORY = 256 * 2**20
"""Bytes of shared memory below which there is a warning; Docker's default is 64 MiB, and Ray then uses the disk."""

RAY_DISK_LIMIT = 0.95
"""Share of the temporary files' disk from which Ray writes no objects there (``local_fs_capacity_threshold``)."""


def requirements() -> tuple[str, list[str]] | None:
    """Return the Python and the packages that tfser's metadata requires; ``None`` without metadata."""
    try:
        told = metadata.metadata("tfser")
        return told["Requires-Python"] or "", [r for r in metadata.requires("tfser") or [] if "extra ==" not in r]
    except metadata.PackageNotFoundError:
        pass
    try:  # a checkout that runs without being installed
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["requires-python"]), [str(r) for r in project["dependencies"]]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return None


def package(requirement: str) -> str:
    """Return the name in a requirement.

    >>> package("ray[default,tune]<2.61,>=2.60")
    'ray'
    """
    return re.split(r"[\[<>=!~;\s]", requirement, maxsplit=1)[0]


def allows(requirement: str, version: str) -> bool:
    """Tell whether a version is in the requirement's ranges; anything after its last number is ignored.

    >>> allows("torch>=2.11,<2.12", "2.11.0+cu128"), allows("torch>=2.11,<2.12", "2.12.0")
    (True, False)
    """
    own = _numbers(version)
    for operator, bound in re.findall(r"(>=|<=|==|!=|<|>)\s*([0-9][^,;\s]*)", requirement):
        other = _numbers(bound)
        width = max(len(own), len(other))
        a, b = (n + (0,) * (width - len(n)) for n in (own, other))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b}[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    own = re.sub(r"(?s)[^0-9.].*", "", version)
    return tuple(int(n) for n in own.split(".") if n)


def versions(facts: Mapping[str, Any], needed: tuple[str, list[str]] | None) -> list[Finding]:
    """Check Python, tfser, and the packages that tfser needs.

    Args:
        facts: the result of ``probe.look``.
        needed: the result of ``requirements``.
    """
    topic, own, found = "versions", facts["tfser"], []
    where = f"tfser {own['version']} (code {own['code']}) in {own['folder']}, Python {facts['python']}"
    install = install_command()
    if needed is None:
        text = f"{where}; neither its metadata nor a pyproject.toml is there, so the supported versions are not known"
        return [warning(topic, text, install)]
    python, packages = needed
    if allows(python, facts["python"]):
        found.append(ok(topic, where))
    else:
        found.append(problem(topic, f"{where}; supported is Python {python}", "python3.11 -m venv .venv"))
    installed = {r: facts["versions"].get(package(r)) for r in packages}
    missing = [package(r) for r, version in installed.items() if version is None]
    if missing:
        found.append(problem(topic, f"missing: {', '.join(missing)}", install))
    wrong = {r: version for r, version in installed.items() if version and not allows(r, version)}
    for requirement, version in wrong.items():
        name = package(requirement)
        text = f"{name} {version} is installed; supported is {requirement.removeprefix(name)}"
        found.append(problem(topic, text, f"pip install '{requirement}'"))
    fine = [f"{package(r)} {version}" for r, version in installed.items() if version and r not in wrong]
    if fine:
        found.append(ok(topic, f"in the supported ranges: {', '.join(fine)}"))
    return found + _pair(facts["versions"].get("torch"), facts["versions"].get("torchaudio"))


def _pair(torch: str | None, torchaudio: str | None) -> list[Finding]:
    """Check that torchaudio's compiled part fits torch."""
    if not torch or not torchaudio or _numbers(torch)[:2] == _numbers(torchaudio)[:2]:
        return []
    text = f"torch {torch} and torchaudio {torchaudio} are no pair; their first two numbers must be the same"
    return [problem("versions", text, _reinstall())]


def install_command() -> str:
    """Return the command that installs tfser with all it needs, from the checkout if this is one."""
    if (ROOT / "pyproject.toml").exists():
        return f"pip install -c {shlex.quote(str(ROOT / 'constraints.txt'))} -e {shlex.quote(str(ROOT))}"
    return "pip install 'tfser'"


def _reinstall() -> str:
    """Return the command that mends torch and torchaudio."""
    needed = requirements()
    wanted = [r for r in (needed[1] if needed else []) if package(r) in ("torch", "torchaudio")] or [
        "torch",
        "torchaudio",
    ]
    return "pip install --force-reinstall " + " ".join(f"'{r}'" for r in wanted)


def devices(facts: Mapping[str, Any]) -> list[Finding]:
    """Check CPUs, memory and GPUs, and whether torch works on them.

    Args:
        facts: the result of ``probe.look`` with ``device``.
    """
    topic, found = "devices", []
    cpus, quota = facts["cpus"]["usable"], facts["cpus"]["quota"]
    free, total = facts["memory"]["free"], facts["memory"]["total"]
    room = f", {gib(free)} of {gib(total)} memory free" if free is not None else ""
    found.append(ok(topic, f"{counted(cpus, 'CPU')} for this process{room}"))
    if quota is not None and quota < cpus:
        at_once = f"a sweep would start {counted(cpus, 'trial')} at once"
        text = f"the container's quota is {quota:g} of these {counted(cpus, 'CPU')}; {at_once}"
        found.append(warning(topic, text, f"add to the sweep: --trial-cpus {cpus / quota:.3g}"))
    if free is not None and free < MEMORY_OF_A_TRIAL * cpus:
        text = f"{gib(free)} of memory are free for {counted(cpus, 'trial')} at once"
        fits = max(1, int(free / MEMORY_OF_A_TRIAL))
        found.append(warning(topic, text, f"add to the sweep: --trial-cpus {cpus / fits:.3g}"))
    return found + torch_findings(facts["device"]) + training(facts)


def training(facts: Mapping[str, Any]) -> list[Finding]:
    """List what would make every trial fail on a machine.

    Args:
        facts: the result of ``probe.look``.
    """
    account, found = facts["account"], []
    if facts["training"]:
        text = f"a short training on the CPU fails ({facts['training']}), and so would every trial"
        found.append(problem("devices", text, _reinstall()))
    if account["number"] is not None and account["name"] is None:
        text = f"this system knows no name for the account {account['number']}; other programs than tfser may need one"
        found.append(note("devices", text, "export USER=tfser HOME=/a/folder/that/can/be/written"))
    return found


def torch_findings(device: Mapping[str, Any]) -> list[Finding]:
    """Turn the facts of ``probe.device`` into findings."""
    topic, found = "devices", []
    for name, error in device["errors"].items():
        found.append(
            problem(
                topic,
                f"{name} cannot be imported ({error})",
                _reinstall() if name.startswith("torch") else f"pip install {name}",
            )
        )
    if "torch" in device["errors"]:
        return found
    if device["cpu"]:
        found.append(problem(topic, f"torch does not work on the CPU ({device['cpu']})", _reinstall()))
    for index, gpu in enumerate(device["gpus"]):
        name = f"GPU {index}, {gpu['name']}"
        if gpu["error"]:
            found.append(problem(topic, f"{name}, does not work ({gpu['error']})", "nvidia-smi -q -d ECC,PERFORMANCE"))
        else:
            room = f"{gib(gpu['free'])} of {gib(gpu['total'])} memory free"
            found.append(ok(topic, f"{name}: {room}, a product of matrices comes out right"))
    if not device["gpus"] and device["driver"]:
        without = device["cuda"] is None
        why = "this torch is built without CUDA" if without else "; ".join(device["said"]) or "torch finds no GPU"
        text = f"there is an NVIDIA driver, and torch cannot use it ({why}); trials would train on CPUs"
        found.append(warning(topic, text, _reinstall() if without else "nvidia-smi"))
    elif not device["gpus"]:
        works = "" if device["cpu"] else ", where a product of matrices comes out right"
        found.append(note(topic, f"no GPU; trials train on CPUs{works}"))
    return found


def disk(facts: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Check the free space.

    Args:
        facts: the result of ``probe.disk``.
    """
    topic, found, fine = "disk", [], []
    other = {"temporary files": "export TMPDIR=/a/larger/disk", "storage": "name another with --storage"}
    for what, space in facts.items():
        free, total = space["free"], space["total"]
        text = f"{what} ({space['path']}): {gib(free)} of {gib(total)} free"
        command = other.get(what, "export TFSER_CACHE=/a/larger/disk")
        if what == "shared memory":
            if total < LITTLE_SHARED_MEMORY:
                found.append(warning(topic, f"{text}, too little for Ray's objects", "docker run --shm-size=2g ..."))
            else:
                fine.append(text)
        elif free < FULL:
            found.append(problem(topic, text, command))
        elif what == "temporary files" and free < (1 - RAY_DISK_LIMIT) * total:
            found.append(
                warning(
                    topic,
                    f"{text}; Ray writes no objects to a disk that is 95 % full",
                    "export RAY_TMPDIR=/a/larger/disk",
                )
            )
        elif free < LITTLE_SPACE:
            found.append(warning(topic, text, command))
        else:
            fine.append(text)
    if fine:
        found.append(ok(topic, "; ".join(fine)))
    return found


def names(needed: tuple[str, Sequence[str]] | None) -> list[str]:
    """Return the packages whose versions matter."""
    return (
        [package(r) for r in needed[1]]
        if needed
        else ["torch", "torchaudio", "numpy", "soundfile", "ray", "optuna", "mlflow"]
    )
