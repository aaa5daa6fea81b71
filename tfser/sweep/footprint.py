"""What a sweep still needs of a machine: bytes of disk for what is left, and memory of a trial. All of it is rough.

Networks are built to count their parameters, and one small batch goes through each. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tfser.databases.base import Database
from tfser.features.base import Extractor
from tfser.features.store import FeatureStore
from tfser.models import Network, of
from tfser.planning.own_models import built
from tfser.planning.plan import Study
from tfser.planning.settings import build_settings, extractor
from tfser.sweep.hours import seconds
from tfser.sweep.remaining import Remaining
from tfser.sweep.request import Sweep
from tfser.tracking.uri import sqlite_path
from tfser.trial import Value

PROCESS = 2**29
"""Bytes of memory that a process takes in which torch has trained anything."""

_A_BATCH = 4
"""Segments of the batch that is measured; memory grows with their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes that what is left of a sweep takes, about."""

    features: int
    """Of features that are not extracted yet."""
    weights: int
    """Of the weights of final trials."""
    checkpoint: int
    """Of the checkpoint of a trial while it runs; the largest."""
    entries: int
    """Of ledger entries and studies."""
    mlflow: int
    """Of MLflow's runs in a local database; 0 where a server keeps them."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Memory of one trial, by model; the largest of its rows."""
    unknown: tuple[str, ...] = ()
    """Models whose size is not known before one was trained."""

    @property
    def disk(self) -> int:
        """All that stays on disk."""
        return self.features + self.weights + self.entries + self.mlflow


def measure(sweep: Sweep, left: Remaining) -> Need:
    """Return what the trials that are left need; nothing where none is left."""
    if not left.to_train:
        return Need(features=0, weights=0, checkpoint=0, entries=0, mlflow=0)
    weights = checkpoint = entries = mlflow = 0
    local = sqlite_path(sweep.tracking_uri) is not None and sweep.options.mlflow
    memory: dict[str, int] = {}
    unknown: dict[str, None] = {}
    studies = {study.configuration: study for study in sweep.plan.studies}
    for row, (search, final) in left.rows.items():
        if not left.of(row):
            continue
        study, trials = studies[row], search.to_train + final.to_train
        held, used = _size(study), _memory(sweep, study)
        if held is None:
            unknown[row.model] = None
        else:
            weights += held * final.to_train
            checkpoint = max(checkpoint, 3 * held)  # the optimiser keeps two values of each
        if used is not None:
            memory[row.model] = max(memory.get(row.model, 0), used)
        entry = _entry(study, sweep.databases[row.data])
        entries += entry * trials + _A_SETTING * search.to_train
        mlflow += ((_A_RUN + entry + _curves(study)) * trials + _A_FIGURE * final.to_train) * local
    return Need(
        features=_features(sweep),
        weights=weights,
        checkpoint=checkpoint,
        entries=entries,
        mlflow=mlflow + _A_DATABASE * local,
        memory=memory,
        unknown=tuple(unknown),
    )


def _features(sweep: Sweep) -> int:
    """Return the bytes of the features that a start would extract: it extracts all that a trial could ask for."""
    store, total = FeatureStore(sweep.storage / "features"), 0
    for database in sweep.databases.values():
        wanted = sweep.plan.features.get(database.name, ())
        absent = [e for e in wanted if store.kept(database.name, sweep.digests[database.name], e) is None]
        if absent:
            lengths = [seconds(database, utterance) for utterance in database.utterances]
            total += sum(_of_rows(lengths, each) for each in absent)
    return total


def _of_rows(lengths: list[float], wanted: Extractor) -> int:
    """Return the bytes of a database's rows and of the table beside them.

    Args:
        lengths: seconds of every utterance.
        wanted: makes the rows.
    """
    rows = len(lengths) if not wanted.hop_s else sum(max(round(each / wanted.hop_s), 1) for each in lengths)
    value = 2 if wanted.dtype == "float16" else 4
    return rows * wanted.channels * wanted.bands * value + _A_LINE * len(lengths)


def _size(study: Study) -> int | None:
    """Return the bytes of a model's file; ``None`` where that is not known."""
    model, c = of(study.configuration), study.configuration
    if not isinstance(model, Network):
        return None
    try:
        module: Any = built(model, c.ablation, build_settings(model, study.given))
    except Exception:  # a person's own code, as below
        return None
    return sum(int(t.numel()) * int(t.element_size()) + _A_TENSOR for t in module.state_dict().values())


def _memory(sweep: Sweep, study: Study) -> int | None:
    """Return the memory of one trial; ``None`` where that is not known."""
    model, settings = of(study.configuration), study.given
    if not isinstance(model, Network):
        database = sweep.databases[study.configuration.data]
        try:
            return PROCESS + 6 * _of_rows(
                [seconds(database, u) for u in database.utterances], extractor(model, settings)
            )
        except Exception:  # an extractor that this machine lacks something for
            return None
    c = study.configuration
    try:
        own = build_settings(model, settings)
        with torch.random.fork_rng(devices=[]):
            module = model.build(c.ablation, own, len(c.emotions))
            a_segment = _saved(module, own) / _A_BATCH
    except Exception:  # a person's own code, or its file is gone; what is wrong with it is said where it is timed
        return None
    parameters = sum(p.numel() * p.element_size() for p in module.parameters())
    # Weights, gradients and the two moments of Adam; what a step keeps, and as much again for what it computes from it.
    return int(PROCESS + 4 * parameters + 2 * a_segment * int(settings["batch_size"]))


def _saved(module: torch.nn.Module, settings: Mapping[str, Value]) -> int:
    """Return the bytes that a small batch's forward pass keeps for its backward pass, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    shape = (_A_BATCH, *(int(settings[name]) for name in ("input_channels", "input_bands", "segment_frames")))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made = module.train()(torch.zeros(shape))
    del made
    return sum(kept.values())


_A_LINE = 160
"""Bytes of an utterance in the table of its features."""

_A_TENSOR = 300
"""Bytes of a tensor in a file of weights, beside its values."""

_A_SETTING = 1300
"""Bytes of a setting in the journal of a study."""

_A_RUN = 17_000
"""Bytes of a run in MLflow's SQLite database, curves apart."""

_A_FIGURE = 6500
"""Bytes of a final trial's confusion matrix beside its run."""

_A_DATABASE = 900_000
"""Bytes of MLflow's empty SQLite database."""


def _entry(study: Study, database: Database) -> int:
    """Return the bytes of a ledger entry: the curves of a trial, and the scores of the utterances that it held out."""
    c = study.configuration
    tested = sum(not c.pool or u.corpus in c.folds for u in database.utterances)
    scored = tested / c.folds_total
    epochs = study.epochs if isinstance(of(c), Network) else 0
    return int(2400 + 60 * epochs + scored * (60 + 22 * len(c.emotions)))


def _curves(study: Study) -> int:
    """Return the bytes of the curves of a run in MLflow, which has at most 100 points of each."""
    return 500 * min(study.epochs, 100) if isinstance(of(study.configuration), Network) else 0
