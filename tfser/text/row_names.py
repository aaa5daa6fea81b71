"""How a line of text names a model together with its ablation. Knows no model."""

from __future__ import annotations


def with_ablation(model: str, ablation: str) -> str:
    """Return a model's name or title with its ablation; once, where the full model is called like the model.

    >>> with_ablation("ATFNN", "TFNN"), with_ablation("ATFNN", "ATFNN"), with_ablation("atfnn", "ATFNN")
    ('ATFNN TFNN', 'ATFNN', 'ATFNN')
    """
    return ablation if model.casefold() == ablation.casefold() else f"{model} {ablation}"
