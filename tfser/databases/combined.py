"""A database made of several corpora, whose labels are common emotions and whose speakers are persons.

An utterance's id and speaker begin with the name of its corpus, since two corpora may use one name for two persons.
Knows no folds: ``corpus`` of an utterance tells where it is from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfser.audio import files
from tfser.databases.base import Database, DatabaseInfo, Utterance
from tfser.databases.emotion_map import EmotionMap, labels_of
from tfser.errors import counted

LONGEST = 100
"""Characters of a name, which becomes a part of file names."""

_FROM = " from "


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined(Database):
    """The utterances of several corpora that have a common emotion."""

    corpora: tuple[str, ...]
    """The names of the corpora, sorted."""
    parts: Mapping[str, Database]
    """Each corpus by name, without its utterances."""
    originals: Mapping[str, Utterance] = field(repr=False)
    """Id here to the utterance as its corpus has it."""
    labels: Mapping[str, Mapping[str, str]]
    """By corpus, label to common emotion."""
    left_out: Mapping[str, Mapping[str, int]]
    """By corpus, each label without a common emotion and the number of its utterances."""
    same_speakers: tuple[tuple[str, ...], ...] = ()
    """Speakers of different corpora who are one person, and are called by the first of these names."""

    def read(self, utterance: Utterance) -> files.Waveform:
        """Return the utterance's audio, as its corpus reads it."""
        return self.parts[str(utterance.corpus)].read(self.originals[utterance.id])

    def audio_digest(self, utterance: Utterance) -> str:
        """Return the SHA-256 of the audio's content, as its corpus tells it: features are stored once for both."""
        return self.parts[str(utterance.corpus)].audio_digest(self.originals[utterance.id])

    def remark_of(self, corpus: str) -> str:
        """Say what a table has to say where one corpus is the test and the others are the training.

        Args:
            corpus: the name of the test corpus.
        """
        others = [name for name in self.corpora if name != corpus]
        said = [f"trained on {self._described(others)}, tested on {self._described([corpus])}"]
        said += self.mapped()
        recur = [name for name in self.corpora if self.parts[name].info.same_texts]
        texts = "whether corpora share sentences is not known"
        said.append(f"within {', '.join(recur)} the same sentences recur; {texts}" if recur else texts)
        said += [f"{name}: {self.parts[name].remark}" for name in self.corpora if self.parts[name].remark]
        return "; ".join(said)

    def mapped(self) -> list[str]:
        """Say which labels stand for which emotion, what is left out, and who is one person."""
        said = []
        for name in self.corpora:
            by_emotion: dict[str, list[str]] = {}
            for label, emotion in self.labels[name].items():
                by_emotion.setdefault(emotion, []).append(label)
            each = [_as(by_emotion[e], e) for e in self.emotions if e in by_emotion]
            lacks = [e for e in self.emotions if e not in {u.emotion for u in self.utterances if u.corpus == name}]
            text = f"{name}: {', '.join(each)}"
            text += f", no {', '.join(lacks)}" if lacks else ""
            if gone := self.left_out[name]:
                labels = ", ".join(f"{label} {number}" for label, number in gone.items())
                text += f", left out {counted(sum(gone.values()), 'utterance')} ({labels})"
            said.append(text)
        said += [f"one person: {' = '.join(names)}" for names in self.same_speakers]
        return said

    def _described(self, names: Sequence[str]) -> str:
        return ", ".join(f"{name} (language: {self.parts[name].info.language})" for name in names)


def _as(labels: Sequence[str], emotion: str) -> str:
    """Say which labels stand for an emotion; the emotion alone where it is the only label.

    >>> _as(["joy", "excited"], "happiness"), _as(["anger"], "anger")
    ('joy + excited as happiness', 'anger')
    """
    return emotion if list(labels) == [emotion] else f"{' + '.join(labels)} as {emotion}"


def combined(databases: Sequence[Database], emotions: EmotionMap) -> Combined:
    """Make one database of several.

    Args:
        databases: two or more, of different names.
        emotions: maps the labels of each.
    """
    databases = sorted(databases, key=lambda d: d.name)
    names = tuple(d.name for d in databases)
    person = {name: group[0] for group in emotions.same_speakers for name in group}
    originals: dict[str, Utterance] = {}
    utterances: list[Utterance] = []
    left_out: dict[str, dict[str, int]] = {}
    for database in databases:
        labels = emotions.labels[database.name]
        gone = Counter(u.emotion for u in database.utterances if u.emotion not in labels)
        left_out[database.name] = {label: gone[label] for label in labels_of(database) if gone[label]}
        for u in database.utterances:
            if u.emotion in labels:
                own, speaker = f"{database.name}/{u.id}", f"{database.name}/{u.speaker}"
                originals[own] = u
                utterances.append(
                    replace(
                        u,
                        id=own,
                        speaker=person.get(speaker, speaker),
                        emotion=labels[u.emotion],
                        corpus=database.name,
                    )
                )
    known = {u.speaker for u in utterances}
    return Combined(
        info=_info(databases, emotions.emotions),
        utterances=tuple(utterances),
        complete=all(d.complete for d in databases),
        corpora=names,
        parts={d.name: replace(d, utterances=()) for d in databases},
        originals=originals,
        labels=emotions.labels,
        left_out=left_out,
        same_speakers=tuple(group for group in emotions.same_speakers if group[0] in known),
    )


def _info(databases: Sequence[Database], emotions: tuple[str, ...]) -> DatabaseInfo:
    """Return the facts about several corpora; every part keeps its own."""

    def joined(name: str) -> str:
        return "; ".join(dict.fromkeys(str(getattr(d.info, name)) for d in databases))

    return DatabaseInfo(
        name=name_of([d.name for d in databases]),
        title=" and ".join(d.info.title for d in databases),
        language=joined("language"),
        licence=joined("licence"),
        citation=joined("citation"),
        homepage=joined("homepage"),
        how_to_get=joined("how_to_get"),
        layout=joined("layout"),
        emotions=emotions,
    )


def name_of(corpora: Sequence[str]) -> str:
    """Return the name of a database made of several corpora.

    >>> name_of(["emodb", "casia"])
    'casia+emodb'
    """
    name = "+".join(sorted(corpora))
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}+{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def row_name(corpora: Sequence[str], test: str) -> str:
    """Return what tables call a test corpus: it is another task with every other set of training corpora.

    >>> row_name(["casia", "emodb", "savee"], "emodb")
    'emodb from casia+savee'
    """
    return f"{test}{_FROM}{name_of([name for name in corpora if name != test])}"


def named(row: str) -> tuple[str, tuple[str, ...]]:
    """Return the test corpus and the training corpora of what ``row_name`` made; of another name itself and none.

    >>> named("emodb from casia+savee"), named("emodb")
    (('emodb', ('casia', 'savee')), ('emodb', ()))
    """
    test, separator, others = row.partition(_FROM)
    return test, tuple(others.split("+")) if separator else ()
