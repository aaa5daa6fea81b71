"""``tfser sweep ...`` is ``python -m tfser.sweep ...``, and so on for every command."""

from __future__ import annotations

import importlib
import os
import sys

from tfser import __version__
from tfser.commands import COMMANDS, front_page, no_command
from tfser.text.ending import ended
from tfser.text.starting import starting
from tfser.text.streams import take_any_text


def main() -> int:
    """Run the command that was typed; returns its exit code."""
    return ended(_command)


def _command() -> int:
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        from tfser.completion.complete import answer

        answer()
    take_any_text()
    words = sys.argv[1:]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if words and words[0] in COMMANDS:
        with starting():
            module = importlib.import_module(COMMANDS[words[0]][0])
        return int(module.main(words[1:]))
    if words == ["--version"]:
        print(f"tfser {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(front_page())
        return 0
    print(no_command(words[0]), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
