"""Every database by name, and the one way to load one.

``load`` reads labels, existence and counts, and audio only to complete a refusal: that is the work of ``checks`` and
of the feature extraction. Adding a corpus means one file beside this one and one line in ``KNOWN``.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tfser.databases import (
    abc,
    audformat_tables,
    casia,
    counting,
    cremad,
    emodb,
    emovo,
    iemocap,
    manifest,
    nemo,
    ravdess,
    remote,
    savee,
    synthetic,
    tess,
)
from tfser.databases.base import Database, DatabaseInfo, Problem
from tfser.databases.folders import show
from tfser.databases.locating import locate
from tfser.databases.manifest import NAME
from tfser.databases.reader import Reader, Reading, harmful, lines
from tfser.errors import RequestError, unknown
from tfser.files import RESERVED, Place

KNOWN: dict[str, Reader] = {
    "abc": abc.READER,
    "casia": casia.READER,
    "cremad": cremad.READER,
    "emodb": emodb.READER,
    "emovo": emovo.READER,
    "iemocap": iemocap.READER,
    "nemo": nemo.READER,
    "ravdess": ravdess.READER,
    "savee": savee.READER,
    "synthetic": synthetic.READER,
    "tess": tess.READER,
}
"""The word typed on the command line and its reader."""

AUDFORMAT = "audformat:"
"""What a request for an audformat database begins with."""


def load(request: str, data: Place | None, *, allow_incomplete: bool = False, decode: bool = False) -> Database:
    """The database that a person asked for.

    Args:
        request: a known name, the path of a manifest CSV, or ``audformat:PATH``; each with ``NAME=`` in front where a person
            names it.
        data: the folder (or URI) that holds the corpora, each in a folder of its name, or the corpus's own folder.
        allow_incomplete: go on with what can be read when files, labels or counts are not as published; the
            result then has ``complete=False`` and its remark says so.
        decode: where the database is refused, decode every file that can be found too, so that its owner gets
            one complete report instead of a second one after the first is dealt with.

    Raises:
        RequestError: with every problem.
    """
    database, problems = examine(request, data)
    bad = harmful(problems)
    if not bad:
        return database
    if not allow_incomplete:
        if decode:
            from tfser.databases.checks import audio_problems  # which imports this module

            bad += harmful(audio_problems(database))
        reasons = lines(bad)
        reasons[-1] += (
            f"\n    (--allow-incomplete goes on with the {len(database.utterances)} utterances that can be read; every table then says so)"
        )
        raise RequestError(f"database {database.name}", reasons, len(bad) - len(reasons))
    return database


def examine(request: str, data: Place | None) -> tuple[Database, list[Problem]]:
    """What can be read of a database, and everything that is wrong with its labels, files and counts.

    Raises:
        RequestError: nothing of it can be read.
    """
    given, what = named(request)
    if given is None:
        return _examined(request, data, None)
    if not NAME.fullmatch(given) or RESERVED.fullmatch(given):
        detail = (
            f"the name {show(given)!r} becomes a part of folders; use a-z, 0-9, '_' and '-', beginning with a letter or digit, at most 64"
        )
        raise RequestError(f"DATABASE {show(request)}", [detail])
    if given in KNOWN and given != what:
        detail = f"{given} is the name of a database that is read from its own layout; choose another in front of '='"
        raise RequestError(f"DATABASE {show(request)}", [detail])
    return _examined(what, data, given)


def named(request: str) -> tuple[str | None, str]:
    """The name that a person gives a database, if any, and what it is given to.

    >>> named("mine=data/labels.csv"), named("data/a=b/labels.csv")
    (('mine', 'data/labels.csv'), (None, 'data/a=b/labels.csv'))
    """
    name, separator, what = request.partition("=")
    if not separator or "/" in name or "\\" in name or ":" in name or os.path.isfile(os.path.expanduser(request)):
        return None, request  # the sign is part of a path
    return name, what


def _examined(request: str, data: Place | None, given: str | None) -> tuple[Database, list[Problem]]:
    """``examine``, with the name that was given to it."""
    if request.startswith(AUDFORMAT):
        root = remote.folder(request.removeprefix(AUDFORMAT), "DATABASE")
        info, reading = audformat_tables.read(root, given)
        return _finished(_distinct(info, "audformat"), reading, root, None)
    if request in KNOWN:
        reader = KNOWN[request]
        if reader.make is not None:
            made = reader.make()
            return dataclasses.replace(made, info=dataclasses.replace(made.info, name=given or made.name)), []
        root = locate(reader, remote.corpus(reader, data))
        assert reader.scan is not None, "a reader makes or scans"
        info = dataclasses.replace(reader.info, name=given or reader.info.name)
        return _finished(info, reader.scan(root), root, reader.expected_ids() if reader.expected_ids else None)
    if request.lower() in KNOWN:
        raise RequestError("DATABASE", [f"{request!r} is written {request.lower()!r}"])
    if request.lower().endswith(".csv") or "/" in request or "\\" in request:
        above, _, name = request.rpartition("/")
        path = remote.folder(above, "DATABASE") / name if "://" in request else remote.folder(request, "DATABASE")
        info, reading = manifest.read(path, name=given)
        return _finished(_distinct(info, "manifest"), reading, path.parent, None)
    others = ["or the path of a manifest (.csv with the columns path, speaker, emotion)", "or audformat:PATH, each with NAME= in front"]
    raise RequestError("DATABASE", [unknown("DATABASE", show(request), KNOWN) + ", " + ", ".join(others)])


def _distinct(info: DatabaseInfo, suffix: str) -> DatabaseInfo:
    """A user's database never goes by the name of a reader here: its counts were not checked against the publication."""
    return dataclasses.replace(info, name=f"{info.name}-{suffix}") if info.name in KNOWN else info


def _finished(info: DatabaseInfo, reading: Reading, root: Path, expected_ids: frozenset[str] | None) -> tuple[Database, list[Problem]]:
    """Counts compared with the publication, remarks put together."""
    where = show(root)
    problems = reading.problems + counting.deviations(info, reading.utterances, where, expected_ids)
    if not reading.utterances:
        reasons = lines(problems)
        raise RequestError(f"database {info.name} in {where}", reasons or ["no utterance was found"], len(problems) - len(reasons))
    problems += counting.absent(info, reading.utterances, where)
    complete = not harmful(problems)
    remarks = [remark for remark in (info.remark, reading.remark) if remark]
    if not complete:
        of = f" of {info.expected_utterances}" if info.expected_utterances else ""
        remarks.append(f"incomplete: {len(reading.utterances)}{of} utterances")
    database = Database(info=info, utterances=tuple(reading.utterances), root=root, complete=complete, remark="; ".join(remarks))
    return database, problems


__all__ = ["KNOWN", "Database", "DatabaseInfo", "Problem", "examine", "load"]
