"""Run every kernel with Numba's bounds checks: table of cases, graphs, losses, optimizers, augmentation.

    python tests/long/bounds.py

Kernels are compiled without threads, because Numba checks no index inside a parallel loop, and in a separate cache.
Exits with 1 if an index is out of bounds, or if a kernel did not run.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PARTS = ("guards", "kernels", "losses", "optimizers", "averages", "augment", "pooled_convolution", "outputs")


def compile_with_checks(cache):
    """Enable the checks in this process."""
    os.environ |= {"NUMBA_BOUNDSCHECK": "1", "NUMBACNN_CACHE_DIR": cache}
    import numba

    njit = numba.njit
    numba.njit = lambda *functions, **options: njit(*functions, **options | {"parallel": False})


def check_that_checks_work():
    """Check that an index out of bounds raises."""
    import numpy as np
    from numba import prange

    from numbacnn.kernels.jit import cpu_kernel, float32_1d

    @cpu_kernel(float32_1d, key=lambda: None)
    def past_the_end(y):
        for i in prange(2):
            y[i + 1] = 0

    with pytest.raises(IndexError):
        past_the_end(np.zeros(2, np.float32))


def never_run():
    """Names of the package's kernels that were never compiled."""
    from numbacnn.kernels import cpu, jit

    kernels = [thing for thing in gc.get_objects() if type(thing) is jit.CpuKernel]
    ours = {f"{kernel.__module__}.{kernel.__name__}" for kernel in kernels if kernel._compiled is None}
    return sorted(name for name in ours if name.startswith(cpu.__name__))


def main():
    with tempfile.TemporaryDirectory() as folder:
        compile_with_checks(folder)
        check_that_checks_work()
        files = [TESTS / f"test_{part}.py" for part in PARTS]
        code = pytest.main(["-q", "-p", "no:cacheprovider", *map(str, files)])
        missed = never_run()
        print(f"kernels that did not run: {', '.join(missed) or 'none'}")
    sys.exit(code or bool(missed))


if __name__ == "__main__":
    main()
