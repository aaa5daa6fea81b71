"""The layers of the networks that were trained, as tables 2 and 3 of the first paper: convolutions, attention encoders.

They are read off the networks themselves, built without weights from the settings of final trials. Knows no numbers of
results. Importing torch takes seconds, so that this is done only here and only for tables that need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tfser.record import Record
from tfser.trial import TrialSpec

_SILENT = frozenset({"conv", "layer", "layers"})
"""Words of a layer's path that say nothing in a table."""

MOST = 20
"""Most different settings of one model that are built."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One line: a layer, or neighbouring ones that are alike."""

    name: str
    values: tuple[str, ...]
    """Convolutions: output channels, kernel, stride, padding. Encoders: width, feed-forward width, heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers of one network by kind, in the order of the data."""

    convolutions: tuple[Layer, ...] = ()
    encoders: tuple[Layer, ...] = ()


def of_trials(records: Iterable[Record]) -> list[Layers]:
    """Return the different networks of some final trials of one model; none for a model that cannot be built here."""
    specs = {repr(sorted(r.spec.settings.items())): (r.spec, len(r.scores.emotions)) for r in records}
    made = [_of(spec, emotions) for spec, emotions in [*specs.values()][:MOST]]
    return list(dict.fromkeys(layers for layers in made if layers is not None))


def _of(spec: TrialSpec, emotions: int) -> Layers | None:
    import torch

    from tfser.models import MODELS, Network
    from tfser.planning.settings import build_settings, complete, published_settings

    model = MODELS.get(spec.model)
    if not isinstance(model, Network):
        return None
    try:
        whole = {**published_settings(spec.model), **complete(model, spec.settings)}
        settings = build_settings(model, whole)
        with torch.device("meta"):  # no weights: shapes alone
            network = model.build(spec.ablation, settings, emotions)
    except Exception:  # a trial of another version, or a file of a person's own, may not fit what is here now
        return None
    convolutions = [(path, layer) for path, layer in network.named_modules() if _is_convolution(layer)]
    encoders = [(path, layer) for path, layer in network.named_modules() if hasattr(layer, "heads")]
    return Layers(
        convolutions=tuple(_lines((_title(path), _convolution(layer)) for path, layer in convolutions)),
        encoders=tuple(_lines(_encoder(network, path, layer) for path, layer in encoders)),
    )


def _is_convolution(layer: Any) -> bool:
    from torch import nn

    return isinstance(layer, (nn.Conv1d, nn.Conv2d))


def _convolution(layer: Any) -> tuple[str, ...]:
    return str(layer.out_channels), *(_size(size) for size in (layer.kernel_size, layer.stride, layer.padding))


def _size(size: Any) -> str:
    """Write a size: ``(5, 1)`` along frequency and time, or one number."""
    if isinstance(size, str) or len(size) > 1:
        return str(size)
    return str(size[0])


def _encoder(network: Any, path: str, attention: Any) -> tuple[str, tuple[str, ...]]:
    """Return the title and the sizes of the encoder layer around an attention."""
    whole = network.get_submodule(path.rpartition(".")[0])
    inner = [layer for layer in whole.modules() if layer not in set(attention.modules())]
    wide = next((w for layer in inner if (w := _width(layer)) is not None), "–")
    return _title(path.partition(".")[0]), (str(attention.out.out_features), str(wide), str(attention.heads))


def _width(layer: Any) -> int | None:
    """Return how many features or channels a layer puts out, if it has such a number."""
    width = getattr(layer, "out_features", None) or getattr(layer, "out_channels", None)
    return int(width) if width else None


def _title(path: str) -> str:
    """Write a layer's path in words: ``time_encoder.conv_1`` as ``Time Encoder``."""
    words = [word for part in path.split(".") for word in part.split("_")]
    kept = [word for word in words if not word.isdigit() and word not in _SILENT]
    return " ".join(word.upper() if len(word) <= 3 else word.capitalize() for word in kept) or path


def _lines(layers: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[Layer]:
    """Join neighbours that are alike, and number those of one title that differ."""
    for title, members in groupby(layers, key=lambda layer: layer[0]):
        runs = [(values, len(list(same))) for values, same in groupby(values for _, values in members)]
        first = 1
        for values, count in runs:
            last = first + count - 1
            number = "" if len(runs) == 1 else f" {first}" if count == 1 else f" {first}–{last}"
            yield Layer(f"{title}{number}", values)
            first = last + 1


def joined(several: Sequence[Sequence[Layer]]) -> list[Layer]:
    """Join the layers of networks with different settings: each size with every value that it takes."""
    values: dict[str, list[tuple[str, ...]]] = {}
    for layers in several:
        for layer in layers:
            values.setdefault(layer.name, []).append(layer.values)
    return [Layer(name, tuple(one_of(column) for column in zip(*rows, strict=True))) for name, rows in values.items()]


def one_of(values: Iterable[Any]) -> str:
    """Write the different values of a setting: one, all of a few, or the range of many numbers."""
    known = list(dict.fromkeys(values))
    numbers = [value for value in known if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(known) > 3 and len(numbers) == len(known):
        return f"{_word(min(numbers))} to {_word(max(numbers))}"
    return ", ".join(_word(value) for value in known)


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def differing(settings: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return every value of every setting of some trials, by its name."""
    found: dict[str, list[Any]] = {}
    for each in settings:
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return found
