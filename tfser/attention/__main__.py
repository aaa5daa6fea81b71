"""``python -m tfser.attention``."""

import sys

from tfser.attention.command import main

sys.exit(main())
