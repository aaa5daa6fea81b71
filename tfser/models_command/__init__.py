"""The command ``tfser models``: what can be trained, how to begin a model, and whether one keeps the rules.

Nothing is loaded before it is asked for, because a check begins processes that need little of this room.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        argv: the words after the command's name; by default those of the process.
    """
    from tfser.models_command import command

    return command.main(argv)
