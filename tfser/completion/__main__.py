"""``python -m tfser.completion``."""

import sys

from tfser.text.ending import run

sys.exit(run("tfser.completion.command"))
