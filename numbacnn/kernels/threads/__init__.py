"""The threads of the package's parallel loops, and the names by which compiled loops call them (``pool``)."""

import functools
import platform
import sys

SYMBOLS = (  # of Numba
    "numba_parallel_for",
    "get_sched_size",
    "do_scheduling_signed",
    "do_scheduling_unsigned",
    "get_thread_id",
)
STATE = "numbacnn_pool"  # the symbol of the threads' memory


def ours(name: str) -> str:
    """Return the symbol that the package's kernels call in place of one of Numba's."""
    return f"numbacnn_{name}"


@functools.cache
def available() -> bool:
    """Whether kernels run on the package's own threads: on Linux, unless one of Numba's layers is chosen.

    It is chosen by NUMBA_THREADING_LAYER or ``numba.config.THREADING_LAYER``. The first kernel asks, and it stays so.
    """
    import numba

    chosen = numba.config.THREADING_LAYER != "default"
    return sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and not chosen


def layer() -> str:
    """Return "numbacnn", or the name of Numba's threading layer that runs the kernels."""
    from numba.np.ufunc import threading_layer

    return "numbacnn" if available() else str(threading_layer())
