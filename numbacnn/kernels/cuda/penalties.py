"""Penalties on weights, over flat arrays. Each thread block owns 4,096 elements."""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, float32_1d
from numbacnn.kernels.registry import launcher

BLOCK = 4096
float32 = types.float32
ZERO, ONE = np.float32(0), np.float32(1)


def penalty_sums_shape(elements):
    """Scratch of ``add_penalty_in_place``: a sum for each thread block."""
    return (-(-elements // BLOCK),)


@launcher
def add_penalty_in_place(sums, dw, w, l1, l2):
    """dw += l1·sign(w) + 2·l2·w; sums[block] = Σ l1·|w| + l2·w² over the block."""
    _add_penalty[-(-w.size // BLOCK), THREADS](sums, dw, w, l1, l2)


@cuda_kernel(float32_1d, float32_1d, float32_1d, float32, float32)
def _add_penalty(sums, dw, w, l1, l2):
    shared = cuda.shared.array(THREADS, float32)
    first = cuda.blockIdx.x * BLOCK
    i, last = first + cuda.threadIdx.x, min(first + BLOCK, w.size)
    total = ZERO
    while i < last:
        value = w[i]
        total += l1 * abs(value) + l2 * value * value
        sign = ONE if value > ZERO else (-ONE if value < ZERO else ZERO)
        dw[i] += l1 * sign + (l2 + l2) * value
        i += cuda.blockDim.x
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total
