"""Speakers to folds: the utterances that a fold trains on, validates on and tests on.

A fold is named after the speaker, session or corpus that it holds out. This module knows nothing of audio, models or
settings; it works on anything with a ``speaker``, a ``session`` and a ``corpus``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tfser.errors import RequestError
from tfser.trial import ProtocolName

PRINTED: Mapping[ProtocolName, str] = {
    "speaker": "leave-one-speaker-out",
    "session": "leave-one-session-out",
    "corpus": "leave-one-corpus-out",
}
"""Protocols and their names in print."""


class Labelled(Protocol):
    """The part of an utterance that this module needs."""

    @property
    def speaker(self) -> str: ...

    @property
    def session(self) -> str | None: ...

    @property
    def corpus(self) -> str | None: ...


def group(utterance: Labelled, protocol: ProtocolName) -> str:
    """Return the fold that holds this utterance out."""
    if protocol == "corpus":
        return str(utterance.corpus)
    return str(utterance.speaker if protocol == "speaker" else utterance.session)


def folds(utterances: Sequence[Labelled], protocol: ProtocolName, database: str = "database") -> tuple[str, ...]:
    """Return every fold of the protocol, sorted.

    Raises:
        RequestError: no sessions are known, a speaker is in two sessions, it is a single corpus, or there is a single
            group.
    """
    if protocol == "corpus" and any(u.corpus is None for u in utterances):
        raise RequestError(f"database {database}", ["it is a single corpus; --protocol corpus needs two or more"])
    if protocol == "session":
        if any(u.session is None for u in utterances):
            raise RequestError(
                f"database {database}",
                ["it has no sessions, which --protocol session holds out; use --protocol speaker"],
            )
        sessions: dict[str, set[str]] = {}
        for utterance in utterances:
            sessions.setdefault(utterance.speaker, set()).add(str(utterance.session))
        split = [
            f"speaker {s} is in sessions {', '.join(sorted(names))}"
            for s, names in sorted(sessions.items())
            if len(names) > 1
        ]
        if split:
            raise RequestError(
                f"database {database}", [f"{text}: that speaker would be trained on and tested on" for text in split]
            )
    names = tuple(sorted({group(u, protocol) for u in utterances}))
    if len(names) < 2:
        raise RequestError(f"database {database}", [f"it has {len(names)} {protocol}: leave-one-out needs at least 2"])
    return names


def validation_group(names: Sequence[str], fold: str, rotation: int = 0) -> str:
    """Return the training group that validates: the ``rotation``-th after the fold, in a fixed circle.

    Args:
        names: every fold, sorted.
        fold: the group held out for the test, never returned; empty where none is, and the circle begins at the first.
        rotation: 0 is the next one.

    Raises:
        ValueError: there is no such group.
    """
    training = len(names) - bool(fold)
    if not 0 <= rotation < training:
        raise ValueError(f"rotation {rotation} of {training} training groups")
    return names[((list(names).index(fold) if fold else -1) + 1 + rotation) % len(names)]


def validators(utterances: Sequence[Labelled], fold: str) -> tuple[str, ...]:
    """Return what can validate where a corpus is held out, in the order in which it is taken.

    That is a corpus of the training side, which differs from the rest as the test corpus does. Where there is only one
    to train on, it is a speaker of that one. No speaker who also speaks in the test corpus is among them.

    Args:
        utterances: of every corpus.
        fold: the corpus held out for the test; empty where none is.
    """
    names = sorted({str(u.corpus) for u in utterances})
    at = names.index(fold) + 1 if fold else 0
    others = [name for name in (*names[at:], *names[:at]) if name != fold]
    if len(others) > 1:
        return tuple(others)
    train, _ = split(utterances, "corpus", fold)
    return tuple(sorted({utterances[i].speaker for i in train}))


def inner_unit(utterance: Labelled, protocol: ProtocolName) -> str:
    """Return the group of ``inner_groups`` that an utterance is in: its speaker where corpora are held out."""
    return group(utterance, "speaker" if protocol == "corpus" else protocol)


def inner_groups(names: Sequence[str], fold: str, validation: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the training groups that are scored while training and not trained on: the next ones in the circle.

    Args:
        names: every fold, sorted.
        fold: the group held out for the test, never returned.
        validation: groups held out for the validation, never returned.
        count: their number.

    Raises:
        ValueError: no group would be left to train on.
    """
    at = list(names).index(fold) + 1 if fold in names else 0
    left = [name for name in (*names[at:], *names[:at]) if name not in (fold, *validation)]
    if count >= len(left):
        raise ValueError(
            f"inner_speakers: {count} of the {len(left)} that {f'fold {fold}' if fold else 'the model'} trains on "
            f"leave none; legal: at most {len(left) - 1}"
        )
    return tuple(left[:count])


def split(
    utterances: Sequence[Labelled], protocol: ProtocolName, fold: str, validation: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """Return the indices to train on and the indices to score on.

    With validation groups, those are scored and the test fold is in neither list. Without, the test fold is scored.
    An empty fold holds nothing out. Where corpora are held out, speakers can validate too, and nobody who is scored or
    tested on is trained on, in whatever corpus they speak.

    Raises:
        ValueError: the fold validates itself, a name does not exist, or nothing is left to train on.
    """
    names = [group(u, protocol) for u in utterances]
    speakers = {u.speaker for u in utterances} if protocol == "corpus" else set()
    unknown = {fold, *validation} - {*names, ""} - (speakers - {fold})
    if unknown:
        raise ValueError(f"no {protocol} named {', '.join(sorted(unknown))}")
    if fold in validation:
        raise ValueError(f"fold {fold} is held out for the test and cannot validate")
    scored_groups = set(validation) or {fold}
    train = [i for i, name in enumerate(names) if name != fold and name not in scored_groups]
    scored = [i for i, name in enumerate(names) if name in scored_groups]
    if protocol == "corpus":
        train, scored = _speakers_apart(utterances, fold, scored_groups)
    if not train:
        raise ValueError(f"fold {fold} with validation {', '.join(validation)} leaves no utterance to train on")
    return train, scored


def _speakers_apart(utterances: Sequence[Labelled], fold: str, scored_groups: set[str]) -> tuple[list[int], list[int]]:
    """Return the indices to train on and to score on where a corpus is held out; see ``split``.

    Args:
        utterances: of every corpus.
        fold: the corpus held out for the test.
        scored_groups: the fold, or corpora and speakers of the training side.
    """
    tested = {u.speaker for u in utterances if u.corpus == fold}
    scored = [
        i
        for i, u in enumerate(utterances)
        if not scored_groups.isdisjoint((str(u.corpus), u.speaker))
        and (scored_groups == {fold} or (u.corpus != fold and u.speaker not in tested))
    ]
    apart = {utterances[i].speaker for i in scored} | tested
    train = [
        i
        for i, u in enumerate(utterances)
        if u.corpus != fold and u.corpus not in scored_groups and u.speaker not in apart
    ]
    return train, scored
