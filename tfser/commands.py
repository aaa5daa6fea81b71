"""The commands by name, and the one screen that says what there is. Imports no command."""

from __future__ import annotations

from tfser import __version__
from tfser.errors import near_names

COMMANDS: dict[str, tuple[str, str]] = {
    "databases": ("tfser.databases.command", "corpora: what is known, what is on disk, what is wrong with it"),
    "models": ("tfser.models_command", "models and their settings; a file to begin your own, and its check"),
    "doctor": ("tfser.doctor.command", "what this machine or cluster can run, and what is unsafe about it"),
    "sweep": ("tfser.sweep.command", "plan, train what is missing, write tables and figures"),
    "leaks": ("tfser.leaks.command", "what the wrong protocols that are common in print are worth"),
    "benchmark": ("tfser.benchmark.command", "performance figures, as ratios measured in one run"),
    "collect": ("tfser.collect", "tables and figures again, and the trials behind a number"),
    "predict": ("tfser.predict", "emotions of audio files, from a finished final trial"),
    "attention": ("tfser.attention.command", "what a finished model attends to, as figures and numbers"),
    "completion": ("tfser.completion.command", "a script that lets bash, zsh or fish complete names"),
}
"""Name to the module whose ``main`` runs it, and what it is for."""

PURPOSES: dict[str, tuple[str, ...]] = {
    "Look around": ("databases", "models", "doctor"),
    "Train and measure": ("sweep", "leaks", "benchmark"),
    "Use what was trained": ("collect", "predict", "attention"),
}
"""Purpose to its commands; all others come last."""

FIRST = (
    ("tfser sweep synthetic", "the whole path, in minutes"),
    ("tfser databases list", "the corpora that tfser reads"),
    ("tfser sweep emodb --data corpora --plan", "what a sweep would train and cost"),
)
"""What to type first, and what it gives."""


def front_page() -> str:
    """Return what there is, on one screen: at most 24 lines of at most 80 characters."""
    named = {name for names in PURPOSES.values() for name in names}
    groups = {**PURPOSES, "Beside these": tuple(name for name in COMMANDS if name not in named)}
    lines = [f"tfser {__version__}: leave-one-speaker-out speech emotion recognition, audio to tables", ""]
    lines += ["Type first", *(f"  {typed:<41}{gives}" for typed, gives in FIRST)]
    for purpose, names in groups.items():
        lines += [purpose, *(f"  {name:<12}{COMMANDS[name][1]}" for name in names)]
    return "\n".join([*lines, "", "tfser COMMAND --help explains a command; python -m tfser.COMMAND is the same."])


def no_command(typed: str) -> str:
    """Return the sentence for a command that does not exist."""
    return f"tfser: no command {typed!r}{near_names(typed, COMMANDS)}; tfser alone says what there is"
