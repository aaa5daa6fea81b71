"""The settings of rows in words: where rows that look alike differ, and where a row differs from its paper."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tfser.errors import counted
from tfser.planning.configuration import Configuration, OwnModel
from tfser.trial import Value


def values(configuration: Configuration) -> dict[str, Value]:
    """Return the row's settings by name; empty where they are not known."""
    return json.loads(configuration.settings) if configuration.settings else {}


def stated(model: str, own: OwnModel | None, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return a trial's settings so that each that is left out is at its published or default value.

    A spec leaves out what is at its implied value (``tfser.planning.settings.hashed``), which a model's published
    value need not be: those are put back.

    Args:
        model: the trial's.
        own: what its row says of a model that is not built in.
        settings: as a spec holds them.
    """
    implied, usual = _implied(model, own)
    return {**{name: value for name, value in implied.items() if usual[name] != value}, **settings}


def whole(model: str, own: OwnModel | None, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return a trial's settings with those that its spec leaves out, as far as they are known; as ``stated``."""
    return {**_implied(model, own)[0], **settings}


def _implied(model: str, own: OwnModel | None) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return the values of settings that a spec leaves out, and the published or default values of the same settings.

    Those of a model that is not built in follow from what its row says, because its file may be gone.
    """
    from tfser.features.sets import FEATURE_SETS  # here, because they import torch
    from tfser.models import built_in
    from tfser.planning.settings import ESTIMATOR_HYPERPARAMETERS, HYPERPARAMETERS, hyperparameters

    if own is None:
        known = hyperparameters(model) if model in built_in() else {}
        usual: dict[str, Value] = {name: h.default for name, h in known.items()}
    else:
        features = {
            name: h
            for each in FEATURE_SETS.values()
            for name, h in each.hyperparameters.items()
            if h.implied is not None
        }
        known = {**features, **(HYPERPARAMETERS if own.kind == "network" else ESTIMATOR_HYPERPARAMETERS)}
        usual = json.loads(own.defaults)
    implied = {name: h.implied for name, h in known.items() if h.implied is not None and name in usual}
    return implied, {name: usual[name] for name in implied}


def unrecorded(sweep: str) -> str:
    """Return settings for a row whose own are not known: only the sweep of an earlier version that asked for it."""
    return json.dumps({"sweep": sweep})


def recorded(settings: str) -> bool:
    """Return whether settings say what was asked for."""
    return bool(settings) and not settings.startswith('{"sweep": ')


def labels(configurations: Iterable[Configuration]) -> dict[tuple[str, ...], str]:
    """Return what is printed as the selection of each row, by its key.

    Where rows of one model and selection differ in settings, those are added: ``fixed, epochs 8``.
    """
    alike: dict[tuple[str, ...], list[Configuration]] = defaultdict(list)
    for c in configurations:
        alike[c.database, c.database_digest, c.protocol, c.model, c.selection].append(c)
    made: dict[tuple[str, ...], str] = {}
    for rows in alike.values():
        read = {c.settings: _known(c) for c in rows}
        names = sorted({name for settings in read.values() for name in settings})
        differing = [name for name in names if len({_word(settings.get(name)) for settings in read.values()}) > 1]
        for c in rows:
            own = read[c.settings]
            words = [f"{name} {_word(own[name])}" for name in differing if name in own]
            if len(read) > 1 and not words:
                words = ["settings not recorded"]
            made[c.key] = ", ".join([c.selection, *words])
    return made


def _known(configuration: Configuration) -> dict[str, Value]:
    """Return the row's settings with those that it leaves out; without them where a search may have sampled them."""
    own = values(configuration)
    if not recorded(configuration.settings) or "trials" in own:
        return own
    return whole(configuration.model, configuration.own, own)


def beside_published(configuration: Configuration) -> str:
    """Return the settings of a fixed row that are not the paper's, in words; empty where they are not known."""
    from tfser.models import MODELS, Estimator, Network  # here, because it imports torch
    from tfser.planning.settings import published_settings

    own = values(configuration)
    if "trials" not in own and recorded(configuration.settings):
        own = stated(configuration.model, configuration.own, own)
    if configuration.own is not None:
        return "" if "trials" in own else _beside_defaults(own, json.loads(configuration.own.defaults))
    declared = MODELS.get(configuration.model)
    if "trials" in own or ("epochs" not in own and not isinstance(declared, Estimator)):
        return ""
    theirs: Mapping[str, Value] = published_settings(configuration.model) if declared else {}
    said = []
    if (epochs := own.pop("epochs", None)) is not None:
        printed = declared.published_epochs if isinstance(declared, Network) else None
        beside = f"published: {printed}" if printed else "the paper states none"
        said.append(counted(int(epochs), "epoch") + (f" ({beside})" if declared and epochs != printed else ""))
    for name, value in own.items():
        if name not in theirs:
            said.append(f"{name} {_word(value)}")
        elif _word(value) != _word(theirs[name]):
            said.append(f"{name} {_word(value)} (published: {_word(theirs[name])})")
    return ", ".join(said)


def _beside_defaults(own: Mapping[str, Value], defaults: Mapping[str, Value]) -> str:
    """Return the settings of a model that is not built in that are not its defaults, in words."""
    said = []
    for name, value in own.items():
        if name == "source" or (name == "epochs" and name not in defaults):
            continue
        words = counted(int(value), "epoch") if name == "epochs" else f"{name} {_word(value)}"
        if _word(value) != _word(defaults.get(name)):
            said.append(f"{words} (default: {_word(defaults[name])})" if name in defaults else words)
        elif name == "epochs":
            said.append(words)
    return ", ".join(said)


def _word(value: Value | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
