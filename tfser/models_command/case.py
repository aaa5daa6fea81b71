"""What is checked: an ablation of a model with its default settings, and a few utterances for it to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfser.databases import load
from tfser.errors import TrialError
from tfser.features.store import extract
from tfser.features.threads import one_thread
from tfser.models import Model, Network
from tfser.models.sources import Source
from tfser.models_command.finding import Told
from tfser.planning.settings import complete, extractor, feature_problems, missing_here, settings_of
from tfser.trial import Hyperparameter, Value

DATABASE = "synthetic"

COPIES = 10
"""Ours: copies of each utterance for an estimator, whose PCA or cross-validation may need many utterances."""

NOISE = 0.1
"""Ours: what is added to a copy, in standard deviations of each value."""

FEW = 4
"""A whole number is tried up to so many times its default, so that a check stays short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An ablation of a model."""

    model: Model
    ablation: str
    source: Source | None
    settings: Mapping[str, Value]
    """Every setting at its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The features of a few utterances."""

    rows: np.ndarray
    """Shape (rows, values)."""
    train: tuple[tuple[int, int, int], ...]
    """(first row, rows, emotion index) of each training utterance."""
    scored: tuple[tuple[int, int, int], ...]
    speakers: tuple[str, ...]
    """Of each utterance of ``train``, then of each of ``scored``."""
    emotions: tuple[str, ...]
    vector: bool


def of(model: Model, ablation: str, source: Source | None) -> Case:
    """Return the case of an ablation."""
    settings = {name: h.default for name, h in settings_of(model).items()}
    return Case(model=model, ablation=ablation, source=source, settings=complete(model, settings))


def material(case: Case) -> tuple[Material, Told]:
    """Extract the features of an utterance per speaker and emotion of the built-in database.

    Where this machine cannot extract them (an extra that is missing, weights that are not there), they are made up.

    Raises:
        TrialError: the extractor failed; the text says why.
    """
    reads, told = extractor(case.model, case.settings), []
    database = load(DATABASE, None)
    chosen = list({(u.speaker, u.emotion): u for u in database.utterances}.values())
    emotions = tuple(database.info.emotions)
    width = reads.channels * reads.bands
    if missing := feature_problems(case.model, case.settings) or missing_here(case.model, case.settings):
        told.append(f"made-up features, because this machine cannot extract these: {'; '.join(missing)}")
        made = np.random.RandomState(0)
        found = [made.standard_normal((1 if reads.vector else 150, width)).astype(np.float32) for _ in chosen]
    else:
        found = []
        for utterance in chosen:
            with one_thread():
                features, problems = extract(database, utterance, reads)
            if features is None:
                raise TrialError("; ".join(problem.detail for problem in problems))
            found.append(features)
    return _laid_out(case, found, chosen, emotions, reads.vector), [("remark", said) for said in told]


def _laid_out(
    case: Case, found: Sequence[np.ndarray], chosen: Sequence[Any], emotions: tuple[str, ...], vector: bool
) -> Material:
    """Lay utterances one after another; those of one speaker are scored."""
    pieces = list(zip(found, chosen, strict=True))
    if not isinstance(case.model, Network):
        random = np.random.RandomState(1)
        deviation = NOISE * np.concatenate(found).astype(np.float32).std(axis=0)
        pieces += [
            ((rows + deviation * random.standard_normal(rows.shape)).astype(rows.dtype), utterance)
            for _ in range(COPIES - 1)
            for rows, utterance in zip(found, chosen, strict=True)
        ]
    test = chosen[-1].speaker
    pieces.sort(key=lambda piece: piece[1].speaker == test)
    lengths = [len(rows) for rows, _ in pieces]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    every = [
        (start, length, emotions.index(utterance.emotion))
        for start, length, (_, utterance) in zip(starts, lengths, pieces, strict=True)
    ]
    train = sum(utterance.speaker != test for _, utterance in pieces)
    rows = np.concatenate([rows for rows, _ in pieces])
    rows.flags.writeable = False
    return Material(
        rows=rows,
        train=tuple(every[:train]),
        scored=tuple(every[train:]),
        speakers=tuple(utterance.speaker for _, utterance in pieces),
        emotions=emotions,
        vector=vector,
    )


def fewer(material: Material, train: int) -> Material:
    """Return ``train`` of the training utterances, of as many speakers as there are, and two of those scored."""
    every = len(material.train)
    kept = range(0, every, every // train)[:train]
    scored = material.scored[:2]
    return replace(
        material,
        train=tuple(material.train[i] for i in kept),
        scored=scored,
        speakers=(*(material.speakers[i] for i in kept), *material.speakers[every : every + len(scored)]),
    )


def extremes(case: Case) -> list[tuple[str, Case]]:
    """Return the case with each of the model's own settings at each end of its range, in turn, and their words."""
    found = []
    for name, h in case.model.hyperparameters.items():
        for value in _ends(h):
            if value != h.default:
                found.append((f"{name}={value}", replace(case, settings={**case.settings, name: value})))
    return found


def _ends(h: Hyperparameter) -> list[Value]:
    """Return every choice of a setting, or its lowest and highest value; a large number is left out."""
    if isinstance(h.default, bool):
        return [False, True]
    if isinstance(h.default, str):
        return list(h.choices)
    kind = type(h.default)
    ends = [] if h.low is None else [kind(h.low)]
    if h.high is not None:
        most = max(FEW * abs(h.default), h.low or 0, 16)
        ends.append(kind(min(h.high, most) if kind is int else h.high))
    return list(dict.fromkeys(ends))
