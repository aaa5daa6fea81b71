"""``tfser models check``: run the checks of each ablation in a process of its own, and print what they found.

A model's code may crash, hang or end its process; this command goes on and says so. Each ablation is trained in a
second process too, whose hashes of words differ, to see whether it gives the same numbers there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tfser
from tfser.errors import RequestError, counted
from tfser.models_command.conformance import Asked
from tfser.models_command.finding import Finding
from tfser.storage import temporary
from tfser.text.typed import typed_number

LIMIT_S = 300.0
"""Seconds that the checks of an ablation may take by default."""

_START_S = 120.0
"""Ours: seconds that a process may take to begin; a machine that needs more is out of order."""

_GRACE_S = 2.0
"""Seconds that a process has to write where it is."""

_ENDED = "the process of the check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person typed."""

    typed: str
    ablations: tuple[str, ...] = ()
    """Empty for every one."""
    limit_s: float = LIMIT_S
    as_json: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Request:
        """Return the request of a command line that ``add_options`` describes."""
        return cls(
            typed=arguments.name,
            ablations=tuple(dict.fromkeys(arguments.ablation)),
            limit_s=arguments.timeout,
            as_json=arguments.json,
        )


@dataclass(slots=True)
class _Heard:
    """What a process told before it ended."""

    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    under_way: str = "start"
    """The check that had begun."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("name", metavar="NAME", help="a name that list prints, or FILE.py:NAME")
    parser.add_argument(
        "--ablation", nargs="+", action="extend", default=[], metavar="A", help="only these; by default every one"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=LIMIT_S,
        metavar="SECONDS",
        help="end the checks of an ablation after so long; by default %(default)g",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def _seconds(text: str) -> float:
    """Read a time above 0; argparse tells of any other."""
    seconds = typed_number(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return seconds


def run(request: Request) -> int:
    """Check a model and print what was found; return 0 if nothing is wrong, else 1.

    Raises:
        RequestError: there is no such model or ablation.
    """
    wanted: list[str | None] = [*request.ablations] or [None]
    checked: list[dict[str, Any]] = []
    name = kind = ""
    while wanted:
        heard = _checked(request, wanted.pop(0))
        ablations = heard.facts.get("ablations", [])
        if not checked and not request.ablations:
            wanted = list(ablations[1:])
        name, kind = heard.facts.get("model", request.typed), heard.facts.get("kind", "model")
        ablation = heard.facts.get("ablation") or (ablations[0] if ablations else "")
        checked.append({"name": ablation, "checks": [asdict(finding) for finding in heard.findings]})
        if not request.as_json:
            _print(name, kind, ablation, heard.findings)
    statuses = [finding["status"] for one in checked for finding in one["checks"]]
    is_fine = "wrong" not in statuses
    if request.as_json:
        print(json.dumps({"model": name, "kind": kind, "ok": is_fine, "ablations": checked}))
    else:
        _print_end(request, name, len(checked), statuses)
    return 0 if is_fine else 1


def _print(name: str, kind: str, ablation: str, findings: list[Finding]) -> None:
    print(f"{name} ({kind}){f', {ablation}' if ablation else ''}", flush=True)
    for finding in findings:
        print(f"  {finding.status:<6}  {finding.check}{f': {finding.said}' if finding.said else ''}")
    print(flush=True)


def _print_end(request: Request, name: str, ablations: int, statuses: list[str]) -> None:
    remarks = f", {counted(statuses.count('remark'), 'remark')}" if "remark" in statuses else ""
    of = f" in {counted(ablations, 'ablation')}" if ablations > 1 else ""
    if bad := statuses.count("wrong"):
        word = "thing is" if bad == 1 else "things are"
        again = f"tfser models check {shlex.quote(request.typed)}"
        print(f"{name}: {bad} {word} wrong{of}{remarks}; mend the model, then: {again}")
    else:
        print(f"{name}: nothing is wrong{of}{remarks}")


def _checked(request: Request, ablation: str | None) -> _Heard:
    """Check one ablation in two processes at once.

    Raises:
        RequestError: there is no such model or ablation.
    """
    asked = Asked(typed=request.typed, ablation=ablation, limit_s=request.limit_s)
    second = Asked(typed=request.typed, ablation=ablation, limit_s=request.limit_s, is_second=True)
    with temporary.Folder("check") as folder:
        with _Child(asked, folder / "1", 1) as one, _Child(second, folder / "2", 2) as other:
            ended = one.wait()
            heard = one.heard()
            if "refused" in heard.facts:
                raise RequestError(request.typed, heard.facts["refused"])
            if ended is not None:
                heard.findings.append(Finding(heard.under_way, "wrong", ended))
            elif "digest" in heard.facts:
                heard.findings.append(_compared(heard, other))
        heard.facts["ablation"] = ablation
    return heard


def _compared(heard: _Heard, other: _Child) -> Finding:
    """Compare the numbers of the two processes."""
    check = "same seed in another process"
    if (ended := other.wait()) is not None:
        return Finding(check, "wrong", ended)
    if other.heard().facts.get("digest") == heard.facts["digest"]:
        return Finding(check, "ok")
    said = (
        "two processes with one seed differ; the order of a set of words, the process id, files and the clock do that: "
        "sort sets, and let everything follow from the settings and the seed"
    )
    return Finding(check, "wrong", said)


class _Child:
    """A process that checks an ablation.

    Args:
        asked: what.
        folder: a new folder for what it tells and prints.
        hashing: seed of Python's hashes.
    """

    def __init__(self, asked: Asked, folder: Path, hashing: int) -> None:
        folder.mkdir()
        self._asked, self._told, self._stuck = asked, folder / "told", folder / "stuck"
        self._printed = (folder / "printed").open("w+b")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONHASHSEED": str(hashing),
        }
        command = [sys.executable, "-m", "tfser.models_command.conformance", str(self._told), str(self._stuck)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._printed,
            stderr=self._printed,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asdict(asked)).encode())
            self._process.stdin.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self._process.kill()
        self._process.wait()
        self._printed.close()

    def wait(self) -> str | None:
        """Wait for its end; return what went wrong with the process, in words, or ``None``."""
        until = time.monotonic() + _START_S
        is_ready = False
        while self._process.poll() is None:
            if not is_ready and self._told.exists() and self._told.stat().st_size:
                is_ready = True
                until = time.monotonic() + self._asked.limit_s + _GRACE_S
            if time.monotonic() > until:
                return self._too_slow()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        return None if "end" in self.heard().facts else self._gone()

    def heard(self) -> _Heard:
        """Return what it told so far."""
        heard = _Heard()
        lines = self._told.read_text(encoding="utf-8").splitlines() if self._told.exists() else []
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:  # it was ended while it wrote
                continue
            if "finding" in said:
                heard.findings.append(Finding(**said["finding"]))
            elif "begin" in said:
                heard.under_way = said["begin"]
            else:
                heard.facts |= said
        return heard

    def _too_slow(self) -> str:
        limit = self._asked.limit_s
        return (
            f"the checks took longer than {limit:g} s{self._where()}; --timeout gives them more time, and in a sweep "
            "--trial-timeout SECONDS ends a trial that hangs"
        )

    def _gone(self) -> str:
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code} (os._exit?)"
        self._printed.seek(0)
        last = self._printed.read().decode(errors="replace").strip().splitlines()[-1:]
        said = f"; its last words: {last[0][:200]}" if last and not self._where() else ""
        return f"{_ENDED} {how}{self._where()}; in a sweep that ends a worker with all its trials{said}"

    def _where(self) -> str:
        """Return where the model's code was, from what the process wrote at the end of its time or of its life."""
        text = self._stuck.read_text(encoding="utf-8", errors="replace") if self._stuck.exists() else ""
        for file, line, function in re.findall(r'File "(.+?)", line (\d+) in (\S+)', text):
            if not file.startswith("<frozen ") and not any(Path(file).is_relative_to(each) for each in _of_others()):
                return f" at {Path(file).name}, line {line} in {function}"
        return ""


def _of_others() -> Iterator[str]:
    """Return the folders of code that is not the model's."""
    yield str(Path(tfser.__file__).parent)
    yield from {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
