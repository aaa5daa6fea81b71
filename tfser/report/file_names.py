"""File names of what is about one configuration or one database: from ``[a-z0-9_+-]`` only, and each name once."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any


def file_names(
    keys: Iterable[tuple[str, ...]], words: Callable[[Any], tuple[str, ...]] = lambda key: key
) -> dict[tuple[str, ...], str]:
    """For each key its part of a file name.

    Names that become one when they are cleaned (``My Data`` and ``my-data``) or shortened all get a short hash of their key.

    Args:
        keys: what names are for.
        words: what of a key a person reads in its name; the whole of it where absent.

    >>> file_names([("emodb", "speaker", "atfnn", "ATFNN", "nested")])
    {('emodb', 'speaker', 'atfnn', 'ATFNN', 'nested'): 'emodb_speaker_atfnn_atfnn_nested'}
    """
    once = list(dict.fromkeys(keys))
    clean = ["_".join(re.sub(r"[^a-z0-9_+-]+", "-", part.lower()) for part in words(key))[:140] for key in once]
    times = Counter(clean)
    return {
        key: name if times[name] == 1 else f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:8]}"
        for key, name in zip(once, clean, strict=True)
    }


def row_names(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """``file_names`` of keys of configurations: without digest and settings, which only keep equal names apart."""
    return file_names(keys, lambda key: (key[0], *key[2:6]))
