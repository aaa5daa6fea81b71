"""``python -m tfser.databases``."""

import sys

from tfser.databases.command import main

if __name__ == "__main__":
    sys.exit(main())
