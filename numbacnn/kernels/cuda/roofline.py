"""What bounds every kernel, measured: multiply-adds on registers alone, and a triad of arrays out of the caches.

(Williams, Waterman and Patterson 2009, "Roofline"; McCalpin 1995, "STREAM".)
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.jit import cuda_kernel, float32_1d, int64, over
from numbacnn.kernels.cuda.shim import cuda, device_function

CHAINS = 12  # as on the CPU, so that the numbers are the same; a multiply-add takes four cycles
STEP_FLOPS = 2 * CHAINS
UNROLLED = 16  # steps of an iteration, next to which its counter is nothing
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
        v = y[i]
        a, b, c, d = v, v + STARTS[1], v + STARTS[2], v + STARTS[3]
        e, f, g, h = v + STARTS[4], v + STARTS[5], v + STARTS[6], v + STARTS[7]
        p, q, r, s = v + STARTS[8], v + STARTS[9], v + STARTS[10], v + STARTS[11]
        chains = a, b, c, d, e, f, g, h, p, q, r, s
        for _ in range(steps // UNROLLED):
            chains = _four_steps(_four_steps(_four_steps(_four_steps(chains))))
        for _ in range(steps % UNROLLED):
            chains = _step(chains)
        a, b, c, d, e, f, g, h, p, q, r, s = chains
        y[i] = a + b + c + d + e + f + g + h + p + q + r + s


@device_function
def _four_steps(chains):
    """Written out, since the compiler does not unroll a loop of this size."""
    return _step(_step(_step(_step(chains))))


@device_function
def _step(chains):
    """One multiply-add of each chain."""
    a, b, c, d, e, f, g, h, p, q, r, s = chains
    a, b, c, d = a * HALF + ONE, b * HALF + ONE, c * HALF + ONE, d * HALF + ONE
    e, f, g, h = e * HALF + ONE, f * HALF + ONE, g * HALF + ONE, h * HALF + ONE
    p, q, r, s = p * HALF + ONE, q * HALF + ONE, r * HALF + ONE, s * HALF + ONE
    return a, b, c, d, e, f, g, h, p, q, r, s


def triad(a, b, c, scale):
    """a = b + scale · c."""
    _triad([a], [b, c], constants=[scale])


@element_kernel(inputs=2, constants=[types.float32])
def _triad(b, c, scale):
    return b + scale * c
