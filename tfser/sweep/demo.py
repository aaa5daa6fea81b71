"""The demo: what a sweep of the built-in database alone trains where nothing else is typed."""

from __future__ import annotations

from dataclasses import replace

from tfser.models import MODELS
from tfser.planning.search_space import Space
from tfser.storage import packaged_files
from tfser.storage.places import Place
from tfser.sweep.options import Options

DEMO_TRIALS, DEMO_EPOCHS = 3, 16
"""Settings per study and epochs of a search on the built-in database, where nothing else is typed."""


def demo_space() -> Place:
    """Return the search space for the built-in database."""
    return packaged_files.data_folder("search_spaces") / "demo.yaml"


def tries_out(options: Options) -> bool:
    """Return whether the built-in database is asked for alone, and nothing says which model to train on it."""
    o = options
    return o.databases == ["synthetic"] and not any((o.model, o.ablation, o.fixed, o.space))


def in_small(options: Options, space: Space) -> tuple[Options, str]:
    """Return the options with the demo's small model, and with its search and epochs where none are typed."""
    o, as_it_is = options, options.trials is None and options.epochs is None
    o = replace(
        o,
        model=[space.model],
        trials=DEMO_TRIALS if o.trials is None else o.trials,
        epochs=DEMO_EPOCHS if o.epochs is None else o.epochs,
        name="synthetic" if as_it_is and o.name is None else o.name,
    )
    o = replace(o, space=[demo_space()]) if o.trials else replace(o, fixed=[f"{n}={v}" for n, v in space.fixed.items()])
    narrow = ", ".join(f"{name} {value}" for name, value in space.fixed.items())
    why = f"small, as the built-in database is for trying things out ({narrow}); --model {space.model} trains it whole"
    return o, "" if as_it_is else f"{MODELS[space.model].title}: {why}"
