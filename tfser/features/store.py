"""Features, kept once per (audio content, extractor) and read memory-mapped.

This module knows nothing of emotions as targets, folds or models. A pack holds the features of one database, one
utterance after another, with a table of their labels. An ``Extractor`` makes them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfser.databases.base import Database, Problem, Utterance
from tfser.databases.checks import content, duplicate, waveform_problems
from tfser.databases.folders import show
from tfser.databases.reader import go_on, harmful, lines
from tfser.errors import AudioError, RequestError
from tfser.features import check
from tfser.features.base import Extractor
from tfser.features.pack import DAMAGED, Pack
from tfser.features.threads import one_thread
from tfser.storage.places import Place, is_remote, listed, make_folder, remove

CHUNK = 400
"""Utterances of one task: at most about a second of work, and two files flushed to disk."""

PART_BYTES = 64 << 20
"""Bytes of frames that a task gathers before it writes them, so that long utterances do not fill the memory."""

NO_FEATURES = "no features"
"""The kind of problem of an utterance of which an extractor makes no features."""

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Applies a function to every item: the built-in ``map``, or a version that spreads the items over a cluster."""


class FeatureStore:
    """Packs under ``root``; extraction is resumable and never leaves a half-written file under a final name.

    Each task commits its frames as a small pack of its own below ``parts/``; at the end the parts are put together.
    After a kill, or after a change of some files, extraction reuses the frames in the parts and in every other pack.
    """

    def __init__(self, root: Place) -> None:
        self.root = root

    def ensure(
        self, database: Database, digests: Mapping[str, str], extractor: Extractor, mapper: Mapper = map
    ) -> Pack:
        """Return the database's pack; extract what no earlier pack holds.

        Args:
            database: the database with the audio.
            digests: its ``audio_digests``.
            extractor: makes them.
            mapper: spreads the work.

        Raises:
            RequestError: unusable audio (every kind is named), the same audio with two speakers or emotions, an
                extractor that returns no features, or a folder that cannot be written.
        """
        if wrong := check.declared(extractor):
            raise RequestError(f"features of {type(extractor).__name__}", wrong)
        digest = database.digest(digests)
        if (kept := self.kept(database.name, digest, extractor)) is not None:
            return kept
        try:
            return self._extract(
                database, digest, extractor, digests, self._path(database.name, digest, extractor), mapper
            )
        except OSError as error:
            raise self._not_written(_reason(error)) from None

    def kept(self, database: str, digest: str, extractor: Extractor) -> Pack | None:
        """Return a database's pack where it is there and whole, to the bit.

        Args:
            database: its name.
            digest: the database's digest.
            extractor: what made the pack.
        """
        with contextlib.suppress(*DAMAGED):
            pack = Pack.open(self._path(database, digest, extractor), digest)
            # Behind a URI the store answers for its objects; to read one here would be to copy it.
            if _is_of(pack, extractor) and (is_remote(pack.path) or pack.is_sound()):
                return pack
        return None

    def _path(self, database: str, digest: str, extractor: Extractor) -> Place:
        return self.root / extractor.id / f"{database}-{digest}"

    def _not_written(self, reason: str) -> RequestError:
        return RequestError(
            f"feature store {self.root}", [f"{reason}; free space or name another folder with --storage"]
        )

    def _extract(
        self,
        database: Database,
        database_digest: str,
        extractor: Extractor,
        digests: Mapping[str, str],
        path: Place,
        mapper: Mapper,
    ) -> Pack:
        folder, parts = path.parent, path.parent / "parts"
        make_folder(parts)
        wanted = set(digests.values())
        held = _frames_held(folder, wanted, extractor)
        todo = list({digests[u.id]: u for u in database.utterances if digests[u.id] not in held}.items())
        chunks = []
        for begin in range(0, len(todo), CHUNK):
            own = todo[begin : begin + CHUNK]
            chunks.append(
                (
                    replace(database, utterances=tuple(u for _, u in own)),
                    {u.id: digest for digest, u in own},
                    extractor,
                    parts,
                )
            )
        problems: list[Problem] = []
        unfit: set[str] = set()
        for bad, found, failure in mapper(_extract_chunk, chunks):
            problems += found
            unfit |= bad
            if failure:
                raise self._not_written(failure)
        if problems:
            left = sum(digests[u.id] not in unfit for u in database.utterances)
            # --allow-incomplete asks no extractor.
            asked = any(problem.kind == NO_FEATURES for problem in problems)
            advice = _OR_CHANGE if asked else _or_go_on(left)
            raise RequestError(
                f"database {database.name}", [*lines(problems)[:-1], f"{lines(problems)[-1]}\n    {advice}"]
            )
        if todo:
            held = _frames_held(folder, wanted, extractor)
        entries = [(u, digests[u.id], held[digests[u.id]]) for u in database.utterances]
        _refuse_shared(database, _contents(database, [(u, frames) for u, _, frames in entries]))
        Pack.write(path, database, database_digest, extractor.channels * extractor.bands, entries, extractor.dtype)
        _remove_parts(parts, wanted)
        return Pack.open(path)


