"""From the probabilities of utterances to the scores of a record. Knows no model, trial or file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfser.evaluation import metrics
from tfser.record import ScoredUtterance, Scores, SegmentScores


def scores(emotions: Sequence[str], utterances: Sequence[ScoredUtterance], segments: np.ndarray | None) -> Scores:
    """Return the recalls over utterances, and those over segments beside them.

    Args:
        emotions: the database's, in the order of every ``p``.
        utterances: what was scored.
        segments: the confusion matrix over segments: int64, shape (emotions, emotions); ``None`` without segments.
    """
    index = {emotion: i for i, emotion in enumerate(emotions)}
    truth = [index[u.truth] for u in utterances]
    matrix = metrics.confusion(truth, [u.predicted for u in utterances], len(index))
    recalls = metrics.recalls(matrix)
    return Scores(
        emotions=tuple(emotions),
        utterances=tuple(utterances),
        confusion=tuple(map(tuple, matrix.tolist())),
        war=metrics.war(matrix),
        uar=metrics.uar(matrix),
        recalls={e: None if np.isnan(r) else float(r) for e, r in zip(emotions, recalls, strict=True)},
        segments=None if segments is None or not utterances else _over(segments),
    )


def _over(segments: np.ndarray) -> SegmentScores:
    return SegmentScores(count=int(segments.sum()), war=metrics.war(segments), uar=metrics.uar(segments))
