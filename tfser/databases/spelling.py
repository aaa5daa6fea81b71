"""One name in two spellings: a check of the speakers, emotions and sessions of every database.

A speaker in two spellings would be on both sides of a fold, and a mistyped emotion would be a class of its own. Nothing
is corrected here: labels stay as typed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from tfser.databases.base import Problem, Utterance
from tfser.databases.folders import show
from tfser.errors import counted

COLUMNS = ("speaker", "emotion", "session")
"""Labels that are compared."""

SHARE = 10
"""A label is rare if a similar label has at least so many times its utterances."""

FEW = 3
"""Most utterances for which a label is also rare beside five times as many."""

_SEPARATORS = " ._-"
_BESIDE = re.compile(r"(?<=[^\d ._+()-])[ ._-]+(?=\d)|(?<=\d)[ ._-]+(?=[^\d ._+()-])")
"""Separators between a letter, with its marks, and a digit. Between two digits they tell 1_1 from 11."""

_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK")
"""Scripts with letters that look alike, as Unicode names them."""

_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("case", str.casefold),
    ("Unicode form", lambda text: unicodedata.normalize("NFKC", text).casefold()),
    ("blanks, - and _", lambda text: re.sub(r"[\s_-]+", " ", text).strip()),
    ("separators at an end or beside a digit", lambda text: _BESIDE.sub("", text.strip(_SEPARATORS))),
    ("the form of a number", lambda text: re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"(?<=\d)\.0+$", "", text))),
)
"""Differences that make no other name, each with a function that removes it from the result of the step before."""


def problems(
    utterances: Sequence[Utterance],
    columns: Sequence[str] = COLUMNS,
    otherwise: str = "--allow-incomplete goes on with both",
) -> list[Problem]:
    """Return every pair of labels that seems to be one label in two spellings, at the first utterance of the rarer.

    Args:
        utterances: those of one database.
        columns: the labels that are compared.
        otherwise: what to do where two near labels are two.
    """
    found = []
    for what in columns:
        of: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in utterances:
            if (name := getattr(utterance, what)) is not None:
                of[name].append(utterance)
        for about, sayings in (
            (f"spelling of a {what}", _variants(what, of)),
            (f"scripts of a {what}", _mixed(what, of)),
            (f"near {what}", _near(what, of, otherwise)),
        ):
            found += [Problem("label", show(of[name][0].id), detail, about) for name, detail in sayings]
    return found


def remark(found: Iterable[Problem]) -> list[str]:
    """Return the remark for tables about labels that were taken as typed."""
    said = [p.detail.partition(";")[0] for p in found if p.about.startswith(("spelling of", "scripts of", "near "))]
    more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
    return [f"labels taken as typed: {said[0]}{more}"] if said else []


def _variants(what: str, of: dict[str, list[Utterance]]) -> list[tuple[str, str]]:
    """Return the rarest spelling of each name that has several, and how they differ."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in of:
        groups[_plain(name)[-1]].append(name)
    details = []
    for variants in groups.values():
        if len(variants) > 1:
            forms = [_plain(name) for name in sorted(variants)]
            step = next(i for i in range(len(_STEPS)) if len({form[i] for form in forms}) == 1)
            written = ", ".join(ascii(name) if step == 1 else show(name) for name in sorted(variants))
            rarest = min(sorted(variants), key=lambda name: len(of[name]))
            details.append((rarest, f"{what}s {written} differ by {_STEPS[step][0]} only; write them the same"))
    return details


