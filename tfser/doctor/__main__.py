"""``python -m tfser.doctor``."""

import sys

from tfser.text.ending import run

if __name__ == "__main__":
    sys.exit(run("tfser.doctor.command"))
