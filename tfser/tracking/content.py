"""What runs hold: the metrics, parameters, tags and artifacts of a trial or a configuration. Asks MLflow nothing."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tfser.errors import counted
from tfser.models import Estimator, find
from tfser.planning import configuration as planning_configuration
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import stated
from tfser.record import Record, to_dict
from tfser.text.row_names import with_ablation
from tfser.tracking import confusion_thumbnail, names
from tfser.trial import TrialSpec, Value

Point = tuple[str, float, int]
"""Name, value and step of a metric."""

Artifacts = dict[str, str | bytes]
"""File name to content."""

TAG = 8000
"""Characters that MLflow takes of a tag's value."""

_PARAMS = ("database", "protocol", "fold", "model", "ablation", "seed", "epochs", "database_digest", "numerics")
"""Parameters of a trial's run beside its hyperparameters and how they were chosen."""

POINTS = 100
"""Most points of a curve. A chart in MLflow's page is some 400 pixels wide; the ledger keeps every epoch."""


def _shared_tags(kind: str, key: str, configuration: Configuration, sweep: str) -> dict[str, str]:
    """Return the tags that every run has.

    Args:
        kind: ``configuration``, ``fold`` (a final trial), ``deploy`` or ``search``.
        key: by which the run is found again.
        configuration: the run's own, or its trial's.
        sweep: the sweep's name.
    """
    about = {"tfser.sweep": sweep, "tfser.kind": kind, "tfser.key": key}
    about |= {"tfser.transductive": "true"} if configuration.transductive else {}
    about |= {"tfser.source": configuration.source} if configuration.source else {}
    return {**about, **{f"tfser.{name}": value for name, value in configuration_params(configuration).items()}}


def configuration_tags(configuration: Configuration, sweep: str) -> dict[str, str]:
    """Return the tags by which a configuration's run is known."""
    return {
        **_shared_tags("configuration", names.configuration_key(configuration), configuration, sweep),
        "tfser.database_digest": configuration.database_digest,
        "tfser.settings": configuration.settings[:TAG],
    }


def configuration_note(configuration: Configuration) -> str:
    """Return the text that MLflow's page shows for a configuration."""
    c = configuration
    marked = " Transductive: scores may depend on what is scored beside an utterance." if c.transductive else ""
    row = with_ablation(c.model, c.ablation)
    return f"{row} on {c.database}, one {c.protocol} held out per fold.{marked} {c.remark}".strip()


def configuration_params(configuration: Configuration) -> dict[str, str]:
    """Return the parameters of a configuration's run, without its settings."""
    named = ("database", "protocol", "model", "ablation", "selection")
    return {name: getattr(configuration, name) for name in named}


def configuration_artifacts(
    configuration: Configuration,
    finals: Mapping[str, Mapping[str, str]],
    folds_done: float,
    confusion: Sequence[Sequence[int]] | None,
    histories: str,
) -> Artifacts:
    """Return the artifacts of a configuration's run; see ``Tracker.configuration``."""
    c = configuration
    values = {"configuration": planning_configuration.to_dict(c), "finals": finals}
    artifacts: Artifacts = {"configuration.json": json.dumps(values, sort_keys=True, ensure_ascii=False)}
    if histories:
        artifacts["search.json"] = histories
    if confusion is not None and any(map(sum, confusion)):
        folds = f"{folds_done:.0f} of {c.folds_total} folds, {counted(len(c.seeds), 'seed')}"
        heading = [f"{c.ablation} on {c.database}, {c.protocol_name}", f"selection {c.selection}, {folds}"]
        artifacts |= _confusion(c.emotions, confusion, heading)
    return artifacts


def trial_tags(configuration: Configuration, spec: TrialSpec, sweep: str) -> dict[str, str]:
    """Return the tags of a trial's run."""
    kind = spec.purpose if spec.purpose in ("search", "deploy") else "fold"
    return {
        **_shared_tags(kind, spec.trial_id, configuration, sweep),
        "tfser.trial_id": spec.trial_id,
        "tfser.fold": spec.fold,
        "tfser.seed": str(spec.seed),
        "tfser.purpose": spec.purpose,
    }


