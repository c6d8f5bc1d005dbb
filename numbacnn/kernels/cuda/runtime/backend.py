"""Finds ``numba.cuda``: the package numba-cuda, its simulator, or neither.

With numba-cuda and a GPU, kernels are compiled. With numba-cuda and ``NUMBA_ENABLE_CUDASIM=1``, Numba runs them as
Python, thread by thread, in host memory. Without numba-cuda, kernels can be imported and listed, but not run.

Only this package imports ``numba.cuda``. What its successor, numba-cuda-mlir, lacks is in docs/cuda.md.
"""

from importlib.util import find_spec
from typing import Any

import numba

INSTALLED = find_spec("numba_cuda") is not None  # the numba.cuda inside Numba is no longer maintained
SIMULATED = INSTALLED and bool(numba.config.ENABLE_CUDASIM)

if INSTALLED:
    from numba import cuda as package

    numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small layers have small grids
else:
    package = None
numba_cuda: Any = package
