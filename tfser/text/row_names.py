"""How a line of text names a model together with its ablation. Knows no model."""

from __future__ import annotations


def with_ablation(model: str, ablation: str) -> str:
    """Return a model's name or title with its ablation; once, where the full model is called like the model.

    >>> with_ablation("Mine", "small"), with_ablation("Mine", "Mine"), with_ablation("mine", "Mine")
    ('Mine small', 'Mine', 'Mine')
    """
    return ablation if model.casefold() == ablation.casefold() else f"{model} {ablation}"
