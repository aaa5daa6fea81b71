"""``python -m tfser.benchmark``."""

import sys

from tfser.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())
