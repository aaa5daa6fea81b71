"""Targets of the loss that are no single emotion: label smoothing, and mixup of two segments.

    label_smoothing  share e of each target that is spread over all K emotions alike: 1 - e + e / K for the true one,
                     e / K for each other (Szegedy et al. 2016, section 7)
    mixup_alpha      a batch x with targets y becomes s x + (1 - s) x' and s y + (1 - s) y', where x' and y' are the
                     same batch in random order and s ~ Beta(alpha, alpha) is drawn once per batch (Zhang et al. 2018)

Zhang et al. found alpha between 0.1 and 0.4 best for images. Masks come before mixing. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tfser.trial import Hyperparameter

SETTINGS: Mapping[str, Hyperparameter] = {
    "label_smoothing": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=0.99,
        help="share of each training target that is spread over all emotions; 0 is none (Szegedy et al. 2016)",
    ),
    "mixup_alpha": Hyperparameter(
        default=0.0,
        implied=0.0,
        low=0.0,
        high=100.0,
        help="mixup: each batch is mixed with itself in another order, by a share drawn from Beta(alpha, alpha); 0 is "
        "none (Zhang et al. 2018)",
    ),
}


@dataclass(frozen=True, slots=True)
class Mix:
    """How the segments of one batch are mixed with one another."""

    other: Tensor | None = None
    """int64, shape (segments,): the number of the segment that each is mixed with; ``None`` for no mixing."""
    share: float = 1.0
    """What each segment keeps of itself."""

    @classmethod
    def drawn(cls, settings: Mapping[str, Any], segments: int, device: torch.device) -> Mix:
        """Draw the mix of a batch from the global random state; nothing is drawn without mixup."""
        alpha = float(settings.get("mixup_alpha", 0.0))
        if not alpha:
            return cls()
        both = torch.tensor(alpha, dtype=torch.float64)
        share = float(torch.distributions.Beta(both, both).sample())
        return cls(torch.randperm(segments).to(device), share)

    def inputs(self, x: Tensor) -> Tensor:
        """Return the mixed inputs of a batch, shape (segments, ...)."""
        return x if self.other is None else self.share * x + (1 - self.share) * x[self.other]

    def cross_entropy(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, smoothing: float = 0.0
    ) -> Tensor:
        """Return the loss of a batch: a weighted mean over its segments, as PyTorch's, of both targets by their shares.

        Args:
            logits: shape (segments, classes).
            labels: int64, shape (segments,), before mixing.
            weight: of each class; ``None`` for equal ones.
            smoothing: label smoothing.
        """
        loss = F.cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing)
        if self.other is None:
            return loss
        others = F.cross_entropy(logits, labels[self.other], weight=weight, label_smoothing=smoothing)
        return self.share * loss + (1 - self.share) * others
