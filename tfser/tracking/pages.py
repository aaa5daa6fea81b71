"""Addresses of MLflow's own pages. Asks MLflow nothing."""

from __future__ import annotations

import json
from collections.abc import Collection
from urllib.parse import quote, urlsplit, urlunsplit

LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow server`` shows runs unless it is told otherwise."""

CONFIGURATIONS = "tags.tfser.kind='configuration'"
"""What the search box of MLflow's page takes for the runs of configurations; short, because it is part of a link."""


def server(uri: str) -> str:
    """Return the base address of the server that a tracking URI names, without a user's name; empty for no server."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def runs(base: str, experiments: Collection[str]) -> str:
    """Return the address of the page that lists the configurations of some experiments, the newest first.

    MLflow opens an experiment among the pages for language models, unless the address names the other kind. Without the
    filter it would list the newest 100 runs, and of a large sweep those can be trials of one configuration.

    Args:
        base: the server's address.
        experiments: their ids; without one, this is the list of all experiments.

    >>> runs(LOCAL, ["3"]).partition("&")[0]
    'http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning'
    """
    kind = "workflowType=machine_learning"
    if not experiments:
        return f"{base}/#/experiments?{kind}"
    more = f"{kind}&searchFilter={quote(CONFIGURATIONS)}"
    if len(experiments) == 1:
        return f"{base}/#/experiments/{quote(min(experiments), safe='')}/runs?{more}"
    return f"{base}/#/compare-experiments/s?experiments={quote(json.dumps(sorted(experiments)))}&{more}"
