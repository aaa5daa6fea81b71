"""The command: gathers facts, judges them, prints findings. Exit codes: 0 no problem, 1 problems, 2 a wrong request.

Nothing is left behind: its files in the storage are removed, and no Ray is started.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfser.doctor import doors, machine, probe
from tfser.doctor.findings import LEVELS, Finding, note, problem
from tfser.errors import RequestError, counted
from tfser.execution.on_ray import open_doors
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_words

STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "problem": "bold red"}


def parser() -> argparse.ArgumentParser:
    """Build the command line; the defaults are those of a sweep."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser doctor",
        description="Say what this machine or cluster can run, what is unsafe about it, and what to type. "
        "Leaves nothing behind.",
        epilog="Exit codes: 0 no problem, 1 problems, 2 the request is wrong.",
    )
    address = os.environ.get("RAY_ADDRESS") or None
    p.add_argument(
        "--address", type=typed_words, default=address, help="Ray cluster or job API (default: RAY_ADDRESS, else none)"
    )
    p.add_argument(
        "--data",
        type=typed_words,
        default=os.environ.get("TFSER_DATA") or None,
        help="folder or URI that holds the corpora (default: TFSER_DATA)",
    )
    p.add_argument("--out", type=typed_words, default=None, help="folder or URI of the tables (default: ./results)")
    p.add_argument("--storage", type=typed_words, default=None, help="ledger, studies, features (default: OUT/.tfser)")
    uri = "MLflow (default: MLFLOW_TRACKING_URI, else SQLite in the storage folder)"
    p.add_argument("--tracking-uri", type=typed_words, default=None, help=uri)
    p.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return p


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The request with its defaults: the places to look at."""

    addresses: tuple[str, ...]
    """Ray's address, and the job API's if RAY_API_SERVER_ADDRESS gives one."""
    storage: str
    data: str | None
    tracking_uri: str | None
    """``None`` if none is given and the storage cannot hold a database."""


def wanted(arguments: argparse.Namespace) -> Wanted:
    """Return the request with its defaults.

    Raises:
        RequestError: everything that is wrong with it.
        ImportError: this machine lacks the packages that read places and URIs.
    """
    from tfser.storage.default_places import default_out
    from tfser.storage.places import absolute, place
    from tfser.tracking import connection
    from tfser.tracking import uri as tracking_uri

    problems: list[str] = []

    def named(option: str, text: str) -> str:
        try:
            return str(absolute(place(text)))
        except ValueError as error:
            problems.append(f"{option}: {error}")
            return text

    storage = named("--storage", arguments.storage) if arguments.storage else ""
    if not storage:
        storage = named("--out", f"{arguments.out or default_out()}/.tfser")
    data = named("--data", arguments.data) if arguments.data else None
    uri = tracking_uri.given(arguments.tracking_uri, problems, driver=False)
    if not uri and "://" not in storage:
        uri = connection.default_uri(Path(storage))
    addresses = []
    for option, address in (
        ("--address", arguments.address),
        ("RAY_API_SERVER_ADDRESS", os.environ.get("RAY_API_SERVER_ADDRESS")),
    ):
        if address and address != "local" and address not in addresses:
            addresses.append(address)
            try:
                if address != "auto":
                    open_doors.parse(address)
            except ValueError as error:
                problems.append(f"{open_doors.option(address) if option == '--address' else option}: {error}")
    if problems:
        raise RequestError("tfser doctor", problems)
    return Wanted(addresses=tuple(addresses), storage=storage, data=data, tracking_uri=uri)


def examine(request: Wanted | ImportError, say: Callable[[str], None]) -> list[Finding]:
    """Look at everything.

    Args:
        request: the places to look at, or why they cannot be known; then only this machine is looked at.
        say: called with the name of each step that takes a while.
    """
    # The environment first: the steps below may set variables for this process.
    guard, environment = doors.token_facts(), dict(os.environ)
    needed = machine.requirements()
    look = {
        "packages": machine.names(needed),
        "ground": probe.ground(request.storage) if isinstance(request, Wanted) else None,
        "own": f"{secrets.token_hex(6)}-here",
        "marker": None,
        "data": request.data if isinstance(request, Wanted) else None,
        "device": True,
    }
    say("this machine")
    here = probe.look(look)
    found = machine.versions(here, needed) + machine.devices(here) + machine.disk(here["disk"])
    say("sockets")
    seen = doors.sockets()
    found += doors.token(guard) + doors.doors(None if seen is None else doors.ask(seen))
    if here["versions"].get("ray"):
        found += doors.ray_start(environment, guard["there"] and guard["mode"] in (None, "token"))
    if isinstance(request, ImportError):
        text = f"storage, data, MLflow and Ray cannot be looked at before what is missing is installed ({request})"
        return [*found, problem("storage", text, machine.install_command())]
    say("storage, data, MLflow")
    found += _places(request, here)
    if not request.addresses:
        found.append(
            note(
                "Ray",
                "no address is given (--address, RAY_ADDRESS); a sweep would start its own Ray on this machine",
            )
        )
    for address in request.addresses:
        say(f"Ray at {address}")
        found += _cluster(address, request, look, here)
    return found


def _places(request: Wanted, here: Mapping[str, Any]) -> list[Finding]:
    from tfser.doctor import places

    kind = here["disk"].get("storage", {}).get("file_system")
    found = places.storage(request.storage, here["storage"], kind) + places.data(request.data, here["data"])
    if request.tracking_uri is None:
        text = f"an SQLite database cannot lie in {request.storage}, and no other place for runs is named"
        return [
            *found,
            problem("MLflow", text, "name an MLflow server with --tracking-uri, or sqlite:////a/local/file.db"),
        ]
    return found + places.mlflow(request.tracking_uri, places.mlflow_facts(request.tracking_uri))


def _cluster(address: str, request: Wanted, look: Mapping[str, Any], here: Mapping[str, Any]) -> list[Finding]:
    from tfser.doctor import cluster

    gates = cluster.gates(address)
    found = cluster.gate_findings(gates)
    if not cluster.may_connect(gates):
        return found
    name, ground = secrets.token_hex(6), look["ground"]
    left = here["storage"]["error"] is None and probe.touch(ground, name, None, keep=True)["error"] is None
    try:
        seen = cluster.nodes(
            gates["where"], {**look, "own": f"{name}-node", "marker": name if left else None, "device": False}
        )
    finally:
        probe.remove(ground, name)
    return found + cluster.findings(seen, here, request.storage, request.data)


def as_json(found: Sequence[Finding]) -> str:
    """Return all findings, and the number of each level."""
    counts = {level: sum(f.level == level for f in found) for level in LEVELS}
    return json.dumps({"counts": counts, "findings": [asdict(f) for f in found]}, indent=1, ensure_ascii=True)


def show(found: Sequence[Finding]) -> None:
    """Print the findings by topic, with colours if there is a terminal and the package for it."""
    line = _printer()
    for topic in dict.fromkeys(f.topic for f in found):
        line([(topic, "bold")])
        for f in (f for f in found if f.topic == topic):
            line([(f"  {f.level:<8}", STYLES[f.level]), (f.found, "")])
            if f.command:
                line([(f"  {'':<8}type: {f.command}", "cyan")])
    problems, warnings = (sum(f.level == level for f in found) for level in ("problem", "warning"))
    line([(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}", "")])


def _printer() -> Callable[[Sequence[tuple[str, str]]], None]:
    """Return a function that prints a line of texts and their styles."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return lambda parts: print("".join(text for text, _ in parts))
    console = Console(soft_wrap=True, highlight=False)
    return lambda parts: console.print(Text.assemble(*parts))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    take_any_text()
    arguments = parser().parse_args(argv)
    waiting = sys.stderr.isatty() and not arguments.json

    def say(what: str) -> None:
        if waiting:
            print(f"looking at {what} ...", file=sys.stderr)

    try:
        request: Wanted | ImportError
        try:
            request = wanted(arguments)
        except ImportError as error:
            request = error
        found = examine(request, say)
        if arguments.json:
            print(as_json(found))
        else:
            show(found)
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 1 if any(f.level == "problem" for f in found) else 0
