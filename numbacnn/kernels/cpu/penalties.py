"""Penalties on weights, over flat arrays. Each thread owns a range of blocks."""

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.views import BLOCK, block, blocks
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined
from numbacnn.kernels.registry import launcher

float32 = types.float32
ZERO, ONE = np.float32(0), np.float32(1)


def penalty_sums_shape(elements):
    """Scratch of ``add_penalty_in_place``: a sum for each block."""
    return (-(-elements // BLOCK),)


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, float32, float32)
def add_penalty_in_place(sums, dw, w, l1, l2):
    """dw += l1·sign(w) + 2·l2·w; sums[block] = Σ l1·|w| + l2·w² over the block."""
    for item in prange(blocks(w)):
        sums[item] = _add_block(block(dw, item), block(w, item), l1, l2)


@inlined
def _add_block(dw, w, l1, l2):
    total, slope = ZERO, l2 + l2
    for i in range(len(w)):
        total += l1 * abs(w[i]) + l2 * w[i] * w[i]
    for i in range(len(w)):
        sign = ONE if w[i] > ZERO else (-ONE if w[i] < ZERO else ZERO)
        dw[i] += l1 * sign + slope * w[i]
    return total
