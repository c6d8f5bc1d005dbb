"""The replacements of a GPU in the CUDA tests: Numba's simulator, or, with ``NUMBACNN_PTX``, the kernels' PTX.

``NUMBACNN_PTX=8.0,reversed`` names the compute capability and the order of threads and blocks; see ``ptx``.
"""

import gc
import os

from numbacnn.kernels.cuda.runtime import backend

PTX = os.environ.get("NUMBACNN_PTX", "")
EMULATED = backend.SIMULATED or bool(PTX)  # so that only small cases run


def install() -> None:
    """Replace the driver if ``NUMBACNN_PTX`` is set. Raises SystemExit if it names no setup."""
    if not PTX:
        return
    from ptx import device

    capability, _, order = PTX.partition(",")
    major, _, minor = capability.partition(".")
    if backend.SIMULATED or not backend.INSTALLED or order not in device.ORDERS or not (major + minor).isdigit():
        raise SystemExit(
            f"NUMBACNN_PTX={PTX}: give a capability and an order of {', '.join(device.ORDERS)}, such as 8.0,reversed; "
            "it needs numba-cuda, without NUMBA_ENABLE_CUDASIM"
        )
    device.install((int(major), int(minor)), order)
    gc.set_threshold(
        100_000, 50, 100
    )  # the compiler makes millions of objects; scanning them takes a sixth of its time
