"""The ledger in MLflow, for people.

One experiment per database and protocol, one run per configuration, one child per final or search trial.

MLflow is a view. It is written by one thread of the driver, can be rebuilt from the ledger at any time,
and an outage never reaches training. Runs are found by tag before they are made, so that the same trial
of the same sweep never has two; metrics carry the trial's own time, so that logging again changes nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tfser.planning import configuration as planning_configuration
from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import values as settings_of
from tfser.record import Entry, Record, Status, refuse_leaks, to_dict
from tfser.storage import temporary
from tfser.storage.places import Place, absolute
from tfser.tracking import confusion_thumbnail
from tfser.tracking.connection import follow_artifacts, has_content, local_file, prepare, quiet_environment, search_runs
from tfser.tracking.uri import sqlite_path
from tfser.trial import TrialSpec

_ENTITIES = 1000
"""Metrics, parameters and tags that MLflow takes at once."""

_PARAM, _TAG, _DATASET_NAME, _DATASET_DIGEST = 6000, 8000, 500, 36
"""Characters that MLflow takes of a parameter's value, a tag's value, and a dataset's name and digest."""


_METRIC = 200
"""Characters of an emotion in a metric's name, of whose 250 the rest says what is measured."""


_TAGS_KEPT = ("tfser.key", "mlflow.parentRunId", "tfser.reason")
"""What has to be known again of a trial's run."""


def experiment_name(configuration: Configuration) -> str:
    """One experiment per database and protocol."""
    return f"tfser/{configuration.database}/{configuration.protocol}"


def configuration_key(configuration: Configuration) -> str:
    """Tells configurations apart: their words, the database's digest, and a hash in place of the settings."""
    c = configuration
    return " ".join([*c.words, c.database_digest, hashlib.sha256(c.settings.encode()).hexdigest()[:12]])


def every_key(configuration: Configuration) -> list[str]:
    """What a row's run can be known by: its key, then those of before digest and settings were a part of it."""
    return [configuration_key(configuration), *earlier_keys(configuration)]


def earlier_keys(configuration: Configuration) -> list[str]:
    """What runs of the row were known by before digest and settings were a part of it, and what is ours counted as published."""
    c = configuration
    selections = ("published", "fixed") if c.selection in ("published", "fixed") else (c.selection,)
    return [" ".join([*c.words[:-1], selection]) for selection in selections]


@dataclass(slots=True)
class _Run:
    """What has to be known of a run to write to it."""

    id: str
    started_ms: int
    status: str
    artifacts: str
    """Where its artifacts are, as a URI."""
    tags: Mapping[str, str]
    """Of a trial's run those in ``_TAGS_KEPT``: there are thousands of them."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Those of a configuration's run."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last values of a configuration's run."""

    @classmethod
    def of(cls, run: Any) -> _Run:
        info, data = run.info, run.data
        if data.tags["tfser.kind"] != "configuration":  # there are thousands, and nobody asks for their numbers
            tags = {name: sys.intern(data.tags[name]) for name in _TAGS_KEPT if name in data.tags}
            return cls(info.run_id, info.start_time, info.status, info.artifact_uri, tags)
        return cls(info.run_id, info.start_time, info.status, info.artifact_uri, data.tags, data.params, data.metrics)


