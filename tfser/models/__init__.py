"""The built-in models by name; an entry of ``MODELS`` holds all that tfser has to know of a model."""

from __future__ import annotations

from tfser.models import atfnn, time_frequency_transformer
from tfser.models.base import AttentionMap, Model, Network

__all__ = ["MODELS", "AttentionMap", "Model", "Network"]

MODELS: dict[str, Network] = {model.name: model for model in (time_frequency_transformer.MODEL, atfnn.MODEL)}
