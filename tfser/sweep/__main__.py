"""``python -m tfser.sweep``."""

import sys

from tfser.text.ending import run

sys.exit(run("tfser.sweep.command"))
