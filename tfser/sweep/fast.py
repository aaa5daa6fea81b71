"""``--fast``: what it stands for, what contradicts it, and what it needs.

It is a short form of options that exist, for one GPU or several; it adds nothing of its own. Knows no model by name:
each declares which of its settings are the fast ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from tfser.models import MODELS, Network
from tfser.planning.request import Request, fixed_of
from tfser.sweep.options import Options
from tfser.trial import Value

PRECISION = "bfloat16"
"""Of trainings with it, which have an id of their own; scores are in float32."""

WITHOUT = "name a Ray cluster that has one with --address, or leave --fast out"


def settings(request: Request) -> dict[str, Mapping[str, Value]]:
    """Return the settings that it fixes, by the networks of a request."""
    networks = {name: model for name in request.models if isinstance(model := MODELS.get(name), Network)}
    return {name: {"precision": PRECISION, **model.fast} for name, model in networks.items()}


def problems(options: Options, request: Request) -> list[str]:
    """Return what was typed beside it and says otherwise, a line each.

    Args:
        options: the command line.
        request: what it asks for, without what it stands for itself.
    """
    if not options.fast:
        return []
    share = options.trial_gpus
    wrong = {
        f"--fast: it has each trial captured, which is not for trials trained as one; leave out --together "
        f"{options.together}, or --fast": options.together > 1,
        "--fast: it has several trials share a GPU, and --in-process trains one at a time; leave one of the two out": (
            options.in_process
        ),
        "--fast: it is for GPUs, and --trial-gpus 0 trains on CPUs; leave one of the two out": share == 0,
        f"--fast: it has several trials share a GPU, and --trial-gpus {share or 0:g} gives each a whole one; leave one "
        "of the two out, or name a share below 1": share is not None and share >= 1,
    }
    found = [problem for problem, holds in wrong.items() if holds]
    fixed = settings(request)
    if request.models and not fixed:
        found.append(f"--fast: {', '.join(request.models)} {_trains(request)} on CPUs; it is for networks")
    for model, own in fixed.items():
        typed = fixed_of(request, model)
        for name, value in own.items():
            if typed.get(name, value) != value:
                said = f"--set {name}={typed[name]} of {model}"
                found.append(f"--fast: it fixes {name}={value}, and {said} says otherwise; leave one of the two out")
    return list(dict.fromkeys(found))


def _trains(request: Request) -> str:
    return "is fitted" if len(request.models) == 1 else "are fitted"


def applied(options: Options, request: Request, models: Request) -> Request:
    """Return a request with the settings that it fixes, for all networks of another request; without it, the same."""
    if not options.fast:
        return request
    fixed = dict(request.fixed)
    for model, own in settings(models).items():
        fixed |= {f"{model}.{name}": str(value) for name, value in own.items()}
    return replace(request, fixed=tuple(sorted(fixed.items())))


def expanded(options: Options) -> Options:
    """Return the options with those that it stands for."""
    return replace(options, captured=True) if options.fast else options


def lacking(options: Options) -> list[str]:
    """Return what this machine lacks for it, in words; what a cluster has is seen when it is joined."""
    if not options.fast or (options.address is not None and not options.in_process):
        return []
    if not torch.cuda.is_available():
        return [f"--fast: it is for a GPU, and torch {torch.__version__} finds none on this machine; {WITHOUT}"]
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        return [f"--fast: it trains in {PRECISION}, which {name} computes only by emulation; leave --fast out"]
    return []


def in_words(options: Options, request: Request) -> list[str]:
    """Return what it stands for, a line for each option."""
    if not options.fast:
        return []
    own: dict[str, list[str]] = {}
    for model, values in settings(request).items():
        for name, value in values.items():
            own.setdefault(f"{name}={value}", []).append(model)
    share = "auto" if options.trial_gpus is None else f"{options.trial_gpus:g}"
    fits = "as many trials share a GPU as fit" if share == "auto" else "that share of a GPU for each trial"
    return [
        "--fast stands for:",
        *(f"  --set {setting} ({', '.join(models)}; part of their trial ids)" for setting, models in own.items()),
        "  --captured (each step of a full batch, from the gathering to the optimiser, replayed as a CUDA graph; with "
        "masks, schedules and the like only its forward and backward pass)",
        f"  --trial-gpus {share} ({fits}, at the same moment where NVIDIA MPS runs, else in turns)",
    ]