class Tracker:
    """Writes runs through one MLflow client; every call may raise what MLflow raises.

    Args:
        uri: the tracking URI.
        sweep: the sweep's name, in the tags of every run.
        artifacts: where artifacts go when the tracking store is a local database; a server decides itself.
        command: what a person types to get these runs again; a tag of every configuration's run.
        log_model: logs the model of a final trial, given MLflow's client, the id of the trial's run and the trial's record.
    """

    def __init__(
        self,
        uri: str,
        sweep: str,
        artifacts: Place,
        command: str = "",
        log_model: Callable[[Any, str, Record], None] | None = None,
    ) -> None:
        quiet_environment()
        from mlflow import MlflowClient

        self.uri, self.sweep, self._command, self._log_model = uri, sweep, command, log_model
        self._artifacts = absolute(artifacts) if sqlite_path(uri) else None
        prepare(uri)
        if self._artifacts is not None:
            follow_artifacts(uri, self._artifacts)
        self._client = MlflowClient(tracking_uri=uri)
        self.answered = time.monotonic()
        """When MLflow last answered, by ``time.monotonic``."""
        self._experiments: dict[str, str] = {}
        self._known: dict[str, dict[str, _Run]] = {}
        """Experiment to key (of a configuration, or a trial id) to the run that this sweep has there."""
        self._parents: set[str] = set()
        """The ids of those of configurations."""

    def _ask(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the client, and note that MLflow answered."""
        answer = method(*arguments, **named)
        self.answered = time.monotonic()
        return answer

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._found_experiment(name) or self._made_experiment(name)
        return self._experiments[name]

    def _found_experiment(self, name: str) -> str | None:
        found = self._ask(self._client.get_experiment_by_name, name)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            self._ask(self._client.restore_experiment, found.experiment_id)
        return str(found.experiment_id)

    def _made_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        location = (self._artifacts / name).as_uri() if self._artifacts else None
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(self._ask(self._client.create_experiment, name, artifact_location=location, tags=tags))
        except MlflowException as error:
            # Another sweep on the same database may have made it since.
            found = self._found_experiment(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
            if found is None:
                raise
            return found

    def _runs(self, experiment: str) -> dict[str, _Run]:
        """Key to run, of the runs that this sweep already has there."""
        if experiment not in self._known:
            self._known[experiment] = self._single([experiment])
            self._parents |= {
                run.id for run in self._known[experiment].values() if run.tags.get("tfser.kind") == "configuration"
            }
        return self._known[experiment]

    def _single(self, experiments: list[str]) -> dict[str, _Run]:
        """Key to run; where a key has several runs all but one are deleted, and their children become its own.

        MLflow chooses run ids itself. So a run whose making was not answered in time, and was tried again, may exist twice.
        """
        runs = [_Run.of(run) for run in search_runs(self._client, experiments, f"tags.`tfser.sweep` = '{self.sweep}'")]
        self.answered = time.monotonic()
        children = Counter(run.tags.get("mlflow.parentRunId") for run in runs)
        kept: dict[str, _Run] = {}
        doubles: dict[str, str] = {}
        """Run id to the key that it has in common with another run."""
        for run in sorted(runs, key=lambda run: (-children[run.id], run.status != "FINISHED", run.id)):
            key = run.tags["tfser.key"]
            if kept.setdefault(key, run) is not run:
                doubles[run.id] = key
        for run in kept.values():
            parent = doubles.get(run.tags.get("mlflow.parentRunId", ""))
            if parent is not None:
                self._ask(self._client.set_tag, run.id, "mlflow.parentRunId", kept[parent].id)
        for run_id in doubles:
            self._ask(self._client.delete_run, run_id)
        return kept

    def remove_doubles(self) -> None:
        """Bring it about that no configuration and no trial of this sweep has two runs, in any experiment."""
        found = self._ask(self._client.search_experiments, filter_string="name LIKE 'tfser/%'")
        if found:
            self._single([experiment.experiment_id for experiment in found])
        self._known.clear()

    def configuration(
        self,
        configuration: Configuration,
        finals: Mapping[str, Mapping[str, str]],
        numbers: Mapping[str, float],
        time_ms: int,
        *,
        confusion: Sequence[Sequence[int]] | None = None,
        settings: Mapping[str, Any] | None = None,
        digest: str = "",
        histories: str = "",
    ) -> str:
        """Bring the run of a configuration up to date; returns its run id.

        Args:
            configuration: the row.
            finals: fold to seed to the id of the final trial, as far as they are known.
            numbers: recalls over the folds that are done, as fractions.
            time_ms: when the last of those folds ended, milliseconds since 1970; 0 where none did.
            confusion: counts over those folds, rows are the truth; drawn as an artifact.
            settings: the hyperparameters and epochs that all final trials have in common, whatever else will be trained.
            digest: the database's.
            histories: what its studies tried, as ``tfser.search.history.to_json`` writes it.
        """
        c = configuration
        run = self._parent(c)
        artifacts: dict[str, str | bytes] = {
            "configuration.json": json.dumps(
                {"configuration": planning_configuration.to_dict(c), "finals": finals},
                sort_keys=True,
                ensure_ascii=False,
            )
        }
        if histories:
            artifacts["search.json"] = histories
        if confusion is not None and any(map(sum, confusion)):
            folds = f"{numbers.get('folds_done', 0):.0f} of {c.folds_total} folds, {len(c.seeds)} seed(s)"
            heading = [f"{c.ablation} on {c.database}, {c.protocol_name}", f"selection {c.selection}, {folds}"]
            artifacts["confusion.png"] = confusion_thumbnail.confusion(c.emotions, confusion, heading)
            artifacts["confusion.csv"] = _confusion_csv(c.emotions, confusion)
        self._artifacts_of(run, artifacts)
        params = {
            "database": c.database,
            "protocol": c.protocol,
            "model": c.model,
            "ablation": c.ablation,
            "selection": c.selection,
        }
        if digest := digest or c.database_digest:
            params["database_digest"] = digest
            self._inputs(run, digest, {c.protocol_name: c.database}, c)
        # A parameter cannot change, so one that an older version logged stays.
        params = {k: v for k, v in {**params, **(settings or {})}.items() if k not in run.params}
        tags = {"tfser.seeds": " ".join(map(str, c.seeds)), "tfser.folds": " ".join(c.folds)}
        if self._command:
            tags["tfser.command"] = self._command
        # Only what changed, at the time when it did: of two values with one time MLflow shows the larger one.
        changed = [(name, value, 0) for name, value in numbers.items() if run.metrics.get(name) != value]
        self._log(run, params, changed, tags, int(1000 * time.time()))
        run.metrics = {**run.metrics, **numbers}
        run.params = {**run.params, **{name: str(value) for name, value in params.items()}}
        # Trials can be older than the sweep that they are a part of; its run did not end before it began.
        self._ask(self._client.set_terminated, run.id, "FINISHED", end_time=max(time_ms, run.started_ms))
        return run.id

    def _parent(self, configuration: Configuration) -> _Run:
        """A configuration's run, made where there is none."""
        experiment = self._experiment(experiment_name(configuration))
        key, runs, c = configuration_key(configuration), self._runs(experiment), configuration
        if key not in runs:
            self._adopt(key, runs, c)
        if key not in runs:
            note = f"{c.model} {c.ablation} on {c.database}, one {c.protocol} held out per fold. {c.remark}".strip()
            tags = {**self._tags("configuration", key, c), **_identity(c), "mlflow.note.content": note}
            name = f"{c.ablation} · {c.database} · {c.selection} · {self.sweep}"
            runs[key] = _Run.of(self._ask(self._client.create_run, experiment, tags=tags, run_name=name))
        self._parents.add(runs[key].id)
        return runs[key]

    def _adopt(self, key: str, runs: dict[str, _Run], configuration: Configuration) -> None:
        """Take the run that an earlier version made of the row for its own, where nothing says that it is another's."""
        c = configuration
        wanted = {"database_digest": c.database_digest, **{name: str(value) for name, value in settings_of(c).items()}}
        for earlier in earlier_keys(c):
            run = runs.get(earlier)
            if run is not None and all(run.params.get(name, value) == value for name, value in wanted.items() if value):
                tags = {**self._tags("configuration", key, c), **_identity(c)}
                for name, value in tags.items():
                    self._ask(self._client.set_tag, run.id, name, value)
                run.tags = {**run.tags, **tags}
                runs[key] = runs.pop(earlier)
                return

    def _tags(self, kind: str, key: str, configuration: Configuration) -> dict[str, str]:
        c = configuration
        return {
            "tfser.sweep": self.sweep,
            "tfser.kind": kind,
            "tfser.key": key,
            "tfser.database": c.database,
            "tfser.protocol": c.protocol,
            "tfser.model": c.model,
            "tfser.ablation": c.ablation,
            "tfser.selection": c.selection,
        }

    def holds(self, configuration: Configuration, trial_id: str, status: Status) -> bool:
        """Whether a trial that ended with that status of a ledger entry is there and whole."""
        run = self._runs(self._experiment(experiment_name(configuration))).get(trial_id)
        return run is not None and run.status == _status(status) and self._has_parent(run) and self._is_whole(run)

    def _has_parent(self, run: _Run) -> bool:
        """Whether the configuration's run that a trial's is a child of is there."""
        return run.tags.get("mlflow.parentRunId") in self._parents

    def trial(self, configuration: Configuration, entry: Entry) -> None:
        """One trial as a child of its configuration's run; nothing happens when it is there and whole.

        Raises:
            TfserError: a trial that leaks on purpose, which has no place among runs that tables are made from.
        """
        refuse_leaks(entry)
        if self.holds(configuration, entry.trial_id, entry.status):
            return
        spec = entry.spec
        assert spec is not None  # the ledger's entries have one
        runs = self._runs(self._experiment(experiment_name(configuration)))
        key, status = entry.trial_id, _status(entry.status)
        if key not in runs:
            runs[key] = self._child(configuration, spec, entry.started_unix)
        elif not self._has_parent(runs[key]):  # somebody deleted it in MLflow's page
            parent = self._parent(configuration).id
            self._ask(self._client.set_tag, runs[key].id, "mlflow.parentRunId", parent)
            runs[key].tags = {**runs[key].tags, "mlflow.parentRunId": parent}
        run, end_ms = runs[key], int(1000 * (entry.started_unix + entry.seconds))
        if "tfser.reason" in run.tags and status == "FINISHED":
            self._ask(self._client.delete_tag, run.id, "tfser.reason")
        named = ("database", "protocol", "fold", "model", "ablation", "seed", "epochs", "database_digest", "numerics")
        params = {**{name: getattr(spec, name) for name in named}, **spec.settings}
        points: list[tuple[str, float, int]] = []
        tags = {}
        if isinstance(entry, Record):
            points, tags = _points(entry), {"tfser.versions": json.dumps(dict(entry.versions), sort_keys=True)}
            self._inputs(run, spec.database_digest, _parts(spec), configuration)
            self._artifacts_of(run, self._drawn(configuration, entry))
            self._model_of(run, entry)
        else:
            tags["tfser.reason"] = entry.reason
        self._log(run, params, points, tags, end_ms)
        self._ask(self._client.set_terminated, run.id, status, end_time=end_ms)
        run.status = status

    def _model_of(self, run: _Run, record: Record) -> None:
        """Log a final trial's model, so that ``mlflow models serve`` can serve it."""
        if self._log_model is None or record.spec.purpose == "search":
            return
        from mlflow.exceptions import MlflowException

        try:
            self._ask(self._log_model, self._client, run.id, record)
        except MlflowException as error:
            if error.error_code != "ENDPOINT_NOT_FOUND":  # an older server knows no logged models, and everything else
                raise

    def _is_whole(self, run: _Run) -> bool:
        """Whether the record of a run that ended is where it belongs, as far as a look at the disk can tell."""
        if self._artifacts is None or run.status != "FINISHED" or not run.artifacts.startswith("file://"):
            return True
        return has_content(local_file(run.artifacts, "trial.json"))

    def _child(self, configuration: Configuration, spec: TrialSpec, started_unix: float) -> _Run:
        """Make the run of a trial."""
        key, c = spec.trial_id, configuration
        kind = "search" if spec.purpose == "search" else "fold"
        tags = {
            **self._tags(kind, key, c),
            "tfser.trial_id": key,
            "tfser.fold": spec.fold,
            "tfser.seed": str(spec.seed),
            "tfser.purpose": spec.purpose,
            "mlflow.parentRunId": self._parent(c).id,
        }
        words = [c.ablation, f"{c.protocol} {spec.fold}"]
        if kind == "search":
            words = ["search", *words, f"validated on {', '.join(spec.validation)}"]
        experiment, start_ms = self._experiment(experiment_name(c)), int(1000 * started_unix)
        name = " · ".join([*words, f"seed {spec.seed}"])
        return _Run.of(self._ask(self._client.create_run, experiment, start_time=start_ms, tags=tags, run_name=name))

    def _drawn(self, configuration: Configuration, record: Record) -> dict[str, str | bytes]:
        """The artifacts of a trial that is done, by name."""
        spec, c, scores = record.spec, configuration, record.scores
        artifacts: dict[str, str | bytes] = {
            "trial.json": json.dumps(to_dict(record), sort_keys=True, ensure_ascii=True)
        }
        if spec.purpose != "search":
            heading = [
                f"{c.ablation} on {c.database}, {c.protocol} {spec.fold}, seed {spec.seed}, selection {c.selection}",
                f"WAR {100 * scores.war:.2f} %, UAR {100 * scores.uar:.2f} %",
            ]
            artifacts["confusion.csv"] = _confusion_csv(scores.emotions, scores.confusion)
            artifacts["confusion.png"] = confusion_thumbnail.confusion(scores.emotions, scores.confusion, heading)
        return artifacts

    def _artifacts_of(self, run: _Run, artifacts: Mapping[str, str | bytes]) -> None:
        with temporary.Folder("mlflow") as folder:
            for name, content in artifacts.items():
                Path(folder, name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            self._ask(self._client.log_artifacts, run.id, folder)

    def _inputs(self, run: _Run, digest: str, parts: Mapping[str, str], configuration: Configuration) -> None:
        """Which part of the database the run used for what.

        Args:
            run: the run.
            digest: the database's: of its utterances, labels and audio.
            parts: context to the name of the part. MLflow links a run to one name and digest once, so each context
                has a name of its own.
            configuration: where it belongs.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        source = json.dumps(
            {"database": configuration.database, "protocol": configuration.protocol}, ensure_ascii=False
        )
        inputs = [
            DatasetInput(
                Dataset(
                    name=_cut(name, _DATASET_NAME), digest=digest[:_DATASET_DIGEST], source_type="tfser", source=source
                ),
                [InputTag("mlflow.data.context", context)],
            )
            for context, name in parts.items()
        ]
        try:
            self._ask(self._client.log_inputs, run.id, inputs)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # Another sweep may have made the same dataset since; now it is there.
            self._ask(self._client.log_inputs, run.id, inputs)

    def _log(
        self,
        run: _Run,
        params: Mapping[str, Any],
        points: Sequence[tuple[str, float, int]],
        tags: Mapping[str, str],
        time_ms: int,
    ) -> None:
        """Log with as few requests as MLflow allows.

        Args:
            run: the run.
            params: name to value.
            points: (name, value, step) of metrics.
            tags: name to value.
            time_ms: the time of every point.
        """
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(name, float(value), time_ms, step) for name, value, step in points]
        given = [Param(name, str(value)[:_PARAM]) for name, value in params.items()]
        first = _ENTITIES - len(given) - len(tags)
        ask, run_id = self._client.log_batch, run.id
        self._ask(
            ask,
            run_id,
            metrics=metrics[:first],
            params=given,
            tags=[RunTag(name, value[:_TAG]) for name, value in tags.items()],
        )
        for start in range(first, len(metrics), _ENTITIES):
            self._ask(ask, run_id, metrics=metrics[start : start + _ENTITIES])


def _status(status: Status) -> str:
    """A ledger entry's status as MLflow's."""
    return "FINISHED" if status == "done" else "FAILED"


def recall_name(scored: str, emotion: str) -> str:
    """The metric of an emotion's recall; other emotions have other names.

    MLflow takes letters and digits of every script, and ``_``, ``-``, ``.`` and blanks. Any other sign (vowel signs of Indian
    scripts and accents that stand alone among them) becomes its code point in hexadecimal: ``:2b:`` is ``+``.

    Args:
        scored: ``test`` or ``validation``.
        emotion: as the database spells it.

    >>> recall_name("test", "愤怒"), recall_name("test", "joy + fear")
    ('test/recall/愤怒', 'test/recall/joy :2b: fear')
    """
    # A dot at the beginning could make a path of it, which MLflow refuses.
    parts = re.split(r"(^\.+|[^\w\-. ]+)", emotion)
    encoded = "".join(
        f":{'.'.join(f'{ord(sign):x}' for sign in part)}:" if i % 2 else part for i, part in enumerate(parts)
    )
    return f"{scored}/recall/{_cut(encoded, _METRIC, '::')}"


def _cut(text: str, most: int, before: str = " ") -> str:
    """The text, or its beginning and a hash of all of it where it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    mark = before + hashlib.sha256(text.encode()).hexdigest()[:16]
    return text[: most - len(mark)] + mark


def _identity(configuration: Configuration) -> dict[str, str]:
    """What a row's key holds beside its words, as tags."""
    return {"tfser.database_digest": configuration.database_digest, "tfser.settings": configuration.settings[:_TAG]}


def _points(record: Record) -> list[tuple[str, float, int]]:
    """The metrics of a trial that is done: (name, value, step)."""
    scored = "validation" if record.spec.purpose == "search" else "test"
    numbers = {
        f"{scored}/war": record.scores.war,
        f"{scored}/uar": record.scores.uar,
        **{recall_name(scored, e): r for e, r in record.scores.recalls.items() if r is not None},
        f"{scored}/segment_war": record.scores.segments.war,
        f"{scored}/segment_uar": record.scores.segments.uar,
        "seconds": record.seconds,
        "parameters": record.parameters,
    }
    curves = {f"{name.replace('_', '/', 1)}_curve": values for name, values in asdict(record.curves).items()}
    steps = [(name, value, step) for name, values in curves.items() for step, value in enumerate(values, 1)]
    return [(name, value, 0) for name, value in numbers.items()] + steps


def _parts(spec: TrialSpec) -> dict[str, str]:
    """What a trial used the database for, to the name of that part of it."""
    context, scored = ("validation", spec.validation) if spec.purpose == "search" else ("test", (spec.fold,))
    without = ", ".join(dict.fromkeys([spec.fold, *spec.validation]))
    return {"train": f"{spec.database} without {without}", context: f"{spec.database} {', '.join(scored)}"}


def _confusion_csv(emotions: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["true", *emotions])
    writer.writerows([e, *row] for e, row in zip(emotions, counts, strict=True))
    return buffer.getvalue()
