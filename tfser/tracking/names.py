"""How experiments, runs, metrics and datasets are called in MLflow, and the keys by which runs are found again."""

from __future__ import annotations

import hashlib
import re

from tfser.planning.configuration import Configuration
from tfser.text.row_names import with_ablation
from tfser.trial import TrialSpec

_PART = 200
"""Characters of an emotion or a fold in a metric's name, of which MLflow takes 250."""

_RUN = 250
"""Characters of a run's name that every database of MLflow's takes."""

_MODEL = 14
"""Longest model name that begins the names of runs. MLflow's charts show some 20 characters of those."""

_DIGITS = 6
"""Digits of an id or digest in the name of a run: as many as commands ask for at least."""


def experiment(configuration: Configuration) -> str:
    """Return the name of the experiment: one per database (or set of corpora) and protocol."""
    return f"tfser/{configuration.data}/{configuration.protocol}"


def configuration_run(configuration: Configuration, sweep: str) -> str:
    """Return the name of a configuration's run; no other configuration's run in the experiment has it."""
    c = configuration
    return _configuration_run(c, sweep, *_model_and_choice(c))


def _configuration_run(configuration: Configuration, sweep: str, beginning: str, *end: str) -> str:
    c = configuration
    data = f"{c.database} {c.database_digest[:_DIGITS]}".strip()
    settings = [f"settings {digest[:_DIGITS]}"] if (digest := settings_digest(c)) else []
    return shortened(" · ".join([beginning, data, sweep, *settings, *end]), _RUN)


def trial_run(configuration: Configuration, spec: TrialSpec, sweep: str) -> str:
    """Return the name of a trial's run; no other trial's run in the experiment has it."""
    return _trial_run(configuration, spec, sweep, *_model_and_choice(configuration))


def _trial_run(configuration: Configuration, spec: TrialSpec, sweep: str, beginning: str, *end: str) -> str:
    search = [f"search, validated on {', '.join(spec.validation)}"] if spec.purpose == "search" else []
    words = [
        f"{beginning} {spec.fold or f'every {spec.protocol}'}",
        *search,
        f"seed {spec.seed}",
        sweep,
        spec.trial_id[:_DIGITS],
        *end,
    ]
    return shortened(" · ".join(words), _RUN)


def _model_and_choice(configuration: Configuration) -> list[str]:
    """Return how a run's name begins: model, ablation and selection; and the model's whole name where it is cut there.

    A long name of several words begins with their initials: the ablation after it would be cut off in charts.
    """
    c, words = configuration, re.findall(r"[A-Z]?[a-z\d]+|[A-Z\d]+(?![a-z])", configuration.model)
    if len(c.model) <= _MODEL or len(words) < 2:
        return [f"{with_ablation(c.model, c.ablation)} {c.selection}"]
    initials = "".join(word[0] for word in words).upper()
    return [f"{initials} {c.ablation} {c.selection}", c.model]


def earlier_runs(configuration: Configuration, spec: TrialSpec | None, sweep: str) -> list[str]:
    """Return the names that earlier versions gave the run of a configuration, or of one of its trials."""
    c = configuration
    selections = ("published", "fixed") if c.selection in ("published", "fixed") else (c.selection,)
    doubled = f"{c.model} {c.ablation}"
    beginning = [f"{doubled} {c.selection}"] if doubled != with_ablation(c.model, c.ablation) else []
    if spec is None:
        said = [f"{c.ablation} · {c.database} · {selection} · {sweep}" for selection in selections]
        return [*(_configuration_run(c, sweep, text) for text in beginning), *said]
    words = [c.ablation, f"{c.protocol} {spec.fold}", f"seed {spec.seed}"]
    if spec.purpose == "search":
        words = ["search", *words[:2], f"validated on {', '.join(spec.validation)}", words[2]]
    return [*(_trial_run(c, spec, sweep, text) for text in beginning), " · ".join(words)]


def settings_digest(configuration: Configuration) -> str:
    """Return 12 digits that stand for what was asked for; empty where that is not known."""
    settings = configuration.settings
    return hashlib.sha256(settings.encode()).hexdigest()[:12] if settings else ""


def configuration_key(configuration: Configuration) -> str:
    """Return the key of a configuration: its words, the database's digest, and a hash of the settings."""
    c = configuration
    return " ".join([*c.words, c.database_digest, hashlib.sha256(c.settings.encode()).hexdigest()[:12]])


def earlier_keys(configuration: Configuration) -> list[str]:
    """Return the keys that earlier versions gave a configuration.

    They held neither digest nor settings, and our own settings counted as published.
    """
    c = configuration
    selections = ("published", "fixed") if c.selection in ("published", "fixed") else (c.selection,)
    return [" ".join([*c.words[:-1], selection]) for selection in selections]


def every_key(configuration: Configuration) -> list[str]:
    """Return every key that a configuration's run can have, the current one first."""
    return [configuration_key(configuration), *earlier_keys(configuration)]


def by_fold(scored: str, fold: str) -> str:
    """Return the metric of a fold's UAR in the run of its configuration; no two folds share one (see ``recall``)."""
    return f"{scored}/uar by fold/{_encoded(fold)}"


def recall(scored: str, emotion: str) -> str:
    """Return the metric of an emotion's recall; no two emotions share one.

    MLflow takes letters and digits of every script, and ``_``, ``-``, ``.`` and blanks. Any other sign (vowel signs of
    Indian scripts and accents that stand alone among them) becomes its code point in hexadecimal: ``:2b:`` is ``+``.

    Args:
        scored: ``test`` or ``validation``.
        emotion: as the database spells it.

    >>> recall("test", "愤怒"), recall("test", "joy + fear")
    ('test/recall/愤怒', 'test/recall/joy :2b: fear')
    """
    return f"{scored}/recall/{_encoded(emotion)}"


def _encoded(text: str) -> str:
    """Return a text with no sign that MLflow refuses in the name of a metric."""
    # A dot at the beginning could make a path of it, which MLflow refuses.
    parts = re.split(r"(^\.+|[^\w\-. ]+)", text)
    encoded = "".join(
        f":{'.'.join(f'{ord(sign):x}' for sign in part)}:" if i % 2 else part for i, part in enumerate(parts)
    )
    return shortened(encoded, _PART, "::")


def shortened(text: str, most: int, before: str = " ") -> str:
    """Return a text of at most ``most`` characters; one that is cut ends in ``before`` and a hash of the whole."""
    if len(text) <= most:
        return text
    mark = before + hashlib.sha256(text.encode()).hexdigest()[:16]
    return text[: most - len(mark)] + mark
