"""``python -m tfser.models``.

The command lies above this room, because it tells of settings and papers too; so it is imported by name.
"""

import sys

from tfser.text.ending import run

if __name__ == "__main__":
    sys.exit(run("tfser.models_command"))
