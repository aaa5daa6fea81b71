"""Warns of ``precision=bfloat16`` where trials have only a CPU that cannot compute in it."""

from __future__ import annotations

from collections.abc import Iterable

from tfser.models import Network, of
from tfser.planning.plan import Study
from tfser.sweep.comparison import without_gpu
from tfser.sweep.options import Options
from tfser.training.determinism import computes_bfloat16


def warnings(options: Options, studies: Iterable[Study]) -> list[str]:
    """Return a line that names the models that train in bfloat16 here; none where that can be of use."""
    models = dict.fromkeys(s.configuration.model for s in studies if _is_asked(s))
    if not models or options.fast or not without_gpu(options) or computes_bfloat16():
        return []
    return [
        f"warning: precision=bfloat16 ({', '.join(models)}): this machine's CPU has neither AVX512-BF16 nor AMX, "
        "so that training takes longer than in float32; leave it out, or train where a GPU is"
    ]


def _is_asked(study: Study) -> bool:
    if not isinstance(of(study.configuration), Network):
        return False
    dimensions = study.space.dimensions if study.space else ()
    searched = (value for d in dimensions if d.name == "precision" for value in d.values)
    return "bfloat16" in (*searched, study.given.get("precision"))
