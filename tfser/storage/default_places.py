"""Where results go by default."""

from __future__ import annotations

import os
from pathlib import Path

from tfser.errors import RequestError
from tfser.storage.places import Place, place


def default_out() -> Place:
    """Return where tables go by default: ./results, or TFSER_HOME where Ray runs this in a copy that it removes.

    Raises:
        RequestError: TFSER_HOME is needed and names no place.
    """
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return Path("results")
    try:
        return place(os.environ.get("TFSER_HOME") or "~/tfser-results")
    except ValueError as error:
        raise RequestError("TFSER_HOME", [str(error)]) from None
