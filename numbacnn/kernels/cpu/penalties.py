"""Penalties on weights, over flat arrays. Each thread owns a range of blocks of 4,096 elements."""

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined
from numbacnn.kernels.registry import launcher

BLOCK = 4096
float32 = types.float32
ZERO, ONE = np.float32(0), np.float32(1)


def penalty_sums_shape(elements):
    """Scratch of ``add_penalty_in_place``: a sum for each block."""
    return (-(-elements // BLOCK),)


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, float32, float32)
def add_penalty_in_place(sums, dw, w, l1, l2):
    """dw += l1·sign(w) + 2·l2·w; sums[block] = Σ l1·|w| + l2·w² over the block."""
    p_dw, p_w = address(dw), address(w)
    for item in prange(-(-w.size // BLOCK)):
        first = np.intp(item) * BLOCK
        count = min(w.size - first, BLOCK)
        sums[item] = _add_block(floats(p_dw + 4 * first, count), floats(p_w + 4 * first, count), l1, l2)


@inlined
def _add_block(dw, w, l1, l2):
    total, slope = ZERO, l2 + l2
    for i in range(len(w)):
        total += l1 * abs(w[i]) + l2 * w[i] * w[i]
    for i in range(len(w)):
        sign = ONE if w[i] > ZERO else (-ONE if w[i] < ZERO else ZERO)
        dw[i] += l1 * sign + slope * w[i]
    return total
