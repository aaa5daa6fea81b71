"""``tfser sweep ...`` is ``python -m tfser.sweep ...``, and so on for every command."""

from __future__ import annotations

import importlib
import sys

from tfser import __version__
from tfser.text.starting import starting
from tfser.text.streams import take_any_text

COMMANDS = {
    "sweep": ("tfser.sweep.command", "plan, run what is missing, collect"),
    "collect": ("tfser.collect", "MLflow runs to tables and figures"),
    "leaks": (
        "tfser.leaks.command",
        "the same setting under the wrong protocols that are common in print, beside the honest one",
    ),
    "predict": ("tfser.predict", "emotions of audio files, from a finished final trial"),
    "attention": (
        "tfser.attention.command",
        "what a finished model attends to in an utterance, as figures and numbers",
    ),
    "databases": ("tfser.databases.command", "what is known, what is on disk, what is wrong with it"),
    "models": (
        "tfser.models_command",
        "what can be trained, with every hyperparameter; a file to begin your own, and its check",
    ),
    "doctor": ("tfser.doctor.command", "what this machine or cluster can run, and what is unsafe about it"),
    "benchmark": ("tfser.benchmark.command", "performance figures, as ratios measured in one run"),
}


def main() -> int:
    """Run the command that was typed; returns its exit code."""
    take_any_text()
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        with starting():
            module = importlib.import_module(COMMANDS[words[0]][0])
        return int(module.main(words[1:]))
    if words == ["--version"]:
        print(f"tfser {__version__}")
        return 0
    text = "usage: tfser COMMAND ...\n" + "\n".join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())
    asked = not words or words[0] in ("-h", "--help")
    print(text if asked else f"tfser: no command {words[0]!r}\n{text}", file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
