"""One session in a fixed order that starts no test too late and hides none that it did not reach."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest
from tests.helpers import tiers

@pytest.fixture(scope="module")
def kept():
    yield
    print("taken down")

@pytest.mark.full
def test_thorough(kept):
    pass

def test_quick(kept):
    {}

@pytest.mark.full
def test_more(kept):
    pass
"""
LATER = "tiers.clock = lambda: 1e12"


def session(folder, body, *words):
    """What pytest says of three tests, of which the second is of the fast tier, and its exit code."""
    for place in ("integration", "unit"):
        (folder / place).mkdir()
        (folder / place / f"test_{place}.py").write_text(TESTS.format(body if place == "unit" else "pass"))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = full: not in the fast tier\n")
    call = [sys.executable, "-m", "pytest", "-p", "tests.helpers.tiers", "-p", "no:cacheprovider", "-s", *words]
    done = subprocess.run(
        call,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.splitlines()


def test_the_fast_tier_comes_first_and_what_starts_clusters_last_in_each(tmp_path):
    code, lines = session(tmp_path, "pass", "-v")
    order = [line.split("::")[0] + "::" + line.split("::")[1].split()[0] for line in lines if "::" in line]
    unit, integration = "unit/test_unit.py", "integration/test_integration.py"
    assert order == [
        f"{unit}::test_quick",
        f"{integration}::test_quick",
        f"{unit}::test_thorough",
        f"{unit}::test_more",
        f"{integration}::test_thorough",
        f"{integration}::test_more",
    ]
    assert code == 0


@pytest.mark.full
def test_a_session_whose_time_is_up_names_and_counts_what_it_did_not_reach_and_passes(tmp_path):
    code, lines = session(tmp_path, LATER, "-q", "--minutes", "45")
    heading = next(number for number, line in enumerate(lines) if "5 not reached within 45 minutes" in line)
    assert lines[heading + 1 : heading + 6] == [
        "integration/test_integration.py::test_quick",
        "unit/test_unit.py::test_thorough",
        "unit/test_unit.py::test_more",
        "integration/test_integration.py::test_thorough",
        "integration/test_integration.py::test_more",
    ]
    assert lines[-1].startswith("1 passed, 5 not reached in ")
    assert any("taken down" in line for line in lines), "fixtures end although their last test was not reached"
    assert code == 0


@pytest.mark.full
def test_a_session_whose_time_is_up_fails_for_a_test_that_failed(tmp_path):
    code, lines = session(tmp_path, f"{LATER}; assert False", "-q", "--minutes", "45")
    assert lines[-1].startswith("1 failed, 5 not reached in ")
    assert code == 1


@pytest.mark.full
def test_a_session_that_is_in_time_says_nothing_of_it(tmp_path):
    code, lines = session(tmp_path, "pass", "-q", "--minutes", "45")
    assert not any("not reached" in line for line in lines)
    assert lines[-1].startswith("6 passed in ")
    assert code == 0


@pytest.mark.skipif(not (ROOT / ".ci" / "run").exists(), reason="this copy has no .ci/run")
@pytest.mark.parametrize(("lint", "tests"), [(0, 0), (0, 1), (2, 0)])
def test_ci_needs_no_standard_input_and_ends_with_the_session_and_its_exit_code(tmp_path, lint, tests):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    stand_ins = {"make": lint, "apt-get": 1, "chromium": 0, "pdftotext": 0, "../.venv/bin/python": tests}
    for name, code in stand_ins.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\ncat\necho {Path(name).name} "$@"\nexit {code}\n')
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CI": "true"}
    call = ["sh", "-c", 'exec bash "$0" <&-', str(tmp_path / ".ci" / "run")]
    done = subprocess.run(call, cwd="/", env=environment, capture_output=True, text=True, timeout=60)
    session_too = ["python -m pytest -q --minutes 45"] if lint == 0 else []
    assert (done.stdout.splitlines(), done.stderr) == (["make lint", *session_too], "")
    assert done.returncode == (lint or tests)
