"""Every figure of a report: those of one row, those over several rows, and a caption for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tfser.planning.configuration import Configuration
from tfser.report.figures import confusion, curves, differences, fold_recalls, pairwise, search
from tfser.report.figures.contests import Field
from tfser.report.figures.drawing import Picture
from tfser.report.file_names import file_names, row_names
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables import titles
from tfser.report.tables.formats import escape_markdown
from tfser.report.tables.paired import Rows
from tfser.report.tables.table import DAGGER
from tfser.search.history import History
from tfser.text.streams import one_line

CAPTIONS = "figures.md"
"""Name of the file with the captions."""


def of_rows(
    summaries: Sequence[Summary], published: Published, histories: Sequence[History]
) -> dict[tuple[str, ...], list[Picture]]:
    """Draw the figures of each row, by the key of its configuration."""
    names = row_names(s.configuration.key for s in summaries)
    searched = {c.key: picture for c, picture in search.pictures(histories).items()}
    drawn: dict[tuple[str, ...], list[Picture]] = {}
    for summary in summaries:
        c, made = summary.configuration, drawn.setdefault(summary.configuration.key, [])
        name, heading = names[c.key], _heading(summary, published)
        if summary.done:
            made.append(confusion.to_picture(summary, f"confusion_{name}", heading))
            made.append(fold_recalls.to_picture(summary, f"recalls_{name}", heading))
        if curves.available(summary):
            chosen = {h.label: h.curve for h in histories if h.configuration.key == c.key and h.curve}
            made.append(curves.to_picture(summary, chosen, f"curves_{name}", heading))
        if c.key in searched:
            made.append(searched[c.key])
    return drawn


def over_rows(summaries: Sequence[Summary], published: Published, found: Sequence[Field], rows: Rows) -> list[Picture]:
    """Draw the figures that belong to no single row.

    They are the confusion matrices of each method that has several databases and, for each database with several rows,
    the paired differences and the matrix of every method against every other.

    Args:
        summaries: sorted by key.
        published: gives the names of methods.
        found: the fields of these rows.
        rows: gives the names of databases.
    """
    alike: dict[tuple[str, ...], list[Summary]] = {}
    for summary in summaries:
        c = summary.configuration
        if summary.done:
            alike.setdefault((c.protocol, c.model, c.ablation, summary.selection), []).append(summary)
    several = {key: members for key, members in alike.items() if len(members) > 1}
    parts = file_names(several)
    made = []
    printed = list(dict.fromkeys(row.database for row in published.comparison))
    for key, members in several.items():
        members.sort(
            key=lambda s: printed.index(s.configuration.database) if s.configuration.database in printed else 99
        )
        shown = [_database(s.configuration, rows) for s in members]
        heading = "; ".join(_heading(s, published) for s in members)
        made.append(confusion.side_by_side(members, shown, f"confusions_{parts[key]}", heading))

    places = {_place(field): field for field in found}
    stems = file_names(places, lambda place: (place[0], place[2]))
    for place, field in places.items():
        c = field.members[0].configuration
        heading = f"{rows.database(c)}, {c.protocol_name}, {len(field.members)} rows" + _remark(c)
        made.append(differences.to_picture(field, f"differences_{stems[place]}", heading))
        if len(field.members) > 2:
            made.append(pairwise.to_picture(field, f"pairwise_{stems[place]}", heading))
    return made


def captions(pictures: Iterable[Picture]) -> str:
    """Write figures.md: for each figure its files, and what a caption has to say, for no picture has a title."""
    lines = ["# Figures", ""]
    for p in pictures:
        said = escape_markdown(one_line(f"{p.kind}. {p.heading}. {p.description}"))
        lines.append(f"- `{p.name}.pdf`, `{p.name}.png`: {said}")
    return "\n".join([*lines, ""])


def files(drawn: Mapping[tuple[str, ...], Sequence[Picture]], over: Sequence[Picture]) -> dict[str, str | bytes]:
    """Return every figure's files and the captions, by name; nothing without a figure."""
    pictures = [*over, *(picture for several in drawn.values() for picture in several)]
    made: dict[str, str | bytes] = {name: content for p in pictures for name, content in p.files.items()}
    return made | ({CAPTIONS: captions(pictures)} if pictures else {})


def _place(field: Field) -> tuple[str, ...]:
    c = field.members[0].configuration
    return c.database, c.database_digest, c.protocol


def _database(c: Configuration, rows: Rows) -> str:
    """Return a database's printed name, with its digest where rows have several states of it."""
    return rows.database(c).replace(c.database, titles.database(c.database), 1)


def _heading(summary: Summary, published: Published) -> str:
    """Write all that a row's numbers depend on, and what is missing."""
    c = summary.configuration
    words = [c.database, c.protocol_name, titles.marked(c, published), f"selection {summary.selection}"]
    if len(c.seeds) > 1:
        words.append(f"{len(c.seeds)} seeds")
    if summary.incomplete:
        words.append(f"{DAGGER} {summary.folds} folds")
    if not c.complete:
        words.append("incomplete database")
    return ", ".join(words) + _remark(c)


def _remark(c: Configuration) -> str:
    return f", {one_line(c.remark)}" if c.remark else ""
