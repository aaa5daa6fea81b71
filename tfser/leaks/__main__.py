"""``python -m tfser.leaks``."""

import sys

from tfser.text.starting import starting

with starting():
    from tfser.leaks.command import main

sys.exit(main())
