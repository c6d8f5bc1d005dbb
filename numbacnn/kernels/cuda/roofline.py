"""What bounds every kernel, measured: multiply-adds on registers alone, and a triad of arrays out of the caches.

(Williams, Waterman and Patterson 2009, "Roofline"; McCalpin 1995, "STREAM".)
"""

import numpy as np

from numbacnn.kernels.cuda.gemm.tensor_cores import COLUMNS, LEAST_CAPABILITY, PRECISIONS, ROWS, WARP, WORDS, WORDS_OF
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, int64, over
from numbacnn.kernels.registry import launcher

CHAINS = 12  # as on the CPU, so that the numbers are the same; a multiply-add takes four cycles
STEP_FLOPS = 2 * CHAINS
UNROLLED = 16  # steps of an iteration, next to which its counter is nothing
HALF, ONE = np.float32(0.5), np.float32(1)
STARTS = tuple(np.float32(chain) for chain in range(CHAINS))


@launcher
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


# -- on tensor cores --------------------------------------------------------------------------------------------------

WARP_CHAINS = 8  # of a warp, each of matrices that wait for themselves
TINY = np.float32(2.0**-12)
WARP_STEP_FLOPS = {  # of each of a warp's threads
    precision: 2 * WARP_CHAINS * ROWS * COLUMNS * WORDS * WORDS_OF[precision].terms // WARP for precision in PRECISIONS
}


def warp_multiply_adds(y, steps, precision):
    """As ``multiply_adds`` on tensor cores: y[i] from ``steps`` steps of ``WARP_STEP_FLOPS`` operations each."""
    _WARP_MULTIPLY_ADDS[precision][over(y.size)](y, steps)


def _warp_kernel(precision):
    terms, pack, mma = WORDS_OF[precision]
    halves, tinies = (HALF,) * terms, (TINY,) * terms

    @device_function
    def step(ab, chains):
        """One instruction of each chain: every number of it grows by as many halves of TINY as there are terms."""
        p, q, r, s, t, u, v, w = chains
        p, q, r, s = mma(ab + p), mma(ab + q), mma(ab + r), mma(ab + s)
        return p, q, r, s, mma(ab + t), mma(ab + u), mma(ab + v), mma(ab + w)

    def multiply_adds(y, steps):
        """Each thread owns a y[i], the sum of its numbers in its warp's chains, which start at y[i]."""
        i = cuda.grid(1)
        start = y[min(i, y.size - 1)]
        c, a, b = (start, start, start, start), pack(halves), pack(tinies)
        ab = a, a, a, a, b, b
        chains = c, c, c, c, c, c, c, c
        for _ in range(steps):
            chains = step(ab, chains)
        total = np.float32(0)
        for c in chains:
            total += (c[0] + c[1]) + (c[2] + c[3])
        if i < y.size:
            y[i] = total

    multiply_adds.__name__ = multiply_adds.__qualname__ = f"multiply_adds_{precision}"
    return cuda_kernel(float32_1d, int64, least_capability=LEAST_CAPABILITY)(multiply_adds)


_WARP_MULTIPLY_ADDS = {precision: _warp_kernel(precision) for precision in PRECISIONS}
