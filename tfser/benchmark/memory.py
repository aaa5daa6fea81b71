"""This process's memory."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def memory_mb() -> float:
    """Return this process's memory in MB, or its peak if the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
