"""The built-in feature sets by name."""

from __future__ import annotations

from tfser.features.base import FeatureSet
from tfser.features.functionals import FUNCTIONALS
from tfser.features.local_hu import LOCAL_HU
from tfser.features.log_mel import LOG_MEL
from tfser.features.mfcc import MFCC
from tfser.features.spectrogram import SPECTROGRAM
from tfser.features.ssl import SSL

FEATURE_SETS: dict[str, FeatureSet] = {
    each.name: each for each in (LOG_MEL, SPECTROGRAM, MFCC, FUNCTIONALS, LOCAL_HU, SSL)
}
"""What a model can read of an utterance, by the name that its declaration gives."""
