"""A finding: what the doctor saw, how bad it is, and what to type. How it was seen does not matter here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("ok", "note", "warning", "problem")
"""From harmless to a problem: a sweep would fail, or strangers could get in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding."""

    topic: str
    level: str
    """One of ``LEVELS``."""
    found: str
    command: str | None = None
    """What to type; every warning and problem has it."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS or (self.level in LEVELS[2:] and not self.command):
            raise ValueError(f"a finding of level {self.level!r} with command {self.command!r}: {self.found}")


def ok(topic: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(topic=topic, level="ok", found=found)


def note(topic: str, found: str, command: str | None = None) -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(topic=topic, level="note", found=found, command=command)


def warning(topic: str, found: str, command: str) -> Finding:
    """Return a finding that does not stop a sweep but should be mended."""
    return Finding(topic=topic, level="warning", found=found, command=command)


def problem(topic: str, found: str, command: str) -> Finding:
    """Return a finding that stops a sweep or lets strangers in."""
    return Finding(topic=topic, level="problem", found=found, command=command)


def merged(by_node: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Merge equal findings of several nodes, with the nodes' names in front.

    Args:
        by_node: pairs of a node's name and a finding there.
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
    """Write a number of bytes in GiB.

    >>> gib(3 * 2**29)
    '1.5 GiB'
    """
    return f"{count / 2**30:.1f} GiB"
