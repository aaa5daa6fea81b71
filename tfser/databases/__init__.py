"""Every database by name, and ``load``, the one way to load one.

``load`` reads labels, existence and counts. It decodes audio only to complete a refusal; otherwise ``checks`` and the
feature extraction do that. To add a corpus, write one file in ``corpora`` and one line in ``KNOWN``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfser.databases import behind_uri, published_counts, spelling
from tfser.databases.base import Database, DatabaseInfo, Problem
from tfser.databases.corpora import abc, casia, cremad, emodb, emovo, iemocap, nemo, ravdess, savee, synthetic, tess
from tfser.databases.find_folder import locate
from tfser.databases.folders import show
from tfser.databases.formats import audformat, manifest
from tfser.databases.formats.manifest import NAME
from tfser.databases.reader import Reader, Reading, go_on, harmful, lines
from tfser.errors import RequestError, counted, unknown
from tfser.storage.places import RESERVED, Place, is_remote

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
"""The words for the command line, each with its reader."""

AUDFORMAT = "audformat:"
"""Beginning of a request for an audformat database."""


def load(request: str, data: Place | None, *, allow_incomplete: bool = False, decode: bool = False) -> Database:
    """Load the requested database.

    Args:
        request: a known name, the path of a manifest CSV, or ``audformat:PATH``; ``NAME=`` in front of it renames the
            database.
        data: the folder (or URI) that holds the corpora, each in a folder of its name, or the corpus's own folder.
        allow_incomplete: go on with the usable part if files, labels or counts are not as published; the result then
            has ``complete=False``, and its remark says so.
        decode: if the database is refused, also decode every file that exists, so that its owner gets one complete
            report at once. With ``allow_incomplete``, leave out utterances with unusable audio.

    Raises:
        RequestError: with every problem.
    """
    database, problems = examine(request, data)
    bad = harmful(problems)
    if not bad and not (allow_incomplete and decode):
        return database
    unfit: dict[str, str] = {}
    if decode and database.root is not None:
        from tfser.databases import checks  # which imports this module

        report = checks.listen(database)
        bad += harmful(report.problems)
        unfit = report.unfit
    if allow_incomplete:
        return _without(database, unfit, bad)
    reasons = lines(bad)
    reasons[-1] += "\n    " + go_on(len(database.utterances) - len(unfit))
    raise RequestError(f"database {database.name}", reasons, len(bad) - len(reasons))


def _without(database: Database, unfit: Mapping[str, str], bad: Sequence[Problem]) -> Database:
    """Leave out the utterances with unusable audio, and say so wherever a result is shown.

    Raises:
        RequestError: nothing is left.
    """
    if not unfit:
        return database
    kept = tuple(u for u in database.utterances if u.id not in unfit)
    if not kept:
        reasons = lines(bad)
        raise RequestError(f"database {database.name}", reasons, len(bad) - len(reasons))
    info = database.info
    if not info.expected_emotions:
        shown = {u.emotion for u in kept}
        info = dataclasses.replace(info, emotions=tuple(e for e in info.emotions if e in shown))
    kinds: dict[str, list[str]] = {}
    for name, kind in unfit.items():
        kinds.setdefault(kind, []).append(name)
    left_out = ", ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in sorted(kinds.items()))
    before = database.remark.removesuffix(_incomplete(info, len(database.utterances))).removesuffix("; ")
    remark = "; ".join([before] * bool(before) + [_incomplete(info, len(kept)), f"left out: {left_out}"])
    return dataclasses.replace(database, info=info, utterances=kept, complete=False, remark=remark)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(show, names[:3])) + (", ..." if len(names) > 3 else "")


def _incomplete(info: DatabaseInfo, count: int) -> str:
    if info.expected_utterances:
        return f"incomplete: {count} of {info.expected_utterances} utterances"
    return f"incomplete: {counted(count, 'utterance')}"


def examine(request: str, data: Place | None) -> tuple[Database, list[Problem]]:
    """Read a database, and list all that is wrong with its labels, files and counts.

    Raises:
        RequestError: nothing of it can be read.
    """
    given, what = named(request)
    if given is None:
        return _examined(request, data, None)
    if not NAME.fullmatch(given) or RESERVED.fullmatch(given):
        legal = "use a-z, 0-9, '_' and '-', beginning with a letter or digit, at most 64"
        detail = f"the name {show(given)!r} becomes a part of folders; {legal}"
        raise RequestError(f"DATABASE {show(request)}", [detail])
    if given in KNOWN and given != what:
        detail = f"{given} is the name of a database that is read from its own layout; choose another in front of '='"
        raise RequestError(f"DATABASE {show(request)}", [detail])
    return _examined(what, data, given)


def named(request: str) -> tuple[str | None, str]:
    """Split a request into the name in front, if there is one, and the rest.

    >>> named("mine=data/labels.csv"), named("data/a=b/labels.csv")
    (('mine', 'data/labels.csv'), (None, 'data/a=b/labels.csv'))
    """
    name, separator, what = request.partition("=")
    if not separator or "/" in name or "\\" in name or ":" in name or os.path.isfile(os.path.expanduser(request)):
        return None, request  # the = is part of a path
    return name, what


def _examined(request: str, data: Place | None, given: str | None) -> tuple[Database, list[Problem]]:
    """Do the work of ``examine``, with the name in front split off."""
    if request.startswith(AUDFORMAT):
        root = behind_uri.folder(request.removeprefix(AUDFORMAT), "DATABASE")
        info, reading = audformat.read(root, given, remote="://" in request)
        return _finished(_distinct(info, "audformat"), reading, root, None)
    if request in KNOWN:
        reader = KNOWN[request]
        if reader.make is not None:
            made = reader.make()
            return dataclasses.replace(made, info=dataclasses.replace(made.info, name=given or made.name)), []
        root = locate(reader, behind_uri.corpus(reader, data))
        assert reader.scan is not None, "a reader makes or scans"
        reading = reader.scan(root)
        if data is not None and is_remote(data):
            _keep_inside(reading, root)
        info = dataclasses.replace(reader.info, name=given or reader.info.name)
        return _finished(info, reading, root, reader.expected_ids() if reader.expected_ids else None)
    if request.lower() in KNOWN:
        raise RequestError("DATABASE", [f"{request!r} is written {request.lower()!r}"])
    if request.lower().endswith(".csv") or "/" in request or "\\" in request:
        above, _, name = request.rpartition("/")
        elsewhere = "://" in request
        path = behind_uri.folder(above, "DATABASE") / name if elsewhere else behind_uri.folder(request, "DATABASE")
        info, reading = manifest.read(path, name=given, remote=elsewhere)
        return _finished(_distinct(info, "manifest"), reading, path.parent, None)
    others = [
        "or the path of a manifest (.csv with the columns path, speaker, emotion)",
        "or audformat:PATH, each with NAME= in front",
    ]
    problem = unknown("DATABASE", show(request), KNOWN, every="tfser databases list").removeprefix("DATABASE: ")
    raise RequestError("DATABASE", [", ".join([problem, *others])])


def _distinct(info: DatabaseInfo, suffix: str) -> DatabaseInfo:
    """Rename a user's database with a known name: its counts were not checked against the publication."""
    return dataclasses.replace(info, name=f"{info.name}-{suffix}") if info.name in KNOWN else info


