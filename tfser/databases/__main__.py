"""``python -m tfser.databases``."""

import sys

from tfser.text.ending import run

if __name__ == "__main__":
    sys.exit(run("tfser.databases.command"))
