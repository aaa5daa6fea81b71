"""``python -m tfser.models``.

The command lies above this room, because it tells of settings and papers too; so it is imported by name.
"""

import sys
from importlib import import_module

if __name__ == "__main__":
    sys.exit(import_module("tfser.models_command").main())
