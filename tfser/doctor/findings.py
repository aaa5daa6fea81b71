"""A finding: what the doctor saw, how bad it is, and what to type. Knows nothing of how it was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("ok", "note", "warning", "problem")
"""From harmless to what a sweep would fail on or what lets strangers in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence."""

    topic: str
    level: str
    """One of ``LEVELS``."""
    found: str
    command: str | None = None
    """What to type; never missing from a warning or a problem."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS or (self.level in LEVELS[2:] and not self.command):
            raise ValueError(f"a finding of level {self.level!r} with command {self.command!r}: {self.found}")


def ok(topic: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(topic=topic, level="ok", found=found)


def note(topic: str, found: str, command: str | None = None) -> Finding:
    """Worth knowing."""
    return Finding(topic=topic, level="note", found=found, command=command)


def warning(topic: str, found: str, command: str) -> Finding:
    """A sweep runs, and something about it is not as it should be."""
    return Finding(topic=topic, level="warning", found=found, command=command)


def problem(topic: str, found: str, command: str) -> Finding:
    """A sweep fails, or strangers get in."""
    return Finding(topic=topic, level="problem", found=found, command=command)


def merged(by_node: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """What several nodes have in common, said once, with their names in front.

    Args:
        by_node: a node's name and what was found there.
    """
    nodes: dict[Finding, list[str]] = {}
    for node, finding in by_node:
        nodes.setdefault(finding, []).append(node)
    return [
        Finding(topic=f.topic, level=f.level, found=f"{_named(names)}: {f.found}", command=f.command)
        for f, names in nodes.items()
    ]


def _named(names: list[str]) -> str:
    word = "node" if len(names) == 1 else f"{len(names)} nodes,"
    return f"{word} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def gib(count: float) -> str:
    """Bytes in words.

    >>> gib(3 * 2**29)
    '1.5 GiB'
    """
    return f"{count / 2**30:.1f} GiB"
