"""Refuses --captured and --together where an LSTM may have dropout between its layers; see ``recurrent_dropout``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from torch import nn

from tfser.models import Network, of
from tfser.planning import own_models
from tfser.planning.plan import Study
from tfser.planning.settings import build_settings
from tfser.sweep.options import Options
from tfser.training.recurrent_dropout import WHY, has_it
from tfser.trial import Value


class _Highest:
    """Samples the highest legal number of every setting, and the first word."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return max(choices) if all(isinstance(choice, (int, float)) for choice in choices) else choices[0]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + (high - low) // step * step

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return high


def problems(options: Options, studies: Iterable[Study]) -> list[str]:
    """Return what is wrong, a line per model."""
    asked = (
        "--fast"
        if options.fast
        else "--captured"
        if options.captured
        else f"--together {options.together}"
        if options.together > 1
        else ""
    )
    found: dict[str, str] = {}
    for study in studies if asked else ():
        c = study.configuration
        model = of(c)
        if not isinstance(model, Network) or c.model in found:
            continue
        settings = dict(study.base) if study.space is None else study.space.sample(_Highest(), study.base)
        module: object = None
        with contextlib.suppress(Exception):  # what cannot be built is said elsewhere
            module = own_models.built(model, c.ablation, build_settings(model, settings))
        if isinstance(module, nn.Module) and has_it(module):
            found[c.model] = f"{asked}: {c.model} with {_named(settings)} {WHY}; leave out {asked}, or set it to 0"
    return list(found.values())


def _named(settings: dict[str, Value]) -> str:
    """Return the settings that are about dropout, with their values."""
    named = [f"{name} {value}" for name, value in sorted(settings.items()) if "dropout" in name and value]
    return ", ".join(named) or "its settings"
