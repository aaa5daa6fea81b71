"""The runs of one sweep in MLflow, found by key, so that no configuration and no trial has two.

MLflow chooses run ids itself. So a run whose making was not answered in time, and was tried again, may exist twice.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfser.planning.configuration import Configuration
from tfser.planning.settings_in_words import values as settings_of
from tfser.storage.places import Place
from tfser.tracking import content, names
from tfser.tracking.client import Client
from tfser.tracking.connection import search_runs
from tfser.trial import TrialSpec

_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"

_TAGS_KEPT = ("tfser.key", _PARENT, "tfser.reason")
"""Tags of a trial's run that stay in memory: there are thousands of such runs."""


@dataclass(slots=True)
class Run:
    """A run, as far as needed to write to it."""

    id: str
    started_ms: int
    status: str
    artifacts: str
    """Place of its artifacts, as a URI."""
    tags: Mapping[str, str]
    """All of a configuration's run; of a trial's run those in ``_TAGS_KEPT``."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Parameters of a configuration's run; of a trial's run none."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last values of a configuration's run; of a trial's run none."""
    current: bool = False
    """Whether a trial's run has every parameter that this version logs."""

    @classmethod
    def of(cls, run: Any) -> Run:
        """Return what is needed of MLflow's own object."""
        info, data = run.info, run.data
        about = (info.run_id, info.start_time, info.status, info.artifact_uri)
        if data.tags["tfser.kind"] == "configuration":
            return cls(*about, data.tags, data.params, data.metrics)
        tags = {name: sys.intern(data.tags[name]) for name in _TAGS_KEPT if name in data.tags}
        return cls(*about, tags, current="selection" in data.params)

    @property
    def parent(self) -> str:
        """Id of the run that this one is a child of; empty for none."""
        return self.tags.get(_PARENT, "")


class RunIndex:
    """Finds, makes and adopts the runs of one sweep.

    Args:
        client: MLflow's.
        sweep: the sweep's name.
        artifacts: where the artifacts of new experiments go; ``None`` leaves it to MLflow.
    """

    def __init__(self, client: Client, sweep: str, artifacts: Place | None) -> None:
        self._client, self._sweep, self._artifacts = client, sweep, artifacts
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, dict[str, Run]] = {}
        """Experiment to key to run."""
        self._parents: set[str] = set()
        """Ids of the runs of configurations."""

    def of_configuration(self, configuration: Configuration) -> Run:
        """Return the run of a configuration; make it where there is none."""
        key, c = names.configuration_key(configuration), configuration
        runs = self._of_experiment(c)
        if key not in runs and (adopted := self._adopted(runs, c)):
            runs[key] = adopted
        name = names.configuration_run(c, self._sweep)
        if key not in runs:
            tags = {**content.configuration_tags(c, self._sweep), "mlflow.note.content": content.configuration_note(c)}
            runs[key] = Run.of(self._client.create_run(self.experiment(c), tags=tags, run_name=name))
        elif runs[key].tags.get(_NAME) in names.earlier_runs(c, None, self._sweep):
            self._client.update_run(runs[key].id, name=name)
            runs[key].tags = {**runs[key].tags, _NAME: name}
        self._parents.add(runs[key].id)
        return runs[key]

    def of_trial(self, configuration: Configuration, trial_id: str) -> Run | None:
        """Return the run of a trial."""
        return self._of_experiment(configuration).get(trial_id)

    def make_trial(self, configuration: Configuration, spec: TrialSpec, start_ms: int) -> Run:
        """Make the run of a trial, a child of its configuration's."""
        c, parent = configuration, self.of_configuration(configuration).id
        tags = {**content.trial_tags(c, spec, self._sweep), _PARENT: parent}
        name = names.trial_run(c, spec, self._sweep)
        run = Run.of(self._client.create_run(self.experiment(c), start_time=start_ms, tags=tags, run_name=name))
        self._of_experiment(c)[spec.trial_id] = run
        return run

    def has_parent(self, run: Run) -> bool:
        """Return whether the run that a trial's run is a child of exists."""
        return run.parent in self._parents

    def set_parent(self, run: Run, parent: str) -> None:
        """Make a run a child of another."""
        self._client.set_tag(run.id, _PARENT, parent)
        run.tags = {**run.tags, _PARENT: parent}

    def remove_doubles(self) -> None:
        """Delete duplicate runs of this sweep, in every experiment."""
        found = self._client.search_experiments(filter_string="name LIKE 'tfser/%'")
        if found:
            self._single([experiment.experiment_id for experiment in found])
        self._runs.clear()
        self._parents.clear()

    def _of_experiment(self, configuration: Configuration) -> dict[str, Run]:
        """Return the sweep's runs in the configuration's experiment, by key; read them the first time."""
        experiment = self.experiment(configuration)
        if experiment not in self._runs:
            runs = self._runs[experiment] = self._single([experiment])
            self._parents |= {run.id for run in runs.values() if run.tags.get("tfser.kind") == "configuration"}
        return self._runs[experiment]

    def _single(self, experiments: list[str]) -> dict[str, Run]:
        """Return the runs by key. Where a key has several, delete all but one and give it their children."""
        found = search_runs(self._client, experiments, f"tags.`tfser.sweep` = '{self._sweep}'")
        runs = [Run.of(run) for run in found]
        children = Counter(run.parent for run in runs)
        kept: dict[str, Run] = {}
        doubles: dict[str, str] = {}
        """Run id to the key that it shares with another run."""
        for run in sorted(runs, key=lambda run: (-children[run.id], run.status != "FINISHED", run.id)):
            key = run.tags["tfser.key"]
            if kept.setdefault(key, run) is not run:
                doubles[run.id] = key
        for run in kept.values():
            if run.parent in doubles:
                self.set_parent(run, kept[doubles[run.parent]].id)
        for run_id in doubles:
            self._client.delete_run(run_id)
        return kept

    def _adopted(self, runs: dict[str, Run], configuration: Configuration) -> Run | None:
        """Take over the run that an earlier version made of a configuration, unless its data or settings differ."""
        c = configuration
        wanted = {"database_digest": c.database_digest, **{name: str(value) for name, value in settings_of(c).items()}}
        for key in names.earlier_keys(c):
            run = runs.get(key)
            if run is not None and all(run.params.get(name, value) == value for name, value in wanted.items() if value):
                tags = content.configuration_tags(c, self._sweep)
                for name, value in tags.items():
                    self._client.set_tag(run.id, name, value)
                run.tags = {**run.tags, **tags}
                return runs.pop(key)
        return None

    def experiment(self, configuration: Configuration) -> str:
        """Return the id of a configuration's experiment; make it where there is none."""
        name = names.experiment(configuration)
        if name not in self._experiments:
            self._experiments[name] = self._found_experiment(name) or self._made_experiment(name)
        return self._experiments[name]

    def _found_experiment(self, name: str) -> str | None:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _made_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        location = (self._artifacts / name).as_uri() if self._artifacts else None
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(self._client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            # Another sweep on the same database may have made it since.
            found = self._found_experiment(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
            if found is None:
                raise
            return found
