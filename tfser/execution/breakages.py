"""Which trials broke their worker, and which GPUs and nodes broke so many that they are given no more.

An error of a GPU says little of its cause: a device-side assert is the trial's, an ECC error the GPU's, a driver that
lacks a library the node's. Where it recurs tells them apart. Only bookkeeping: knows nothing of Ray, schedules or the
ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 3
"""How many different trials a GPU or a node may break."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A GPU of a node, or a node."""

    node: str
    """The node's id."""
    gpu: str = ""
    """The GPU's number on the node; empty for the node itself."""

    @property
    def whole(self) -> Where:
        """The node."""
        return Where(node=self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """An error that ended a worker."""

    where: Where
    host: str
    """Name of the node."""
    reason: str
    """The error's class and text, on one line."""
    said: str = ""
    """All that is known of it: the traceback."""
    blames: bool = True
    """Whether it can be the trial's fault."""

    @property
    def place(self) -> str:
        """Where it was, in words."""
        return f"GPU {self.where.gpu} of {self.host}" if self.where.gpu else f"node {self.host}"

    @property
    def in_words(self) -> str:
        """The error and where it was."""
        return f"{self.reason} (on {self.place})"


class Breakages:
    """All breakages of a start."""

    def __init__(self) -> None:
        self._of_trial: dict[str, list[Breakage]] = {}
        self._at: dict[Where, dict[str, Breakage]] = {}

    def add(self, trials: Sequence[str], breakage: Breakage) -> list[Breakage]:
        """Note a breakage; return all of those that a trial alone is to blame for, oldest first.

        Args:
            trials: ids of those that the worker trained. Which one of several it was is not known, so that none is
                blamed, and they count as one for the GPU.
            breakage: what happened.
        """
        self._at.setdefault(breakage.where, {})[trials[0]] = breakage
        if len(trials) > 1 or not breakage.blames:
            return []
        self._of_trial.setdefault(trials[0], []).append(breakage)
        return list(self._of_trial[trials[0]])

    def unfit(self) -> dict[Where, list[Breakage]]:
        """Return the GPUs and nodes that broke ``MOST`` different trials, each with what it broke them by.

        A trial that broke workers in several places is to blame itself, and does not count. What a GPU broke that is
        unfit itself says nothing of the other GPUs of its node.
        """
        found = {where: broke for where in self._at if len(broke := self._blamed_on(where)) >= MOST}
        nodes: dict[Where, dict[str, Breakage]] = {}
        for where in self._at:
            if where not in found:
                nodes.setdefault(where.whole, {}).update(self._blamed_on(where))
        found |= {node: broke for node, broke in nodes.items() if len(broke) >= MOST}
        return {where: list(broke.values()) for where, broke in found.items()}

    def _blamed_on(self, where: Where) -> dict[str, Breakage]:
        elsewhere = {trial for other, broke in self._at.items() if other != where for trial in broke}
        return {trial: breakage for trial, breakage in self._at[where].items() if trial not in elsewhere}
