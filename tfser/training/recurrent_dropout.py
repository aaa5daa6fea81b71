"""Dropout between the layers of an LSTM, which on a GPU goes with neither a captured graph nor trainings in one.

cuDNN keeps its random state in a buffer of its own. It is seeded whenever the generator is set, which replays of a
graph do not see, and a pass between two replays replaces the buffer that the graph still writes to. Knows PyTorch and
nothing of models.
"""

from __future__ import annotations

from torch import nn

WHY = (
    "has dropout between the layers of an LSTM, whose random state on a GPU is kept where neither a captured graph nor "
    "trials that are trained as one can set it"
)
"""What is wrong, as the end of a sentence about a model."""


def has_it(model: nn.Module) -> bool:
    """Return whether a model has a recurrent layer with dropout between its own layers."""
    return any(isinstance(m, nn.RNNBase) and m.dropout > 0 and m.num_layers > 1 for m in model.modules())
