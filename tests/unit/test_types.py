"""Misspelt words that the types have to find, each planted in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLANTED = {
    "an option": (r"\boptions\.checkpoint\b", "options.chekpoint"),
    "a field of a record": (r"\brecord\.curves\b", "record.curvs"),
    "a status": (r'\bstatus == "done"', 'status == "dnoe"'),
    "a purpose": (r'\bpurpose == "search"', 'purpose == "serach"'),
    "a protocol": (r'\bprotocol == "speaker"', 'protocol == "speeker"'),
    "a selection": (r'\bselection == "oracle"', 'selection == "orcale"'),
    "a precision": (r'\bprecision == "tf32"', 'precision == "tf23"'),
}


@pytest.mark.full
def test_mypy_finds_each_misspelt_option_field_status_purpose_protocol_selection_and_precision(tmp_path):
    for name in ("tfser", "cluster"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted: dict[str, set[tuple[str, int]]] = {}
    for what, (pattern, wrong) in PLANTED.items():
        planted[what] = set()
        for path in sorted((tmp_path / "tfser").rglob("*.py")):
            text, number = re.subn(pattern, wrong, path.read_text(encoding="utf-8"))
            if number:
                path.write_text(text, encoding="utf-8")
                lines = text.splitlines()
                place = str(path.relative_to(tmp_path))
                planted[what] |= {(place, i) for i, line in enumerate(lines, 1) if wrong in line}
        assert planted[what], f"nothing in the package compares {what}"
    command = [sys.executable, "-m", "mypy", "--no-incremental"]
    told = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
    found = {(m[1], int(m[2])) for m in re.finditer(r"^(\S+?):(\d+): error", told.stdout, re.MULTILINE)}
    missed = {what: places - found for what, places in planted.items() if places - found}
    assert not missed, told.stdout
