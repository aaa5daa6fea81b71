"""Options as people and ``sweep.json`` get them."""

from __future__ import annotations

from typing import Any

from tfser.storage import passwords


def shown(value: Any) -> Any:
    """An option as JSON and people get it: a place as text, and no password in a URI."""
    if isinstance(value, list):
        return [shown(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else passwords.redacted(str(value))
