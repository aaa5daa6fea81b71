"""Rows and ledger records with made-up scores, as whole as real ones, and what MLflow must hold of them."""

import sqlite3
from collections import Counter, defaultdict
from pathlib import Path

from tfser.benchmark import made_up
from tfser.planning.configuration import Configuration
from tfser.record import Failure
from tfser.tracking.content import thinned
from tfser.trial import TrialSpec

EMOTIONS = ("angry", "calm", "glad", "sad")
DIGEST = "0123456789abcdef"


def row(ablation="T+F", folds=("anna", "bert"), seeds=(0,), selection="published"):
    """A row of a table."""
    return Configuration(
        database="tiny",
        protocol="speaker",
        model="time_frequency_transformer",
        ablation=ablation,
        selection=selection,
        emotions=EMOTIONS,
        folds=tuple(folds),
        folds_total=len(folds),
        seeds=tuple(seeds),
    )


def record(configuration, fold, seed, purpose="final", epochs=20, utterances=24):
    """The ledger's record of one trial of that row; the same arguments give the same record."""
    spec = TrialSpec(
        database=configuration.database,
        database_digest=DIGEST,
        protocol=configuration.protocol,
        fold=fold,
        purpose=purpose,
        validation=("dora",) if purpose == "search" else (),
        model=configuration.model,
        ablation=configuration.ablation,
        seed=seed,
        epochs=epochs,
        hyperparameters=(("channels", 16), ("learning_rate", 0.001)),
    )
    return made_up.record(spec, configuration.emotions, utterances)


def failure(record, reason):
    """The same trial, had it failed."""
    about = {name: getattr(record, name) for name in ("trial_id", "spec", "started_unix", "seconds")}
    return Failure(reason=reason, **about)


def points(record):
    """Every metric point that MLflow must hold of a trial, once: {(name, step): value}."""
    scored = "validation" if record.spec.purpose == "search" else "test"
    scores = record.scores
    wanted = {
        (f"{scored}/war", 0): scores.war,
        (f"{scored}/uar", 0): scores.uar,
        (f"{scored}/segment_war", 0): scores.segments.war,
        (f"{scored}/segment_uar", 0): scores.segments.uar,
        ("seconds", 0): record.seconds,
        ("parameters", 0): float(record.parameters),
    }
    wanted |= {(f"{scored}/recall/{e}", 0): value for e, value in scores.recalls.items()}
    curves = record.curves
    for name, curve in (
        ("train/loss", curves.train_loss),
        ("validation/uar", curves.validation_uar),
        ("validation/war", curves.validation_war),
    ):
        wanted |= {(f"{name}_curve", epoch): curve[epoch - 1] for epoch in thinned(curve)}
    return wanted


class Held:
    """What an MLflow database on disk holds, read past MLflow."""

    def __init__(self, database: Path):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            self.runs = {
                run: (experiment, status, artifacts)
                for run, experiment, status, artifacts in connection.execute(
                    "SELECT run_uuid, experiment_id, status, artifact_uri FROM runs WHERE lifecycle_stage = 'active'"
                )
            }
            self.experiments = [
                name for (name,) in connection.execute("SELECT name FROM experiments WHERE name LIKE 'tfser/%'")
            ]
            self.tags, self.params, self.metrics, self.inputs = (defaultdict(dict) for _ in range(4))
            for run, key, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
                self.tags[run][key] = value
            for run, key, value in connection.execute("SELECT run_uuid, key, value FROM params"):
                self.params[run][key] = value
            self.times = Counter()
            for run, key, step, value in connection.execute("SELECT run_uuid, key, step, value FROM metrics"):
                self.times[run, key, step] += 1
                self.metrics[run][key, step] = value
            for run, name, digest, context in connection.execute(
                "SELECT i.destination_id, d.name, d.digest, t.value FROM inputs i "
                "JOIN datasets d ON i.source_id = d.dataset_uuid JOIN input_tags t ON t.input_uuid = i.input_uuid"
            ):
                self.inputs[run][context] = (name, digest)
        connection.close()

    def of(self, sweep, key):
        """The runs of a sweep for a trial id or a configuration's key."""
        return [
            run for run in self.runs if self.tags[run]["tfser.sweep"] == sweep and self.tags[run]["tfser.key"] == key
        ]
