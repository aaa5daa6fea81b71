"""Settings that Ray needs before it is imported or started, and a check that something listens at its address."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import socket
import tempfile

from tfser.errors import RequestError
from tfser.execution.on_ray import open_doors

ENVIRONMENT = {
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Variables that Ray reads when it is imported or started: no output, no usage reports, Ctrl-C left to the sweep.

The agents' metrics endpoints are off, because they listen on every interface and ask for no token. A worker that has
no share of a GPU sees none, where Ray itself would show it all of them.
"""

ENVIRONMENT_OF_A_LOCAL_RAY = {
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""Ports of Ray's own metrics, which would listen on every interface; -1 keeps them closed."""


def reach(address: str | None) -> None:
    """Fail in seconds where nothing listens; Ray itself tries for minutes.

    Raises:
        RequestError: nothing answers there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        detail = f"nothing answers there ({error}); start Ray, or name another address"
        raise RequestError(f"{open_doors.option(address or '')} {address}", [detail]) from None


LONGEST_SOCKET = 107
"""Most bytes that the path of a Unix socket can have."""

_SOCKET = "session_2026-11-25_20-41-10_123456_4194304/sockets/plasma_store.1"
"""The longest path that Ray makes below its temporary folder."""


def temp_folder() -> str | None:
    """Make a short folder for a local Ray whose own would be too long for its sockets; return ``None`` where it fits.

    The folder is removed when this process ends.

    Raises:
        RequestError: it is too long, and no shorter one can be made.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
    own = os.environ.get(name, "/tmp")
    if _fits(os.path.join(own, "ray")):
        return None
    for above in ("/tmp", "/var/tmp", "/dev/shm"):
        try:
            folder = tempfile.mkdtemp(prefix="tfser-ray-", dir=above)
        except OSError:
            continue
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # before Ray's own, so that it runs after them
        return folder
    most = LONGEST_SOCKET - len(os.fsencode(os.path.join("", "ray", _SOCKET))) - 1
    long = f"{own} has {len(os.fsencode(own))} bytes, which is too long for the paths of Ray's sockets ({most} at most)"
    what_to_do = "and /tmp cannot be written; export RAY_TMPDIR=/a/short/folder"
    raise RequestError("local Ray", [f"{name}: {long}, {what_to_do}"])


def _fits(folder: str) -> bool:
    return len(os.fsencode(os.path.join(folder, _SOCKET))) <= LONGEST_SOCKET


def secure_local_ray() -> None:
    """Give a Ray that lives as long as this process a token of its own, and no port that asks for none."""
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ["RAY_AUTH_MODE"] = "token"
    for name, value in ENVIRONMENT_OF_A_LOCAL_RAY.items():
        os.environ.setdefault(name, value)
