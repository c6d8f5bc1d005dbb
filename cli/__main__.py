"""``python -m numbacnn.cli`` is ``numbacnn``."""

import sys

from . import main

sys.exit(main())
