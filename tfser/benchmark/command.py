"""``python -m tfser.benchmark``: chosen figures, as a table and as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tfser.benchmark.figures import FULL, QUICK, Figure
from tfser.errors import TfserError, unknown
from tfser.storage.places import commit_text
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text
from tfser.text.typed import typed_path

MEASURES = (
    "features",
    "training",
    "fused",
    "sweeps",
    "scale",
    "driver",
    "mirror",
    "collecting",
    "methods",
    "ingredients",
    "kernels",
    "gpu",
)
"""Every module of figures, in the order of the table."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser benchmark",
        description="Performance figures, as ratios measured in turn in one run.",
    )
    p.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=None,
        metavar="WHAT",
        help=f"some of {', '.join(MEASURES)} (default: all)",
    )
    p.add_argument("--json", type=typed_path, default=None, metavar="FILE", help="also write one object per figure")
    p.add_argument(
        "--quick", action="store_true", help="a little of everything, to show that it runs; measures nothing"
    )
    p.add_argument(
        "--database",
        default=QUICK.database,
        metavar="NAME",
        help="what methods measures on: a known name or a manifest (default: %(default)s)",
    )
    p.add_argument(
        "--data", type=typed_path, default=None, metavar="FOLDER", help="the folder that holds that database"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    take_any_text()
    arguments = parser().parse_args(argv)
    only = MEASURES if arguments.only is None else arguments.only
    wrong = [unknown("--only", name, MEASURES) for name in only if name not in MEASURES]
    if wrong:
        parser().error("; ".join(wrong))
    scale = replace(QUICK if arguments.quick else FULL, database=str(arguments.database), data=arguments.data)
    figures: list[Figure] = []
    try:
        if arguments.json is not None:  # before minutes are spent on figures
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
        for name in (name for name in MEASURES if name in only):
            for figure in _module(name).measure(scale):
                print(_rows([figure], header=not figures), flush=True)
                figures.append(figure)
                if arguments.json is not None:  # what was measured stays, whatever becomes of the next figure
                    _write(arguments.json, figures)
        if arguments.json is not None:
            _write(arguments.json, figures)
    except KeyboardInterrupt:
        return 130
    except (TfserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print("ratio: value to baseline, median of n measured in turn; spread: largest less smallest ratio")
    return 0


def _module(name: str) -> Any:
    """Return the module of some figures.

    Raises:
        TfserError: this system lacks what it measures with.
    """
    try:
        return importlib.import_module(f"tfser.benchmark.{name}")
    except ModuleNotFoundError as error:
        if error.name != "resource":
            raise
        why = "it measures the memory and time of processes, which this system does not tell (no module resource)"
        raise TfserError(f"--only {name}: {why}; name others with --only") from None


def _write(file: Path, figures: Sequence[Figure]) -> None:
    commit_text(file, json.dumps([asdict(f) for f in figures], indent=1) + "\n")


def _rows(figures: Sequence[Figure], *, header: bool) -> str:
    """Format lines of the table, each figure as soon as it is measured."""
    form = "{:<76} {:>10} {:>10} {:<9} {:>6} {:>6} {:>2}"
    lines = [form.format("figure", "value", "baseline", "unit", "ratio", "spread", "n")] if header else []
    for f in figures:
        lines.append(
            form.format(f.name, f"{f.value:.3g}", f"{f.baseline:.3g}", f.unit, _short(f.ratio), _short(f.spread), f.n)
        )
    return "\n".join(lines)


def _short(ratio: float) -> str:
    """Return two decimals, or two digits of less than a tenth.

    >>> _short(1.234), _short(0.0), _short(0.000621)
    ('1.23', '0.00', '0.00062')
    """
    return f"{ratio:.2g}" if 0 < ratio < 0.1 else f"{ratio:.2f}"
