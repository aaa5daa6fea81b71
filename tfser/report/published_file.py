"""Reads a file of published figures, and says everything that is wrong with it.

Knows the form of such a file and nothing of tables. Figures stay the texts that are printed: 62.90 says more of its
rounding than 62.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tfser.databases import KNOWN
from tfser.errors import RequestError, unknown
from tfser.storage import yaml_text
from tfser.storage.places import Place
from tfser.text.typed import clipped

PUBLISHED_HELP = "published figures of your own to stand in the tables beside ours: YAML of the form of published.yaml"

_Path = tuple[str | int, ...]

_TOP = ("papers", "databases", "comparison", "ablations", "confusions_in_text", "training")
_COUNTS = ("speakers", "sessions", "utterances", "sampling_rate_hz")
_ROW = ("paper", "database", "method", "war", "uar", "own", "protocol", "same_as", "only_cited", "utterances")
_ABLATION = ("paper", "model", "ablation", "parts")
_CONFUSION = ("paper", "database", "true", "predicted", "percent")
_FIGURE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What files of published figures hold; entries are mappings with the file's keys and figures as printed."""

    papers: Mapping[str, str] = field(default_factory=dict)
    """Key to title."""
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Database to the utterances of each emotion."""
    comparison: tuple[Mapping[str, Any], ...] = ()
    ablations: tuple[Mapping[str, Any], ...] = ()

    def and_then(self, other: Data) -> Data:
        """Return these with those of another file behind them."""
        return Data(
            papers={**self.papers, **other.papers},
            counts={**self.counts, **other.counts},
            comparison=self.comparison + other.comparison,
            ablations=self.ablations + other.ablations,
        )


def read(path: Place, before: Data) -> Data:
    """Read and check one file.

    Args:
        path: the YAML file.
        before: what the files before it hold, which it may name and may not contradict.

    Raises:
        RequestError: every problem, with its line.
    """
    source = f"published figures {path}"
    try:
        node, values = yaml_text.read(path)
    except FileNotFoundError:
        raise RequestError(source, ["no such file; it has the form of the published.yaml of tfser"]) from None
    except OSError as error:
        raise RequestError(source, [f"it cannot be read: {error.strerror or error}"]) from None
    except yaml_text.YamlError as error:
        raise RequestError(source, [str(error)]) from None
    if not isinstance(values, dict) or node is None:
        raise RequestError(source, [f"it has to be a mapping with some of the keys {', '.join(_TOP)}"])
    reader = _Reader(node, before)
    data = reader.data(values)
    if reader.problems:
        raise RequestError(source, reader.problems)
    return data


class _Reader:
    """Collects every problem of one file, each with its line."""

    def __init__(self, node: yaml.Node, before: Data) -> None:
        self.problems: list[str] = []
        self._before = before
        self._lines: dict[_Path, int] = {}
        self._texts: dict[_Path, str] = {}
        self._figures: dict[_Path, str] = {}
        self._walk(node, ())

    def _walk(self, node: yaml.Node, path: _Path) -> None:
        """Note the line and the text of everything, and say which keys stand twice."""
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            self._texts[path] = node.value
        elif isinstance(node, yaml.SequenceNode):
            for number, entry in enumerate(node.value):
                self._walk(entry, (*path, number))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                place = (*path, str(key.value))
                if place in self._lines:
                    self._say(place, f"it stands twice (line {key.start_mark.line + 1} too); leave one of the two out")
                self._lines[place] = key.start_mark.line + 1
                self._walk(value, place)

    def _say(self, path: _Path, problem: str) -> None:
        line = next(self._lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self._lines)
        place = ".".join(f"entry {part + 1}" if isinstance(part, int) else part for part in path)
        self.problems.append(f"line {line}: {place or 'file'}: {problem}")

    def data(self, values: dict[Any, Any]) -> Data:
        """Read the whole file."""
        self._known((), values, _TOP)
        papers = self._papers(values)
        counts = {name: self._database(name, value) for name, value in self._entries(values, "databases").items()}
        own = self._before.and_then(Data(papers=papers, counts=counts))
        read = Data(
            papers=papers,
            counts=counts,
            comparison=tuple(self._row(path, entry, own) for path, entry in self._list(values, "comparison")),
            ablations=tuple(self._ablation(path, entry, own) for path, entry in self._list(values, "ablations")),
        )
        for path, entry in self._list(values, "confusions_in_text"):
            self._known(path, entry, _CONFUSION)
            self._named(path, entry, "paper", own.papers)
        for name, value in self._entries(values, "training").items():
            self._mapping(("training", name), value)
            if name not in own.papers:
                self._say(("training", name), unknown("paper", name, own.papers))
        self._fractions()
        if not self.problems:
            self._twice(read)
            self._aliases(read)
        return read

    # Parts of the file.

    def _papers(self, values: dict[Any, Any]) -> dict[str, str]:
        papers = {}
        for key, value in self._entries(values, "papers").items():
            path = ("papers", key)
            paper = self._mapping(path, value)
            self._known(path, paper, ("title",))
            papers[key] = self._text(path, paper, "title") or ""
            if self._before.papers.get(key, papers[key]) != papers[key]:
                self._say(path, f"it is the key of {self._before.papers[key]!r} already; choose another")
        return papers

    def _database(self, name: str, value: Any) -> dict[str, int]:
        path = ("databases", name)
        database = self._mapping(path, value)
        self._known(path, database, ("language", *_COUNTS, "emotions"))
        for key in _COUNTS:
            if key in database:
                self._whole((*path, key), database[key])
        emotions = self._mapping((*path, "emotions"), database.get("emotions"))
        counts = {str(emotion): self._whole((*path, "emotions", str(emotion)), n) for emotion, n in emotions.items()}
        total = database.get("utterances", sum(counts.values()))
        if not emotions:
            self._say((*path, "emotions"), "name each emotion with its number of utterances: {angry: 200, sad: 150}")
        elif isinstance(total, int) and 0 not in counts.values() and total != sum(counts.values()):
            self._say((*path, "utterances"), f"{total}, but its emotions have {sum(counts.values())} in all")
        if self._before.counts.get(name, counts) != counts:
            theirs = ", ".join(f"{emotion} {n}" for emotion, n in self._before.counts[name].items())
            self._say(path, f"it is described already ({theirs}); leave it out, or name yours otherwise")
        return counts

    def _row(self, path: _Path, row: dict[str, Any], own: Data) -> dict[str, Any]:
        self._known(path, row, _ROW)
        self._named(path, row, "paper", own.papers)
        self._named(path, row, "database", dict.fromkeys([*own.counts, *KNOWN]))
        texts = {key: self._text(path, row, key) for key in ("method", "protocol", "same_as", "only_cited")}
        if texts["method"] is None and "method" not in row:
            self._say(path, "it has no method")
        if not isinstance(row.get("own", False), bool):
            self._say((*path, "own"), f"{clipped(row['own'])} is neither true nor false")
        if "utterances" in row:
            self._whole((*path, "utterances"), row["utterances"])
        figures = {key: self._figure((*path, key), row.get(key)) for key in ("war", "uar")}
        if set(figures.values()) == {None} and row.get("war") is None and row.get("uar") is None:
            self._say(path, "it has neither war nor uar; give at least one, in percent")
        return {**row, **texts, **figures}

    def _ablation(self, path: _Path, row: dict[str, Any], own: Data) -> dict[str, Any]:
        databases = [key for key, value in row.items() if key not in _ABLATION and isinstance(value, dict)]
        legal = sorted({*own.counts, *KNOWN})
        self._known(path, row, (*_ABLATION, *legal))
        self._named(path, row, "paper", own.papers)
        for key in ("model", "ablation"):
            if self._text(path, row, key) is None and key not in row:
                self._say(path, f"it has no {key}")
        parts = self._mapping((*path, "parts"), row.get("parts", {}))
        for part, has in parts.items():
            if not isinstance(has, bool):
                self._say((*path, "parts", str(part)), f"{clipped(has)} is neither true nor false")
        figures = {}
        for name in databases:
            self._known((*path, name), row[name], ("war", "uar"))
            figures[name] = {key: self._figure((*path, name, key), row[name].get(key)) for key in ("war", "uar")}
        for name in (key for key in row if key in legal and key not in databases):
            self._say((*path, name), "it has to be a mapping, such as {war: 62.90, uar: 60.10}")
        return {**{key: row.get(key) for key in _ABLATION}, "parts": parts, "figures": figures}

    def _fractions(self) -> None:
        """Refuse a file whose figures are all shares of 1, which would stand in the tables as percent."""
        if self._figures and all(float(text) <= 1 for text in self._figures.values()):
            path, text = next(iter(self._figures.items()))
            self._say(path, f"{text}, and no figure of the file is above 1; write percent as printed, such as 62.90")

    def _twice(self, read: Data) -> None:
        """Say which rows stand in these files already."""
        for what, keys, earlier, rows in (
            ("comparison", ("paper", "database", "method"), self._before.comparison, read.comparison),
            ("ablations", ("model", "ablation"), self._before.ablations, read.ablations),
        ):
            seen = {tuple(row[key] for key in keys) for row in earlier}
            for number, row in enumerate(rows):
                name = tuple(row[key] for key in keys)
                if name in seen:
                    self._say((what, number), f"there is a row of {', '.join(name)} already; leave this one out")
                seen.add(name)

    def _aliases(self, read: Data) -> None:
        """Say which methods are not what their row says that they are the same as."""
        every = self._before.comparison + read.comparison
        for number, row in enumerate(read.comparison):
            other = row["same_as"]
            if other is None:
                continue
            path = ("comparison", number, "same_as")
            there = [r for r in every if (r["database"], r["method"]) == (row["database"], other) and r is not row]
            if not there:
                others = [r["method"] for r in every if r["database"] == row["database"] and r is not row]
                self._say(path, unknown("method", other, others))
            elif not any(_equal(row, r) for r in there):
                printed = f"{there[0]['war']} and {there[0]['uar']}"
                self._say(path, f"{other} has other figures, {printed}; one method under two names has equal ones")

    # Values.

    def _mapping(self, path: _Path, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            if value is not None:
                self._say(path, f"it has to be a mapping, not {clipped(value)}")
            return {}
        # YAML reads the key ``true`` of a confusion as a truth value.
        return {str(key).lower() if isinstance(key, bool) else str(key): entry for key, entry in value.items()}

    def _entries(self, values: dict[Any, Any], key: str) -> dict[str, Any]:
        return self._mapping((key,), values.get(key))

    def _list(self, values: dict[Any, Any], key: str) -> list[tuple[_Path, dict[str, Any]]]:
        entries = values.get(key) or []
        if not isinstance(entries, list):
            self._say((key,), f"it has to be a list, each entry with a dash in front, not {clipped(entries)}")
            return []
        found: list[tuple[_Path, dict[str, Any]]] = []
        for number, entry in enumerate(entries):
            if isinstance(entry, dict):
                found.append(((key, number), self._mapping((key, number), entry)))
            else:
                self._say((key, number), f"it has to be a mapping, not {clipped(entry)}")
        return found

    def _known(self, path: _Path, mapping: Mapping[str, Any], legal: Iterable[str]) -> None:
        for key in mapping:
            if key not in legal:
                self._say((*path, str(key)), unknown("key", key, legal))

    def _named(self, path: _Path, row: Mapping[str, Any], key: str, legal: Iterable[str]) -> None:
        """Say that a row lacks what it is about, or names one that there is not."""
        if key not in row:
            self._say(path, f"it has no {key}")
        elif not isinstance(row[key], str) or row[key] not in legal:
            self._say((*path, key), f"{unknown(key, row[key], legal)}; yours are named under {key}s:")

    def _text(self, path: _Path, row: Mapping[str, Any], key: str) -> str | None:
        value = row.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            self._say((*path, key), f"{clipped(value)} is no text; put it in quotes if it is a name")
            return None
        return value

    def _whole(self, path: _Path, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000_000:
            self._say(path, f"{clipped(value)} is not a whole number from 1")
            return 0
        return value

    def _figure(self, path: _Path, value: Any) -> str | None:
        """Return a figure as printed, in percent."""
        if value is None:
            return None
        text = self._texts.get(path, "")
        if isinstance(value, (bool, str)) or not _FIGURE.fullmatch(text) or float(text) > 100:
            self._say(path, f"{clipped(text or value)} is not a percentage as printed, such as 62.90; null is none")
            return None
        self._figures[path] = text
        return text


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two rows have the same figures."""
    return all(
        one[key] == other[key] or (None not in (one[key], other[key]) and float(one[key]) == float(other[key]))
        for key in ("war", "uar")
    )
