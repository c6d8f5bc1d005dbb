"""``python -m numbacnn`` is ``numbacnn``."""

import sys

from numbacnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
