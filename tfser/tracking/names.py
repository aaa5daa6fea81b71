"""How experiments, runs, metrics and datasets are called in MLflow, and the keys by which runs are found again."""

from __future__ import annotations

import hashlib
import re

from tfser.planning.configuration import Configuration
from tfser.trial import TrialSpec

_EMOTION = 200
"""Characters of an emotion in a metric's name, of which MLflow takes 250."""


def experiment(configuration: Configuration) -> str:
    """Return the name of the experiment: one per database and protocol."""
    return f"tfser/{configuration.database}/{configuration.protocol}"


def configuration_run(configuration: Configuration, sweep: str) -> str:
    """Return the name of a configuration's run."""
    c = configuration
    return f"{c.ablation} · {c.database} · {c.selection} · {sweep}"


def trial_run(configuration: Configuration, spec: TrialSpec) -> str:
    """Return the name of a trial's run."""
    c = configuration
    words = [c.ablation, f"{c.protocol} {spec.fold}", f"seed {spec.seed}"]
    if spec.purpose == "search":
        words = ["search", *words[:2], f"validated on {', '.join(spec.validation)}", words[2]]
    return " · ".join(words)


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
    # A dot at the beginning could make a path of it, which MLflow refuses.
    parts = re.split(r"(^\.+|[^\w\-. ]+)", emotion)
    encoded = "".join(
        f":{'.'.join(f'{ord(sign):x}' for sign in part)}:" if i % 2 else part for i, part in enumerate(parts)
    )
    return f"{scored}/recall/{shortened(encoded, _EMOTION, '::')}"


def shortened(text: str, most: int, before: str = " ") -> str:
    """Return a text of at most ``most`` characters; one that is cut ends in ``before`` and a hash of the whole."""
    if len(text) <= most:
        return text
    mark = before + hashlib.sha256(text.encode()).hexdigest()[:16]
    return text[: most - len(mark)] + mark