def audio_digests(database: Database) -> dict[str, str]:
    """Return every utterance's content digest, by id.

    Raises:
        RequestError: files cannot be opened, or the same audio has two speakers or emotions.
    """
    digests: dict[str, str] = {}
    problems = []
    for utterance in database.utterances:
        try:
            digests[utterance.id] = database.audio_digest(utterance)
        except AudioError as error:
            problems.append(_problem(error))
    _refuse_shared(database, ((u, digests[u.id]) for u in database.utterances if u.id in digests), problems)
    return digests


def refuse_shared(database: Database, digests: Mapping[str, str]) -> None:
    """Refuse a database made of several corpora where the same audio is there under two speakers or two emotions.

    Args:
        database: the database.
        digests: the content digest of each utterance, by id.

    Raises:
        RequestError: such audio.
    """
    _refuse_shared(database, ((u, digests[u.id]) for u in database.utterances))


def _refuse_shared(
    database: Database, contents: Iterable[tuple[Utterance, Hashable]], problems: Sequence[Problem] = ()
) -> None:
    """Refuse equal content with two speakers or two emotions, as ``databases check`` does.

    The files' bytes are compared at every start. Their frames are compared when a pack is made; those are equal for a
    wav and a flac of the same samples.
    """
    problems = list(problems)
    first: dict[Hashable, Utterance] = {}
    for utterance, key in contents:
        other = first.setdefault(key, utterance)
        if other is not utterance and harmful([problem := duplicate(utterance, other)]):
            what = problem.about
            names = " and ".join(f"{show(u.id)} ({what} {getattr(u, what)})" for u in (utterance, other))
            why = "it would be trained on and tested on" if what == "speaker" else "one of the two is wrong"
            detail = f"{names} are the same audio: {why}; correct the labels or remove one"
            problems.append(replace(problem, path=show(utterance.id), detail=detail))
    if problems:
        raise RequestError(f"database {database.name}", lines(problems))


_OR_CHANGE = "(change the settings or the code of the features, or take these utterances out of the database)"


def _or_go_on(left: int) -> str:
    return f"(replace these files; or take them away: {go_on(left).strip('()')})"


