"""Searches with made-up trainings, fast enough to interrupt a search anywhere."""

from __future__ import annotations

import dataclasses
import hashlib

from tfser.benchmark import made_up
from tfser.execution.schedule import Schedule
from tfser.models import MODELS
from tfser.planning import plan, search_space_file, settings
from tfser.planning.request import Request
from tfser.record import Curves, Failure
from tfser.search.study import open_storage
from tfser.storage import packaged_files
from tfser.storage.ledger import Ledger


def known():
    return {model: settings.hyperparameters(model) for model in MODELS}


SPACE = search_space_file.read(packaged_files.data_folder("search_spaces") / "demo.yaml", known())

MODEL = "time_frequency_transformer"


def draw(*parts):
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def train(spec):
    """A record as a training would leave it: a function of the spec alone."""
    quality = -abs(spec.settings["learning_rate"] - 0.003)
    curve = tuple(quality + draw(spec.fold, spec.validation, epoch) / 10 for epoch in range(spec.epochs))
    curves = Curves(validation_uar=curve, validation_war=curve, train_loss=curve)
    return dataclasses.replace(made_up.record(spec, ("calm", "glad"), 4), curves=curves, seconds=1.0)


def make_plan(tiny, trials=5, **options):
    request = Request(models=(MODEL,), trials=trials, epochs=4, **options)
    return plan.make(request, [tiny], lambda d: "digest", {MODEL: SPACE})


class KilledError(Exception):
    pass


def run(made, folder, *, workers=1, rng=None, at_once=1, die_after=None, log=None):
    """Train the plan with some workers whose trials end in random order; may die at any step of the driver."""
    ledger = Ledger(folder / "ledger")
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        if die_after is not None and steps >= die_after:
            raise KilledError

    schedule = Schedule(made, ledger, open_storage(folder / "studies.journal"), settings_at_once=at_once)
    running = []
    while True:
        step()
        while len(running) < workers and (spec := schedule.next()) is not None:
            running.append(spec)
            step()
        if not running:
            break
        spec = running.pop(rng.randrange(len(running)) if rng else 0)
        record = train(spec)
        if log is not None:
            log.append(spec.trial_id)
        ledger.commit(record)
        step()
        schedule.ended(spec, record)
    assert schedule.finished
    return schedule


def outcome(schedule):
    """Everything that a table is made of."""
    finals = {(c.key, fold, seed): end.trial_id for (c, fold, seed), end in schedule.ends.items()}
    return finals, {name: (chosen.settings, chosen.score) for name, chosen in schedule.chosen.items()}


def failed(spec, reason="odd", status="failed"):
    return Failure(trial_id=spec.trial_id, spec=spec, reason=reason, status=status)
