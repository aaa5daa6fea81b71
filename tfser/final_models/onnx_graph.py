"""A final network as a graph that other programs can run: features of segments in, probabilities out.

Standardisation, network and utterance rule are written with torch's own operations, so that an exporter can follow
them; the rules that are classifiers compute in float64, as in ``tfser.training.utterance_rules``. Knows no file.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tfser.features.standardise import OWN
from tfser.final_models.model import CPU, FinalModel
from tfser.training.scoring import by_channel
from tfser.training.utterance_rules import ABOVE, LEVELS, UtteranceRule


class Graph(nn.Module):
    """Features of the segments of one utterance, (segments, frames, values), to two outputs.

    These are the probabilities of the segments, (segments, emotions), and of the utterance, (emotions,), as float32.

    Args:
        model: the final model; its network is copied to the CPU.
    """

    def __init__(self, model: FinalModel) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.scorer.model).to(CPU).eval()
        self.channels = model.scorer.channels
        self.standardises = model.settings.get("standardisation", "training") not in OWN
        """Whether the graph standardises; else features have to come standardised."""
        mean, std = np.array(model.bands.mean), np.array(model.bands.std)
        self.register_buffer("offset", torch.from_numpy(mean).float())
        self.register_buffer("scale", torch.from_numpy(1 / std).float())
        self.rule = rule_module(model.rule)

    offset: Tensor
    scale: Tensor

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the segments, and of the utterance that they are all segments of."""
        x = (features - self.offset) * self.scale if self.standardises else features
        segments = self.network(by_channel(x, self.channels)).softmax(dim=1)
        return segments, self.rule(segments.double()).float()


def rule_module(rule: UtteranceRule) -> nn.Module:
    """Return an utterance rule as a module: probabilities of segments (segments, emotions) to those of the utterance.

    Args:
        rule: fitted, where it has something to fit.
    """
    if rule.name == "maximum":
        return _Maximum()
    if rule.name == "statistics":
        return _Statistics(rule.arrays)
    if rule.name == "pyramid":
        return _Pyramid(rule.arrays, rule.p)
    return _Mean()


class _Mean(nn.Module):
    def forward(self, segments: Tensor) -> Tensor:
        return segments.mean(dim=0)


class _Maximum(nn.Module):
    def forward(self, segments: Tensor) -> Tensor:
        largest = segments.amax(dim=0)
        return largest / largest.sum()


class _Classifier(nn.Module):
    """What the rules that are classifiers share: their arrays, and the softmax over the emotions of the training."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name, values in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(values, dtype=np.float64)))

    def softmax(self, values: Tensor) -> Tensor:
        """Return probabilities of the emotions that occur in the training, 0 of the others."""
        return values.masked_fill(self.get_buffer("present") == 0, -torch.inf).softmax(dim=0)


class _Statistics(_Classifier):
    """Maximum, minimum, mean and share above ``ABOVE`` of each emotion, into an extreme learning machine."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self.has_hidden = "hidden_weight" in arrays

    def forward(self, segments: Tensor) -> Tensor:
        above = (segments > ABOVE).double().mean(dim=0)
        x = torch.cat([segments.amax(dim=0), segments.amin(dim=0), segments.mean(dim=0), above])
        if self.has_hidden:
            x = (self.get_buffer("hidden_weight") @ x + self.get_buffer("hidden_bias")).sigmoid()
        return self.softmax(self.get_buffer("weight") @ x)


class _Pyramid(_Classifier):
    """Lp norms of 1 + 2 + 4 parts in time, into a linear support vector machine for each pair of emotions."""

    def __init__(self, arrays: Mapping[str, np.ndarray], p: float) -> None:
        super().__init__(arrays)
        self.p = p
        present = np.flatnonzero(arrays["present"])
        pairs = [(i, j) for k, i in enumerate(present) for j in present[k + 1 :]]
        of_first, of_second = np.zeros((2, len(arrays["present"]), len(pairs)))
        for pair, (i, j) in enumerate(pairs):
            of_first[i, pair] = of_second[j, pair] = 1
        self.register_buffer("of_first", torch.from_numpy(of_first))
        self.register_buffer("of_second", torch.from_numpy(of_second))

    def forward(self, segments: Tensor) -> Tensor:
        margins = self.get_buffer("weight") @ self.pooled(segments) + self.get_buffer("bias")
        first, second = self.get_buffer("of_first"), self.get_buffer("of_second")
        wins = (margins >= 0).double()
        sums = (first - second) @ margins
        return self.softmax(first @ wins + second @ (1 - wins) + sums / (3 * (sums.abs() + 1)))

    def pooled(self, segments: Tensor) -> Tensor:
        """Return the weighted norms: (segments, K) to (7 K,); see ``tfser.training.utterance_rules.pyramid_of``."""
        place = torch.ones_like(segments[:, 0]).cumsum(dim=0) - 1
        last = place.amax(dim=0)
        count = (last + 1).clamp(min=LEVELS[-1][0])  # a short utterance repeats its last segment
        made = []
        for parts, weight in LEVELS:
            for i in range(parts):
                begin, end = (i * count / parts).floor(), ((i + 1) * count / parts).floor()
                within = ((place >= begin) & (place < end)).double()
                of_last = (end - torch.maximum(begin, last)).clamp(min=0)
                times = torch.where(place < last, within, of_last)[:, None]
                own = torch.where(times > 0, segments, torch.zeros_like(segments))
                largest = own.amax(dim=0).clamp(min=1e-300)
                norm = ((times * (own / largest) ** self.p).sum(dim=0) / times.sum()) ** (1 / self.p)
                made.append(weight * largest * norm)
        return torch.cat(made)
