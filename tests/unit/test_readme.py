"""The README's first screen answers what, for whom and how to start, and its commands are ones that tfser reads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tfser.commands import COMMANDS
from tfser.completion import contents

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(TEXT.splitlines()[:40])


def commands():
    """Every tfser command of an indented block, its lines joined and without its comment."""
    joined = re.sub(r"\\\n\s*", " ", TEXT)
    lines = [line.strip() for line in joined.splitlines() if re.match(r" {4}tfser( |$)", line)]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_the_first_screen_says_what_for_whom_how_to_start_and_shows_what_comes_out():
    for part in ("speech emotion recognition", "For whom", "make demo", "make test", "tfser ", "Your first real table"):
        assert part in FIRST_SCREEN, part
    pictures = re.findall(r'<img src="([^"]+)"', FIRST_SCREEN)
    assert len(pictures) == 2
    assert sum((ROOT / picture).stat().st_size for picture in pictures) < 120_000
    assert all(re.search(rf'src="{re.escape(picture)}"[^>]* alt="[^"]+"', FIRST_SCREEN) for picture in pictures)


def test_every_command_of_the_readme_is_one_that_tfser_reads():
    found = commands()
    assert len(found) >= 20
    for words in filter(None, found):
        command, *others = [word for word in words if word != "..."]
        assert command in COMMANDS, words
        try:
            contents._parser(command).parse_args(others)
        except SystemExit:
            pytest.fail(f"tfser {shlex.join(words)} is refused")


def test_the_module_form_of_a_command_is_explained_once():
    others = [line for line in TEXT.splitlines() if "python -m tfser" in line and "ray job submit" not in line]
    (line,) = others
    assert "`tfser COMMAND`" in line


def test_every_link_of_the_readme_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT) if "://" not in link]
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_what_was_not_tried_is_said():
    for system in ("macOS", "Windows"):
        assert re.search(rf"^\| {system} \| nothing \| everything \|$", TEXT, re.M)
    assert "100 epochs are ours" in " ".join(TEXT.split())
