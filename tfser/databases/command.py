"""The command ``python -m tfser.databases list | describe NAME | check NAME``.

Exit codes of ``check``: 0 complete, 1 readable with problems, 2 not readable (or a wrong request). Only this file
prints; the facts and faults come from the other files.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter

from rich.console import Console
from rich.table import Table

from tfser.databases import KNOWN, checks
from tfser.databases.base import HARMLESS_KINDS, PROBLEM_KINDS, DatabaseInfo, counts
from tfser.databases.reader import line, sorts
from tfser.errors import RequestError, counted, unknown
from tfser.storage.places import Place, typed_place
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser databases",
        description="List the known databases, describe one, or check a copy on disk.",
    )
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every known database")
    describe = commands.add_parser("describe", help="licence, how to get it, layout, labels and published counts")
    describe.add_argument("name", metavar="NAME")
    check = commands.add_parser(
        "check",
        allow_abbrev=False,
        help="decode everything and report what is wrong; exits 0 complete, 1 readable with problems, 2 not readable",
    )
    check.add_argument(
        "name", metavar="NAME", help="a known name, the path of a manifest CSV, or audformat:PATH; with NAME= in front"
    )
    check.add_argument(
        "--data",
        metavar="PATH",
        type=typed_place,
        default=os.environ.get("TFSER_DATA") or None,
        help="folder or URI that holds the corpora, or the corpus's own (default: TFSER_DATA)",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the words after the command's name; by default those of the process.
    """
    take_any_text()
    args = parser().parse_args(argv)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        if args.command == "list":
            return _list(console)
        if args.command == "describe":
            return _describe(console, args.name)
        return _check(console, args.name, args.data, args.json)
    except RequestError as error:
        if getattr(args, "json", False):
            print(json.dumps(_unreadable(args.name, error), ensure_ascii=True))
        else:
            Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(str(error))
        return 2


def _list(console: Console) -> int:
    table = Table("name", "utterances", "speakers", "emotions", "language", "title", box=None, pad_edge=False)
    for name, reader in sorted(KNOWN.items()):
        info = reader.info
        speakers = info.expected_speaker_count or len(info.expected_speakers)
        table.add_row(
            name, str(info.expected_utterances), str(speakers), str(len(info.emotions)), info.language, info.title
        )
    console.print(table)
    console.print("\ndescribe NAME gives licence, layout and counts.")
    console.print("Also read: a manifest CSV (path, speaker, emotion, optionally session), and audformat:PATH.")
    return 0


def _describe(console: Console, name: str) -> int:
    if name not in KNOWN:
        raise RequestError("NAME", [unknown("NAME", name, KNOWN, every="tfser databases list")])
    info = KNOWN[name].info
    rows = {
        "name": info.name,
        "title": info.title,
        "language": info.language,
        "licence": info.licence,
        "citation": info.citation,
        "homepage": info.homepage,
        "how to get it": info.how_to_get,
        "layout": info.layout,
        "sampling rate": f"{info.sampling_rate_hz} Hz" if info.sampling_rate_hz else "unknown",
        "same texts": "yes: held-out speakers say trained-on texts" if info.same_texts else "no",
    }
    if info.remark:
        rows["remark"] = info.remark
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(key, value)
    console.print(table)
    console.print()
    console.print(
        _counts_table(info, {s: Counter(row) for s, row in info.expected_speaker_emotions.items()}, "published")
    )
    return 0


def _counts_table(info: DatabaseInfo, table: dict[str, Counter[str]], title: str) -> Table:
    """Tabulate utterances per speaker and emotion, with sums; the published sums if single cells are unknown."""
    shown = Table("speaker", *info.emotions, "all", title=f"utterances ({title})", title_justify="left", box=None)
    for column in shown.columns[1:]:
        column.justify = "right"
    for speaker, row in sorted(table.items()):
        shown.add_row(speaker, *(str(row[e]) for e in info.emotions), str(sum(row.values())))
    sums = {e: sum(row[e] for row in table.values()) for e in info.emotions} if table else info.expected_emotions
    shown.add_row("all", *(str(sums.get(e, "?")) for e in info.emotions), str(sum(sums.values())))
    return shown


def _check(console: Console, name: str, data: Place | None, as_json: bool) -> int:
    report = checks.check(name, data)
    code = 0 if report.complete else 1
    if as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=True))
        return code
    database = report.database
    console.print(_counts_table(database.info, counts(database.utterances), "found"))
    console.print()
    rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(report.rates_hz.items())) or "none"
    console.print(
        f"{counted(len(database.utterances), 'utterance')}, {counted(len(database.speakers), 'speaker')}, "
        f"{report.minutes:.1f} minutes; {rates}"
    )
    quantiles = report.duration_quantiles_s()
    if quantiles:
        text = ", ".join(f"{_quantile(q)} {seconds:.2f}" for q, seconds in quantiles.items())
        console.print(f"duration in s: {text}")
    if database.remark:
        console.print(f"remark: {database.remark}")
    kinds = Counter(problem.kind for problem in report.problems)
    for kind in sorted(kinds, key=lambda k: (k in HARMLESS_KINDS, k)):
        console.print()
        weight = "" if kind not in HARMLESS_KINDS else ", harmless"
        console.print(f"{kind} ({kinds[kind]}{weight}): {PROBLEM_KINDS[kind]}")
        for same in sorts(problem for problem in report.problems if problem.kind == kind):
            console.print(f"  {line(*same)}")
    if len(report.problems) > len(sorts(report.problems)):
        console.print("\n--json lists every problem.")
    console.print()
    console.print(f"{database.name}: " + ("complete" if report.complete else "readable, with problems"))
    return code


def _quantile(q: float) -> str:
    return {0.0: "shortest", 0.5: "median", 1.0: "longest"}.get(q, f"{100 * q:.0f} %")


def _unreadable(name: str, error: RequestError) -> dict[str, object]:
    """Return the JSON of an unreadable database: the same keys, all empty."""
    return {
        "database": name,
        "complete": False,
        "utterances": 0,
        "minutes": 0.0,
        "emotions": {},
        "speakers": {},
        "problems": [{"kind": "unreadable", "path": error.source, "detail": detail} for detail in error.problems],
    }
