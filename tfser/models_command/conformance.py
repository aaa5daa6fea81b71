"""The checks of one ablation of a model, in the process that runs it: ``python -m tfser.models_command.conformance``.

A request is read from stdin and what is found goes to a file, line by line, so that the process that asked knows how
far this one came before a model's code ended it.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfser.errors import RequestError, unknown
from tfser.models import BUILT_IN, Model, Network, sources
from tfser.models.sources import Source
from tfser.models_command import case as cases
from tfser.models_command.estimator_checks import EstimatorChecks
from tfser.models_command.finding import Finding, Told, described, wrong
from tfser.models_command.network_checks import NetworkChecks
from tfser.models_command.witness import Witness
from tfser.planning import own_models

Tell = Callable[[dict[str, Any]], None]
"""Takes what happens: which check begins, what it found, and facts that the process that asked needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a process is asked to check."""

    typed: str
    ablation: str | None
    """``None`` for the first."""
    is_second: bool = False
    """Whether this is the process that trains once more, for the first one's numbers to be compared with."""
    limit_s: float = 0.0
    """After so many seconds, what the process does is written to ``stuck``; 0 for never."""


class _Report:
    """Runs checks one by one and tells what they find."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.source: Source | None = None
        self.witness = Witness()

    def run(self, name: str, check: Callable[[], Told]) -> bool:
        """Run a check; return whether nothing is wrong."""
        self._tell({"begin": name})
        try:
            with self.witness():
                found = check()
        except (Exception, SystemExit) as error:
            ended = "; it asked to end the process" if isinstance(error, SystemExit) else ""
            found = wrong(described(error, self.source) + ended)
        self.say(name, found)
        return all(status != "wrong" for status, _ in found)

    def say(self, name: str, found: Told) -> None:
        """Tell what a check found."""
        for status, said in found or [("ok", "")]:
            self._tell({"finding": asdict(Finding(name, status, said))})


def examine(asked: Asked, tell: Tell) -> None:
    """Check one ablation of a model.

    Args:
        asked: which.
        tell: gets what happens.
    """
    report = _Report(tell)
    tell({"begin": "declaration"})
    found = _declared(asked.typed, report)
    if found is None:
        return
    model = found
    if asked.ablation not in (None, *model.ablations):
        tell({"refused": [unknown("--ablation", asked.ablation, model.ablations)]})
        return
    kind = "network" if isinstance(model, Network) else "estimator"
    tell({"model": model.name, "kind": kind, "ablations": list(model.ablations)})
    case = cases.of(model, asked.ablation or model.ablations[0], report.source)
    if not report.run("build", lambda: _build(case)):
        return
    made: list[cases.Material] = []

    def extracted() -> Told:
        material, said = cases.material(case)
        made.append(material)
        return said

    if not report.run("features", extracted):
        return
    checks = (NetworkChecks if isinstance(model, Network) else EstimatorChecks)(case, made[0])
    if asked.is_second:
        with report.witness():
            tell({"digest": checks.own_digest()})
        return
    for name, check, is_needed in checks.in_order():
        if not report.run(name, check) and is_needed:
            break
    else:
        with report.witness():
            digest = checks.own_digest()
        tell({"digest": digest})
    for name, said in report.witness.findings():
        report.say(name, said)


def _declared(typed: str, report: _Report) -> Model | None:
    """Read a model; ``None`` where there is none, or what it declares is wrong, after telling so."""
    built_in = {model.name: model for model in BUILT_IN}
    if typed in built_in:
        report.say("declaration", [])
        return built_in[typed]
    made: list[Model] = []

    def read() -> Told:
        report.source = source = sources.read(typed)
        model = source.model()
        if problems := own_models.declaration_problems(model):
            return [("wrong", problem) for problem in problems]
        made.append(own_models.use(source))
        return []

    refused: list[str] = []

    def read_or_refuse() -> Told:
        try:
            return read()
        except RequestError as error:
            if error.__cause__ is None:  # what was typed is wrong, not the model
                refused.extend(error.problems)
                return []
            return [("wrong", problem) for problem in error.problems]

    report.run("declaration", read_or_refuse)
    if refused:
        report._tell({"refused": refused})
    return made[0] if made else None


def _build(case: cases.Case) -> Told:
    problems = own_models.asked(case.model, case.ablation, case.settings)
    if problems:
        return [("wrong", f"problems refuses its defaults: {problem}") for problem in problems]
    return [("wrong", each) for each in own_models.build_problems(case.model, case.ablation, case.settings)]


def main() -> None:
    """Read a request from stdin, and write what happens to the file that is named first, a JSON line each."""
    asked = Asked(**json.load(sys.stdin))
    with Path(sys.argv[1]).open("w", encoding="utf-8") as told, Path(sys.argv[2]).open("w", encoding="utf-8") as stuck:

        def tell(what: dict[str, Any]) -> None:
            told.write(json.dumps(what) + "\n")
            told.flush()

        faulthandler.enable(stuck)
        tell({"ready": True})
        if asked.limit_s:
            faulthandler.dump_traceback_later(asked.limit_s, file=stuck)
        examine(asked, tell)
        faulthandler.cancel_dump_traceback_later()
        tell({"end": True})


if __name__ == "__main__":
    main()
