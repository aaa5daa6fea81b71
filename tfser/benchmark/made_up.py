"""Records as whole as real ones with made-up scores, for what is measured without training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfser.evaluation.scores import scores
from tfser.record import Curves, Machine, Record, ScoredUtterance, Standardisation
from tfser.trial import TrialSpec


def record(spec: TrialSpec, emotions: Sequence[str], utterances: int) -> Record:
    """Return the same record for the same spec: every emotion equally often, probabilities and curves at random."""
    dice, size = np.random.default_rng(int(spec.trial_id, 16)), len(emotions)
    made = [
        ScoredUtterance(id=f"{spec.fold}-{i:03d}", speaker=spec.fold, truth=emotions[i % size], p=tuple(p.tolist()))
        for i, p in enumerate(dice.dirichlet(np.ones(size), utterances))
    ]
    searches = spec.purpose == "search"
    loss, uar, war = (tuple(dice.random(spec.epochs).tolist()) for _ in range(3))
    return Record(
        spec=spec,
        scores=scores(emotions, made, dice.integers(1, 9, (size, size))),
        epochs=spec.epochs,
        curves=Curves(train_loss=loss, validation_uar=uar if searches else (), validation_war=war if searches else ()),
        started_unix=1.7e9 + spec.seed,
        seconds=60.0,
        versions={"tfser": "0"},
        machine=Machine(device="cpu", system="made up"),
        standardisation=Standardisation(mean=(0.0,) * 80, std=(1.0,) * 80),
        parameters=240_000,
        weights_sha256="0" * 64,
    )
