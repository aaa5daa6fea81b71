"""report.html: one page to read, send and print, made from the same values as the tables.

It needs nothing outside itself (no script, no font, no picture); only its links lead away. What differs from run to run
(run ids, dates, durations, commands) comes in through ``Provenance`` alone. It is shown in the section "How it was
made", in the lists of trials and behind links. Without a ``Provenance``, equal results give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from tfser.execution.results import Results
from tfser.report import provenance
from tfser.report.figures.drawing import Picture
from tfser.report.page import chosen, gaps, trials
from tfser.report.page.answer import Answer, Sentence, answers, listed
from tfser.report.page.cells import prepared
from tfser.report.page.links import Links
from tfser.report.provenance import Provenance
from tfser.report.published import Published
from tfser.report.summary import Summary
from tfser.report.tables.paired import Rows
from tfser.report.tables.printed import Printed
from tfser.report.tables.printed_notes import place
from tfser.report.tables.table import Table
from tfser.storage.places import Place
from tfser.text.streams import one_line

_NAMED = 4
"""Most methods or databases that the question names."""

_OPEN = 2
"""Most rows whose own figures are all shown unfolded."""


_ENDINGS = {"Numbers": ".csv", "Tables": ".md", "Tables for LaTeX": ".tex"}
"""What a file is for, and how its name ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything that the page shows."""

    results: Results
    summaries: Sequence[Summary]
    published: Published
    rows: Rows
    printed: Printed
    """What goes into a paper; the tables below are its details."""
    compared: Sequence[Table]
    ablated: Sequence[Table]
    paired: Sequence[Table]
    averaging: str = "pooled"
    """That of the printed tables: ``pooled`` or ``mean``."""
    figures: Sequence[Picture] = ()
    """Figures over several rows."""
    pictures: Mapping[tuple[str, ...], Sequence[Picture]] = field(default_factory=dict)
    """Key of a configuration to its figures."""
    files: Sequence[str] = ()
    """Names of the files beside the page."""


def page(content: Content, made: Provenance | None, folder: Place) -> str:
    """Write the page.

    Args:
        content: what the page shows.
        made: what differs from run to run; ``None`` leaves it out.
        folder: the folder of the page, in which its commands are to be typed.
    """
    results, summaries, published = content.results, content.summaries, content.published
    links = Links(results, summaries, made)
    said = answers(summaries, published, content.rows, content.averaging)
    printed = [*content.printed.comparison, *content.printed.ablation]
    in_order = [s for s in summaries if not _is_first(s, said)]
    in_order = [*(s for s in summaries if _is_first(s, said)), *in_order]
    drawn = [figures for summary in in_order if (figures := _figures(summary, content, said))["pictures"]]
    return _template().render(
        title=f"Sweep {results.sweep}",
        question=_question(content),
        answers=[_spoken(answer, links) for answer in said],
        gaps=gaps.gaps(summaries, published),
        caveats=gaps.caveats(summaries),
        sentences=content.printed.sentences,
        printed=[prepared(table, links.of_row, f"printed-{table.name}") for table in printed],
        printed_files=[_file(name) for name in content.files if name.startswith(tuple(_tabled(content.printed)))],
        detail_files=[_file(name) for name in content.files if name.startswith("details.")],
        figures=[_picture(p, content) for p in content.figures],
        drawn=drawn,
        compared=[prepared(table, links.of_row) for table in content.compared],
        ablated=[prepared(table, links.of_row) for table in content.ablated],
        paired=[prepared(table, links.of_row) for table in content.paired],
        chosen=[prepared(t, links.of_row) for t in chosen.tables(summaries, results.histories, published)],
        trials=[trials.of_row(summary, results, published, links, made) for summary in summaries],
        made=trials.how_made(results, made, folder) if made else None,
        digests=provenance.digests(results),
        files=_kinds(content.files),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfser.report.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.jinja")


def _spoken(answer: Answer, links: Links) -> dict[str, Any]:
    """Prepare an answer for the template: its sentences as parts with their links."""

    def parts(sentence: Sentence) -> list[dict[str, str]]:
        return [{"text": _kept(p.text), "link": links.of_row(p.about) if p.about else ""} for p in sentence]

    return {
        "heading": answer.heading,
        "lead": [parts(sentence) for sentence in answer.lead],
        "rest": [parts(sentence) for sentence in answer.rest],
    }


def _kept(text: str) -> Markup:
    """Return a part of a sentence on one line, with the spaces at its ends."""
    before, after = (" " if text[place:][:1] == " " else "" for place in (0, -1))
    return Markup(f"{before}{escape(one_line(text))}{after}")


def _question(content: Content) -> str:
    """Write the sweep's question in a sentence."""
    configurations = [s.configuration for s in content.summaries]
    if not configurations:
        return "Nothing was asked: this sweep has no rows."
    names = list(dict.fromkeys(content.published.model_title(c.model) for c in configurations))
    models = listed(names) if len(names) <= _NAMED else f"{len(names)} methods"
    units = listed([f"a {c.protocol}" for c in configurations]).replace(" and ", " or ")
    do = "does" if len(names) == 1 else "do"
    corpora = list(dict.fromkeys(place(c, content.rows) for c in configurations))
    databases = listed(corpora) if len(corpora) <= _NAMED else f"{len(corpora)} databases"
    text = f"How well {do} {models} recognise emotion on {databases} from {units} never heard in training"
    if len({(c.model, c.ablation) for c in configurations}) > len({c.model for c in configurations}):
        text += ", and what does each part of the model contribute"
    return f"{text}?"


def _tabled(printed: Printed) -> list[str]:
    """Return the beginnings of the names of the printed tables' files."""
    return ["comparison", *(["ablation"] if printed.ablation else [])]


def _is_first(summary: Summary, said: Sequence[Answer]) -> bool:
    """Tell whether a row is ahead on its database."""
    return any(answer.first is summary for answer in said)


def _figures(summary: Summary, content: Content, said: Sequence[Answer]) -> dict[str, Any]:
    """Prepare the figures of one row; those of many rows are folded, but for those that are ahead."""
    few = len(content.pictures) <= _OPEN
    return {
        "name": gaps.heading(summary, content.published),
        "open": few or (not content.figures and _is_first(summary, said)),
        "pictures": [_picture(p, content) for p in content.pictures.get(summary.configuration.key, ())],
    }


def _picture(picture: Picture, content: Content) -> dict[str, Any]:
    names = [name for name in content.files if name.rpartition(".")[0] == picture.name]
    return {
        "kind": picture.kind,
        "description": picture.description,
        "svg": Markup(picture.svg),  # drawn here, with every name escaped by matplotlib
        "files": [_file(name) for name in names or [f"{picture.name}.png"]],
    }


def _file(name: str) -> dict[str, str]:
    return {"name": name, "link": quote(name)}


def _kinds(names: Sequence[str]) -> list[dict[str, Any]]:
    """Sort the files beside the page by what they are for; those of figures stand below the figures."""
    found = {what: [name for name in names if name.endswith(ending)] for what, ending in _ENDINGS.items()}
    return [{"what": what, "files": [_file(name) for name in files]} for what, files in found.items() if files]
