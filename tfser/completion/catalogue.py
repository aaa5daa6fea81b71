"""A file with every name that completion needs: options, models, settings, databases, folds.

Reading it takes milliseconds. Writing it takes the seconds of importing torch, and happens in another process, once per
state of the package's files. It holds JSON alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tfser

_KEPT = 3
"""Files of other states of the package that stay, for environments side by side."""


def read() -> dict[str, Any]:
    """Return the catalogue of this state of the package; make it where there is none.

    Raises:
        OSError, ValueError, subprocess.SubprocessError: it cannot be made.
    """
    file = _folder() / f"names-{_state()}.json"
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    words = [sys.executable, "-m", "tfser.completion.contents"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("_ARGCOMPLETE", "COMP_"))}
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True, env=environment)
    made: dict[str, Any] = json.loads(done.stdout)
    with contextlib.suppress(OSError):
        _write(file, done.stdout)
    return made


def _folder() -> Path:
    """Return where catalogues lie: TFSER_CACHE, else ``~/.cache/tfser``."""
    named = os.environ.get("TFSER_CACHE")
    return Path(named).expanduser() if named else Path(os.path.expanduser("~"), ".cache", "tfser")


def _state() -> str:
    """Return a digest that changes with every file of the package."""
    root = Path(tfser.__file__).parent
    digest = hashlib.sha256(f"{tfser.__version__} {root} {sys.version}".encode())
    for path in sorted(root.rglob("*.py")):
        about = path.stat()
        digest.update(f"{path} {about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _write(file: Path, text: str) -> None:
    """Write the file whole or not at all, and remove the oldest of others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".names-")
    with os.fdopen(handle, "w", encoding="utf-8") as unfinished:
        unfinished.write(text)
    os.replace(name, file)
    others = sorted(file.parent.glob("names-*.json"), key=lambda path: path.stat().st_mtime)
    for old in others[: -1 - _KEPT]:
        old.unlink(missing_ok=True)
