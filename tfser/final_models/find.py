"""Find the final trial that a person means, by trial id, MLflow run or sweep.

It is looked up in the ledger of a sweep's storage. Knows nothing of Ray and Optuna, and imports MLflow only to look up
one of its runs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Mapping

from tfser.errors import RequestError
from tfser.features.pack import Pack
from tfser.final_models.choices import DAMAGED, NARROWING, SHOWN, Choice, Source, meant, none_found, order
from tfser.final_models.estimator import FinalEstimator
from tfser.final_models.model import Blueprint, FinalModel, in_words
from tfser.models import built_in
from tfser.models.sources import Source as ModelSource
from tfser.models.sources import installed, is_file
from tfser.planning import own_models
from tfser.record import Failure, Fitted, Record
from tfser.storage import default_places
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place, typed_place
from tfser.text.typed import typed_words
from tfser.tracking import uri as tracking_uri
from tfser.trial import SHORTEST_PREFIX

COMPARED = 4
"""Test utterances that are scored again where a record of an earlier version holds no scores of the known sound."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add RUN and the options that say which final trial is meant and where to look for it."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help=f"a trial id (or its first {SHORTEST_PREFIX} digits or more), an MLflow run id, or the name of a sweep",
    )
    which = parser.add_argument_group("which trial of a sweep or run")
    own = "its name; of a model that is not built in also its file, FILE.py:NAME, which has to be what was trained"
    said = {"model": own, "purpose": "deploy: the model that was trained on every speaker, for use"}
    for name in NARROWING:
        which.add_argument(f"--{name}", default=None, metavar=name[0].upper(), help=said.get(name))
    where = parser.add_argument_group("where")
    where.add_argument(
        "--results", type=typed_place, default=None, metavar="DIR", help="the --out of the sweep (default: ./results)"
    )
    where.add_argument(
        "--storage",
        type=typed_place,
        default=None,
        metavar="PATH",
        help="the --storage of the sweep (default: RESULTS/.tfser)",
    )
    where.add_argument(
        "--tracking-uri",
        type=typed_words,
        default=None,
        metavar="U",
        help="MLflow (default: MLFLOW_TRACKING_URI, else SQLite in the storage)",
    )


def source(arguments: argparse.Namespace) -> Source:
    """Return the places that the options name.

    Raises:
        RequestError: the tracking URI is not one that MLflow can use.
    """
    results = default_places.default_out() if arguments.results is None else arguments.results
    problems: list[str] = []
    uri = tracking_uri.given(arguments.tracking_uri, problems)
    if problems:
        raise RequestError("MLflow", problems)
    storage = results / ".tfser" if arguments.storage is None else arguments.storage
    return Source(storage=storage, results=results, tracking_uri=uri)


def own_model(arguments: argparse.Namespace) -> ModelSource | None:
    """Return the source of the model that --model names, ready to be used; ``None`` where it names none by a source.

    Raises:
        RequestError: every problem of its file or package.
    """
    typed = arguments.model
    if typed is None or not (is_file(typed) or (typed not in built_in() and typed in installed())):
        return None
    return own_models.get(typed)


def narrowed(arguments: argparse.Namespace, own: ModelSource | None = None) -> dict[str, str]:
    """Return the options that pick one of several trials, as typed.

    Args:
        arguments: the command line.
        own: of the model that --model names by its file.
    """
    typed = {name: getattr(arguments, name) for name in NARROWING if getattr(arguments, name) is not None}
    return typed if own is None else {**typed, "model": own.name}


def check_source(record: Record, own: ModelSource | None) -> None:
    """Refuse a trial of a model that is not built in, unless the person named the file that was trained.

    Args:
        record: the trial's.
        own: of the model that the person named.

    Raises:
        RequestError: no file was named, or another source than the trial's.
    """
    spec = record.spec
    if not spec.source:
        return
    trained = f"its weights are of {spec.model}, source {spec.source}"
    if own is None:
        what_to_do = f"name the file that was trained, to run it: --model FILE.py:{spec.model}"
        raise RequestError(f"trial {spec.trial_id}", [f"{trained}, a model that is not built in; {what_to_do}"])
    if own.digest != spec.source:
        what_to_do = "bring it back to what was trained, or train it anew with its sweep's command"
        raise RequestError(
            f"trial {spec.trial_id}", [f"{trained}, and {own.typed} has source {own.digest} now; {what_to_do}"]
        )


