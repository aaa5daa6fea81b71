"""The parser of every command: an option that takes one value is not given two different ones."""

from __future__ import annotations

import argparse
from typing import Any


class _Once(argparse._StoreAction):
    """Stores a value, as argparse does, but refuses another one; argparse would take the last in silence."""

    _given: tuple[argparse.Namespace, Any] | None = None
    """Of the latest command line, where its values go, and the one of this option."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if self._given is not None and self._given[0] is namespace and self._given[1] != values:
            both = [_shown(self._given[1]), _shown(values)]
            told = f", as {both[0]} and as {both[1]}" if all(both) else ""
            raise argparse.ArgumentError(self, f"given twice{told}; leave one of the two out")
        self._given = namespace, values
        super().__call__(parser, namespace, values, option)


def _shown(value: Any) -> str:
    """Return a value as it was typed; nothing where that is not known, or is a URI, which may hold a password."""
    text = "" if value is None else str(value)
    return "" if "://" in text else text[:80]


class Parser(argparse.ArgumentParser):
    """Parses one command line of a command, or of one of its own commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in (None, "store"):
            self.register("action", name, _Once)
