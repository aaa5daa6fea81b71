"""The built-in feature sets by name."""

from __future__ import annotations

from tfser.features.base import FeatureSet
from tfser.features.log_mel import LOG_MEL

FEATURE_SETS: dict[str, FeatureSet] = {each.name: each for each in (LOG_MEL,)}
"""What a model can read of an utterance, by the name that its declaration gives."""