def _keep_inside(reading: Reading, root: Path) -> None:
    """Drop the files outside the corpus that a manifest in a mirrored corpus names."""
    own = os.path.abspath(root)
    outside = [
        u for u in reading.utterances if u.path is None or os.path.commonpath([os.path.abspath(u.path), own]) != own
    ]
    reading.utterances = [u for u in reading.utterances if u not in outside]
    for utterance in outside:
        detail = "a manifest that was read from a URI may name only what lies below it"
        reading.problems.append(Problem("label", show(utterance.path or utterance.id), detail, "local file"))


def _finished(
    info: DatabaseInfo, reading: Reading, root: Path, expected_ids: frozenset[str] | None
) -> tuple[Database, list[Problem]]:
    """Compare the counts with the publication and put the remarks together."""
    where = show(root)
    spelt = spelling.problems(reading.utterances)
    problems = reading.problems + spelt + published_counts.deviations(info, reading.utterances, where, expected_ids)
    if not reading.utterances:
        reasons = lines(problems)
        raise RequestError(
            f"database {info.name} in {where}", reasons or ["no utterance was found"], len(problems) - len(reasons)
        )
    problems += published_counts.absent(info, reading.utterances, where)
    for emotion, speaker in published_counts.alone(reading.utterances, lambda u: u.speaker).items():
        detail = f"{speaker} alone has {emotion}: its recall is 0 by construction where that speaker is held out"
        problems.append(Problem("note", where, detail, "alone"))
    complete = not harmful(problems)
    remarks = [remark for remark in (info.remark, reading.remark) if remark]
    remarks += spelling.remark(spelt)
    if not complete:
        remarks.append(_incomplete(info, len(reading.utterances)))
    database = Database(
        info=info, utterances=tuple(reading.utterances), root=root, complete=complete, remark="; ".join(remarks)
    )
    return database, problems


__all__ = ["KNOWN", "Database", "DatabaseInfo", "Problem", "examine", "load"]
