"""What every built-in method costs: CPU time and memory beside the linear SVM's, and the time of its features.

An estimator's figure is a whole fold: its fit with its inner choice, and its scores. A network at published sizes can
take days, so that one batch of the fold's real segments is timed (forward, backward, step), after one that warms
caches. An epoch, and all of its epochs, are that time multiplied by the number of segments: estimates, without scores.
All is a final trial as a sweep trains it, on one core and no GPU, with features that were extracted before. Each method
has a process of its own, one after another. A method that this machine cannot run is left out, and stderr says why.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from tfser.benchmark import fused
from tfser.benchmark.figures import Figure, Scale, figure, one_core
from tfser.benchmark.processes import Child, give, peak_mib
from tfser.databases import load
from tfser.databases.base import Database
from tfser.errors import RequestError, TfserError
from tfser.execution.run_trial import Task, run, trial_data
from tfser.execution.task import open_pack
from tfser.features.base import Extractor
from tfser.features.segments import Cut
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS, Network, built_in, of
from tfser.planning import own_models, plan
from tfser.planning import request as planning_request
from tfser.planning.settings import build_settings, extractor, feature_problems, missing_here, published_settings
from tfser.record import Failure, Outcome
from tfser.storage import temporary
from tfser.storage.places import Place, absolute
from tfser.training.segments import Segments
from tfser.training.training import Training

BASELINE = "svm"
"""The method beside which the others stand: a linear SVM on functionals that every machine can extract."""

LONG_S = 10.0
"""Ours: seconds from which a fold or a batch is measured only once. A shorter one is repeated, and the first does not
count.
"""

BUDGET_S = 60.0
"""Ours: seconds that a method's folds or batches may take together. What takes longer at once is measured all the same,
and its figure says so.
"""

LIMIT_S = 300
"""Ours: seconds of CPU time after which a method is given up."""

MOST_HEARD = 50
"""Most utterances that the extraction of features is timed on, evenly spaced."""

QUICK: Mapping[str, Mapping[str, object]] = {
    BASELINE: {},
    "time_frequency_transformer": {
        "n_mels": 16,
        "segment_frames": 16,
        "batch_size": 16,
        **fused.NARROW["time_frequency_transformer"],
    },
}
"""Models of a quick run, with settings other than the published ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a process tells of a method."""

    seconds: tuple[float, ...]
    """CPU time of a fold, or of a network's batch, by repeat."""
    baselines: tuple[float, ...]
    """That of a fold of the baseline, in turn in the same process."""
    peak_mib: float
    """Most memory that the process held by the end of the method's first fold or batch."""
    batch: int = 0
    """Segments of a network's batch; 0 for an estimator."""
    epoch: int = 0
    """Segments of a network's epoch of the fold; 0 for an estimator."""


def measure(scale: Scale) -> Iterator[Figure]:
    """Measure, per built-in method, time and memory; per feature set, the time of an utterance."""
    with temporary.Folder("benchmark") as folder:
        yield from of_models(QUICK if scale.quick else dict.fromkeys(built_in(), {}), scale, Path(folder))


