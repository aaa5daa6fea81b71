"""``python -m tfser.sweep``."""

import sys

from tfser.sweep.command import main

sys.exit(main())
