"""The pages under docs/ are whole: they build without a warning, and what they name is there."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.clusters import environment

ROOT = Path(__file__).parents[2]
DECIMAL = r"\d+\.\d+"


@pytest.mark.full
def test_every_page_builds_without_a_warning(tmp_path):
    words = [
        sys.executable,
        "-m",
        "sphinx",
        "-qW",
        "--keep-going",
        "-d",
        tmp_path / "trees",
        ROOT / "docs",
        tmp_path / "html",
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {page.stem for page in (tmp_path / "html").glob("*.html")} >= {
        page.stem for page in (ROOT / "docs").glob("*.md")
    }


def test_every_file_and_folder_of_the_code_that_a_page_names_is_there():
    for page in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`((?:tfser|tests)/[\w./]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name.replace("NAME", "emodb")).exists(), f"{page.name} names {name}"


def test_the_rooms_that_the_design_lists_are_those_of_the_package():
    listed = re.search(
        r"\| room \| holds \|\n(.*?)\n\n", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert listed is not None
    named = {
        name.rstrip("/")
        for line in listed[1].splitlines()[1:]
        for name in re.findall(r"`([\w.]+/?)`", line.split("|")[1])
    }
    there = {path.name for path in (ROOT / "tfser").iterdir() if path.name[0].islower() and path.name != "py.typed"}
    assert named == there


class AnyRecall(doctest.OutputChecker):
    """Takes any recall for another: a training this short ends elsewhere on another make of CPU.

    That the frames hold what the command writes, to the last digit, is shown in ``tests/unit/test_interface.py``.
    """

    def check_output(self, want, got, optionflags):
        wanted = iter(re.findall(DECIMAL, want))
        if "..." not in want:
            got = re.sub(DECIMAL, lambda found: self._taken(next(wanted, found[0]), found[0]), got)
        return super().check_output(want, got, optionflags)

    def _taken(self, wanted, found):
        return wanted if len(found) == len(wanted) and 0 <= float(found) <= 1 else found


@pytest.mark.full
def test_the_example_for_notebooks_prints_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    page = ROOT / "docs" / "notebook.md"
    code = "\n".join(re.findall(r"```pycon\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    assert len(example.examples) > 10
    said: list[str] = []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    done = doctest.DocTestRunner(AnyRecall(), optionflags=options).run(example, out=said.append)
    assert done.failed == 0, "".join(said)


@pytest.mark.full
@pytest.mark.parametrize("section", ["A network", "An estimator"])
def test_the_commands_that_add_a_model_run_as_the_page_shows_them(section, tmp_path):
    page = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    part = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^\$ tfser (.*)$", part, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        call = [sys.executable, "-m", "tfser", *shlex.split(command)]
        done = subprocess.run(call, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert len(list((tmp_path / "results").glob("*/comparison.md"))) == sum(c.startswith("sweep") for c in commands)


@pytest.mark.full
def test_the_commands_that_check_a_model_find_nothing_wrong_with_the_templates(tmp_path):
    page = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    part = page.partition("## Check it\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^\$ tfser (.*)$", part, re.MULTILINE)
    assert len(commands) == 2
    for command in ("models new mine.py", "models new baseline.py --estimator", *commands):
        call = [sys.executable, "-m", "tfser", *shlex.split(command)]
        done = subprocess.run(call, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
