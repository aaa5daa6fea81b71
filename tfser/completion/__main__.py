"""``python -m tfser.completion``."""

import sys

from tfser.completion.command import main

sys.exit(main())
