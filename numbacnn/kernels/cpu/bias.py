"""The bias of transposed convolutions, whose kernels do not add it."""

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store, where_greater
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)
NO_BIAS = np.empty(0, np.float32)


@launcher
def add_bias_in_place(y, b, relu=False):
    """y[n,p,q,k] += b[k], then ReLU if asked. y: N×P×Q×K; b: K or None."""
    if b is not None or relu:
        _add_bias(y, NO_BIAS if b is None else b, relu)


@cpu_kernel(float32_4d, float32_1d, types.boolean)
def _add_bias(y, b, relu):
    """Each thread owns a range of rows (n, p)."""
    images, height, width, channels = y.shape
    for item in prange(images * height):
        n, p = np.intp(item) // height, np.intp(item) % height
        for k in range(0, channels, WIDTH):
            bias = load(address(b) + 4 * k, channels - k) if len(b) else splat(ZERO)
            for q in range(width):
                pixel = at(y, n, p, q) + 4 * k
                value = load(pixel, channels - k) + bias
                if relu:
                    value = where_greater(value, splat(ZERO), value, splat(ZERO))
                store(pixel, value, channels - k)
