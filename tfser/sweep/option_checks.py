"""What can be wrong with the options of a sweep that do not say what is trained: its name, its places, its workers.

Also which options of a search are typed where nothing is searched.
"""

from __future__ import annotations

from collections.abc import Sequence

from tfser.errors import RequestError
from tfser.execution.on_ray import open_doors
from tfser.planning.request import SAMPLERS, Request
from tfser.report import published
from tfser.report.tables.printed_notes import averaging_problems
from tfser.storage import default_places
from tfser.storage.passwords import redacted
from tfser.storage.places import NAME, RESERVED, Place, is_remote
from tfser.sweep import saved
from tfser.sweep.options import LEAKS_PREFIX, Options
from tfser.tracking import uri as tracking_uri


def problems(options: Options) -> list[str]:
    """Return what is wrong with them, in words."""
    return [
        *_running_problems(options),
        *_idle_problems(options),
        *_place_problems(options),
        *_name_problems(options.name),
        *_published_problems(options.published),
        *averaging_problems(options.averaging),
        *saved.problems(options),
    ]


def _running_problems(options: Options) -> list[str]:
    """Return what is wrong with the options that say how trials run."""
    cpus, gpus, limit = options.trial_cpus, options.trial_gpus, options.trial_timeout
    wrong = {
        "--json: it is for --plan; add that, or leave it out": options.json and not options.plan,
        f"--trial-cpus: {cpus} is not above 0": cpus is not None and not 0 < cpus < 1e6,
        f"--together: {options.together} is below 1 (1 trains each trial alone)": options.together < 1,
        "--captured: it is for trials that are trained alone; leave out --together, or --captured": (
            options.together > 1 and options.captured
        ),
        f"--checkpoint: {options.checkpoint} is not above 0": not options.checkpoint > 0,
        f"--trial-timeout: {limit} is not above 0 (leave it out for no limit)": limit is not None
        and not 0 < limit < 1e9,
        f"--trial-gpus: {gpus} is below 0 (0 trains on CPUs)": gpus is not None and not 0 <= gpus < 1e6,
    }
    return [problem for problem, holds in wrong.items() if holds]


def _idle_problems(options: Options) -> list[str]:
    """Return which options of a search were typed without one; at their defaults they ask for nothing."""
    if options.trials:
        return []
    usual = Request()
    changed = {
        "--selection": options.selection == "global",  # oracle is of the epochs too
        "--validation-folds": options.validation_folds != usual.validation_folds,
        "--sampler": options.sampler in SAMPLERS and options.sampler != usual.sampler,
        "--search-seed": options.search_seed != usual.search_seed,
        "--no-pruning": not options.prune,
        "--deterministic": options.deterministic,
    }
    typed = {word.partition("=")[0] for word in options.typed}
    idle = [option for option, is_changed in changed.items() if is_changed and option in typed]
    if not idle:
        return []
    it = "it" if len(idle) == 1 else "them"
    return [f"{', '.join(idle)}: without --trials nothing is searched; add --trials N, or leave {it} out"]


def _place_problems(options: Options) -> list[str]:
    """Return what is wrong with the places and servers that were named."""
    found: list[str] = []
    uri = tracking_uri.given(options.tracking_uri, found) if options.mlflow else None
    if options.address and not options.in_process and (wrong := open_doors.no_driver_at(options.address)):
        found.append(wrong)
    if options.optuna_storage and (wrong := tracking_uri.no_database(options.optuna_storage)):
        found.append(redacted(f"--optuna-storage: {wrong}"))
    _, storage = places(options)
    if options.mlflow and not uri and is_remote(storage):
        what_to_do = "name an MLflow server, or sqlite:////a/local/file.db"
        found.append(f"--tracking-uri: an SQLite database cannot lie in {storage}; {what_to_do}")
    return found


def _published_problems(files: Sequence[Place]) -> list[str]:
    """Return what is wrong with files of published figures."""
    try:
        published.load(*files)
    except RequestError as error:
        return error.named
    return []


def _name_problems(name: str | None) -> list[str]:
    """Return what is wrong with the name of the sweep, which becomes a folder."""
    if name is None:
        return []
    if not NAME.fullmatch(name):
        legal = "use a-z, 0-9, '.', '_', '+' and '-', beginning with a letter or digit"
        return [f"--name: {name!r} becomes a folder; {legal}"]
    if RESERVED.fullmatch(name):
        return [f"--name: {name!r} becomes a folder, and Windows has none of that name; choose another"]
    if name.startswith(LEAKS_PREFIX):
        theirs = "those of tfser leaks, which puts that before what it is given"
        return [f"--name: names that begin with {LEAKS_PREFIX} are {theirs}"]
    return []


def places(options: Options) -> tuple[Place, Place]:
    """Return where the tables go, and where everything else is kept."""
    out = default_places.default_out() if options.out is None else options.out
    return out, out / ".tfser" if options.storage is None else options.storage
