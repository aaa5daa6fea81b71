"""The command ``tfser completion bash | zsh | fish``: prints the script that a shell needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tfser.completion import catalogue
from tfser.errors import unknown
from tfser.text.parser import Parser
from tfser.text.streams import take_any_text

SHELLS = {
    "bash": "tfser completion bash > ~/.local/share/bash-completion/completions/tfser",
    "zsh": "tfser completion zsh > ~/.zfunc/_tfser   (with fpath+=~/.zfunc before compinit in ~/.zshrc)",
    "fish": "tfser completion fish > ~/.config/fish/completions/tfser.fish",
}
"""Shell to the command that makes it complete, from its next start on."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = Parser(
        allow_abbrev=False,
        prog="tfser completion",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print the script by which a shell completes what is typed after tfser. Make the folder, then type",
        epilog="\n".join(f"  {text}" for text in SHELLS.values()) + "\n\nand start a new shell.",
    )
    p.add_argument("shell", metavar="SHELL", help=" or ".join(SHELLS))
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    take_any_text()
    shell = parser().parse_args(argv).shell
    if shell not in SHELLS:
        print(unknown("SHELL", shell, SHELLS), file=sys.stderr)
        return 2
    from argcomplete.shell_integration import shellcode

    catalogue.read()  # made now, so that the first completion need not wait for it
    print(shellcode(["tfser"], shell="fish" if shell == "fish" else "bash", use_defaults=False))
    return 0
