"""``python -m tfser.collect [SWEEP or DATABASE ...]``: make tables and figures of what was trained.

Reads the ledger and the rows beside it, or MLflow where there is no ledger. ``tfser.report`` makes the tables and
figures. Trains nothing and changes no run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from tfser.errors import RequestError, TfserError, counted
from tfser.execution.results import Results
from tfser.planning.configuration import Configuration
from tfser.record import Entry
from tfser.report import published, trace, write
from tfser.report.provenance import Provenance
from tfser.report.published_file import PUBLISHED_HELP
from tfser.report.repeat_command import repeat
from tfser.report.tables import terminal
from tfser.report.tables.printed_notes import AVERAGING_HELP, averaging_problems
from tfser.storage import passwords
from tfser.storage.default_places import default_out
from tfser.storage.places import Place, exists, typed_place
from tfser.text.ending import ended
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_words
from tfser.tracking import connection
from tfser.tracking import uri as tracking_uri
from tfser.tracking.reading import gather, gather_together
from tfser.trial import SHORTEST_PREFIX, is_beginning


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(allow_abbrev=False, prog="tfser collect", description="Make tables and figures of what was trained.")
    names = "default: every sweep, each by itself; several names make one set of tables"
    p.add_argument("names", nargs="*", metavar="SWEEP or DATABASE", help=names)
    p.add_argument(
        "--out",
        type=typed_place,
        default=None,
        help="where tables go, in a folder of the name, or of all names (default: ./results)",
    )
    p.add_argument("--storage", type=typed_place, default=None, help="the sweep's storage folder (default: OUT/.tfser)")
    p.add_argument(
        "--tracking-uri",
        type=typed_words,
        default=None,
        help="default: MLFLOW_TRACKING_URI, else SQLite in the storage folder",
    )
    p.add_argument(
        "--published", type=typed_place, nargs="+", action="extend", default=[], metavar="FILE", help=PUBLISHED_HELP
    )
    p.add_argument("--averaging", type=typed_words, default="pooled", metavar="A", help=AVERAGING_HELP)
    ask = p.add_mutually_exclusive_group()
    behind = "print the trials and runs behind a printed number, or the numbers of a trial, and write nothing"
    ask.add_argument("--trace", nargs="+", action="extend", metavar="WORD", help=behind)
    ask.add_argument(
        "--repeat",
        metavar="TRIAL",
        help=f"print the command that trains a final trial again, by its id (or its first {SHORTEST_PREFIX} digits or "
        "more) or run; write nothing",
    )
    p.add_argument("--json", action="store_true", help="with --trace: as JSON")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    take_any_text()
    arguments = parser().parse_args(argv)
    console = Console()
    try:
        if arguments.json and arguments.trace is None:
            raise RequestError("--json", ["it prints what --trace finds; add --trace WORD, or leave it out"])
        out = default_out() if arguments.out is None else arguments.out
        storage = out / ".tfser" if arguments.storage is None else arguments.storage
        problems = averaging_problems(arguments.averaging)
        uri = tracking_uri.given(arguments.tracking_uri, problems)
        try:
            published.load(*arguments.published)
        except RequestError as error:
            problems += error.named
        if problems:
            raise RequestError("tfser collect", problems)
        if uri is None and isinstance(storage, Path) and (storage / "mlflow.db").exists():
            uri = connection.default_uri(storage)
        has_ledger = exists(storage / "rows") or exists(storage / "ledger")
        if uri is None and not has_ledger:
            raise RequestError(
                f"storage {storage}", ["it holds no mlflow.db; run a sweep first, or name --storage or --tracking-uri"]
            )

        def warn(text: str) -> None:
            print(text, file=sys.stderr)

        names, asked = list(dict.fromkeys(arguments.names)), arguments.trace is not None or arguments.repeat is not None
        place = storage if has_ledger else None
        if len(names) > 1 and not asked:
            joined, left, missing = gather_together(place, uri, names, warn)
            collected = [joined] if joined is not None else []
        else:
            (collected, missing), left = gather(place, uri, names, warn), []
        if asked:
            for text in missing:
                warn(text)
            if collected:
                print(
                    _traced(collected, arguments)
                    if arguments.trace is not None
                    else _repeated(collected, arguments.repeat),
                    end="",
                )
            return 0 if collected else 1
        written: list[Place] = []
        for results in collected:
            folder = out / results.sweep  # names of sweeps and databases are legal names of folders
            try:
                made = Provenance(tracking_uri=passwords.redacted(uri or ""))
                write.write(results, folder, made=made, more=arguments.published, averaging=arguments.averaging)
            except write.LessError as error:
                missing.append(str(error))
                continue
            terminal.show(results, console, arguments.published, arguments.averaging)
            written.append(folder)
        for text in left:
            console.print(f"Left out: {text}", soft_wrap=True, markup=False, highlight=False)
        for text in missing:
            warn(text)
        _say_places(console, written)
    except TfserError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except OSError as error:
        print(f"{error}: the tables could not be written; name another folder with --out", file=sys.stderr)
        return 1
    return 1 if missing else 0


MOST_REPORTS = 8
"""Most reports that are named one by one."""


def _say_places(console: Console, folders: Sequence[Place]) -> None:
    """Print where the reports are, and with them the tables and figures, as the last lines."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    for folder in folders[:MOST_REPORTS]:
        say(f"Report: {folder / 'report.html'}")
    if left := len(folders[MOST_REPORTS:]):
        say(f"and {counted(left, 'more report')} in the folders beside them")
    if folders:
        say(f"Tables and figures: {folders[0] if len(folders) == 1 else 'beside each report'}")


