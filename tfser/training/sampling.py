"""The order in which an epoch trains on its segments, and where segments begin.

    sampling            shuffled: every segment once. emotions, speakers, emotions_and_speakers: as many draws as there
                        are segments, with replacement, so that every emotion (speaker; pair of both that occurs) is
                        drawn alike often (class-balanced sampling as in Shen et al. 2016)
    segments_together   an utterance's segments come in random groups of up to this many, one after another, so that a
                        batch holds several of one utterance (batches of instances as in Hoffer et al. 2020); a batch
                        is filled in this order, and its end may part a group
    training_hop        frames between the starts of segments in training; smaller than segment_frames, they overlap
    scoring_hop         the same in scoring: a fraction of segment_frames averages over shifted segments

Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfser.trial import Hyperparameter

SAMPLINGS = ("shuffled", "emotions", "speakers", "emotions_and_speakers")

SETTINGS: Mapping[str, Hyperparameter] = {
    "sampling": Hyperparameter(
        default="shuffled",
        implied="shuffled",
        choices=SAMPLINGS,
        help="segments of an epoch: each once, or drawn with replacement so that emotions, speakers or their pairs "
        "come alike often",
    ),
    "segments_together": Hyperparameter(
        default=1,
        implied=1,
        low=1,
        high=65536,
        help="segments of an utterance that come one after another, so that a batch holds several; 1 is no such order",
    ),
    "training_hop": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=100000,
        help="frames between segment starts in training; 0 is segment_hop, less than segment_frames overlaps",
    ),
    "scoring_hop": Hyperparameter(
        default=0,
        implied=0,
        low=0,
        high=100000,
        help="frames between segment starts in scoring, so that an utterance's score averages over shifted segments; 0 "
        "is segment_hop",
    ),
}


class Sampling:
    """Orders the segments of an epoch.

    Args:
        settings: a trial's.
        of_utterance: int64, shape (segments,): each segment's utterance, counted from 0, ascending.
        emotion: int64, shape (utterances,).
        speakers: the speaker of each utterance; needed where speakers are balanced.

    Raises:
        ValueError: speakers are to be balanced, and not every utterance has one.
    """

    def __init__(
        self, settings: Mapping[str, Any], of_utterance: np.ndarray, emotion: np.ndarray, speakers: Sequence[str]
    ) -> None:
        self._of_utterance, self._together = of_utterance, int(settings.get("segments_together", 1))
        name = settings.get("sampling", "shuffled")
        self._weights: Tensor | None = None
        """Of each segment, in a draw; ``None`` where each comes once."""
        if name == "shuffled":
            return
        if name != "emotions" and len(speakers) != len(emotion):
            raise ValueError(f"sampling {name}: {len(speakers)} speakers of {len(emotion)} utterances")
        _, speaker = np.unique(np.array(speakers), return_inverse=True) if len(speakers) else (None, emotion * 0)
        both = speaker * (emotion.max() + 1) + emotion
        kind = {"emotions": emotion, "speakers": speaker, "emotions_and_speakers": both}[name][of_utterance]
        self._weights = torch.from_numpy(1.0 / np.bincount(kind)[kind])

    def order(self) -> Tensor:
        """Draw an epoch's segments from PyTorch's global random state: int64, shape (segments,)."""
        segments = len(self._of_utterance)
        if self._together == 1:
            if self._weights is None:
                return torch.randperm(segments)
            return torch.multinomial(self._weights, segments, replacement=True)
        groups = self._groups()
        if self._weights is None:
            return torch.cat([groups[i] for i in torch.randperm(len(groups)).tolist()])
        # A group brings all of its segments, which are of one kind: weighed by their number, they would count twice.
        weights = torch.stack([self._weights[group[0]] for group in groups])
        drawn = torch.multinomial(weights, segments, replacement=True).tolist()
        return torch.cat([groups[i] for i in drawn])[:segments]

    def _groups(self) -> list[Tensor]:
        """Part every utterance's segments at random."""
        first = np.flatnonzero(np.diff(self._of_utterance, prepend=-1))
        own = np.split(np.arange(len(self._of_utterance)), first[1:])
        return [
            group
            for segments in own
            for group in torch.split(torch.from_numpy(segments)[torch.randperm(len(segments))], self._together)
        ]


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return why these settings of segments do not fit each other, in words."""
    found = []
    sampling = str(settings.get("sampling", "shuffled"))
    if sampling.startswith("emotions") and settings.get("class_weights") == "balanced":
        found.append(
            f"sampling: {sampling} with class_weights balanced makes rare emotions count twice; use sampling shuffled "
            "or class_weights none"
        )
    if int(settings.get("scoring_hop", 0)) and settings.get("utterance_rule") == "whole":
        found.append(
            f"scoring_hop: {settings['scoring_hop']} frames between segments, where utterance_rule whole scores the "
            "whole utterance; legal: 0"
        )
    return found
