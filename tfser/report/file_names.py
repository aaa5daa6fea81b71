"""File names for configurations and databases: from ``[a-z0-9_+-]`` only, each name once."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any


def file_names(
    keys: Iterable[tuple[str, ...]], words: Callable[[Any], tuple[str, ...]] = lambda key: key
) -> dict[tuple[str, ...], str]:
    """Return each key's part of a file name.

    Names that become equal by cleaning (``My Data`` and ``my-data``) or shortening all get a short hash of their key.

    Args:
        keys: the keys that need names.
        words: returns the part of a key that its name shows; by default all of it.

    >>> file_names([("emodb", "speaker", "mine", "T+F", "nested")])
    {('emodb', 'speaker', 'mine', 'T+F', 'nested'): 'emodb_speaker_mine_t+f_nested'}
    """
    once = list(dict.fromkeys(keys))
    clean = ["_".join(re.sub(r"[^a-z0-9_+-]+", "-", part.lower()) for part in words(key))[:140] for key in once]
    times = Counter(clean)
    return {
        key: name if times[name] == 1 else f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:8]}"
        for key, name in zip(once, clean, strict=True)
    }


def row_names(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Name configurations by ``file_names``, without digest and settings, which only tell equal names apart."""
    return file_names(keys, lambda key: (key[0], *key[2:6]))
