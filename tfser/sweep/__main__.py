"""``python -m tfser.sweep``."""

import sys

from tfser.text.starting import starting

with starting():
    from tfser.sweep.command import main

sys.exit(main())
