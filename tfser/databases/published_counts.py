"""Differences between a database on disk and the counts of its publication.

Nothing here reads a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from tfser.databases.base import DatabaseInfo, Problem, Utterance, counts

_NAMED = 12
"""Most utterances that a message names; it counts the others."""


def deviations(
    info: DatabaseInfo, utterances: Sequence[Utterance], where: str, expected_ids: frozenset[str] | None = None
) -> list[Problem]:
    """List every difference from the published counts, with numbers and, if known, names.

    Args:
        info: the published facts.
        utterances: those found.
        where: the folder or file, as text.
        expected_ids: every published utterance id, if known.
    """
    table = counts(utterances)
    details: list[tuple[str, str]] = []
    expected = info.expected_utterances
    if expected is not None and expected != len(utterances):
        details.append(
            ("utterances", f"expected {expected} utterances, found {len(utterances)} ({len(utterances) - expected:+d})")
        )
    if info.expected_emotions:
        details += _differences("emotions", info.expected_emotions, Counter(u.emotion for u in utterances))
    speakers = Counter({speaker: sum(row.values()) for speaker, row in table.items()})
    if info.expected_speaker_count is not None and info.expected_speaker_count != len(speakers):
        names = ", ".join(sorted(speakers)) or "none"
        details.append(("speakers", f"expected {info.expected_speaker_count} speakers, found {len(speakers)}: {names}"))
    if info.expected_speakers:
        details += _differences("speakers", info.expected_speakers, speakers)
    if info.expected_speaker_emotions:
        cells = {f"{s} {e}": n for s, row in info.expected_speaker_emotions.items() for e, n in row.items() if n}
        found = {f"{s} {e}": n for s, row in table.items() for e, n in row.items()}
        details += _differences("speakers and emotions", cells, found)
    if expected_ids is not None:
        ids = {u.id for u in utterances}
        details += [("missing", f"missing: {_named(expected_ids - ids)}")] if expected_ids - ids else []
        details += [("extra", f"not among the published: {_named(ids - expected_ids)}")] if ids - expected_ids else []
    return [Problem("count", where, detail, about) for about, detail in details]


def absent(info: DatabaseInfo, utterances: Sequence[Utterance], where: str) -> list[Problem]:
    """Note each speaker without some emotion: the UAR of its fold averages over fewer classes."""
    notes = []
    for speaker, row in sorted(counts(utterances).items()):
        missing = [emotion for emotion in info.emotions if not row[emotion]]
        if missing:
            left = len(info.emotions) - len(missing)
            detail = (
                f"speaker {speaker} has no {', '.join(missing)}: the UAR of this fold averages over {left} emotions"
            )
            notes.append(Problem("note", where, detail, "absent"))
    return notes


def alone(utterances: Iterable[Utterance], unit: Callable[[Utterance], str]) -> dict[str, str]:
    """Return each emotion of a single speaker (or session), with that speaker: no other can train it.

    Args:
        utterances: those of one database.
        unit: returns an utterance's speaker, or its session.
    """
    shown: dict[str, set[str]] = {}
    for utterance in utterances:
        shown.setdefault(utterance.emotion, set()).add(unit(utterance))
    return {emotion: who.pop() for emotion, who in sorted(shown.items()) if len(who) == 1}


def _differences(what: str, expected: Mapping[str, int], found: Mapping[str, int]) -> list[tuple[str, str]]:
    """Put every key whose numbers differ into one line."""
    keys = list(expected) + sorted(set(found) - set(expected))
    pairs = [(key, expected.get(key, 0), found.get(key, 0)) for key in keys]
    wrong = [f"{key}: expected {published}, found {there}" for key, published, there in pairs if published != there]
    if not wrong:
        return []
    more = f"; ... and {len(wrong) - 2 * _NAMED} more" if len(wrong) > 2 * _NAMED else ""
    return [(what, f"{what} that differ: {'; '.join(wrong[: 2 * _NAMED])}{more}")]


def _named(ids: frozenset[str] | set[str]) -> str:
    """Name some ids and count the others."""
    names = sorted(ids)
    more = f" ... and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} ({len(names)})"
