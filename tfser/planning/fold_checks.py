"""What is wrong with a request once its databases are read: too few emotions, folds that they lack, or too few.

Knows nothing of options, files or runners.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping

from tfser.databases.base import Database
from tfser.errors import RequestError, counted, unknown
from tfser.evaluation import folds
from tfser.models import MODELS, Estimator
from tfser.planning.request import Request, base_settings, fixed_of
from tfser.planning.search_space import Space


def problems(request: Request, database: Database, spaces: Mapping[str, Space]) -> list[str]:
    """Return what is wrong with a request for a database: too few emotions, folds that it lacks, or too few of them.

    Args:
        request: the whole request.
        database: loaded.
        spaces: search spaces by model; empty where --trials is 0.
    """
    alike = _emotion_problems(database)
    try:
        every = folds.folds(database.utterances, request.protocol, database.name)
    except RequestError as error:
        return [*alike, *(f"{database.name}: {problem}" for problem in error.problems)]
    if request.protocol == "corpus":
        return _corpus_problems(request, spaces, database, every)
    listed = f"tfser databases check {database.name}" if request.protocol == "speaker" else ""
    wrong = [unknown("--fold", fold, every, every=listed) for fold in request.folds if fold not in every]
    found = [*alike, *(f"{database.name}: {problem}" for problem in wrong)]
    found += [f"{database.name}: {problem}" for problem in _inner_problems(request, spaces, len(every))]
    found += [f"{database.name}: {problem}" for problem in _choice_problems(request, spaces, database, every)]
    if request.trials > 0 and len(every) < 2 + request.validation_folds:
        needed = f"a search needs {request.validation_folds} to validate, one to test and one to train on"
        advice = "Use --trials 0 or fewer --validation-folds"
        found.append(f"{database.name}: it has {counted(len(every), request.protocol)}; {needed}. {advice}")
    return found


def _emotion_problems(database: Database) -> list[str]:
    """Return why a database has nothing to tell apart; ``emotion_map`` looks at corpora that are held out."""
    shown = {u.emotion for u in database.utterances}
    if len(shown) != 1:
        return []
    needed = "telling emotions apart needs two or more; add utterances of another, or correct their labels"
    return [f"{database.name}: all of its utterances are {min(shown)}; {needed}"]


def _corpus_problems(
    request: Request, spaces: Mapping[str, Space], database: Database, every: tuple[str, ...]
) -> list[str]:
    """Return what is wrong with a request that holds out corpora; see ``problems``."""
    found = [unknown("--fold", fold, every) for fold in request.folds if fold not in every]
    if request.selection == "global" and request.trials:
        why = "with --protocol corpus it would choose on corpora that other rows of the table test on"
        found.append(f"--selection global: {why}; use --selection nested")
    for fold in [fold for fold in every if not request.folds or fold in request.folds]:
        try:
            train, _ = folds.split(database.utterances, "corpus", fold)
        except ValueError:
            why = f"every speaker of the other corpora is one of {fold} too"
            found.append(
                f"where {fold} is held out, nobody is left to train on, because {why}; correct same_speakers of "
                f"--emotions, add a database, or leave the fold out with --fold"
            )
            continue
        speakers = {database.utterances[i].speaker for i in train}
        validating = folds.validators(database.utterances, fold)[: request.validation_folds if request.trials else 0]
        left = len(speakers)
        if request.trials and len(validating) < request.validation_folds:
            kind = "corpora" if validating[:1] and validating[0] in every else "speakers of the only training corpus"
            found.append(
                f"--validation-folds: where {fold} is held out, {len(validating)} {kind} can validate, not "
                f"{request.validation_folds}; use fewer"
            )
        for name in validating:
            try:
                side, _ = folds.split(database.utterances, "corpus", fold, (name,))
                left = min(left, len({database.utterances[i].speaker for i in side}))
            except ValueError:
                left = 0
        if left < 1:
            needed = "a search needs one to validate and one to train on; use --trials 0, or add a database"
            found.append(f"where {fold} is held out, {len(speakers)} speakers are left: {needed}")
            continue
        found += [
            f"{model}: {sampled}inner_speakers {inner} leave nobody to train on of the {left} speakers that are "
            f"trained on where {fold} is held out; legal: at most {left - 1}"
            for model in request.models
            for inner, sampled in [_most_inner(request, model, spaces.get(model))]
            if inner > left - 1
        ]
        for model in request.models:
            searched = model in spaces
            held_out = f"{fold} and what validates" if searched else fold
            found += _too_few(model, left if searched else len(speakers), held_out, searched)
    return [f"{database.name}: {problem}" for problem in dict.fromkeys(found)]


def _inner_problems(request: Request, spaces: Mapping[str, Space], speakers: int) -> list[str]:
    """Return which models would have no speaker left to train on beside their inner speakers."""
    held_out = 1 + (request.validation_folds if request.trials else 0)
    most = max(speakers - held_out - 1, 0)
    found = []
    for model in request.models:
        inner, sampled = _most_inner(request, model, spaces.get(model))
        if inner > most:
            found.append(
                f"{model}: {sampled}inner_speakers {inner} leave none of {counted(speakers, request.protocol)} to "
                f"train on, beside {held_out} held out; legal: at most {most}"
            )
    return found


def _choice_problems(
    request: Request, spaces: Mapping[str, Space], database: Database, every: tuple[str, ...]
) -> list[str]:
    """Return which models would have too few training speakers to choose a setting on."""
    groups = {(folds.group(u, request.protocol), u.speaker) for u in database.utterances}
    speakers = Counter(name for name, _ in groups)
    found = []
    for model in request.models:
        left = {
            names: len(groups) - sum(speakers[n] for n in names) for names in _held_out(request, every, model in spaces)
        }
        if left:
            fewest = min(left, key=lambda names: left[names])
            found += _too_few(model, left[fewest], " and ".join(filter(None, fewest)), len(fewest) > 1)
    return found


def _held_out(request: Request, every: tuple[str, ...], searched: bool) -> list[tuple[str, ...]]:
    """Return what the trials of a model do not train on: a fold, a fold and what validates, or nothing.

    Args:
        request: the whole request.
        every: every fold of the protocol.
        searched: whether the model's settings are searched.
    """
    asked = [fold for fold in every if fold in request.folds or not request.folds]
    deploy = request.purpose == "deploy"
    finals: list[tuple[str, ...]] = [()] if deploy else [(fold,) for fold in asked]
    if not searched:
        return finals
    rotations = range(min(request.validation_folds, len(every) - 1))
    chosen_on = [""] if deploy and request.selection != "global" else asked
    return [*finals, *((f, folds.validation_group(every, f, r)) for f in chosen_on for r in rotations)]


def _too_few(model: str, left: int, held_out: str, searching: bool) -> list[str]:
    """Say why a model cannot choose a setting, if it does so on training speakers and has too few.

    Args:
        model: its name.
        left: the speakers that it would be trained on.
        held_out: those that it would not, in words.
        searching: whether that is in a search.
    """
    declared = MODELS.get(model)
    if not isinstance(declared, Estimator) or left >= declared.least_speakers:
        return []
    needed = f"it chooses a setting on held-out training speakers and needs {declared.least_speakers}"
    short = f"without {held_out}, it has {left}"
    advice = "use --trials 0, add speakers, or leave" if searching else "add speakers, or leave"
    return [f"{model}: {needed}; {short}: {advice} the model out"]


def _most_inner(request: Request, model: str, space: Space | None) -> tuple[int, str]:
    """Return the most inner speakers that a trial of a model can have, and where a space says so, in words."""
    if space is not None:
        for said in (d.values for d in space.dimensions if d.name == "inner_speakers"):
            return max(int(value) for value in said), f"{space.source} can sample "
        if "inner_speakers" in space.fixed and "inner_speakers" not in fixed_of(request, model):
            return int(space.fixed["inner_speakers"]), f"{space.source}: "
    with contextlib.suppress(ValueError):  # what cannot be read is said elsewhere
        return int(base_settings(model, request).get("inner_speakers", 0)) if model in MODELS else 0, ""
    return 0, ""
