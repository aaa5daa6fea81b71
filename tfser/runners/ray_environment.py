"""What has to be said to Ray before it is imported or started, and whether anything listens at an address."""

from __future__ import annotations

import os
import secrets
import socket

from tfser.errors import RequestError

ENVIRONMENT = {
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Read by Ray when it is imported or started: quiet, no usage reports, Ctrl-C left to the sweep, and no
metrics endpoints of the agents (they listen on every interface and ask for no token)."""

ENVIRONMENT_OF_A_LOCAL_RAY = {
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""Ports of Ray's own metrics, which would listen on every interface; -1 keeps them shut."""


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
        raise RequestError(f"--address {address}", [f"nothing answers there ({error}); start Ray, or name another address"]) from None


def secure_local_ray() -> None:
    """A token of its own for a Ray that lives as long as this process, and no open port beyond Ray's guarded ones."""
    if not os.environ.get("RAY_AUTH_TOKEN") and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ["RAY_AUTH_MODE"] = "token"
    for name, value in ENVIRONMENT_OF_A_LOCAL_RAY.items():
        os.environ.setdefault(name, value)