def of_models(models: Mapping[str, Mapping[str, object]], scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure some models, each as soon as it is asked for.

    Args:
        models: their names, and settings other than the published ones.
        scale: the amount of work, and the database.
        folder: for features and records.

    Raises:
        TfserError: the database, or the baseline on it, is not to be had.
    """
    bench = _Bench(load(scale.database, scale.data), folder)
    baseline = bench.task(BASELINE, {})
    with Child(serve_peak) as child:
        imports = child.receive()
    for model, settings in models.items():
        try:
            task = bench.task(model, settings)
            yield from bench.extractions()
            with Child(serve_cost, task, baseline, scale) as child:
                yield from figures_of(model, scale.database, child.receive(), imports)
        except TfserError as error:
            why = "; ".join(error.problems) if isinstance(error, RequestError) else str(error)
            print(f"methods: {model} is left out: {why}", file=sys.stderr)


def figures_of(model: str, database: str, cost: Cost, imports_mib: float) -> list[Figure]:
    """Return a method's figures: an estimator's fold or a network's batch, what follows for its epochs, and memory."""
    declared = MODELS[model]
    where = "" if database == "synthetic" else f" of {database}"
    beyond = f", over the budget of {BUDGET_S:g} s" if max(cost.seconds) > BUDGET_S else ""
    what = f"a batch of {cost.batch} segments" if cost.batch else "fit and scores of a fold"
    found = [figure(f"{model}, {what}{where}{beyond} (to {BASELINE})", "CPU s", cost.seconds, cost.baselines)]
    if isinstance(declared, Network):
        epoch_s, beside = np.array(cost.seconds) * cost.epoch / cost.batch, np.array(cost.baselines)
        for what, times, unit_s, unit in (
            (f"an epoch of {cost.epoch} segments", 1, 1, "CPU s"),
            (f"its {declared.epochs} epochs", declared.epochs, 3600, "CPU h"),
        ):
            name = f"{model}, {what}{where}, estimated (to {BASELINE})"
            found.append(figure(name, unit, (times * epoch_s / unit_s).tolist(), (beside / unit_s).tolist()))
    name = f"{model}, peak memory of that{where} (to imports)"
    return [*found, figure(name, "MiB", [cost.peak_mib], [imports_mib])]


@dataclass(slots=True)
class _Bench:
    """A database with its features."""

    database: Database
    folder: Path
    digests: Mapping[str, str] = field(init=False)
    _new: list[Figure] = field(default_factory=list)
    _made: dict[Extractor, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.digests = audio_digests(self.database)

    def task(self, model: str, settings: Mapping[str, object]) -> Task:
        """Return a final trial of the first fold, an epoch long; extract missing features.

        Raises:
            RequestError: this machine lacks something for it, or its settings do not fit.
        """
        if found := _problems(model):
            raise RequestError(model, found)
        request = planning_request.Request(
            models=(model,),
            epochs=1 if isinstance(MODELS[model], Network) else None,
            fixed=tuple((key, str(value)) for key, value in settings.items()),
        )
        study = plan.make(request, [self.database], lambda d: d.digest(self.digests), {}).studies[0]
        spec = next(iter(study.final_specs(study.base, study.epochs).values()))
        pack = self._pack(MODELS[model].feature_set.name, extractor(MODELS[model], spec.settings))
        return Task(spec=spec, pack=pack, storage=self.folder, checkpoint_s=float("inf"))

    def extractions(self) -> list[Figure]:
        """Return the figures of features that were extracted since they were last asked for."""
        found, self._new = self._new, []
        return found

    def _pack(self, name: str, reads: Extractor) -> Place:
        if reads not in self._made:
            with one_core():
                pack = FeatureStore(self.folder / "features").ensure(self.database, self.digests, reads)
                self._new.append(_extraction(name, reads, self.database))
            self._made[reads] = absolute(pack.path)
        return self._made[reads]


def _extraction(name: str, reads: Extractor, database: Database) -> Figure:
    """Measure the extraction of some utterances that are in memory."""
    step = -(-len(database.utterances) // MOST_HEARD)
    heard = [database.read(utterance) for utterance in database.utterances[::step]]
    reads(heard[0])  # loads code
    spent = _cpu_seconds(lambda: [reads(each) for each in heard])
    length_s = sum(each.samples.shape[1] / each.rate_hz for each in heard)
    what = f"features {name} ({reads.id[:40]}), an utterance (to its length)"
    return figure(what, "CPU ms", [1000 * spent / len(heard)], [1000 * length_s / len(heard)])


def _problems(model: str) -> list[str]:
    """Return why this machine cannot run a model as published."""
    declared, settings = MODELS[model], published_settings(model)
    found = [
        *feature_problems(declared, settings),
        *missing_here(declared, settings),
        *own_models.asked(declared, declared.ablations[0], settings),
    ]
    return list(dict.fromkeys(found or own_models.build_problems(declared, declared.ablations[0], settings)))


def serve_peak(connection: Connection) -> None:
    """Tell how much memory a process holds that has only imported what a trial needs."""
    connection.send(peak_mib())


def serve_cost(connection: Connection, task: Task, baseline: Task, scale: Scale) -> None:
    """Train the trial, or batches of it, and the baseline's in turn, on one core and no GPU; tell what they cost."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before PyTorch looks for one
    give(LIMIT_S)
    with one_core():
        connection.send(cost_of(task, baseline, scale))


def cost_of(task: Task, baseline: Task, scale: Scale) -> Cost:
    """Train an estimator's trial, or batches of a network's, and the baseline's in turn.

    Raises:
        TfserError: one failed; the text says why.
    """
    work, batch, epoch = partial(_trained, task), 0, 0
    if isinstance(of(task.spec), Network):
        training, batch, epoch = one_batch(task)
        work = partial(_cpu_seconds, training.run_epoch)
    first, peak = work(), peak_mib()
    _trained(baseline)  # loads the baseline's code
    once = first > LONG_S and not scale.quick
    values: list[float] = [first] if once else []
    baselines: list[float] = []
    for _ in range(1 if once else scale.repeats):
        if not once:
            values.append(work())
        baselines.append(_trained(baseline))
    return Cost(seconds=tuple(values), baselines=tuple(baselines), peak_mib=peak, batch=batch, epoch=epoch)


def one_batch(task: Task) -> tuple[Training, int, int]:
    """Return a network's training whose epoch is one batch, the batch's segments, and those of an epoch of the trial.

    The batch is the first training utterances that fill it, whole, so that it can be a few segments smaller than asked.
    """
    spec = task.spec
    model = of(spec)
    assert isinstance(model, Network)
    settings, cpu = build_settings(model, spec.settings), torch.device("cpu")
    pack, frames = open_pack(task.pack, spec.database_digest)
    data = trial_data(pack, frames, spec)
    cut = Cut.of(settings, data.loudness, "training")
    until = np.cumsum(np.bincount(Segments(frames, data.train, cut, cpu).of_utterance))
    taken = max(1, int((until <= int(settings["batch_size"])).sum()))
    speakers = (*data.speakers[:taken], data.speakers[len(data.train)])
    few = replace(data, train=data.train[:taken], scored=data.scored[:1], speakers=speakers)

    def build() -> torch.nn.Module:
        return model.build(spec.ablation, settings, len(pack.emotions))

    return Training(build, few, settings, spec.seed, 10**6, cpu), int(until[taken - 1]), int(until[-1])


def _trained(task: Task) -> float:
    """Train a trial in a new storage, because it would find its record in an old one; return the CPU time.

    Raises:
        TfserError: it failed.
    """
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(dir=str(task.storage)) as storage:
        spent = _cpu_seconds(lambda: outcomes.append(run(replace(task, storage=Path(storage)))))
    (outcome,) = outcomes
    if isinstance(outcome, Failure):
        raise TfserError(outcome.reason)
    return spent


def _cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
