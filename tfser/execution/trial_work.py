"""Estimates of how long trials train, so that the longest begin first, and of which one needs the most memory.

Rough on purpose: they set the order in which trials are handed out and never change a number. ``tfser.sweep.hours``
says how many hours a plan takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tfser.evaluation import folds
from tfser.features.base import Extractor
from tfser.features.pack import Pack
from tfser.features.segments import hop_of
from tfser.models import Model, Network, of
from tfser.planning.plan import Study
from tfser.planning.settings import complete, extractor
from tfser.trial import ProtocolName, TrialSpec


def cost(model: Model, ablation: str) -> float:
    """Return what a frame of training costs, relative to other models and ablations; 1 where nobody says."""
    return float(model.cost.get(ablation, 1.0))


class Work:
    """A measure of work: epochs x training segments x frames of a segment x what the model costs per frame.

    An estimator's is its training frames x what it costs per frame.

    Args:
        packs: (database, kind of features) to its features.
    """

    def __init__(self, packs: Mapping[tuple[str, Extractor], Pack]) -> None:
        self._packs = packs
        self._segments: dict[tuple[Any, ...], Counter[str]] = {}

    def __call__(self, spec: TrialSpec) -> float:
        """Return the work of one trial; 0 where its features are not there."""
        model = of(spec)
        settings, wanted = complete(model, spec.settings), extractor(model, spec.settings)
        length = int(settings.get("segment_frames", 1))
        hop = hop_of(settings, "training") if isinstance(model, Network) else 1
        key = (spec.database, wanted, spec.protocol, length, hop)
        if (spec.database, wanted) not in self._packs:
            return 0.0
        if key not in self._segments:
            self._segments[key] = _segments(self._packs[spec.database, wanted], spec.protocol, key[-1])
        of_group = self._segments[key]
        trained = of_group.total() - sum(of_group[name] for name in {spec.fold, *spec.validation})
        return spec.epochs * trained * length * cost(model, spec.ablation)


def _segments(pack: Pack, protocol: ProtocolName, hop: int) -> Counter[str]:
    """Return about how many segments each fold holds out."""
    count: Counter[str] = Counter()
    for utterance in pack.utterances:
        count[folds.group(utterance, protocol)] += max(-(-utterance.frames // hop), 1)
    return count


_SIZES = ("batch_size", "segment_frames", "n_mels", "channels")
"""Settings that a trial's memory grows with."""


class _Largest:
    """Samples the largest legal value of every size, and the first value of everything else."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return max(choices) if name.split(" of ")[0] in _SIZES else choices[0]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + (high - low) // step * step if name in _SIZES else low

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return low


def largest(studies: Iterable[Study]) -> list[TrialSpec]:
    """Return, for each database and network, the trial that needs the most memory; a GPU is shared by no estimators.

    For a search that is the largest setting it can sample. Memory grows with the values that a step holds: batch x
    segment x bands x channels. An ablation needs less of it, about as it needs less work.
    """
    found: dict[tuple[str, str], tuple[float, TrialSpec]] = {}
    for study in studies:
        c = study.configuration
        if not isinstance(of(c), Network):
            continue
        settings = dict(study.base) if study.space is None else study.space.sample(_Largest(), study.base)
        held = cost(of(c), c.ablation)
        for name in _SIZES:
            held *= float(settings.get(name, 1))
        spec = next(iter(study.final_specs(settings, study.epochs).values()))
        if held > found.get((c.database, c.model), (0.0, spec))[0]:
            found[c.database, c.model] = held, spec
    return [spec for _, spec in found.values()]