def _mixed(what: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return names with letters of two scripts in one word, and why: they look like others in one script."""
    details = []
    for name in names:
        for word in re.split(r"[ ._+()-]+", name):
            scripts = [(unicodedata.name(sign, "").partition(" ")[0], sign) for sign in word]
            counts = Counter(script for script, _ in scripts if script in _SCRIPTS)
            if len(counts) > 1:
                letter = next(sign for script, sign in scripts if script == min(sorted(counts), key=counts.__getitem__))
                both = " and ".join(script.capitalize() for script in sorted(counts))
                one = f"U+{ord(letter):04X} ({unicodedata.name(letter)})"
                detail = f"{what} {show(name)} has letters of {both} in one word, as {one}; write it in one script"
                details.append((name, detail))
                break
    return details


def _plain(name: str) -> list[str]:
    """Return a name after each of the steps."""
    forms = []
    for _, step in _STEPS:
        name = step(name)
        forms.append(name)
    return forms


def _near(what: str, of: dict[str, list[Utterance]], otherwise: str) -> list[tuple[str, str]]:
    """Return labels that look mistyped, and why: a letter or two away from another, and rare or of one speaker.

    Speakers who have one of two near emotions, and others who have the other, come from two lists with words of their
    own.
    """
    counts = {name: len(own) for name, own in of.items()}
    speakers = {name: {u.speaker for u in own} for name, own in of.items()}
    suspects = _suspects(what, counts)
    details = []
    for name in suspects:
        neighbours = [other for other in suspects[name] if near(name, other, ending=what == "emotion")]
        if what == "emotion":
            neighbours = [
                o
                for o in neighbours
                if _rare(counts[name], counts[o])
                or (len(speakers[name]) == 1 and speakers[name] < speakers[o])
                or (not speakers[name] & speakers[o] and (counts[name], name) < (counts[o], o))
            ]
        if neighbours:
            meant = max(neighbours, key=lambda other: (counts[other], other))
            has = counted(counts[name], "utterance") + (
                f" of {counted(len(speakers[name]), 'speaker')}" if what != "speaker" else ""
            )
            said = f"{what} {show(name)} has {has} and is near {show(meant)} ({counts[meant]})"
            ask = f"did you mean {show(meant)!r}? If not, {otherwise}"
            details.append((name, f"{said}; {ask}"))
    return details


def _suspects(what: str, counts: dict[str, int]) -> dict[str, list[str]]:
    """Return the other labels that each label may be a mistyped form of, before comparing letters.

    Names of speakers and sessions are often similar (Anna, Anne). Of those, only a few that are rare beside the usual
    one are compared, and only with the common ones.
    """
    names = sorted(counts)
    if what == "emotion":
        return {name: [other for other in names if other != name] for name in names}
    usual = median(counts.values()) if counts else 0
    rare = [name for name in names if SHARE * counts[name] <= usual]
    common = {name: [other for other in names if SHARE * counts[name] <= counts[other]] for name in rare}
    return common if len(rare) <= FEW else {}


def _rare(count: int, other: int) -> bool:
    return SHARE * count <= other or (count <= FEW and 5 * count <= other)


def near(one: str, other: str, *, ending: bool = True) -> bool:
    """Tell whether a typing slip, or (with ``ending``) another ending, turns one label into the other.

    Labels that differ in their digits count something (level1, level2), and a prefix of two letters turns a word into
    its opposite (happy, unhappy); neither is a slip.
    """
    a, b = sorted((_plain(one)[-1], _plain(other)[-1]), key=len)
    if a == b or re.findall(r"\d+", a) != re.findall(r"\d+", b) or len(a) < 3:
        return False
    if ending and b.startswith(a):
        return True
    if b.endswith(a) and len(b) - len(a) > 1:
        return False
    edits = _edits(a, b)
    if edits == 1:
        return len(a) > 3 or len(a) != len(b) or sorted(a) == sorted(b)  # sad and mad are two words
    return ending and edits == 2 and len(a) > 4 and a[0] == b[0]


def _edits(a: str, b: str) -> int:
    """Count the letters inserted, left out, replaced, or swapped with their neighbour; 3 stands for more."""
    if len(b) - len(a) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                row[j] = min(row[j], older[j - 2] + 1)
    return min(row[-1], 3)
