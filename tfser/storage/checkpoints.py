"""The state of a training that is under way, kept where a worker that starts it again finds it.

A checkpoint is a convenience, never a truth: one that is torn, that another version or kind of device wrote, or that
cannot be read counts as none, and the training begins anew with the same result. Knows nothing of what it keeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from typing import Any

import torch

from tfser.storage.places import Place, commit, make_folder, read_bytes, remove

_DIGEST_BYTES = 32


class Checkpoint:
    """The checkpoint of one trial.

    Args:
        root: folder of all checkpoints.
        trial_id: whose.
        made_by: versions and device; a checkpoint that others made is not used, because it could not go on to the same bits.
    """

    def __init__(self, root: Place, trial_id: str, made_by: Mapping[str, str]) -> None:
        self.path = root / trial_id[:2] / f"{trial_id}.pt"
        self._made_by = dict(made_by)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values; where that fails, an earlier checkpoint stays and the training goes on."""
        buffer = io.BytesIO()
        torch.save({"made_by": self._made_by, "state": dict(state)}, buffer)
        content = buffer.getvalue()
        with contextlib.suppress(OSError):
            make_folder(self.path.parent)
            commit(self.path, lambda file: file.write(hashlib.sha256(content).digest() + content))

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; ``None`` where there is nothing to go on from."""
        try:
            content = read_bytes(self.path)
        except OSError:
            return None
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        kept = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        state: dict[str, Any] | None = kept["state"] if kept["made_by"] == self._made_by else None
        return state

    def remove(self) -> None:
        """Remove it: the trial has ended. One that stays behind does no harm."""
        with contextlib.suppress(OSError):
            remove(self.path)
