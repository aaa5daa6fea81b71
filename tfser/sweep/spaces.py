"""The search spaces of a request: files that were named, shipped ones, and ranges that a person's model declares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from tfser.errors import Problems, RequestError
from tfser.models import MODELS, built_in
from tfser.planning import own_models, search_space, search_space_file, settings
from tfser.planning import request as planning_request
from tfser.storage import packaged_files
from tfser.sweep.options import Options
from tfser.trial import Hyperparameter, Value


def requested_spaces(
    options: Options, request: planning_request.Request, problems: Problems, named: Sequence[str]
) -> dict[str, search_space.Space]:
    """Return the search spaces by model, without what --set fixes.

    Args:
        options: the command line.
        request: what it asks for.
        problems: what is wrong is added.
        named: the words of --model; a model that is not among them has no search where no file searches it.
    """
    if not request.trials:
        if options.space:
            problems.append("--space: without --trials nothing is drawn from it; add --trials N")
        return {}
    models = [m for m in request.models if m in built_in() or m in request.sources]
    known = settings_by_model(request.sources)
    found: dict[str, search_space.Space] = {}
    packaged = packaged_files.data_folder("search_spaces")
    files = {model: packaged / f"{model}.yaml" for model in models if model not in request.sources}
    for path in options.space or [file for model, file in files.items() if model in named or file.exists()]:
        try:
            read = search_space_file.read(path, known)
        except RequestError as error:
            problems.take(error)
            continue
        if read.model not in models:
            problems.append(f"{path}: it searches {read.model}, which is not among --model {' '.join(models)}")
        elif read.model in found:
            problems.append(f"{path}: {found[read.model].source} already searches {read.model}")
        else:
            found[read.model] = read.without(_typed(request, read.model, known[read.model]))
    for model in models:
        if model in found or problems or model not in (*named, *request.sources):
            continue
        declared = own_models.declared_space(MODELS[model]) if model in request.sources else None
        if declared is not None:
            found[model] = declared.without(_typed(request, model, known[model]))
        elif model in request.sources:
            problems.append(f"--space: {model} declares no range to search; name a file, or leave out --trials")
        else:
            problems.append(f"--space: no file searches {model}; add one, or name the models with --model")
    return found


def settings_by_model(own: Iterable[str] = ()) -> dict[str, dict[str, Hyperparameter]]:
    """Return every setting that a search space can name, by model.

    Args:
        own: models of the request that are not built in.
    """
    return {model: settings.hyperparameters(model) for model in (*built_in(), *own)}


def _typed(request: planning_request.Request, model: str, known: Mapping[str, Hyperparameter]) -> dict[str, Value]:
    """Return what --set fixes of a model, without the values that are refused elsewhere."""
    values: dict[str, Value] = {}
    for name, text in planning_request.fixed_of(request, model).items():
        if name in known:
            with contextlib.suppress(ValueError):
                values[name] = known[name].parse(text)
    return values
