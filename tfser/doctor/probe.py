"""The facts of one machine, as plain values, without judgement.

This file is sent as it is to every node of a cluster, which may have another tfser or none. At the top it therefore
imports only the standard library, and its functions return values that any Python can read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

MARKER = ".tfser-doctor-"
"""Beginning of the names of the files that are written and removed again."""

NETWORK_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "lustre",
    "beegfs",
    "ceph",
    "gpfs",
)


def look(request: Mapping[str, Any]) -> dict[str, Any]:
    """Gather everything about the machine that this runs on.

    Args:
        request: ``packages`` (names), ``ground`` (where to write, or ``None``), ``own`` and ``marker`` (see ``touch``),
            ``data`` (the folder to list, or ``None``), ``device`` (whether to import torch and use it).
    """
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": versions(request["packages"]),
        "tfser": tfser_facts(),
        "cpus": cpus(),
        "memory": memory(),
        "disk": disk(request["ground"]),
        "storage": touch(request["ground"], request["own"], request["marker"]) if request["ground"] else None,
        "data": listing(request["data"]) if request["data"] else None,
        "device": device() if request["device"] else None,
        "account": account(),
        "training": training(),
    }


def now() -> float:
    """Return this machine's clock, in seconds since 1970."""
    return time.time()


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the installed version of each package, or ``None``. Nothing is imported."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def tfser_facts() -> dict[str, str | None]:
    """Return tfser's version, the digest of its code, and its folder; ``None`` for what is not there."""
    facts: dict[str, str | None] = {"version": None, "code": None, "folder": None}
    with contextlib.suppress(ImportError):
        import tfser

        facts.update(version=tfser.__version__, folder=str(Path(tfser.__file__).resolve().parent))
        from tfser.storage.packaged_files import code_digest

        facts["code"] = code_digest()
    return facts


def cpus() -> dict[str, float | None]:
    """Return the CPUs that the process may use, and how many of them a container's quota allows."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = None
    with contextlib.suppress(OSError, ValueError):  # no such file: no container, or an older kind of it
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        quota = float(limit) / float(period)
    return {"usable": usable, "quota": quota}


def memory() -> dict[str, float | None]:
    """Return total and free bytes of memory; a container's limit counts."""
    facts: dict[str, float | None] = {"total": None, "free": None}
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {line.split(":")[0]: float(line.split()[1]) for line in lines}
        facts = {"total": 1024 * kilobytes["MemTotal"], "free": 1024 * kilobytes["MemAvailable"]}
        group = Path("/sys/fs/cgroup")
        limit = float((group / "memory.max").read_text(encoding="ascii"))  # "max" is no number: no limit
        used = float((group / "memory.current").read_text(encoding="ascii"))
        facts = {"total": min(facts["total"] or 0, limit), "free": min(facts["free"] or 0, max(limit - used, 0.0))}
    return facts


def disk(ground: str | None) -> dict[str, dict[str, Any]]:
    """Return the space of the storage (if it is a folder), the temporary folder and the shared memory."""
    places = {"temporary files": os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "shared memory": "/dev/shm"}
    if ground and "://" not in ground:
        places["storage"] = ground
    elif ground:
        with contextlib.suppress(ImportError, OSError):
            from tfser.storage.local_copies import cache_folder

            places["copies of the storage"] = str(_existing(cache_folder()))
    found = {}
    for what, path in places.items():
        with contextlib.suppress(OSError):
            space = shutil.disk_usage(path)
            found[what] = {"path": path, "free": space.free, "total": space.total, "file_system": file_system(path)}
    return found


def file_system(path: str) -> str | None:
    """Return the kind of file system of a path (``ext4``, ``nfs4``), if the system tells."""
    best, kind = "", None
    with contextlib.suppress(OSError):
        resolved = os.path.realpath(path)
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            mount, this = line.split()[1:3]
            inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, this
    return kind


def ground(path: str) -> str:
    """Return the folder itself if it exists, else the nearest one above it; a URI stays as it is."""
    return path if "://" in path else str(_existing(Path(path)))


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _place(text: str) -> Any:
    """Return a path, or tfser's place for a URI.

    Raises:
        RuntimeError: the tfser here cannot read URIs.
    """
    if "://" not in text:
        return Path(text)
    try:
        from tfser.storage.places import place
    except ImportError as error:
        raise RuntimeError(f"{error}, so that URIs cannot be read") from None
    return place(text)


