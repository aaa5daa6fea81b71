"""``python -m tfser.doctor``."""

import sys

from tfser.doctor.command import main

if __name__ == "__main__":
    sys.exit(main())
