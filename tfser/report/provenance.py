"""How numbers came about, as far as that differs from run to run: where their MLflow runs are, versions, digests, what it cost.

Nothing of this is in a file that the numbers fill; the HTML report is given it, and keeps it apart. Opens no MLflow.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from tfser.execution.results import Results
from tfser.record import Record
from tfser.storage.places import Place
from tfser.tracking.uri import sqlite_path, sqlite_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What the caller knows of how the results were made."""

    tracking_uri: str = ""
    """Where the MLflow runs are, without passwords."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of what the trials do not record themselves: Ray, Optuna, MLflow."""

    @property
    def ui(self) -> str:
        """Base address of the MLflow that shows the runs, without a user's name; empty where it is no server."""
        parts = urlsplit(self.tracking_uri)
        if parts.scheme not in ("http", "https"):
            return ""
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    def run_link(self, run_id: str | None) -> str:
        """The address of a run's page; empty where there is no run or no server."""
        return f"{self.ui}/#/runs/{quote(run_id, safe='')}" if run_id and self.ui else ""

    def server_command(self, folder: Place) -> str:
        """The command that shows the runs, to be typed in ``folder``; empty where a server has them already.

        The path of a local database is relative to ``folder``, so that a moved or published folder names no path of this machine.
        """
        if not self.tracking_uri or self.ui:
            return ""
        uri, path = self.tracking_uri, sqlite_path(self.tracking_uri)
        if path is not None and isinstance(folder, Path):
            uri = sqlite_uri(Path(os.path.relpath(path, folder.resolve())))
        return f"mlflow server --workers 1 --backend-store-uri {shlex.quote(uri)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What training took, as far as it was recorded."""

    trials: Mapping[str, int]
    """Device to how many trials it trained, searches included."""
    hours: Mapping[str, float]
    """Device to the hours of those trials, summed. A trial on a CPU keeps to one core, so that these are core hours."""
    unrecorded: int
    """Search trials whose duration was not kept."""


def cost(results: Results) -> Cost:
    """Hours of training by device, each trial once however many rows it stands in."""
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
    """What the trials were trained with: package to its versions, more than one where a sweep was continued with others."""
    found: dict[str, set[str]] = {}
    for entry in results.entries.values():
        for name, version in entry.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: tuple(sorted(values)) for name, values in sorted(found.items())}


def digests(results: Results) -> dict[str, tuple[str, ...]]:
    """Database to the digests of what was trained on: of its utterances, labels and audio."""
    found: dict[str, set[str]] = {}
    for (configuration, *_), entry in results.entries.items():
        if isinstance(entry, Record):
            found.setdefault(configuration.database, set()).add(entry.spec.database_digest)
    return {name: tuple(sorted(values)) for name, values in sorted(found.items())}
