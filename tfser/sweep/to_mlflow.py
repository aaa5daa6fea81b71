"""A row's figures as MLflow metrics, and where artifacts go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfser.sweep.request import Sweep
from tfser.tracking.uri import sqlite_path


def row_metrics(summary: Any) -> dict[str, float]:
    """The figures of a row as MLflow metrics; those that do not exist are left out."""
    numbers = {"folds_done": float(len(summary.done)), "folds_total": float(summary.configuration.folds_total)}
    if summary.figures is not None:
        for name in ("war_pooled", "uar_pooled", "war_mean", "war_sd", "uar_mean", "uar_sd"):
            value = getattr(summary.figures, name)
            if value == value:
                numbers[f"test/{name}"] = value
    return numbers


def artifacts_folder(sweep: Sweep) -> Path:
    """Where MLflow's artifacts go when it is a local database: beside the ledger, or beside the database where that is remote."""
    if isinstance(sweep.storage, Path):
        return sweep.storage / "mlartifacts"
    database = sqlite_path(sweep.tracking_uri)
    return (database.parent if database else Path()) / "mlartifacts"  # a server's artifacts are the server's