def _traced(collected: Sequence[Results], arguments: argparse.Namespace) -> str:
    """Return the trials and runs behind the numbers that were asked for, of every sweep that has such numbers."""
    texts, refused = [], []
    for results in collected:
        try:
            found = trace.trace(results, arguments.trace)
            texts.append(
                trace.to_json(found) if arguments.json else f"{results.sweep}\n{trace.to_text(found, results)}"
            )
        except RequestError as error:
            refused.append(error)
    if refused and not texts:
        raise refused[0]
    return "".join(texts)


SHOWN = 6
"""Most trials that a message lists."""


def _listed(places: Iterable[tuple[Results, tuple[Configuration, str, int], Entry]]) -> str:
    """List trials with what tells them apart."""
    lines = [f"{e.trial_id} ({c.database} {c.ablation} fold {fold} seed {seed})" for _, (c, fold, seed), e in places]
    more = f", and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return ", ".join(sorted(lines)[:SHOWN]) + more


def _repeated(collected: Sequence[Results], word: str) -> str:
    """Return the command that repeats a trial of any sweep; ``word`` is its id or that of its MLflow run."""
    places = [(results, key, entry) for results in collected for key, entry in results.entries.items()]
    found = next((p for p in places if word in (p[2].trial_id, p[0].runs.get(p[1]))), None)
    if found is None and is_beginning(word):
        begun = {p[2].trial_id: p for p in places if p[2].trial_id.startswith(word.lower())}
        if len(begun) > 1:
            raise RequestError(
                "--repeat", [f"{word} begins {len(begun)} trial ids; name one: {_listed(begun.values())}"]
            )
        found = next(iter(begun.values()), None)
    if found is None:
        given = word or "without a name"
        where = "the column trial_id of folds.csv has the trials, --trace prints their runs"
        raise RequestError("--repeat", [f"no final trial or run {given}; {where}"])
    results, (configuration, *_), entry = found
    if entry.spec is None:
        reason = "it failed, and its run holds no settings; --retry-failed after its sweep's command trains it again"
        raise RequestError(f"trial {entry.trial_id}", [reason])
    made = repeat(entry.spec, command=results.command, incomplete=not configuration.complete, own=configuration.own)
    return made + "\n"


if __name__ == "__main__":
    sys.exit(ended(main))
