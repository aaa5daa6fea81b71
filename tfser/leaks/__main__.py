"""``python -m tfser.leaks``."""

import sys

from tfser.leaks.command import main

sys.exit(main())
