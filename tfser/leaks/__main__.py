"""``python -m tfser.leaks``."""

import sys

from tfser.text.ending import run

sys.exit(run("tfser.leaks.command"))
