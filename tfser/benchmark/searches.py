"""What a search trial costs the driver with the search spaces that come with tfser, beside Optuna alone."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna

from tfser.benchmark import made_up
from tfser.benchmark.figures import Figure, Scale, figure
from tfser.databases import load
from tfser.models import PROPOSED
from tfser.planning import plan, search_space_file
from tfser.planning import request as planning_request
from tfser.planning import settings as planning_settings
from tfser.planning.search_space import Space
from tfser.search.study import STARTUP_TRIALS, StudyRun, open_storage
from tfser.storage import packaged_files, temporary

SPACES = ("demo", *PROPOSED)
"""The small space of the built-in database, and the shipped one of each model of the papers."""


def measure(scale: Scale) -> list[Figure]:
    """Measure the core time per setting of one study, from the question for it to its score."""
    settings, repeats = (6, 1) if scale.quick else (50, scale.repeats)
    found = []
    for name in SPACES:
        study = shipped(name, settings)
        ours, bare = [], []
        for repeat in range(repeats):
            ours.append(_ours(replace(study, search_seed=repeat)))
            bare.append(_bare(study, repeat))
        assert study.space is not None
        what = f"a study of {settings} settings with {name}.yaml ({len(study.space.dimensions)} searched)"
        found.append(figure(f"{what}, driver's CPU per setting (to Optuna alone)", "ms", ours, bare))
    return found


def shipped(name: str, settings: int) -> plan.Study:
    """Return a study with a shipped search space."""
    file = packaged_files.data_folder("search_spaces") / f"{name}.yaml"
    space = search_space_file.read(file, {model: planning_settings.hyperparameters(model) for model in PROPOSED})
    request = planning_request.Request(models=(space.model,), trials=settings, epochs=60)
    return plan.make(request, [load("synthetic", None)], lambda d: "0" * 16, {space.model: space}).studies[0]


def _ours(study: plan.Study) -> float:
    """Return milliseconds of core time per setting."""
    spent = 0.0
    with temporary.Folder("benchmark") as folder:
        run = StudyRun(study, open_storage(Path(folder) / "studies.journal"))
        while run.can_ask(1):
            begin = time.process_time()
            opened = run.ask()
            run.bars(lambda trial_id: None)
            spent += time.process_time() - begin
            records = [made_up.record(spec, study.configuration.emotions, 8) for spec in opened.specs]
            rising = tuple(np.maximum.accumulate(records[0].curves.validation_uar).tolist())
            curves = replace(records[0].curves, validation_uar=rising)
            begin = time.process_time()
            for record in records:
                run.ended_trial(opened, replace(record, curves=curves))
            spent += time.process_time() - begin
    return 1000 * spent / study.trials


def _bare(study: plan.Study, seed: int) -> float:
    """Return milliseconds per setting of Optuna alone, in memory, with one sampler for all."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS))
    space, dice = study.space, random.Random(seed)
    assert isinstance(space, Space)
    begin = time.process_time()
    for _ in range(study.trials):
        trial = alone.ask()
        space.sample(trial, study.base)
        alone.tell(trial, dice.random())
    return 1000 * (time.process_time() - begin) / study.trials
