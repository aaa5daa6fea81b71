"""What a trial's record says: whether it is done, its confusion matrix, and whether it may stand among results.

Knows nothing of where records are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from tfser.errors import TfserError


def refuse_leaks(record: Mapping[str, Any]) -> None:
    """Let no trial of ``tfser.leaks`` that saw its test utterances get among results.

    Raises:
        TfserError: it is one.
    """
    if leaks := record.get("spec", {}).get("leaks"):
        raise TfserError(
            f"trial {record['trial_id']} was shown its test utterances on purpose ({', '.join(leaks)}); "
            "it can stand in no table but that of python -m tfser.leaks"
        )


def matrix(record: Mapping[str, Any]) -> np.ndarray:
    """The record's utterance-level confusion matrix: int64, shape (emotions, emotions), rows are the truth."""
    return np.asarray(record["confusion"], dtype=np.int64)


def is_done(record: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether that record holds scores: a failed trial's does not, and counts as missing."""
    return record is not None and record.get("status", "done") == "done"
