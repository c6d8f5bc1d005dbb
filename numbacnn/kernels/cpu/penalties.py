"""Penalties on weights, over flat arrays. Each thread owns a range of blocks of 4,096 elements."""

import numpy as np
from numba import prange, types

from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined

BLOCK = 4096
float32 = types.float32
ZERO, ONE = np.float32(0), np.float32(1)


def penalty_sums_shape(elements):
    """Scratch of ``add_penalty_in_place``: a sum for each block."""
    return (-(-elements // BLOCK),)


@cpu_kernel(float32_1d, float32_1d, float32_1d, float32, float32)
def add_penalty_in_place(sums, dw, w, l1, l2):
    """dw += l1·sign(w) + 2·l2·w; sums[block] = Σ l1·|w| + l2·w² over the block."""
    for block in prange(-(-w.size // BLOCK)):
        sums[block] = _add_block(dw, w, block * BLOCK, min(w.size, block * BLOCK + BLOCK), l1, l2)


@inlined
def _add_block(dw, w, first, last, l1, l2):
    total, slope = ZERO, l2 + l2
    for i in range(first, last):
        sign = ONE if w[i] > ZERO else (-ONE if w[i] < ZERO else ZERO)
        dw[i] += l1 * sign + slope * w[i]
        total += l1 * abs(w[i]) + l2 * w[i] * w[i]
    return total
