"""A task: a trial and where its files are; its features, and the utterances that it may see.

Knows packs and the ledger; knows nothing of how a model learns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from tfser.errors import TrialError, in_a_line
from tfser.evaluation import folds, leaky_protocols
from tfser.execution.under_way import Tell, untold
from tfser.features.base import Extractor
from tfser.features.pack import DAMAGED, Pack
from tfser.record import Record, TrainingSet
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place
from tfser.trial import TrialSpec

DeviceKind = Literal["cpu", "gpu", "any"]
"""What a trial is trained on; ``any`` is the GPU where one is visible, else the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A trial and where its files are. Only ``spec`` can change a number."""

    spec: TrialSpec
    pack: Place
    """Path of the database's frames, without suffix."""
    storage: Place
    """Holds the ledger, checkpoints and the logs of failed trials."""
    checkpoint_s: float = 120.0
    """Seconds of training between checkpoints; infinite for none."""
    bar: tuple[float, ...] = ()
    """Validation UAR that a search trial must have reached by each epoch, else it is pruned.

    It decides whether the trial finishes and never changes its numbers: a pruned trial leaves no entry.
    """
    device: DeviceKind = "any"
    """A network's device. What a worker sees is no answer: Ray shows all GPUs to one that has no share of any."""
    captured: bool = False
    """Whether a trial that trains alone on a GPU replays full batches as a CUDA graph, which runs the same kernels."""
    limit_s: float | None = None
    """Seconds after which the trial is ended as failed; ``None`` for no limit (``tfser.execution.time_limit``)."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Facts for the entry's ``machine`` that the process itself does not know."""
    tell: Tell = field(default=untold, compare=False)
    """Told how far a network's trial is, for a person who watches."""

    @property
    def ledger(self) -> Ledger:
        """The ledger that the entry is committed to."""
        return Ledger(self.storage / "ledger")


class FeaturesError(OSError):
    """The features of a trial are gone or damaged. That is never the trial's fault, and they can be extracted again."""


def open_pack(path: Place, database_digest: str) -> tuple[Pack, np.ndarray]:
    """Open a pack and load its frames.

    Raises:
        FeaturesError: they cannot be read, or are another database's.
    """
    try:
        files = [path.with_suffix(suffix).stat() for suffix in (".json", ".npy")] if isinstance(path, Path) else []
        return _opened(path, database_digest, tuple((file.st_ino, file.st_size, file.st_mtime_ns) for file in files))
    except DAMAGED as error:
        raise FeaturesError(f"the features {path} cannot be read: {in_a_line(error)}") from error


@lru_cache(maxsize=4)
def _opened(path: Place, database_digest: str, state: tuple[tuple[int, ...], ...]) -> tuple[Pack, np.ndarray]:
    """Load a pack once per process, and again when its files have changed.

    The processes of a machine share the memory of the frames.
    """
    pack = Pack.open(path, database_digest)
    return pack, pack.frames()


Rows = tuple[tuple[int, int, int], ...]
"""(first row, rows, emotion index) of each of some utterances."""


def sides(pack: Pack, spec: TrialSpec) -> tuple[list[int], list[int]]:
    """Return the utterances that a trial is trained on, and those that it is scored on.

    A search trial sees no test utterance, a leaking trial what its spec says.

    Raises:
        ValueError: the pack is another database's.
    """
    if pack.database_digest != spec.database_digest:
        raise ValueError(
            f"{pack.path} holds database {pack.database_digest}; the trial is about {spec.database_digest}"
        )
    if "random_split" in spec.leaks:
        return leaky_protocols.random_split(pack.utterances, spec.protocol, spec.fold)
    return folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)


def inner_names(pack: Pack, spec: TrialSpec) -> tuple[str, ...]:
    """Return the inner speakers of a trial (sessions where those are held out): training ones it does not train on.

    Raises:
        TrialError: it asks for so many that none is left.
    """
    count = int(spec.settings.get("inner_speakers", 0))
    if not count:
        return ()
    if spec.protocol == "corpus":
        names = sorted({pack.utterances[i].speaker for i in sides(pack, spec)[0]})
    else:
        names = sorted({folds.group(u, spec.protocol) for u in pack.utterances})
    try:
        return folds.inner_groups(names, spec.fold, spec.validation, count)
    except ValueError as error:
        raise TrialError(str(error)) from None


def without(pack: Pack, spec: TrialSpec, train: list[int], inner: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Part the utterances of a trial's training side into those that it trains on and its inner speakers'."""
    named = [folds.inner_unit(pack.utterances[i], spec.protocol) in inner for i in train]
    kept, apart = ([i for i, inside in zip(train, named, strict=True) if inside == side] for side in (False, True))
    return kept, apart


def training_set(pack: Pack, spec: TrialSpec) -> TrainingSet | None:
    """Return what a ``deploy`` trial is trained on; ``None`` for every other, whose record tells what it left out."""
    if spec.purpose != "deploy":
        return None
    inner = inner_names(pack, spec)
    kept, _ = without(pack, spec, sides(pack, spec)[0], inner)
    utterances = [pack.utterances[i] for i in kept]
    speakers, emotions = (Counter(getattr(u, name) for u in utterances) for name in ("speaker", "emotion"))
    return TrainingSet(speakers=dict(sorted(speakers.items())), emotions={e: emotions[e] for e in pack.emotions})


def beside(pack: Pack, extractor: Extractor) -> Place:
    """Return the path, without suffix, at which a feature store keeps another extractor's features of a database."""
    return pack.path.parent.parent / extractor.id / pack.path.name


def rows(pack: Pack, chosen: list[int]) -> Rows:
    """Return where the features of some utterances are, and their emotions."""
    index = {emotion: i for i, emotion in enumerate(pack.emotions)}
    return tuple((u.start, u.frames, index[u.emotion]) for u in (pack.utterances[i] for i in chosen))


def committed(task: Task) -> Record | None:
    """Return the record where an earlier attempt committed it and its worker was lost before it said so."""
    entry = task.ledger.get(task.spec.trial_id)
    return entry if isinstance(entry, Record) else None