def find(run: str, place: Source, only: Mapping[str, str]) -> Record:
    """Return the record of the one final trial that a person means.

    Args:
        run: RUN as typed: a trial id or the beginning of one, an MLflow run id, or the name of a sweep.
        place: where to look.
        only: field of ``NARROWING`` to the value that it must have.

    Raises:
        RequestError: there is none, there are several (they are listed), or it keeps no weights.
    """
    ledger = place.ledger
    try:
        choices = {choice.trial_id: choice for choice in meant(run, place)}
        nothing = "" if choices else none_found(place)
    except OSError as error:
        reason = f"it cannot be looked up: {error.strerror or error}; name another folder with --results or --storage"
        raise RequestError(f"RUN {run}", [reason]) from None
    if nothing:
        raise RequestError(f"RUN {run}", [nothing])
    fitting = [c for c in choices.values() if all(getattr(c, name) == value for name, value in only.items())]
    if not fitting:
        options = " ".join(f"--{name} {value}" for name, value in only.items())
        there = "; ".join(f"{name}s {', '.join(_each(choices.values(), name))}" for name in only)
        none = "its one trial does not fit" if len(choices) == 1 else f"none of its {len(choices)} trials fits"
        raise RequestError(f"RUN {run}", [f"{none} {options}; there are {there}"])
    if len(fitting) > 1:
        differing = [f"--{name}" for name in NARROWING if len({getattr(c, name) for c in fitting}) > 1]
        by = f", or pick one with {', '.join(differing)}" if differing else ""
        lines = [
            f"it is {len(fitting)} trials; name one by its id{by}:",
            *map(str, sorted(fitting, key=order)[:SHOWN]),
        ]
        if len(fitting) > SHOWN:
            lines.append(f"... and {len(fitting) - SHOWN} more")
        if "--purpose" in differing:
            lines.append(
                "--purpose deploy: the model for use, trained on everything; each of the others lacks its fold"
            )
        raise RequestError(f"RUN {run}", ["\n      ".join(lines)])
    return _usable(ledger, fitting[0].trial_id)


def _each(choices: Iterable[Choice], name: str) -> list[str]:
    """Return the values that a field has, sorted; a model for use has no fold."""
    return sorted({getattr(choice, name) for choice in choices} - {""})


def _usable(ledger: Ledger, trial_id: str) -> Record:
    """Return the record of a final trial.

    Raises:
        RequestError: it is missing, damaged, not done or not final.
    """
    try:
        entry = ledger.get(trial_id)
    except OSError as error:
        raise RequestError(f"trial {trial_id}", [f"its entry cannot be read: {error}"]) from None
    if entry is None and ledger.damaged:
        why = DAMAGED
    elif entry is None:
        why = f"the ledger {ledger.root} does not hold it; name the sweep's storage with --storage"
    elif isinstance(entry, Failure):
        why = f"it failed ({entry.reason}); the sweep trains it again with --retry-failed"
    elif entry.spec.purpose == "search":
        without = f"trained without {', '.join(entry.spec.validation)} to choose a setting"
        why = f"it is a search trial, {without}; only final trials keep weights"
    elif entry.spec.leaks:
        shown = f"it was shown its test utterances on purpose ({', '.join(entry.spec.leaks)})"
        why = f"{shown}, to measure what a leak is worth; use an honest trial"
    else:
        return entry
    raise RequestError(f"trial {trial_id}", [why])


def load(record: Record, ledger: Ledger) -> FinalModel | FinalEstimator:
    """Load the model of a final trial, and check that it gives the recorded scores.

    Raises:
        RequestError: its weights are missing or damaged, or it gives other scores here.
    """
    features, fitted = ledger.root.parent / "features", record.fitted
    model: FinalModel | FinalEstimator
    model = _estimator(record, fitted, ledger, features) if fitted else _network(record, ledger)
    if not record.known_sound:
        _compare_with_features(model, record, features)
    return model


def _estimator(record: Record, fitted: Fitted, ledger: Ledger, features: Place) -> FinalEstimator:
    """Load the estimator of a final trial, or fit it again."""
    path = ledger.state_path(record.trial_id)
    unkept = f"its fitted state was not kept, because {fitted.unkept}" if fitted.unkept else f"{path} is not there"
    state = None
    with contextlib.suppress(FileNotFoundError):
        state = None if fitted.unkept else ledger.state(record.trial_id)
    return FinalEstimator(Blueprint.of(record), state, unkept=unkept, features=features)


def _network(record: Record, ledger: Ledger) -> FinalModel:
    """Load the network of a final trial."""
    trial_id = record.trial_id
    path = ledger.weights_path(trial_id)
    again = f"remove {ledger.path(trial_id)}, and the command of its sweep trains it again"
    try:
        return FinalModel(Blueprint.of(record), ledger.weights(trial_id))
    except RequestError:
        raise
    except FileNotFoundError:
        raise RequestError(
            f"trial {trial_id}", [f"its weights {path} are not there; put them back, or {again}"]
        ) from None
    except Exception as error:  # torch passes on whatever its reader raises about a damaged file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RequestError(
            f"trial {trial_id}", [f"its weights {path} are damaged: {reason}; put an intact copy back, or {again}"]
        ) from None


def _compare_with_features(model: FinalModel | FinalEstimator, record: Record, features: Place) -> None:
    """Score some test utterances again, for a record that holds no scores of the known sound."""
    path = model.pack(features)
    try:
        pack = Pack.open(path)
        frames = pack.frames()
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        why = f"its features {path} cannot be read ({type(error).__name__}), so that its scores were not compared"
        trained = f"with the recorded ones; it was made with {in_words(record.versions)}"
        print(f"trial {model.trial_id}: {why} {trained}", file=sys.stderr)
        return
    recorded = {u.id: u.p for u in record.scores.utterances[:COMPARED]}
    model.compare({u.id: frames[u.start : u.start + u.frames] for u in pack.utterances if u.id in recorded}, recorded)