def trial_params(configuration: Configuration, spec: TrialSpec) -> dict[str, Value]:
    """Return the parameters of a trial's run.

    Args:
        configuration: says how the settings were chosen, and stands behind the digest of what was asked for.
        spec: the trial's.
    """
    lacking = {"epochs": isinstance(find(spec.model, spec.source), Estimator), "fold": not spec.fold}
    own = [name for name in _PARAMS if not lacking.get(name)]
    settings = stated(spec.model, configuration.own, spec.settings)
    return {**{name: getattr(spec, name) for name in own}, **choice_params(configuration), **settings}


def choice_params(configuration: Configuration) -> dict[str, str]:
    """Return how settings were chosen and the digest of what was asked for, where it is known."""
    digest = names.settings_digest(configuration)
    return {"selection": configuration.selection, **({"settings_digest": digest} if digest else {})}


def trial_points(record: Record) -> list[Point]:
    """Return the metrics of a trial; one that was scored on nothing has no recall."""
    scored = "validation" if record.spec.purpose == "search" else "test"
    numbers = {
        f"{scored}/war": record.scores.war,
        f"{scored}/uar": record.scores.uar,
        **{names.recall(scored, e): r for e, r in record.scores.recalls.items() if r is not None},
        "seconds": record.seconds,
    }
    numbers = {name: value for name, value in numbers.items() if not math.isnan(value)}
    if (over := record.scores.segments) is not None:
        numbers |= {f"{scored}/segment_war": over.war, f"{scored}/segment_uar": over.uar}
    if record.fitted is None:
        numbers["parameters"] = record.parameters
    curves = {f"{name.replace('_', '/', 1)}_curve": values for name, values in asdict(record.curves).items()}
    steps = [(name, values[epoch - 1], epoch) for name, values in curves.items() for epoch in thinned(values)]
    return [(name, value, 0) for name, value in numbers.items()] + steps


def thinned(curve: Sequence[float]) -> list[int]:
    """Return which epochs of a curve to show, counted from 1.

    Of more than ``POINTS`` these are evenly spaced ones, the first and the last among them, and the one with the
    highest value, the first on ties: a search chooses by that.

    Args:
        curve: a value per epoch.
    """
    if len(curve) <= POINTS:
        return list(range(1, len(curve) + 1))
    even = {1 + i * (len(curve) - 1) // (POINTS - 2) for i in range(POINTS - 1)}
    return sorted(even | {1 + max(range(len(curve)), key=curve.__getitem__)})


def trial_artifacts(configuration: Configuration, record: Record) -> Artifacts:
    """Return the artifacts of a trial."""
    spec, c, scores = record.spec, configuration, record.scores
    artifacts: Artifacts = {"trial.json": json.dumps(to_dict(record), sort_keys=True, ensure_ascii=True)}
    if scores.utterances and spec.purpose != "search":
        heading = [
            f"{c.ablation} on {c.database}, {c.protocol} {spec.fold}, seed {spec.seed}, selection {c.selection}",
            f"WAR {100 * scores.war:.2f} %, UAR {100 * scores.uar:.2f} %",
        ]
        artifacts |= _confusion(scores.emotions, scores.confusion, heading)
    return artifacts


def trial_parts(spec: TrialSpec) -> dict[str, str]:
    """Return what a trial used the database for (train, validation or test), to the name of that part of it."""
    context, scored = ("validation", spec.validation) if spec.purpose == "search" else ("test", (spec.fold,))
    without = ", ".join(filter(None, dict.fromkeys([spec.fold, *spec.validation])))
    if not without:
        return {"train": f"{spec.database}, every {spec.protocol}"}
    return {"train": f"{spec.database} without {without}", context: f"{spec.database} {', '.join(scored)}"}


def _confusion(emotions: Sequence[str], counts: Sequence[Sequence[int]], heading: list[str]) -> Artifacts:
    """Return a confusion matrix as a picture and as a table; its rows are the truth."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["true", *emotions])
    writer.writerows([e, *row] for e, row in zip(emotions, counts, strict=True))
    return {
        "confusion.png": confusion_thumbnail.confusion(emotions, counts, heading),
        "confusion.csv": buffer.getvalue(),
    }
