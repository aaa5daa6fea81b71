"""Warns of --together where networks are as wide as published: training several as one was no faster there."""

from __future__ import annotations

from collections.abc import Iterable

from tfser.models import Network, of
from tfser.planning.plan import Study
from tfser.sweep.options import Options


def warnings(options: Options, studies: Iterable[Study]) -> list[str]:
    """Return a line that names the models that are too wide for it; none where every one may gain."""
    if options.together < 2:
        return []
    wide = dict.fromkeys(study.configuration.model for study in studies if _is_wide(study))
    if not wide:
        return []
    return [
        f"warning: --together {options.together} ({', '.join(wide)}): at the published sizes it was no faster than "
        "alone on CPUs, and has not been measured on GPUs; it is for narrow networks"
    ]


def _is_wide(study: Study) -> bool:
    """Return whether no size of a network is, or can become in a search, smaller than published."""
    model = of(study.configuration)
    if not isinstance(model, Network):
        return False
    sizes = {name: h.default for name, h in model.hyperparameters.items() if type(h.default) is int}
    searched = {d.name for d in study.space.dimensions} if study.space is not None else set()
    return not searched & sizes.keys() and all(int(study.given[name]) >= size for name, size in sizes.items())
