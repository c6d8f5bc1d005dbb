"""The collector of cyclic garbage, paused where millions of objects are made and few of them die."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no cyclic garbage in the block: there is little, and each collection would visit all new objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
