"""``python -m tfser.attention``."""

import sys

from tfser.text.ending import run

sys.exit(run("tfser.attention.command"))
