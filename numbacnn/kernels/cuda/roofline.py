"""What bounds every kernel, measured: multiply-adds on registers alone, and a triad of arrays out of the caches.

(Williams, Waterman and Patterson 2009, "Roofline"; McCalpin 1995, "STREAM".)
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.jit import cuda_kernel, float32_1d, int64, over
from numbacnn.kernels.cuda.shim import cuda

CHAINS = 12  # as on the CPU, so that the numbers are the same; a multiply-add takes four cycles
STEP_FLOPS = 2 * CHAINS
HALF, ONE = np.float32(0.5), np.float32(1)
STARTS = tuple(np.float32(chain) for chain in range(CHAINS))


def multiply_adds(y, steps):
    """y[i] from ``steps`` steps of ``STEP_FLOPS`` operations each, in registers."""
    _multiply_adds[over(y.size)](y, steps)


@cuda_kernel(float32_1d, int64)
def _multiply_adds(y, steps):
    """Each thread owns a y[i]: the sum of what went through v = v/2 + 1 ``steps`` times, each waiting for itself."""
    i = cuda.grid(1)
    if i < y.size:
        start = y[i]
        a, b, c, d = start, start + STARTS[1], start + STARTS[2], start + STARTS[3]
        e, f, g, h = start + STARTS[4], start + STARTS[5], start + STARTS[6], start + STARTS[7]
        p, q, r, s = start + STARTS[8], start + STARTS[9], start + STARTS[10], start + STARTS[11]
        for _ in range(steps):
            a, b, c, d = a * HALF + ONE, b * HALF + ONE, c * HALF + ONE, d * HALF + ONE
            e, f, g, h = e * HALF + ONE, f * HALF + ONE, g * HALF + ONE, h * HALF + ONE
            p, q, r, s = p * HALF + ONE, q * HALF + ONE, r * HALF + ONE, s * HALF + ONE
        y[i] = a + b + c + d + e + f + g + h + p + q + r + s


def triad(a, b, c, scale):
    """a = b + scale · c."""
    _triad([a], [b, c], constants=[scale])


@element_kernel(inputs=2, constants=[types.float32])
def _triad(b, c, scale):
    return b + scale * c
