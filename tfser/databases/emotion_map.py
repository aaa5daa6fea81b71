"""Which label of which corpus stands for which common emotion, and which speakers of two corpora are one person.

``read`` reads a file of a person's own, ``usual`` makes the map that needs none. Knows no folds and no audio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from tfser.databases import spelling
from tfser.databases.base import Database, Utterance
from tfser.databases.formats.manifest import MISSING, composed, label_problem
from tfser.errors import RequestError, unknown
from tfser.storage import yaml_text
from tfser.storage.places import Place
from tfser.text.typed import clipped

USUAL: Mapping[str, tuple[str, ...]] = {
    "anger": ("anger", "angry"),
    "happiness": ("happiness", "happy", "joy"),
    "sadness": ("sadness", "sad"),
    "neutral": ("neutral",),
}
"""The emotions that most corpora share, each with the labels that mean it; capital letters do not count."""

SAME_SPEAKERS = "same_speakers"
"""The key of a file that is no corpus: lists of speakers who are one person, each as CORPUS/SPEAKER."""

NOTHING = ("", "-", "~", "na", "no")
"""Texts that stand for no emotion, beside those of a missing value. As labels of a manifest some of them are names."""

SHAPE = "a mapping for each database, of its labels to common emotions: casia: {angry: anger, fear: null}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionMap:
    """The labels of some corpora in common words."""

    emotions: tuple[str, ...]
    """The common emotions, in the order of tables and classifiers."""
    labels: Mapping[str, Mapping[str, str]]
    """By corpus, label to common emotion; a label that is not there is left out."""
    same_speakers: tuple[tuple[str, ...], ...] = ()
    """Speakers of different corpora who are one person, each as ``corpus/speaker``."""


def labels_of(database: Database) -> tuple[str, ...]:
    """Return every label of a database: those that it is published with, and those that its utterances have."""
    return tuple(dict.fromkeys([*database.emotions, *sorted({u.emotion for u in database.utterances})]))


def usual(databases: Sequence[Database]) -> EmotionMap:
    """Map the labels that mean one of ``USUAL``.

    Raises:
        RequestError: a database has fewer than two of them.
    """
    meant = {word: emotion for emotion, words in USUAL.items() for word in words}
    labels = {
        d.name: {label: meant[label.casefold()] for label in labels_of(d) if label.casefold() in meant}
        for d in databases
    }
    return _checked("--protocol corpus", tuple(USUAL), labels, databases, (), " without --emotions FILE")


def read(path: Place, databases: Sequence[Database], known: Sequence[str] = ()) -> EmotionMap:
    """Read a file that maps the labels of each database, and check it against them.

    Args:
        path: the YAML file.
        databases: those of the request.
        known: names of other databases, which the file may map too.

    Raises:
        RequestError: every problem, with its line.
    """
    try:
        node, _ = yaml_text.read(path)
    except FileNotFoundError:
        raise RequestError(f"--emotions {path}", [f"no such file; write one: {SHAPE}"]) from None
    except OSError as error:
        raise RequestError(f"--emotions {path}", [f"it cannot be read: {error.strerror or error}"]) from None
    except yaml_text.YamlError as error:
        raise RequestError(f"--emotions {path}", [str(error)]) from None
    if not isinstance(node, yaml.MappingNode):
        raise RequestError(f"--emotions {path}", [f"it has to be {SHAPE}"])
    reader = _Reader({d.name: d for d in databases}, known)
    labels, same = reader.file(node)
    if reader.problems:
        raise RequestError(f"--emotions {path}", reader.problems)
    return _checked(f"--emotions {path}", tuple(reader.emotions), labels, databases, same, "")


def _checked(
    source: str,
    emotions: tuple[str, ...],
    labels: Mapping[str, Mapping[str, str]],
    databases: Sequence[Database],
    same: tuple[tuple[str, ...], ...],
    ending: str,
) -> EmotionMap:
    """Keep the emotions that some utterance has; a database in which there are fewer than two cannot be tested on."""
    shown = {d.name: {labels[d.name].get(u.emotion) for u in d.utterances} - {None} for d in databases}
    problems = [
        f"{d.name}: it has {' and '.join(e for e in emotions if e in shown[d.name]) or 'none'} of {', '.join(emotions)}"
        f"{ending}, and needs two emotions; its labels are {', '.join(labels_of(d))}: map them with --emotions FILE"
        for d in databases
        if len(shown[d.name]) < 2
    ]
    if problems:
        raise RequestError(source, problems)
    kept = tuple(e for e in emotions if any(e in each for each in shown.values()))
    return EmotionMap(emotions=kept, labels=labels, same_speakers=same)


class _Reader:
    """Collects every problem of one file, each with its line."""

    def __init__(self, databases: Mapping[str, Database], known: Sequence[str]) -> None:
        self.problems: list[str] = []
        self.emotions: dict[str, int] = {}
        """Common emotions in the order in which the file names them, each with its first line."""
        self._databases, self._known = databases, known

    def _say(self, node: yaml.Node, problem: str) -> None:
        self.problems.append(f"line {node.start_mark.line + 1}: {problem}")

    def file(self, node: yaml.MappingNode) -> tuple[dict[str, dict[str, str]], tuple[tuple[str, ...], ...]]:
        """Return the labels of every database of the request, and who is one person."""
        labels: dict[str, dict[str, str]] = {}
        same: tuple[tuple[str, ...], ...] = ()
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                self._say(key, f"{clipped(name)} stands twice")
            seen.add(name)
            if name == SAME_SPEAKERS:
                same = self._same_speakers(value)
            elif name in self._databases:
                labels[name] = self._labels(key, value, self._databases[name])
            elif name not in self._known:
                self._say(key, unknown("database", name, [*self._databases, SAME_SPEAKERS]))
        for name, database in self._databases.items():
            if name not in seen:
                has = ", ".join(labels_of(database))
                self.problems.append(
                    f"it says nothing of {name}, whose labels are {has}; add {name}: {{LABEL: EMOTION}}"
                )
        self.problems += self._spellings(labels)
        return labels, same

    def _spellings(self, labels: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Return the common emotions that seem to be one in two spellings."""
        named = [
            Utterance(id=f"line {self.emotions[emotion]}", speaker=f"{name}/{u.speaker}", emotion=emotion)
            for name, mapped in labels.items()
            for u in self._databases[name].utterances
            if (emotion := mapped.get(u.emotion))
        ]
        found = spelling.problems(named, ("emotion",), "write one of the two otherwise")
        return [f"{problem.path}: common {problem.detail}" for problem in found]

    def _labels(self, key: yaml.Node, node: yaml.Node, database: Database) -> dict[str, str]:
        """Return label to common emotion of one database; null leaves a label out, as does saying nothing of it."""
        found: dict[str, str] = {}
        if not isinstance(node, yaml.MappingNode):
            self._say(key, f"{database.name}: it has to be a mapping of labels to common emotions")
            return found
        legal, seen = labels_of(database), set[str]()
        for label, emotion in node.value:
            name = str(label.value)
            if name in seen:
                self._say(label, f"{database.name}: {clipped(name)} stands twice")
            seen.add(name)
            if name not in legal:
                self._say(label, unknown(f"label of {database.name}", name, legal))
            elif not isinstance(emotion, yaml.ScalarNode):
                self._say(label, f"{database.name}: {name}: it has to be one common emotion, or null to leave it out")
            elif emotion.tag.endswith(":null"):
                continue
            elif (common := composed(str(emotion.value))).lower() in NOTHING or MISSING.fullmatch(common):
                self._say(label, f"{database.name}: {name}: {common!r} names no emotion; null leaves the label out")
            elif problem := label_problem(common):
                self._say(label, f"{database.name}: {name}: the common emotion {problem}")
            else:
                found[name] = common
                self.emotions.setdefault(common, label.start_mark.line + 1)
        return found

    def _same_speakers(self, node: yaml.Node) -> tuple[tuple[str, ...], ...]:
        """Return the lists of speakers who are one person."""
        legal = [f"{name}/{speaker}" for name, d in self._databases.items() for speaker in d.speakers]
        found: list[tuple[str, ...]] = []
        placed: set[str] = set()
        lists = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for each in lists:
            words = each.value if isinstance(each, yaml.SequenceNode) else []
            names = [str(word.value) for word in words if isinstance(word, yaml.ScalarNode)]
            if len(names) < 2 or len(names) != len(words):
                self._say(each, f"{SAME_SPEAKERS}: it has to be lists of two or more, as [casia/wang, mine/wang]")
                continue
            for name in names:
                if name not in legal and name.partition("/")[0] not in set(self._known) - {*self._databases}:
                    self._say(each, unknown(f"{SAME_SPEAKERS}: speaker", name, legal))
                if name in placed:
                    self._say(each, f"{SAME_SPEAKERS}: {name} stands in two places")
                placed.add(name)
            found.append(tuple(names))
        return tuple(found)
