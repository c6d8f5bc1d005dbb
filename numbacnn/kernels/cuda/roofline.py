"""Peak throughput: multiply–adds in registers, and on tensor cores.

(Williams, Waterman and Patterson 2009, "Roofline".)
"""

import numpy as np

from numbacnn.kernels.cuda.gemm.tensor_cores import COLUMNS, MIN_CAPABILITY, PRECISIONS, ROWS, WARP, WORDS, WORDS_OF
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, int64, over
from numbacnn.kernels.registry import launcher

CHAINS = 12  # dependent chains, as on the CPU, so that results are equal; a multiply–add takes four cycles
STEP_FLOPS = 2 * CHAINS
UNROLLED = 16  # steps per iteration, so that the loop counter costs little
HALF, ONE = np.float32(0.5), np.float32(1)
STARTS = tuple(np.float32(chain) for chain in range(CHAINS))


@launcher
def multiply_adds(y, steps):
    """y[i] from ``steps`` steps of ``STEP_FLOPS`` operations each, in registers."""
    _multiply_adds[over(y.size)](y, steps)


@cuda_kernel(float32_1d, int64)
def _multiply_adds(y, steps):
    """Each thread owns y[i]: the sum of chains that repeat v = v/2 + 1 ``steps`` times."""
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
    """Unrolled by hand: the compiler does not unroll a loop of this size."""
    return _step(_step(_step(_step(chains))))


@device_function
def _step(chains):
    """One multiply–add of each chain."""
    a, b, c, d, e, f, g, h, p, q, r, s = chains
    a, b, c, d = a * HALF + ONE, b * HALF + ONE, c * HALF + ONE, d * HALF + ONE
    e, f, g, h = e * HALF + ONE, f * HALF + ONE, g * HALF + ONE, h * HALF + ONE
    p, q, r, s = p * HALF + ONE, q * HALF + ONE, r * HALF + ONE, s * HALF + ONE
    return a, b, c, d, e, f, g, h, p, q, r, s


# -- on tensor cores --------------------------------------------------------------------------------------------------

WARP_CHAINS = 8  # dependent chains of matrices per warp
TINY = np.float32(2.0**-12)
WARP_STEP_FLOPS = {  # per thread of the warp
    name: 2 * WARP_CHAINS * ROWS * COLUMNS * WORDS * WORDS_OF[name].elements // WARP for name in PRECISIONS
}


def warp_multiply_adds(y, steps, precision):
    """y[i] from ``steps`` steps of ``WARP_STEP_FLOPS`` operations each, on tensor cores."""
    _WARP_MULTIPLY_ADDS[precision][over(y.size)](y, steps)


def _warp_kernel(precision):
    elements, pack, mma = WORDS_OF[precision]
    halves, tinies = (HALF,) * elements, (TINY,) * elements

    @device_function
    def step(ab, chains):
        """One instruction of each chain, which adds k · ½ · TINY to all elements of the matrix."""
        p, q, r, s, t, u, v, w = chains
        p, q, r, s = mma(ab + p), mma(ab + q), mma(ab + r), mma(ab + s)
        return p, q, r, s, mma(ab + t), mma(ab + u), mma(ab + v), mma(ab + w)

    def multiply_adds(y, steps):
        """Each thread owns y[i]: the sum of its accumulators in the chains of its warp, which start at y[i]."""
        i = cuda.grid(1)
        start = y[i] if i < y.size else np.float32(0)
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
    return cuda_kernel(float32_1d, int64, min_capability=MIN_CAPABILITY)(multiply_adds)


_WARP_MULTIPLY_ADDS = {precision: _warp_kernel(precision) for precision in PRECISIONS}