def _contents(
    database: Database, entries: Sequence[tuple[Utterance, np.ndarray]]
) -> Iterator[tuple[Utterance, Hashable]]:
    """Yield utterances with keys that only equal audio shares.

    A key is some of the rows, or a digest of all if another utterance has those rows. Where two have the same features,
    their samples decide: an extractor may tell different audio by too little, such as its length.
    """
    samples = [frames[:: max(1, len(frames) // 8)].tobytes() for _, frames in entries]
    count = Counter(samples)
    keys = [
        sample if count[sample] == 1 else hashlib.sha256(np.ascontiguousarray(frames).data).digest()
        for (_, frames), sample in zip(entries, samples, strict=True)
    ]
    count = Counter(keys)
    for (utterance, _), key in zip(entries, keys, strict=True):
        if count[key] == 1:
            yield utterance, key
            continue
        try:
            yield utterance, (key, content(database.read(utterance)))
        except AudioError:  # it was read before; its features are all that is left to go by
            yield utterance, key


def _packs(folder: Place) -> Iterator[Pack]:
    """Yield the readable packs of a folder."""
    for table in listed(folder, "*.json"):
        with contextlib.suppress(*DAMAGED):
            yield Pack.open(table.with_suffix(""))


def _is_of(pack: Pack, extractor: Extractor) -> bool:
    """Return whether a pack's rows are as the extractor's."""
    return (pack.values, pack.dtype) == (extractor.channels * extractor.bands, extractor.dtype)


def _frames_held(folder: Place, wanted: set[str], extractor: Extractor) -> dict[str, np.ndarray]:
    """Return the wanted frames by content digest, from every part and pack: a changed corpus extracts only its changes.

    Parts are read first: a part that another process removes meanwhile is already in that process's pack.
    """
    held: dict[str, np.ndarray] = {}
    for where in (folder / "parts", folder):
        for pack in _packs(where):
            rows = [row for row in pack.utterances if row.audio in wanted and row.audio not in held]
            with contextlib.suppress(*DAMAGED):
                if rows and _is_of(pack, extractor) and pack.is_sound():
                    frames = pack.frames()
                    held.update({row.audio: frames[row.start : row.start + row.frames] for row in rows})
    return held


def _remove_parts(parts: Place, packed: set[str]) -> None:
    """Remove the parts whose audio is all in the pack just written; others belong to another extraction."""
    for part in _packs(parts):
        if all(row.audio in packed for row in part.utterances):
            for suffix in (".json", ".npy"):  # the table first: frames without one are never read
                remove(part.path.with_suffix(suffix))


def _extract_chunk(chunk: tuple[Database, Mapping[str, str], Extractor, Place]) -> tuple[set[str], list[Problem], str]:
    """Extract some utterances into parts.

    Both kinds of trouble are returned, not raised, because the cluster would change an exception on its way.

    Returns:
        The digests of unusable audio, its problems, and why nothing can be written (empty if it can).
    """
    database, digests, extractor, parts = chunk
    problems: list[Problem] = []
    unfit: set[str] = set()
    gathered: list[tuple[Utterance, str, np.ndarray]] = []
    size = 0
    try:
        with one_thread():
            for utterance in database.utterances:
                frames, wrong = extract(database, utterance, extractor)
                problems += wrong
                if frames is None:
                    unfit.add(digests[utterance.id])
                else:
                    gathered.append((utterance, digests[utterance.id], frames))
                    size += frames.nbytes
                if size > PART_BYTES:
                    _write_part(parts, database, extractor, gathered)
                    gathered, size = [], 0
            _write_part(parts, database, extractor, gathered)
    except OSError as error:
        return unfit, problems, _reason(error)
    return unfit, problems, ""


def extract(database: Database, utterance: Utterance, extractor: Extractor) -> tuple[np.ndarray | None, list[Problem]]:
    """Return an utterance's features, or why it has none: what ``databases check`` calls harmful, or the extractor."""
    where = show(utterance.path) if utterance.path is not None else show(utterance.id)
    try:
        waveform = database.read(utterance)
    except AudioError as error:
        return None, [_problem(error)]
    wrong = harmful(waveform_problems(waveform, database.info, where))
    if wrong:
        return None, wrong
    try:
        rows = extractor(waveform)
    except RequestError as error:
        return None, [Problem(NO_FEATURES, where, "; ".join(error.problems))]
    except Exception as error:  # an extractor of a person's own may raise anything
        return None, [Problem(NO_FEATURES, where, check.raised(error))]
    refused = check.returned(rows, extractor)
    return (rows, []) if refused is None else (None, [Problem(NO_FEATURES, where, refused)])


def _write_part(
    parts: Place, database: Database, extractor: Extractor, gathered: Sequence[tuple[Utterance, str, np.ndarray]]
) -> None:
    if gathered:
        name = hashlib.sha256("".join(digest for _, digest, _ in gathered).encode()).hexdigest()[:16]
        Pack.write(parts / name, database, "", extractor.channels * extractor.bands, gathered, extractor.dtype)


def _problem(error: AudioError) -> Problem:
    return Problem(error.kind, show(error.path), show(error.detail))


def _reason(error: OSError) -> str:
    return (
        f"{error.strerror or error} ({show(str(error.filename))})" if error.filename else str(error.strerror or error)
    )