def touch(folder: str, own: str, marker: str | None, keep: bool = False) -> dict[str, Any]:
    """Write, read and remove a file.

    Args:
        folder: an existing folder, or a URI.
        own: the end of the file's name, and its content.
        marker: the ``own`` of a file that another machine left in the same folder, to be read too.
        keep: leave the file there for others to see.

    Returns:
        ``error`` (what failed, or ``None``), ``sees_marker`` (``None`` without a marker), and the storage's clock:
        ``ahead`` (seconds, by the file's time stamp; ``None`` if it has none) and ``within`` (the error bound of that).
    """
    facts: dict[str, Any] = {"error": None, "sees_marker": None, "ahead": None, "within": None}
    try:
        path = _place(folder) / f"{MARKER}{own}"
        begin = time.time()
        try:
            from tfser.storage.places import commit_text

            commit_text(path, own)  # as entries are written: under another name, flushed, renamed
        except ImportError:
            path.write_text(own, encoding="utf-8")
        end = time.time()
        if path.read_text(encoding="utf-8") != own:
            facts["error"] = f"{path} was written, and something else was read from it"
        stamp = float(path.stat().st_mtime)
        if stamp:  # some stores keep no time
            # Time stamps may be whole seconds.
            facts.update(ahead=stamp - (begin + end) / 2, within=(end - begin) / 2 + 1.0)
        if marker is not None:
            other = _place(folder) / f"{MARKER}{marker}"
            facts["sees_marker"] = other.exists() and other.read_text(encoding="utf-8") == marker
        if not keep:
            path.unlink()
    except Exception as error:  # each kind of storage has errors of its own
        facts["error"] = brief(error)
    return facts


def remove(folder: str, own: str) -> None:
    """Remove the file that ``touch`` was told to keep."""
    with contextlib.suppress(Exception):
        (_place(folder) / f"{MARKER}{own}").unlink()


def listing(folder: str) -> dict[str, Any]:
    """Return the number of names in a folder, a digest of them, and ``error`` if they cannot be listed."""
    try:
        names = sorted(entry.name for entry in _place(folder).iterdir())
    except Exception as error:
        if "://" not in folder or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return {"entries": None, "digest": None, "error": brief(error)}
        names = []  # a store has no empty folders
    return {"entries": len(names), "digest": hashlib.sha256("\0".join(names).encode()).hexdigest()[:12], "error": None}


def brief(error: BaseException) -> str:
    """Write an exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def device() -> dict[str, Any]:
    """Return what torch and torchaudio say when imported, and the result of a small product on each device."""
    facts: dict[str, Any] = {
        "errors": {},
        "driver": Path("/proc/driver/nvidia/version").exists(),
        "cuda": None,
        "cpu": None,
        "gpus": [],
    }
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in ("torch", "torchaudio", "soundfile"):
            try:
                __import__(name)
            except Exception as error:  # a compiled part that does not load raises OSError, and others
                facts["errors"][name] = brief(error)
        if "torch" in facts["errors"]:
            return facts
        import torch

        facts["cuda"] = torch.version.cuda
        facts["cpu"] = _multiply("cpu")
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            wrong = _multiply(f"cuda:{index}")
            free, total = (None, None) if wrong else torch.cuda.mem_get_info(index)
            facts["gpus"].append(
                {"name": torch.cuda.get_device_name(index), "free": free, "total": total, "error": wrong}
            )
    facts["said"] = sorted({" ".join(str(w.message).split())[:300] for w in said if "CUDA" in str(w.message)})
    return facts


def account() -> dict[str, Any]:
    """Return the number and the name (``None`` if the system knows none) of this process's account."""
    facts: dict[str, Any] = {"number": None, "name": None}
    with contextlib.suppress(ImportError, KeyError):  # no Unix; no such entry
        import pwd

        facts["number"] = os.getuid()
        facts["name"] = pwd.getpwuid(os.getuid()).pw_name
    return facts


def training() -> str | None:
    """Say why a moment's training, run as in a trial, fails here; ``None`` if it works, or without tfser or torch."""
    try:
        import torch

        from tfser.models import PROPOSED
        from tfser.planning.settings import published_settings
        from tfser.training.training import Training, TrialData
    except ImportError:
        return None
    try:
        model = next(iter(PROPOSED.values()))
        settings = {**published_settings(model.name), "batch_size": 2, "segment_hop": 0}
        length, bands = int(settings["segment_frames"]), int(settings["n_mels"])
        rows = tuple((length * i, length, i % 2) for i in range(4))
        frames = torch.linspace(-1, 1, 4 * length * bands).reshape(-1, bands).sin().numpy()
        data = TrialData(frames=frames, emotions=("a", "b"), train=rows, scored=rows)
        build = lambda: model.build(model.ablations[0], settings, 2)  # noqa: E731
        trained = Training(build, data, settings, 0, 1, torch.device("cpu"))
        trained.run_epoch()
        trained.score()
    except Exception as error:  # whatever a trial would raise here
        return brief(error)
    return None


def _multiply(where: str) -> str | None:
    """Say what is wrong with a product of small whole numbers, which every device computes exactly."""
    import torch

    try:
        numbers = (torch.arange(64 * 64, dtype=torch.int64) % 7).reshape(64, 64)
        product = (numbers.float().to(where) @ numbers.float().to(where)).cpu()
    except Exception as error:
        return brief(error)
    return None if torch.equal(product.long(), numbers @ numbers) else "a product of two matrices came out wrong"
