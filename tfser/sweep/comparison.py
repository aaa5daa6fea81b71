"""What ``--model comparison`` stands for: every built-in model that this machine can run, and why not the others.

Knows no model by name. Nothing is trained here but a few steps on noise, which say what a network costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from tfser.execution.this_machine import usable_cpus
from tfser.models import COMPARISON, MODELS, built_in
from tfser.planning import own_models
from tfser.planning.request import Request, base_settings
from tfser.planning.settings import feature_problems, missing_here, published_settings
from tfser.sweep.hours import Estimate
from tfser.sweep.options import Options
from tfser.trial import Value

LONGEST_H = 24.0
"""Ours: most hours that a model may take on all CPU cores of this machine; with a GPU there is no such limit."""


def expanded(request: Request) -> tuple[Request, dict[str, str]]:
    """Return a request with the models that the word stands for, and why others are left out, by name.

    A model that is named beside the word stays, whatever is wrong with it.
    """
    if COMPARISON not in request.models:
        return request, {}
    named = [model for model in request.models if model != COMPARISON]
    unable = {model: why for model in built_in() if model not in named and (why := _why_not(model, request))}
    able = [model for model in built_in() if model not in unable]
    return _with(request, (*able, *named)), unable


def _with(request: Request, models: Iterable[str]) -> Request:
    return replace(request, models=tuple(dict.fromkeys(models)))


def _why_not(model: str, request: Request) -> str:
    """Return why a model can neither run as published nor as asked for, in words; empty if it can."""
    found = _problems(model, published_settings(model))
    with contextlib.suppress(ValueError):  # a value that cannot be read is refused elsewhere
        if found and not _problems(model, base_settings(model, request)):
            return ""
    return "; ".join(found)


def _problems(model: str, settings: Mapping[str, Value]) -> list[str]:
    """Return why this machine has not what a model needs: extras, weights, a program."""
    declared = MODELS[model]
    found = [
        *feature_problems(declared, settings),
        *missing_here(declared, settings),
        *own_models.asked(declared, declared.ablations[0], settings),
    ]
    return list(dict.fromkeys(found or own_models.build_problems(declared, declared.ablations[0], settings)))


def without_gpu(options: Options) -> bool:
    """Tell whether trials have only this machine's CPUs. What a cluster has is not known here."""
    return options.address is None and (options.trial_gpus == 0 or not torch.cuda.is_available())


def cores(options: Options) -> int:
    """Return how many CPU cores of this machine train at a time."""
    if options.in_process:
        return 1
    return usable_cpus()


def too_long(costs: Mapping[str, Estimate], named: Iterable[str], options: Options) -> dict[str, str]:
    """Return the models that would take days here, and how many, in words.

    Args:
        costs: of every model.
        named: those that were named beside the word, which stay.
        options: the command line, which says where trials run.
    """
    if not without_gpu(options):
        return {}
    found, among = {}, cores(options)
    for model, cost in costs.items():
        if model in named or cost.hours is None or cost.hours <= LONGEST_H * among:
            continue
        days = cost.hours / among / 24
        days_in_words = f"{days:.3g}" if days < 100 else f"{days:.0f}"
        where = f"the {among} CPU cores" if among > 1 else "one CPU core"
        anyway = f"--model {COMPARISON} {model} trains it all the same"
        found[model] = f"about {days_in_words} days on {where} of this machine, and no GPU is used; {anyway}"
    return found


def reasons(left_out: Mapping[str, str]) -> str:
    """Return why each model is left out, in one line."""
    return "; ".join(f"{model}: {why}" for model, why in left_out.items())


def in_words(left_out: Mapping[str, str]) -> list[str]:
    """Return a line for each model that is left out."""
    return [f"left out: {MODELS[model].title} ({model}): {why}" for model, why in left_out.items()]
