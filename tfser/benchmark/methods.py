"""What every built-in method costs: CPU time and memory of a fold beside the linear SVM's, and that of its features.

An estimator's fold is its whole fit with its inner choice, and its scores. A network's is one epoch at the published
sizes, and its scores: multiply by the epochs. Both are a final trial as a sweep trains it, on one core and no GPU, with
features that were extracted before. Each method has a process of its own, one after another. A method that this machine
cannot run is left out, and stderr says why.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

from tfser.benchmark import fused
from tfser.benchmark.figures import Figure, Scale, figure, one_core
from tfser.benchmark.processes import Child, peak_mib
from tfser.databases import load
from tfser.databases.base import Database
from tfser.errors import RequestError, TfserError
from tfser.execution.run_trial import Task, run
from tfser.features.base import Extractor
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS, Network, built_in
from tfser.planning import own_models, plan
from tfser.planning import request as planning_request
from tfser.planning.settings import extractor, feature_problems, missing_here, published_settings
from tfser.record import Failure, Outcome
from tfser.storage import temporary
from tfser.storage.places import Place, absolute

BASELINE = "svm"
"""The method beside which the others stand: a linear SVM on functionals that every machine can extract."""

LONG_S = 10.0
"""Ours: seconds from which a fold is measured only once. A shorter one is repeated, and the first does not count."""

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
    """CPU time of a fold, by repeat."""
    baselines: tuple[float, ...]
    """The same of the baseline, in turn in the same process."""
    peak_mib: float
    """Most memory that the process held by the end of the method's first fold."""


def measure(scale: Scale) -> Iterator[Figure]:
    """Measure, per built-in method, time and memory of a fold; per feature set, the time of an utterance."""
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
            with Child(serve_fold, task, baseline, scale) as child:
                yield from figures_of(model, scale.database, child.receive(), imports)
        except TfserError as error:
            why = "; ".join(error.problems) if isinstance(error, RequestError) else str(error)
            print(f"methods: {model} is left out: {why}", file=sys.stderr)


def figures_of(model: str, database: str, cost: Cost, imports_mib: float) -> list[Figure]:
    """Return a method's two figures."""
    what = "an epoch and scores" if isinstance(MODELS[model], Network) else "fit and scores"
    where = "" if database == "synthetic" else f" of {database}"
    return [
        figure(f"{model}, {what} of a fold{where} (to {BASELINE})", "CPU s", cost.seconds, cost.baselines),
        figure(f"{model}, peak memory of that{where} (to imports)", "MiB", [cost.peak_mib], [imports_mib]),
    ]


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


def serve_fold(connection: Connection, task: Task, baseline: Task, scale: Scale) -> None:
    """Train the trial and the baseline's in turn, on one core and no GPU, and tell what they cost."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before PyTorch looks for one
    with one_core():
        connection.send(fold_cost(task, baseline, scale))


def fold_cost(task: Task, baseline: Task, scale: Scale) -> Cost:
    """Train a trial and the baseline's in turn.

    Raises:
        TfserError: one failed; the text says why.
    """
    first, peak = _trained(task), peak_mib()
    _trained(baseline)  # loads the baseline's code
    once = first > LONG_S and not scale.quick
    values: list[float] = [first] if once else []
    baselines: list[float] = []
    for _ in range(1 if once else scale.repeats):
        if not once:
            values.append(_trained(task))
        baselines.append(_trained(baseline))
    return Cost(seconds=tuple(values), baselines=tuple(baselines), peak_mib=peak)


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
