"""How the numbers were made, as far as that differs from run to run: MLflow runs, versions, digests, costs.

No file that the numbers fill holds any of this; the HTML report receives it and keeps it apart. MLflow is not opened.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tfser.execution.results import Results
from tfser.record import Record
from tfser.storage.places import Place
from tfser.tracking import pages
from tfser.tracking.uri import sqlite_path, sqlite_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The caller's knowledge of how the results were made."""

    tracking_uri: str = ""
    """Place of the MLflow runs, without passwords."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions that the trials do not record: Ray, Optuna, MLflow."""

    @property
    def ui(self) -> str:
        """Base address of the MLflow server that shows the runs, without a user's name; empty without a server."""
        return pages.server(self.tracking_uri)

    def run_link(self, run_id: str | None) -> str:
        """Return the address of a run's page; empty without a run or a server."""
        return f"{self.ui}/#/runs/{quote(run_id, safe='')}" if run_id and self.ui else ""

    def server_command(self, folder: Place) -> str:
        """Return the command that shows the runs, to be typed in ``folder``; empty if a server shows them already.

        The path of a local database is relative to ``folder``, so that a moved folder names no path of this machine.
        """
        if not self.tracking_uri or self.ui:
            return ""
        uri, path = self.tracking_uri, sqlite_path(self.tracking_uri)
        if path is not None and isinstance(folder, Path):
            uri = sqlite_uri(Path(os.path.relpath(path, folder.resolve())))
        return f"mlflow server --workers 1 --backend-store-uri {shlex.quote(uri)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of training, as far as recorded."""

    trials: Mapping[str, int]
    """Device to the number of trials that it trained, searches included."""
    hours: Mapping[str, float]
    """Device to the summed hours of those trials. A trial on a CPU uses one core, so these are core hours."""
    unrecorded: int
    """Number of search trials without a recorded duration."""


def cost(results: Results) -> Cost:
    """Sum the hours of training by device; a trial in several rows counts once."""
    trials: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    once = {entry.trial_id: entry for entry in results.entries.values() if entry.seconds}
    for entry in once.values():
        device = entry.machine.device or "a device that was not recorded"
        trials[device] += 1
        seconds[device] += entry.seconds
    searched = [tried for history in results.histories for tried in history.tried]
    for tried in searched:
        if tried.seconds is not None:
            trials["search trials"] += 1
            seconds["search trials"] += tried.seconds
    return Cost(
        trials=dict(trials),
        hours={device: total / 3600 for device, total in seconds.items()},
        unrecorded=sum(tried.seconds is None for tried in searched),
    )


def versions(results: Results) -> dict[str, tuple[str, ...]]:
    """Return the versions of each package in training; a sweep that was continued with others has several."""
    found: dict[str, set[str]] = {}
    for entry in results.entries.values():
        for name, version in entry.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: tuple(sorted(values)) for name, values in sorted(found.items())}


def digests(results: Results) -> dict[str, tuple[str, ...]]:
    """Return, by database, the digests of its utterances, labels and audio in training."""
    found: dict[str, set[str]] = {}
    for (configuration, *_), entry in results.entries.items():
        if isinstance(entry, Record):
            found.setdefault(configuration.database, set()).add(entry.spec.database_digest)
    return {name: tuple(sorted(values)) for name, values in sorted(found.items())}
