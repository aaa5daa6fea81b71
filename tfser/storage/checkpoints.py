"""Checkpoints: the state of a training under way, which another worker can resume.

A checkpoint only saves time. One that is torn or unreadable, or that another version or kind of device wrote, is
ignored: the training starts again, with the same result. Knows nothing of what a state holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from typing import Any

import torch

from tfser.storage.places import Place, commit_bytes, is_remote, read_bytes, remove
from tfser.storage.with_folder import written

_DIGEST_BYTES = 32


class Checkpoint:
    """The checkpoint of one trial.

    Args:
        root: folder of all checkpoints.
        trial_id: the trial's.
        made_by: versions and device. A checkpoint of others is not used, because the same bits could not follow.
    """

    def __init__(self, root: Place, trial_id: str, made_by: Mapping[str, str]) -> None:
        self.path = root / trial_id[:2] / f"{trial_id}.pt"
        self._made_by = dict(made_by)
        self._there = False
        """Whether this attempt found one or has saved one."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values; where that fails, keep the earlier checkpoint and go on."""
        buffer = io.BytesIO()
        torch.save({"made_by": self._made_by, "state": dict(state)}, buffer)
        content = buffer.getvalue()
        with contextlib.suppress(OSError):
            self._there = True
            written(commit_bytes, self.path, hashlib.sha256(content).digest() + content)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, on the CPU; ``None`` where there is none to resume."""
        try:
            content = read_bytes(self.path)
        except OSError:
            return None
        self._there = True
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        kept = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        state: dict[str, Any] | None = kept["state"] if kept["made_by"] == self._made_by else None
        return state

    def remove(self) -> None:
        """Remove the checkpoint once the trial has ended, if there is one; one that stays does no harm."""
        if not self._there and is_remote(self.path):
            return  # to find that out would be a request
        with contextlib.suppress(OSError):
            remove(self.path)
